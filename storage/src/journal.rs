//! The journal: one writer appends groups of records to pre-allocated segments, one sync makes a group durable.
//!
//! Modules in the order that a record meets them: it is made ready ([`Prepared`]), waits in a queue ([`Syncer`]), joins a
//! group ([`GroupSync`]), lands in a segment ([`Writer`]), is found again after a crash ([`Journal::open`]) and read
//! ([`Journal::records`]); segments leave when a base stands in for them ([`base`]).

pub mod base;
pub(crate) mod format;
mod group;
mod loss;
pub(crate) mod owners;
mod prepared;
pub(crate) mod read;
mod recover;
mod retain;
pub(crate) mod scan;
mod stats;
mod syncer;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use till_core::{Record, RecordHead};

pub use base::{BaseError, base_bytes, read_base, write_base};
pub use format::{ENTRY_BYTES_MAX, ENTRY_PREFIX_BYTES, GROUP_HEADER_BYTES, SEGMENT_HEADER_BYTES};
pub use group::{Attempt, GroupSync};
pub use loss::Lost;
pub use loss::range_of;
pub use prepared::{Prepared, TooLarge};
pub use read::{ReadError, Records};
pub use recover::{Cut, Damage, Looked, OpenError, Opened};
pub use retain::{DropError, SegmentInfo};
pub use stats::{SYNC_BUCKETS_US, State, SyncStats, SyncSummary};
pub use syncer::{Appender, Durable, QueueError, Sink, SyncConfig, SyncError, Syncer};
pub use writer::Writer;

use crate::disk::{Disk, DiskFile};
pub(crate) use crate::sync::lock;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// A position in the journal: the byte offset in the log of all segments one after another.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Lsn(u64);

impl Lsn {
    /// The start of the log. No record lies there, as a segment's header comes first.
    pub const ZERO: Self = Self(0);

    /// The place with this offset.
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// The offset itself, as rows and records carry it.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The place `bytes` further on.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 when it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes a group durable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Durability {
    /// fdatasync before a group counts as durable.
    #[default]
    Disk,
    /// No sync: acks survive the process but no loss of power. For comparison only; metrics name it.
    Os,
}

impl Durability {
    /// The name in configuration, metrics and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Os => "os",
        }
    }
}

/// Settings of a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct JournalConfig {
    /// Bytes of a segment, allocated when it is made. A larger group gets a segment of its own size.
    pub segment_bytes: u64,
    /// Bytes reserved to be freed when the disk is full; 0 for none.
    pub reserve_bytes: u64,
    /// What makes a group durable.
    pub durability: Durability,
    /// Threads that verify segments when the journal is opened; one is the caller's own.
    pub verify_threads: usize,
}

impl JournalConfig {
    /// Smallest segment that holds anything worth a file.
    pub const SEGMENT_BYTES_MIN: u64 = 4_096;
    /// Largest segment: places in it fit 32 bits.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
            durability: Durability::Disk,
            verify_threads: 2,
        }
    }
}

/// A journal as readers see it: everything up to the durable end. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) log: u64,
    durable: AtomicU64,
    segments: Mutex<Vec<Segment>>,
    base: Mutex<Option<Lsn>>,
    files: read::FileCache,
}

/// What is known of a segment in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Segment {
    pub(crate) start: Lsn,
    pub(crate) salt: u64,
    /// Where its last group ends, once the next segment has begun.
    pub(crate) end: Option<Lsn>,
}

