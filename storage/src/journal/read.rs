//! Reads records back: one by its place, or all from an LSN on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use till_core::{Record, RecordHead};

use super::format::{
    ENTRY_PREFIX_BYTES, Entries, EntryPrefix, GROUP_HEADER_BYTES, GroupHeader,
    SEGMENT_HEADER_BYTES, record_of,
};
use super::prepared::FRONT_BYTES;
use super::scan::{Group, GroupFound, Window, group_at};
use super::{Lsn, Segment, Shared, lock, segment_name};
use crate::disk::DiskFile;
use crate::num::{size32, wide};
use crate::sync::Mutex;

/// Files that a cache keeps open between two reads.
const OPEN_FILES_MAX: usize = 32;

/// Why a record could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No durable record begins there.
    #[error("no durable record begins at position {0}")]
    NotThere(Lsn),
    /// The bytes are not those that were written.
    #[error(
        "journal is damaged at position {at} (offset {offset} of {segment}); stop the engine and run `tillstream doctor`"
    )]
    Damaged {
        /// The place.
        at: Lsn,
        /// The segment's file.
        segment: String,
        /// Offset in the file.
        offset: u64,
    },
    /// The record is of a kind that this software does not know.
    #[error("record at position {0} was written by a newer version")]
    Newer(Lsn),
    /// The file could not be read.
    #[error("could not read position {at}: {cause}")]
    Io {
        /// The place.
        at: Lsn,
        /// What the file system said.
        cause: io::Error,
    },
}

/// The files that were read last, each by the start of its segment. A journal of any length keeps no more open than this, so
/// that it never comes near the number that the system allows.
#[derive(Debug, Default)]
pub(crate) struct FileCache {
    files: Mutex<VecDeque<(Lsn, Arc<dyn DiskFile>)>>,
}

impl FileCache {
    pub(crate) fn get(
        &self,
        segment: Lsn,
        open: impl FnOnce() -> io::Result<Box<dyn DiskFile>>,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let mut files = lock(&self.files);
        if let Some((_, file)) = files.iter().find(|(start, _)| *start == segment) {
            return Ok(Arc::clone(file));
        }
        let file: Arc<dyn DiskFile> = Arc::from(open()?);
        if files.len() >= OPEN_FILES_MAX {
            files.pop_front();
        }
        files.push_back((segment, Arc::clone(&file)));
        Ok(file)
    }

    pub(crate) fn forget(&self, segment: Lsn) {
        lock(&self.files).retain(|(start, _)| *start != segment);
    }
}

/// The record whose entry begins at a place.
pub(crate) fn read(shared: &Shared, lsn: Lsn) -> Result<Record, ReadError> {
    let front = Front::read(shared, lsn)?;
    let mut bytes = vec![0_u8; size32(front.prefix.bytes)];
    let read = front
        .file
        .read_at(&mut bytes, lsn.since(front.segment.start));
    let read = read.map_err(|cause| ReadError::Io { at: lsn, cause })?;
    if read < bytes.len() || !front.prefix.proves(&bytes) {
        return Err(damaged(&front.segment, lsn));
    }
    record_of(&Bytes::from(bytes), &front.prefix).ok_or(ReadError::Newer(lsn))
}

/// The head of the record whose entry begins at a place.
pub(crate) fn read_head(shared: &Shared, lsn: Lsn) -> Result<RecordHead, ReadError> {
    let front = Front::read(shared, lsn)?;
    RecordHead::decode(&front.bytes[ENTRY_PREFIX_BYTES..]).map_err(|_| ReadError::Newer(lsn))
}

// What stands before the payload of an entry.
struct Front {
    segment: Segment,
    file: Arc<dyn DiskFile>,
    prefix: EntryPrefix,
    bytes: [u8; FRONT_BYTES],
}

