//! Finding out what a crash has left.

use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use till_protocol::id::Epoch;

use super::generation::Segment;
use super::{DiskOutbox, FileLock, Files, OutboxError, name_of};
use crate::frame;
use crate::outbox::segment::{self, FileHead, Record, Stop};

impl DiskOutbox {
    /// Reads the files of the newest generation. What they hold must be without a gap to its end; files before a gap are
    /// leftovers of a deletion that a crash or a failure cut short, if what is missing is known to be committed.
    pub(super) fn load(&mut self) -> Result<(), OutboxError> {
        let dir = self.dir();
        let mut gap = None;
        let mut leftovers = Vec::new();
        let names = self.files.list(&dir)?;
        for (at, name) in names.iter().enumerate() {
            let path = dir.join(name);
            let bytes = Bytes::from(self.files.read(&path)?);
            let (records, stop) = segment::read(&bytes);
            let last_file = at + 1 == names.len();
            match stop {
                None => {}
                Some(Stop::Torn(_)) if last_file => {}
                Some(Stop::Torn(offset) | Stop::Damaged(offset)) => {
                    return Err(OutboxError::Damaged { path, offset });
                }
            }
            if records.is_empty() && last_file && at > 0 {
                // The crash came before the file's first record: no frame was ever in it.
                self.files.remove(&path)?;
                continue;
            }
            if let Some(Record::Head(head)) = records.first()
                && head.first > self.generation.last + 1
            {
                // Everything before this file has to be done with.
                gap = Some((head.first - 1, path.clone()));
                leftovers.extend(self.generation.files.drain(..).map(|file| file.path));
                self.generation.frames.clear();
                self.generation.last = head.first - 1;
            }
            self.load_file(&path, records, bytes.len(), stop)?;
        }
        if self.generation.files.is_empty() {
            return Err(OutboxError::Damaged {
                path: dir,
                offset: 0,
            });
        }
        self.generation.durable = self.generation.last;
        self.committed = self.committed.min(self.generation.last);
        if let Some((upto, path)) = gap.filter(|(upto, _)| *upto > self.committed) {
            tracing::error!(
                upto,
                committed = self.committed,
                "outbox events are missing"
            );
            return Err(OutboxError::Damaged { path, offset: 0 });
        }
        for path in leftovers {
            self.files.remove(&path)?;
        }
        // A crash may have come between a name and its sync; what follows relies on every name there is.
        self.files.sync_dir(&dir)?;
        self.files.sync_dir(&self.folder)?;
        // All files were synced as they were read.
        self.surely_committed = self.committed;
        self.generation.count_pending(self.committed);
        Ok(())
    }

    fn load_file(
        &mut self,
        path: &Path,
        records: Vec<Record>,
        len: usize,
        stop: Option<Stop>,
    ) -> Result<(), OutboxError> {
        let damaged = |offset| OutboxError::Damaged {
            path: path.to_owned(),
            offset,
        };
        let file = u64::try_from(self.generation.files.len()).unwrap_or(u64::MAX);
        for (at, record) in records.into_iter().enumerate() {
            match record {
                Record::Head(head) if at == 0 => self.begin_file(path, &head)?,
                Record::Frame { bytes, offset } if at > 0 => {
                    let (first, count) =
                        frame::range(&bytes).map_err(|source| OutboxError::Frame {
                            seq: self.generation.last + 1,
                            source,
                        })?;
                    if first != self.generation.last + 1 {
                        return Err(damaged(offset));
                    }
                    let len = frame::length(&bytes);
                    self.generation.push(file, offset, len, first, count);
                }
                Record::Committed(upto) if at > 0 => self.committed = self.committed.max(upto),
                Record::Head(_) | Record::Frame { .. } | Record::Committed(_) => {
                    return Err(damaged(0));
                }
            }
        }
        let writer = self.files.open(path)?;
        let mut length = u64::try_from(len).unwrap_or(u64::MAX);
        if let Some(Stop::Torn(offset)) = stop {
            tracing::warn!(path = %path.display(), offset, "cut the torn tail of the outbox");
            self.files.truncate(&writer, path, offset)?;
            length = offset;
        }
        // What survived in the page cache alone is not yet durable; later code trusts that it is.
        self.files.sync(&writer, path)?;
        self.generation.files.push_back(Segment {
            path: path.to_owned(),
            writer,
            last: self.generation.last,
            len: length,
            synced: length,
        });
        Ok(())
    }

    fn begin_file(&mut self, path: &Path, head: &FileHead) -> Result<(), OutboxError> {
        if head.terminal != self.terminal {
            return Err(OutboxError::Foreign {
                path: self.folder.clone(),
                found: head.terminal,
                expected: self.terminal,
            });
        }
        if self.generation.files.is_empty() {
            self.epoch = Epoch::new(head.epoch).ok();
        }
        if head.first != self.generation.last + 1 {
            return Err(OutboxError::Damaged {
                path: path.to_owned(),
                offset: 0,
            });
        }
        self.committed = self.committed.max(head.committed);
        Ok(())
    }
}

/// Makes a folder, and those above it that are missing. Each name is on disk before the next one is made, so that only
/// that of the innermost can still be unsafe after a crash.
pub(super) fn make_folder(files: &Files, folder: &Path) -> Result<(), OutboxError> {
    let Some(parent) = folder.parent() else {
        return Ok(());
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    if !files.is_there(folder) {
        make_folder(files, parent)?;
        files.create_dir(folder)?;
        return files.sync_dir(parent);
    }
    match files.sync_dir(parent) {
        Err(OutboxError::Io { source, .. }) if is_closed(source.kind()) => Ok(()),
        synced => synced,
    }
}

/// Where nobody may look, or nothing can be changed, no name is new: as above a mounted folder on a device whose system is
/// read-only.
const fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::InvalidInput
            | ErrorKind::Unsupported
    )
}

pub(super) fn lock(files: &Files, folder: &Path) -> Result<FileLock, OutboxError> {
    let lock = files.lock(&folder.join("LOCK"))?;
    lock.ok_or_else(|| OutboxError::Locked {
        path: folder.to_owned(),
    })
}

/// Removes what a crash left half-made or half-removed, and returns the number of the generation that counts.
pub(super) fn tidy(files: &Files, folder: &Path) -> Result<Vec<u64>, OutboxError> {
    let mut numbers = Vec::new();
    for name in files.list(folder)? {
        let Some(rest) = name.strip_prefix("gen-") else {
            continue;
        };
        match rest.parse::<u64>() {
            Ok(number) => numbers.push(number),
            Err(_) => files.remove_dir(&folder.join(&name))?,
        }
    }
    numbers.sort_unstable();
    let newest = numbers.pop();
    for number in numbers {
        files.remove_dir(&folder.join(name_of(number)))?;
    }
    Ok(newest.into_iter().collect())
}
