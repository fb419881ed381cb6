//! The bytes of a segment: its header, the headers of its groups, its entries. `DESIGN.md` has the maps.

use bytes::Bytes;
use till_core::{Record, RecordHead, Verdict};

use super::Lsn;
use crate::num::{size, size32, u16_at, u32_at, u64_at, wide};

/// Bytes of the header of a segment or base.
pub const SEGMENT_HEADER_BYTES: u64 = 64;
/// Bytes of the header of a group.
pub const GROUP_HEADER_BYTES: u64 = 48;
/// Bytes before the head of an entry.
pub const ENTRY_PREFIX_BYTES: usize = 16;
/// Largest entry: a frame of 1 MiB with a verdict on each of its events fits.
pub const ENTRY_BYTES_MAX: usize = 1_258_291;

/// Version of the layout that this software writes and reads.
pub(crate) const VERSION: u32 = 1;

const SEGMENT_MAGIC: [u8; 8] = *b"TILLSEG1";
const GROUP_MAGIC: [u8; 4] = *b"TGRP";
// In the place of the number of verdicts: nothing readable is left of this entry.
const HOLE: u32 = u32::MAX;

const ENTRY_BYTES_MIN: usize = ENTRY_PREFIX_BYTES + RecordHead::BYTES;
const FRAME_EVENTS_MAX: usize = 1_024;
const _: () = assert!(
    ENTRY_BYTES_MIN + (1 << 20) + FRAME_EVENTS_MAX * Verdict::BYTES <= ENTRY_BYTES_MAX,
    "the largest frame with all its verdicts fits an entry"
);

/// What a file of the journal's format is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileKind {
    Segment,
    Base,
}

/// The first 64 bytes of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SegmentHeader {
    pub(crate) kind: FileKind,
    pub(crate) start: Lsn,
    pub(crate) log: u64,
    pub(crate) salt: u64,
    pub(crate) key: u64,
}

/// Why bytes are no header of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HeaderFault {
    Foreign,
    Newer(u32),
    Damaged,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut out = [0_u8; 64];
        out[..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let kind = match self.kind {
            FileKind::Segment => 0_u32,
            FileKind::Base => 1,
        };
        out[12..16].copy_from_slice(&kind.to_le_bytes());
        out[16..24].copy_from_slice(&self.start.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.log.to_le_bytes());
        out[32..40].copy_from_slice(&self.salt.to_le_bytes());
        out[40..48].copy_from_slice(&self.key.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(head) = bytes.first_chunk::<64>() else {
            return Err(HeaderFault::Damaged);
        };
        if crc32c::crc32c(&head[..60]) != u32_at(head, 60) {
            let ours = head[..4] == SEGMENT_MAGIC[..4] || head.iter().all(|byte| *byte == 0);
            return Err(if ours {
                HeaderFault::Damaged
            } else {
                HeaderFault::Foreign
            });
        }
        let kind = match (head[..8] == SEGMENT_MAGIC, u32_at(head, 12)) {
            (false, _) => return Err(HeaderFault::Foreign),
            (true, 0) => FileKind::Segment,
            (true, 1) => FileKind::Base,
            (true, _) => return Err(HeaderFault::Newer(u32_at(head, 8))),
        };
        if u32_at(head, 8) != VERSION {
            return Err(HeaderFault::Newer(u32_at(head, 8)));
        }
        Ok(Self {
            kind,
            start: Lsn::new(u64_at(head, 16)),
            log: u64_at(head, 24),
            salt: u64_at(head, 32),
            key: u64_at(head, 40),
        })
    }
}

/// The 48 bytes before the entries of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct GroupHeader {
    pub(crate) lsn: Lsn,
    pub(crate) durable_before: Lsn,
    pub(crate) body_bytes: u32,
    pub(crate) entries: u32,
    pub(crate) entries_crc: u32,
    pub(crate) closing: bool,
}

impl GroupHeader {
    /// A group without entries, which only says how far the log was durable.
    pub(crate) fn watermark(lsn: Lsn, closing: bool) -> Self {
        Self {
            lsn,
            durable_before: lsn,
            body_bytes: 0,
            entries: 0,
            entries_crc: 0,
            closing,
        }
    }

