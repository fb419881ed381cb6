//! Puts groups into segments: gathers, writes, syncs, begins the next segment.

use std::io;
use std::io::IoSlice;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;
use till_core::Record;

use super::format::{
    FileKind, GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader, entries_crc,
};
use super::{
    Durability, JournalConfig, Lsn, Prepared, Segment, Shared, SyncError, SyncStats, segment_name,
};
use crate::disk::{DiskFile, is_full};
use crate::num::{narrow, size, wide};

/// Payloads below this many bytes are gathered by copying them: cheaper than a slice of their own in the system call.
const COPY_BELOW: usize = 2_048;

/// Name of the file whose room is reserved for a full disk.
pub(crate) const RESERVE_NAME: &str = "reserve";

/// The one who appends to a journal. Owned by the [`Syncer`](super::Syncer).
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    config: JournalConfig,
    file: Arc<dyn DiskFile>,
    start: Lsn,
    salt: u64,
    capacity: u64,
    at: Lsn,
    ends_with_watermark: bool,
    reserved: bool,
    scratch: Vec<u8>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Scratch(Range<usize>),
    Payload(usize),
}

/// Why a group could not be made durable.
#[derive(Debug, Error)]
pub(crate) enum WriteError {
    /// No room; the same group may be tried again.
    #[error("no room on the disk for {bytes} bytes of the journal")]
    Full { bytes: u64 },
    /// The bytes are in doubt; nothing may be written any more.
    #[error("{doing} of segment {segment} failed: {cause}")]
    Broken {
        doing: &'static str,
        segment: String,
        cause: io::Error,
    },
}

/// Why a segment was not made.
#[derive(Debug)]
pub(crate) enum SegmentFault {
    /// Nothing of it has a name yet: where room was lacking, it may be tried again.
    Unwritten(io::Error),
    /// A sync failed, for whatever reason. What it should have saved is in doubt, and trying again proves nothing.
    Unsynced(io::Error),
}

impl SegmentFault {
    /// What the file system said.
    pub(crate) fn into_cause(self) -> io::Error {
        match self {
            Self::Unwritten(cause) | Self::Unsynced(cause) => cause,
        }
    }
}

/// Where a writer goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Segment,
    pub(crate) at: Lsn,
    pub(crate) ends_with_watermark: bool,
}

impl Writer {
    pub(crate) fn resume(
        shared: Arc<Shared>,
        config: JournalConfig,
        tail: Tail,
    ) -> io::Result<Self> {
        let file = shared.file(tail.segment.start)?;
        let capacity = config.segment_bytes.max(file.size()?);
        match file.preallocate(capacity) {
            // What is not allocated now is found, or missed, when it is written.
            Err(error) if is_full(&error) => {}
            other => other?,
        }
        let mut writer = Self {
            file,
            config,
            start: tail.segment.start,
            salt: tail.segment.salt,
            capacity,
            at: tail.at,
            ends_with_watermark: tail.ends_with_watermark,
            reserved: false,
            scratch: Vec::new(),
            parts: Vec::new(),
            shared,
        };
        writer.reserved = writer.reserve()?;
        Ok(writer)
    }

    /// Where the next group begins.
    pub(crate) const fn at(&self) -> Lsn {
        self.at
    }

    /// Writes one group and syncs it. Gives the place of each record, in order.
    pub(crate) fn commit(
        &mut self,
        group: &[&Prepared],
        lsns: &mut Vec<Lsn>,
        stats: &SyncStats,
    ) -> Result<Lsn, WriteError> {
        let body: usize = group.iter().map(|entry| entry.bytes()).sum();
        let bytes = GROUP_HEADER_BYTES + wide(body);
        if !self.fits(bytes) {
            self.rotate(bytes)?;
            stats.count_rotation();
        }
        self.gather(group, body, lsns);
        self.write(group, bytes)?;
        self.sync(stats)?;
        self.advance(bytes, false);
        stats.count_group(wide(group.len()), bytes);
        Ok(self.at)
    }