impl Front {
    fn read(shared: &Shared, lsn: Lsn) -> Result<Self, ReadError> {
        let (segment, end) = shared.segment_at(lsn).ok_or(ReadError::NotThere(lsn))?;
        let offset = lsn.since(segment.start);
        if offset < SEGMENT_HEADER_BYTES + GROUP_HEADER_BYTES {
            return Err(ReadError::NotThere(lsn));
        }
        let io = |cause| ReadError::Io { at: lsn, cause };
        let file = file_of(shared, &segment, lsn)?;
        if is_overlaid(file.as_ref(), &segment, lsn).map_err(io)? {
            return Err(damaged(&segment, lsn));
        }
        let mut bytes = [0_u8; FRONT_BYTES];
        let read = file.read_at(&mut bytes, offset).map_err(io)?;
        let prefix = EntryPrefix::decode(&bytes[..read], end.since(lsn))
            .filter(|prefix| !prefix.is_hole())
            .ok_or_else(|| damaged(&segment, lsn))?;
        Ok(Self {
            segment,
            file,
            prefix,
            bytes,
        })
    }
}

// Whether the first group of another segment lies over a place. Each segment has its first group at the same offset: one that
// the disk put into another file fits there, and the checksums of its entries are right. Only the header of the group tells.
fn is_overlaid(file: &dyn DiskFile, segment: &Segment, lsn: Lsn) -> io::Result<bool> {
    let mut bytes = [0_u8; 48];
    let read = file.read_at(&mut bytes, SEGMENT_HEADER_BYTES)?;
    let (bytes, first) = (&bytes[..read], segment.start.plus(SEGMENT_HEADER_BYTES));
    if GroupHeader::decode(bytes, segment.salt, first).is_some() {
        return Ok(false);
    }
    let group = GroupHeader::decode_strange(bytes);
    let reach = group.map_or(0, |head| head.end().since(head.lsn));
    Ok(lsn < first.plus(reach))
}

// The file of a segment. Where that has left since it was looked up, nothing is at the place any more.
fn file_of(shared: &Shared, segment: &Segment, at: Lsn) -> Result<Arc<dyn DiskFile>, ReadError> {
    let file = shared.file(segment.start);
    file.map_err(|cause| match shared.segment_at(segment.start) {
        Some(_) => ReadError::Io { at, cause },
        None => ReadError::NotThere(at),
    })
}

fn damaged(segment: &Segment, at: Lsn) -> ReadError {
    ReadError::Damaged {
        at,
        segment: segment_name(segment.start),
        offset: at.since(segment.start),
    }
}

/// Records in the order of the journal, each with its place. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    shared: Arc<Shared>,
    from: Lsn,
    to: Lsn,
    // Place of the next group.
    next: Option<Lsn>,
    // Where a group may begin that is the first one asked for: what lies before it in its segment is not read then.
    hint: Option<Lsn>,
    body: Bytes,
    body_at: Lsn,
    at: usize,
    reader: Option<Reader>,
}

#[derive(Debug)]
struct Reader {
    segment: Segment,
    end: Lsn,
    file: Arc<dyn DiskFile>,
    // The bytes that were read ahead.
    ahead: Bytes,
    ahead_at: u64,
}

impl Records {
    pub(crate) fn new(shared: Arc<Shared>, from: Lsn, to: Lsn) -> Self {
        let next = (from < to).then(|| {
            let segments = shared.segments();
            let after = segments.partition_point(|segment| segment.start <= from);
            let segment = after.checked_sub(1).and_then(|last| segments.get(last));
            // Without one, reading fails at the first LSN that is asked for.
            segment.map_or(from, |segment| segment.start.plus(SEGMENT_HEADER_BYTES))
        });
        Self {
            shared,
            from,
            to,
            hint: next.filter(|first| *first < from).and(Some(from)),
            next,
            body: Bytes::new(),
            body_at: Lsn::ZERO,
            at: 0,
            reader: None,
        }
    }

    fn fail(&mut self, error: ReadError) -> Option<Result<(Lsn, Record), ReadError>> {
        self.next = None;
        self.body = Bytes::new();
        self.at = 0;
        Some(Err(error))
    }