impl Journal {
    /// Opens the journal in a folder, or begins one there: verifies every segment, cuts the last group if a crash tore
    /// it, writes and syncs the tail once more before it is trusted.
    ///
    /// # Errors
    /// [`OpenError::Damaged`] when bytes below the last group are not those that were written: nothing is changed then,
    /// and the error names what is lost and what to do. Others say what is wrong with the folder.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: JournalConfig,
    ) -> Result<Opened, OpenError> {
        Self::open_known(disk, dir, config, Lsn::ZERO)
    }

    /// As [`open`](Self::open), where rows show that everything before `known` was durable once: what is not whole below it
    /// is damage, also in the last group, and a journal that ends below it has lost its end.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`OpenError::LostEnd`]; nothing is changed then.
    pub fn open_known(
        disk: Arc<dyn Disk>,
        dir: &Path,
        config: JournalConfig,
        known: Lsn,
    ) -> Result<Opened, OpenError> {
        recover::open(disk, dir, config, known)
    }

    /// Opens the journal in a folder to be read alone: verifies every segment and writes nothing, neither a
    /// mark nor a cut. An engine must not have it open.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn look(disk: Arc<dyn Disk>, dir: &Path) -> Result<Looked, OpenError> {
        recover::look(disk, dir)
    }

    /// Where the durable part ends: the place of the next group.
    pub fn end(&self) -> Lsn {
        self.shared.durable()
    }

    /// Where the oldest segment starts.
    pub fn start(&self) -> Lsn {
        let segments = self.shared.segments();
        segments.first().map_or(Lsn::ZERO, |first| first.start)
    }

    /// The position up to which the base stands in for the log; `None` without a base.
    pub fn base(&self) -> Option<Lsn> {
        *lock(&self.shared.base)
    }

    /// The folder that the journal lies in.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// The disk that the journal lies on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.shared.disk
    }

    /// The record at an LSN that [`records`](Self::records) or the [`Syncer`] named.
    ///
    /// # Errors
    /// [`ReadError::NotThere`] where no record begins or the place is not durable yet; [`ReadError::Damaged`] when the
    /// bytes are not those that were written.
    pub fn read(&self, lsn: Lsn) -> Result<Record, ReadError> {
        read::read(&self.shared, lsn)
    }

    /// The head of the record at an LSN, without its payload. Only the lengths of the entry are checked.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_head(&self, lsn: Lsn) -> Result<RecordHead, ReadError> {
        read::read_head(&self.shared, lsn)
    }

    /// All records from an LSN on, up to what is durable now, in order.
    ///
    /// `from` may be any place from [`start`](Self::start) on: records that begin before it are left out, and where a group begins there,
    /// damage before it is not met. Where a segment was
    /// dropped, before or meanwhile, the records end with [`ReadError::NotThere`] and never early.
    pub fn records(&self, from: Lsn) -> Records {
        Records::new(Arc::clone(&self.shared), from, self.end())
    }

    /// All records that begin in `from..to` and are durable now, in order; else as [`records`](Self::records).
    pub fn records_between(&self, from: Lsn, to: Lsn) -> Records {
        Records::new(Arc::clone(&self.shared), from, to.min(self.end()))
    }

    /// The segments, oldest first. The last one is being written to.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        retain::infos(&self.shared)
    }

    /// Removes the segments that lie whole before `lsn`, with their indexes. The last segment always stays.
    ///
    /// # Errors
    /// [`DropError::NoBase`] unless a base at or after the end of what is dropped has been written and synced.
    pub fn drop_before(&self, lsn: Lsn) -> Result<Vec<SegmentInfo>, DropError> {
        retain::drop_before(&self.shared, lsn)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Shared {
    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    pub(crate) fn set_durable(&self, end: Lsn) {
        self.durable.store(end.get(), Ordering::Release);
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        lock(&self.segments)
    }

    /// All segments and the durable end, as they were at one moment. The end lies in the last segment: taken apart from the
    /// segments it might lie in one that has begun since.
    pub(crate) fn snapshot(&self) -> (Vec<Segment>, Lsn) {
        let segments = self.segments();
        // A segment that has just begun is named before anything of it is durable.
        let begun = segments.last().map_or(Lsn::ZERO, |last| last.start);
        (segments.clone(), self.durable().max(begun))
    }

    pub(crate) fn set_base(&self, base: Lsn) {
        *lock(&self.base) = Some(base);
    }

    /// The segment that a place lies in, and where its readable part ends.
    pub(crate) fn segment_at(&self, lsn: Lsn) -> Option<(Segment, Lsn)> {
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.start <= lsn);
        let segment = *segments.get(after.checked_sub(1)?)?;
        let end = segment.end.unwrap_or_else(|| self.durable());
        (lsn < end).then_some((segment, end))
    }

    pub(crate) fn file(&self, segment: Lsn) -> std::io::Result<Arc<dyn DiskFile>> {
        self.files.get(segment, || {
            self.disk.open(&self.dir.join(segment_name(segment)))
        })
    }

    pub(crate) fn forget_file(&self, segment: Lsn) {
        self.files.forget(segment);
    }
}

/// Name of the segment that starts at a place: twenty digits, so that names sort like places.
pub(crate) fn segment_name(start: Lsn) -> String {
    format!("{:020}.till", start.get())
}

/// Name of the index beside a segment.
pub(crate) fn index_name(start: Lsn) -> String {
    format!("{:020}.idx", start.get())
}

/// The start in the name of a segment.
pub(crate) fn parse_segment_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".till")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Lsn::new))?
}

/// What the doctor needs of the journal's inside.
pub(crate) mod doctoring {
    pub(crate) use super::base::newest as newest_base;
    pub(crate) use super::format::{
        EntryPrefix, FileKind, GROUP_HEADER_BYTES as GROUP_HEADER, GroupHeader, SegmentHeader,
        entries_crc,
    };
    pub(crate) use super::loss::Ledger;
    pub(crate) use super::recover::{Folder, read_header};
    pub(crate) use super::scan::{
        Extent, Scan, SegmentChunk, chunks, ends_before, entries_in, proof_of_damage, proof_of_rows,
    };
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttled;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