    /// Writes records before a syncer takes the writer over, and makes them durable.
    ///
    /// # Errors
    /// [`SyncError`] when there is no room, a write or sync failed, or a record is too large. The journal is to be opened
    /// again then.
    pub fn state(&mut self, records: &[Record]) -> Result<(), SyncError> {
        if records.is_empty() {
            return Ok(());
        }
        let since = self.at;
        let poisoned = |cause: String| SyncError::Poisoned { since, cause };
        let prepared: Result<Vec<_>, _> = records.iter().map(Prepared::new).collect();
        let prepared = prepared.map_err(|error| poisoned(error.to_string()))?;
        let group: Vec<&Prepared> = prepared.iter().collect();
        let written = self.commit(&group, &mut Vec::new(), &SyncStats::default());
        match written {
            Ok(_) => Ok(()),
            Err(WriteError::Full { .. }) => Err(SyncError::Full {
                waiting: records.len(),
            }),
            Err(broken @ WriteError::Broken { .. }) => Err(poisoned(broken.to_string())),
        }
    }

    /// Writes a group without entries behind the last one, which proves from then on that the last one was durable.
    pub(crate) fn watermark(&mut self, closing: bool) -> Result<(), WriteError> {
        if self.ends_with_watermark {
            return Ok(());
        }
        let header = GroupHeader::watermark(self.at, closing).encode(self.salt);
        let offset = self.at.since(self.start);
        let written = self.file.write_at(&[IoSlice::new(&header)], offset);
        self.finish_write(written, "writing a mark", GROUP_HEADER_BYTES)?;
        let synced = self.file.sync();
        self.broken_if(synced, "the sync of a mark")?;
        self.advance(GROUP_HEADER_BYTES, true);
        Ok(())
    }

    /// Frees the room that was reserved, so that others can finish their work on a full disk.
    pub(crate) fn free_reserve(&mut self) {
        if self.reserved {
            let path = self.shared.dir.join(RESERVE_NAME);
            if let Err(error) = self.shared.disk.remove(&path) {
                tracing::warn!(%error, "the reserve of the full disk could not be freed");
            }
            self.reserved = false;
        }
    }

    /// Whether it is worth trying again after the disk was full: there is room for the group and for the reserve.
    pub(crate) fn has_room_again(&mut self, bytes: u64) -> bool {
        let reserve = if self.reserved {
            0
        } else {
            self.config.reserve_bytes
        };
        let free = self.shared.disk.free_bytes(&self.shared.dir);
        if free.is_ok_and(|free| free < bytes.saturating_add(reserve)) {
            return false;
        }
        match self.reserve() {
            Ok(reserved) => self.reserved = reserved,
            Err(error) => tracing::warn!(%error, "room could not be reserved"),
        }
        true
    }

    fn fits(&self, bytes: u64) -> bool {
        // A watermark must fit behind every group.
        self.at.since(self.start) + bytes + GROUP_HEADER_BYTES <= self.capacity
    }

    fn advance(&mut self, bytes: u64, watermark: bool) {
        self.at = self.at.plus(bytes);
        self.ends_with_watermark = watermark;
        self.shared.set_durable(self.at);
    }

    fn gather(&mut self, group: &[&Prepared], body: usize, lsns: &mut Vec<Lsn>) {
        self.scratch.clear();
        self.parts.clear();
        self.scratch.resize(size(GROUP_HEADER_BYTES), 0);
        let mut crc = 0;
        let mut from = 0;
        let mut place = self.at.plus(GROUP_HEADER_BYTES);
        for (number, entry) in group.iter().enumerate() {
            crc = entries_crc(crc, &entry.prefix());
            lsns.push(place);
            place = place.plus(wide(entry.bytes()));
            self.scratch.extend_from_slice(&entry.front);
            if entry.payload.len() < COPY_BELOW {
                self.scratch.extend_from_slice(&entry.payload);
            } else {
                self.parts.push(Part::Scratch(from..self.scratch.len()));
                self.parts.push(Part::Payload(number));
                from = self.scratch.len();
            }
            self.scratch.extend_from_slice(&entry.tail);
        }
        if from < self.scratch.len() {
            self.parts.push(Part::Scratch(from..self.scratch.len()));
        }
        let header = GroupHeader {
            lsn: self.at,
            durable_before: self.at,
            body_bytes: narrow(body),
            entries: narrow(group.len()),
            entries_crc: crc,
            closing: false,
        };
        let header = header.encode(self.salt);
        self.scratch[..header.len()].copy_from_slice(&header);
    }