    pub(crate) fn encode(&self, salt: u64) -> [u8; 48] {
        let mut out = [0_u8; 48];
        out[..4].copy_from_slice(&GROUP_MAGIC);
        out[4..6].copy_from_slice(&u16::from(self.closing).to_le_bytes());
        out[6..8].copy_from_slice(&1_u16.to_le_bytes());
        out[8..16].copy_from_slice(&self.lsn.get().to_le_bytes());
        out[16..24].copy_from_slice(&self.durable_before.get().to_le_bytes());
        out[24..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[28..32].copy_from_slice(&self.entries.to_le_bytes());
        out[32..36].copy_from_slice(&self.entries_crc.to_le_bytes());
        let crc = salted(salt, &out[..44]);
        out[44..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at a place of a segment; `None` when the bytes are anything else.
    pub(crate) fn decode(bytes: &[u8], salt: u64, at: Lsn) -> Option<Self> {
        let head = Self::decode_unproved(bytes, at)?;
        let sealed = salted(salt, bytes.get(..44)?) == u32_at(bytes, 44);
        (sealed && u16_at(bytes, 6) == 1).then_some(head)
    }

    /// The header of a segment's group, wherever it lies; `None` when the bytes are anything else.
    pub(crate) fn decode_anywhere(bytes: &[u8], salt: u64) -> Option<Self> {
        let lsn = Lsn::new(u64_at(bytes.first_chunk::<48>()?, 8));
        Self::decode(bytes, salt, lsn)
    }

    /// What looks like a header of any group, whatever segment it is of.
    pub(crate) fn decode_strange(bytes: &[u8]) -> Option<Self> {
        let lsn = Lsn::new(u64_at(bytes.first_chunk::<48>()?, 8));
        Self::decode_unproved(bytes, lsn)
    }

    /// The header as far as it can be read without its checksum, for salvage.
    pub(crate) fn decode_unproved(bytes: &[u8], at: Lsn) -> Option<Self> {
        let head = bytes.first_chunk::<48>()?;
        let here = head[..4] == GROUP_MAGIC && u64_at(head, 8) == at.get();
        here.then(|| Self {
            lsn: at,
            durable_before: Lsn::new(u64_at(head, 16)),
            body_bytes: u32_at(head, 24),
            entries: u32_at(head, 28),
            entries_crc: u32_at(head, 32),
            closing: u16_at(head, 4) & 1 == 1,
        })
    }

    /// Where the group ends.
    pub(crate) fn end(&self) -> Lsn {
        self.lsn
            .plus(GROUP_HEADER_BYTES + u64::from(self.body_bytes))
    }
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}

/// The first 16 bytes of an entry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct EntryPrefix {
    pub(crate) bytes: u32,
    pub(crate) crc: u32,
    pub(crate) payload: u32,
    pub(crate) verdicts: u32,
}

impl EntryPrefix {
    /// What stands in the place of bytes that were lost. A reader steps over it.
    pub(crate) fn hole(bytes: u32) -> Self {
        let mut prefix = Self {
            bytes,
            crc: 0,
            payload: 0,
            verdicts: HOLE,
        };
        prefix.crc = prefix.crc_of_lengths();
        prefix
    }

    pub(crate) fn crc_of_lengths(&self) -> u32 {
        let mut lengths = [0_u8; 12];
        lengths[..4].copy_from_slice(&self.bytes.to_le_bytes());
        lengths[4..8].copy_from_slice(&self.payload.to_le_bytes());
        lengths[8..].copy_from_slice(&self.verdicts.to_le_bytes());
        crc32c::crc32c(&lengths)
    }

    pub(crate) fn encode(&self) -> [u8; ENTRY_PREFIX_BYTES] {
        let mut out = [0_u8; ENTRY_PREFIX_BYTES];
        out[..4].copy_from_slice(&self.bytes.to_le_bytes());
        out[4..8].copy_from_slice(&self.crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload.to_le_bytes());
        out[12..].copy_from_slice(&self.verdicts.to_le_bytes());
        out
    }

    /// Lengths that a broken prefix may have had: the one that it states, and the sum of its parts. Damage to one field
    /// leaves one of them right.
    pub(crate) fn lengths_said(bytes: &[u8]) -> impl Iterator<Item = usize> {
        let head = bytes.first_chunk::<ENTRY_PREFIX_BYTES>();
        let said = head.map(|head| {
            let verdicts = wide(Verdict::BYTES) * u64::from(u32_at(head, 12));
            let sum = wide(ENTRY_BYTES_MIN) + u64::from(u32_at(head, 8)) + verdicts;
            [size32(u32_at(head, 0)), size(sum)]
        });
        let fits = ENTRY_BYTES_MIN..=ENTRY_BYTES_MAX;
        said.into_iter()
            .flatten()
            .filter(move |said| fits.contains(said))
    }

    /// Reads a prefix whose lengths agree with each other and with the room there is.
    pub(crate) fn decode(bytes: &[u8], room: u64) -> Option<Self> {
        let head = bytes.first_chunk::<ENTRY_PREFIX_BYTES>()?;
        let prefix = Self {
            bytes: u32_at(head, 0),
            crc: u32_at(head, 4),
            payload: u32_at(head, 8),
            verdicts: u32_at(head, 12),
        };
        let fits = u64::from(prefix.bytes) <= room;
        let whole = if prefix.is_hole() {
            size32(prefix.bytes) >= ENTRY_PREFIX_BYTES && prefix.crc == prefix.crc_of_lengths()
        } else {
            let verdicts = wide(Verdict::BYTES) * u64::from(prefix.verdicts);
            let sum = wide(ENTRY_BYTES_MIN) + u64::from(prefix.payload) + verdicts;
            size32(prefix.bytes) <= ENTRY_BYTES_MAX && u64::from(prefix.bytes) == sum
        };
        (fits && whole).then_some(prefix)
    }

    pub(crate) fn is_hole(&self) -> bool {
        self.verdicts == HOLE
    }

    /// Whether the bytes of a whole entry are those that were written.
    pub(crate) fn proves(&self, entry: &[u8]) -> bool {
        if self.is_hole() {
            return true;
        }
        let rest = entry.get(ENTRY_PREFIX_BYTES..size32(self.bytes));
        if crate::planted::is("no-checksum") {
            return true;
        }
        rest.is_some_and(|rest| crc32c::crc32c_append(self.crc_of_lengths(), rest) == self.crc)
    }
}

/// The record in the bytes of a whole entry, its payload a slice of them; `None` for a kind that is not known.
pub(crate) fn record_of(entry: &Bytes, prefix: &EntryPrefix) -> Option<Record> {
    let head = RecordHead::decode(entry.get(ENTRY_PREFIX_BYTES..)?).ok()?;
    let from = ENTRY_BYTES_MIN;
    let to = from + size32(prefix.payload);
    let end = size32(prefix.bytes);
    let mut verdicts = Vec::with_capacity(size32(prefix.verdicts));
    for bytes in entry.get(to..end)?.chunks_exact(Verdict::BYTES) {
        verdicts.push(Verdict::decode(bytes.first_chunk()?).ok()?);
    }
    (to <= entry.len()).then(|| Record {
        head,
        payload: entry.slice(from..to),
        verdicts,
    })
}

/// Walks the entries of a group's body.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    pub(crate) const fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// Place of the next entry in the body.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// The next entry with its place; `None` at the end, and before bytes that cannot be an entry.
    pub(crate) fn step(&mut self) -> Option<(usize, EntryPrefix, &'a [u8])> {
        let rest = self.body.get(self.at..)?;
        let prefix = EntryPrefix::decode(rest, wide(rest.len()))?;
        let at = self.at;
        self.at += size32(prefix.bytes);
        Some((at, prefix, &rest[..size32(prefix.bytes)]))
    }
}

/// Whether the body of a group is the one that was written.
pub(crate) fn proves_body(head: &GroupHeader, body: &[u8]) -> bool {
    let mut entries = Entries::new(body);
    let mut crc = 0;
    let mut count = 0_u32;
    while let Some((_, prefix, entry)) = entries.step() {
        if !prefix.proves(entry) {
            return false;
        }
        crc = entries_crc(crc, &prefix);
        count += 1;
    }
    entries.at() == body.len() && count == head.entries && crc == head.entries_crc
}

/// Adds an entry to the checksum in the header of its group. The entry's own checksum stands for its bytes.
pub(crate) fn entries_crc(crc: u32, prefix: &EntryPrefix) -> u32 {
    crc32c::crc32c_append(crc, &prefix.encode())
}