    // The next entry of the group at hand that is asked for.
    fn entry(&mut self) -> Option<Result<(Lsn, Record), ReadError>> {
        while self.at < self.body.len() {
            let rest = self.body.slice(self.at..);
            let at_lsn = self.body_at.plus(wide(self.at));
            // The group was checked as a whole, so the prefix is right.
            let prefix = EntryPrefix::decode(&rest, wide(rest.len()))?;
            self.at += size32(prefix.bytes);
            if at_lsn >= self.to {
                self.next = None;
                self.body = Bytes::new();
                return None;
            }
            if at_lsn < self.from || prefix.is_hole() {
                continue;
            }
            return Some(match record_of(&rest, &prefix) {
                Some(record) => Ok((at_lsn, record)),
                None => return self.fail(ReadError::Newer(at_lsn)),
            });
        }
        None
    }

    // Reads the group at `at_lsn`. False at the end of what is asked for.
    fn load(&mut self, at_lsn: Lsn) -> Result<bool, ReadError> {
        let io = |cause| ReadError::Io { at: at_lsn, cause };
        let stale = self
            .reader
            .as_ref()
            .is_none_or(|reader| at_lsn >= reader.end);
        if stale {
            // What is asked for is durable, so a place without a segment was dropped. An early end would pass for the whole.
            let at = self.shared.segment_at(at_lsn);
            let (segment, end) = at.ok_or(ReadError::NotThere(at_lsn))?;
            let at_lsn = at_lsn.max(segment.start.plus(SEGMENT_HEADER_BYTES));
            self.next = Some(at_lsn);
            self.reader = Some(Reader {
                segment,
                end: end.min(self.to),
                file: file_of(&self.shared, &segment, at_lsn)?,
                ahead: Bytes::new(),
                ahead_at: 0,
            });
            if at_lsn >= end {
                return Ok(at_lsn < self.to);
            }
        }
        let (Some(reader), Some(at_lsn)) = (self.reader.as_mut(), self.next) else {
            return Ok(false);
        };
        if at_lsn >= self.to {
            return Ok(false);
        }
        self.body = Bytes::new();
        // Whoever reads what has come since the last time asks from the start of a group. Only its header says so: no sender
        // knows the salt of a segment, so that no payload looks like one.
        for at_lsn in self.hint.take().into_iter().chain([at_lsn]) {
            if let Some(group) = reader.group(at_lsn).map_err(io)? {
                self.next = Some(group.head.end());
                self.body_at = at_lsn.plus(GROUP_HEADER_BYTES);
                self.body = group.body;
                self.at = 0;
                return Ok(true);
            }
        }
        Err(damaged(&reader.segment, at_lsn))
    }
}

impl Reader {
    fn group(&mut self, at_lsn: Lsn) -> io::Result<Option<Group>> {
        let mut window = Window::resume(self.file.as_ref(), self.ahead_at, self.ahead.clone());
        let found = group_at(
            &mut window,
            self.segment.start,
            Some(self.segment.salt),
            at_lsn,
        )?;
        (self.ahead_at, self.ahead) = window.into_parts();
        Ok(match found {
            GroupFound::Group(group) => Some(group),
            GroupFound::Nothing(_) => None,
        })
    }
}

impl Iterator for Records {
    type Item = Result<(Lsn, Record), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.entry() {
                return Some(item);
            }
            let at_lsn = self.next.filter(|at_lsn| *at_lsn < self.to)?;
            match self.load(at_lsn) {
                Ok(true) => {}
                Ok(false) => {
                    self.next = None;
                    return None;
                }
                Err(ReadError::Io { .. }) if crate::planted::is("skip-unread") => {
                    self.next = None;
                    return None;
                }
                Err(error) => return self.fail(error),
            }
        }
    }
}

/// All records of a group's body that was checked; `None` when one is of a kind that is not known.
pub(crate) fn records_of(body: &Bytes) -> Option<Vec<Record>> {
    let mut entries = Entries::new(body);
    let mut records = Vec::new();
    while let Some((at, prefix, _)) = entries.step() {
        if !prefix.is_hole() {
            records.push(record_of(&body.slice(at..), &prefix)?);
        }
    }
    Some(records)
}