    fn write(&self, group: &[&Prepared], bytes: u64) -> Result<(), WriteError> {
        let slices: Vec<IoSlice<'_>> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Scratch(range) => IoSlice::new(&self.scratch[range.clone()]),
                Part::Payload(number) => IoSlice::new(&group[*number].payload),
            })
            .collect();
        let written = self.file.write_at(&slices, self.at.since(self.start));
        self.finish_write(written, "writing a group", bytes)
    }

    fn sync(&self, stats: &SyncStats) -> Result<(), WriteError> {
        if self.config.durability == Durability::Os {
            return Ok(());
        }
        if crate::planted::is("ack-before-sync") {
            return Ok(());
        }
        let began = Instant::now();
        let synced = self.file.sync();
        let synced = match synced {
            Err(_) if crate::planted::is("retry-failed-sync") => self.file.sync(),
            other => other,
        };
        stats.count_sync(began.elapsed());
        self.broken_if(synced, "the sync of a group")
    }

    // Begins the segment that the next group goes to.
    fn rotate(&mut self, bytes: u64) -> Result<(), WriteError> {
        let needs = SEGMENT_HEADER_BYTES + bytes + GROUP_HEADER_BYTES;
        let capacity = self.config.segment_bytes.max(needs);
        let segment = Segment {
            start: self.at,
            salt: self.shared.disk.salt(),
            end: None,
        };
        match make_segment(&self.shared, segment, capacity) {
            Ok(()) => {}
            Err(SegmentFault::Unwritten(cause)) => {
                self.finish_write(Err(cause), "the creation of the segment after", capacity)?;
            }
            Err(SegmentFault::Unsynced(cause)) => {
                self.broken_if(Err(cause), "the sync of the segment after")?;
            }
        }
        let opened = self.shared.file(segment.start);
        self.file = self.broken_if(opened, "opening")?;
        let mut segments = self.shared.segments();
        if let Some(last) = segments.last_mut() {
            last.end = Some(self.at);
        }
        segments.push(segment);
        drop(segments);
        self.start = segment.start;
        self.salt = segment.salt;
        self.capacity = capacity;
        self.advance(SEGMENT_HEADER_BYTES, true);
        Ok(())
    }

    // Sets the reserve aside. False when there is no room for it, or none is wanted.
    fn reserve(&self) -> io::Result<bool> {
        if self.reserved || self.config.reserve_bytes == 0 {
            return Ok(self.reserved);
        }
        let path = self.shared.dir.join(RESERVE_NAME);
        let file = self.shared.disk.create(&path)?;
        match file.preallocate(self.config.reserve_bytes) {
            Ok(()) => Ok(true),
            Err(error) if is_full(&error) => {
                drop(file);
                self.shared.disk.remove(&path)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn finish_write<T>(
        &self,
        result: io::Result<T>,
        doing: &'static str,
        bytes: u64,
    ) -> Result<T, WriteError> {
        match result {
            Err(error) if is_full(&error) => Err(WriteError::Full { bytes }),
            other => self.broken_if(other, doing),
        }
    }

    fn broken_if<T>(&self, result: io::Result<T>, doing: &'static str) -> Result<T, WriteError> {
        result.map_err(|cause| WriteError::Broken {
            doing,
            segment: segment_name(self.start),
            cause,
        })
    }
}

/// Makes an empty segment: its name appears only when its header is durable.
pub(crate) fn make_segment(
    shared: &Shared,
    segment: Segment,
    capacity: u64,
) -> Result<(), SegmentFault> {
    let path = shared.dir.join(segment_name(segment.start));
    let before = path.with_extension("new");
    let file = fill_segment(shared, segment, capacity, &before).map_err(SegmentFault::Unwritten)?;
    file.sync().map_err(SegmentFault::Unsynced)?;
    let renamed = shared.disk.rename(&before, &path);
    renamed.map_err(SegmentFault::Unwritten)?;
    let synced = shared.disk.sync_dir(&shared.dir);
    synced.map_err(SegmentFault::Unsynced)
}

fn fill_segment(
    shared: &Shared,
    segment: Segment,
    capacity: u64,
    path: &Path,
) -> io::Result<Box<dyn DiskFile>> {
    let header = SegmentHeader {
        kind: FileKind::Segment,
        start: segment.start,
        log: shared.log,
        salt: segment.salt,
        key: 0,
    };
    let file = shared.disk.create(path)?;
    let filled = file
        .preallocate(capacity)
        .and_then(|()| file.write_at(&[IoSlice::new(&header.encode())], 0));
    match filled {
        Ok(()) => Ok(file),
        Err(error) => {
            if is_full(&error) {
                shared.disk.remove(path)?;
            }
            Err(error)
        }
    }
}
