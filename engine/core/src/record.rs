//! What is journalled: a batch of events as it came, and the verdict on it.
//!
//! A record holds everything that its application needs, so that recovery and rebuild repeat the verdict under any later
//! configuration.

use bytes::Bytes;
use thiserror::Error;

/// What a record is. The numbers are on disk and never change; 8 was a frame that was not decided, and is not used again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum RecordKind {
    /// Events of one frame; the payload is the frame's archive.
    Batch = 1,
    /// Sequence numbers of a frame that could not be understood; no payload, the reason in one verdict.
    Tombstones = 2,
    /// Sequence numbers of events that were known already; no payload.
    Duplicates = 3,
    /// A store with its currency and time zone; `terminal` is the store shifted left by 32.
    StoreRegistered = 4,
    /// A quarantined event that was decided again; `first_seq` names it, the verdict says the outcome.
    Retry = 5,
    /// A SKU id that stands for a masked code.
    SkuAlias = 6,
    /// A row of the base, carried forward when segments were dropped.
    BaseRow = 7,
}

impl RecordKind {
    /// The kind with this number on disk.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Batch),
            2 => Some(Self::Tombstones),
            3 => Some(Self::Duplicates),
            4 => Some(Self::StoreRegistered),
            5 => Some(Self::Retry),
            6 => Some(Self::SkuAlias),
            7 => Some(Self::BaseRow),
            _ => None,
        }
    }

    /// The number on disk.
    #[expect(clippy::as_conversions, reason = "a repr(u8) enum's own number")]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Who sent a record's events, and which they are: 56 bytes on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordHead {
    /// What the record is.
    pub kind: RecordKind,
    /// Number of the family of the events; 0 where there are none.
    pub family: u8,
    /// Version of the family.
    pub version: u8,
    /// The terminal as u64 ([`till_protocol::id::TerminalId::to_u64`]).
    pub terminal: u64,
    /// The epoch of the terminal.
    pub epoch: u32,
    /// Sequence number of the first event in the payload.
    pub first_seq: u64,
    /// Number of events in the payload.
    pub count: u32,
    /// How many of the first events had taken effect before and must not again.
    pub skip: u32,
    /// When the engine received the batch, in us since 1970-01-01 UTC.
    pub received_at_us: i64,
    /// Digest of the last event (see SPEC.md), which a reconnecting device compares with its own.
    pub digest: u64,
}

impl RecordHead {
    /// Bytes of the encoded head.
    pub const BYTES: usize = 56;

    /// The head as it stands on disk, little-endian.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0_u8; Self::BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(room) = out.get_mut(at..at + bytes.len()) {
                room.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&[self.kind.number(), self.family, self.version, 0]);
        put(&self.epoch.to_le_bytes());
        put(&self.terminal.to_le_bytes());
        put(&self.first_seq.to_le_bytes());
        put(&self.count.to_le_bytes());
        put(&self.skip.to_le_bytes());
        put(&self.received_at_us.to_le_bytes());
        put(&self.digest.to_le_bytes());
        put(&0_u64.to_le_bytes());
        out
    }

    /// Reads a head back.
    ///
    /// # Errors
    /// Returns [`RecordError::Short`] or [`RecordError::UnknownKind`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let head = bytes
            .first_chunk::<{ Self::BYTES }>()
            .ok_or(RecordError::Short {
                bytes: bytes.len(),
                need: Self::BYTES,
            })?;
        let kind = RecordKind::from_u8(head[0]).ok_or(RecordError::UnknownKind(head[0]))?;
        Ok(Self {
            kind,
            family: head[1],
            version: head[2],
            epoch: u32_at(head, 4),
            terminal: u64_at(head, 8),
            first_seq: u64_at(head, 16),
            count: u32_at(head, 24),
            skip: u32_at(head, 28),
            received_at_us: u64_at(head, 32).cast_signed(),
            digest: u64_at(head, 40),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<8>())
        .map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Outcome {
    /// It took effect.
    Applied = 0,
    /// It had taken effect before, under another sequence number (same event id and content).
    Duplicate = 1,
    /// It could not be understood or was not allowed; this is its tombstone.
    Refused = 2,
    /// It is durable and has no effect until someone looks at it.
    Quarantined = 3,
}

impl Outcome {
    /// The outcome with this number on disk.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Applied),
            1 => Some(Self::Duplicate),
            2 => Some(Self::Refused),
            3 => Some(Self::Quarantined),
            _ => None,
        }
    }
}

/// What was concluded about one event of a record: 12 bytes on disk. Events without a verdict were applied, without flags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// Index of the event in the frame; [`Self::ALL`] for every event of it.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Reason of a refusal or quarantine ([`till_protocol`] reason codes); 0 = none.
    pub reason: u16,
    /// Bits of `flag`.
    pub flags: u32,
}

impl Verdict {
    /// The index that stands for every event of the record.
    pub const ALL: u32 = u32::MAX;
    /// Bytes of an encoded verdict.
    pub const BYTES: usize = 12;

    /// The verdict as it stands on disk: index u32, flags u32, reason u16, outcome u8, zero.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let [i0, i1, i2, i3] = self.index.to_le_bytes();
        let [f0, f1, f2, f3] = self.flags.to_le_bytes();
        let [r0, r1] = self.reason.to_le_bytes();
        [
            i0,
            i1,
            i2,
            i3,
            f0,
            f1,
            f2,
            f3,
            r0,
            r1,
            outcome_number(self.outcome),
            0,
        ]
    }

    /// Reads a verdict back.
    ///
    /// # Errors
    /// Returns [`RecordError::UnknownOutcome`] for an outcome that this software does not know.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Result<Self, RecordError> {
        Ok(Self {
            index: u32_at(bytes, 0),
            flags: u32_at(bytes, 4),
            reason: u16::from_le_bytes([bytes[8], bytes[9]]),
            outcome: Outcome::from_u8(bytes[10]).ok_or(RecordError::UnknownOutcome(bytes[10]))?,
        })
    }
}

#[expect(clippy::as_conversions, reason = "a repr(u8) enum's own number")]
const fn outcome_number(outcome: Outcome) -> u8 {
    outcome as u8
}

/// A batch of events with the verdict on it: the unit of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Who sent what.
    pub head: RecordHead,
    /// The frame's archive, the very bytes that were received (card data masked).
    pub payload: Bytes,
    /// Verdicts on the events that need one, by rising index.
    pub verdicts: Vec<Verdict>,
}

/// Bytes that are no record.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum RecordError {
    /// Fewer bytes than the head needs.
    #[error("record of {bytes} bytes is shorter than its head of {need}")]
    Short {
        /// Bytes at hand.
        bytes: usize,
        /// Bytes needed.
        need: usize,
    },
    /// A kind of record that this software does not know.
    #[error("unknown record kind {0}: written by a newer version?")]
    UnknownKind(u8),
    /// An outcome that this software does not know.
    #[error("unknown outcome {0}: written by a newer version?")]
    UnknownOutcome(u8),
}
