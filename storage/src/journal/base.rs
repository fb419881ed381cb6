//! The base: what later answers need of segments that were dropped, in the journal's own format.

use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};

use thiserror::Error;
use till_core::Record;

use super::format::{
    FileKind, GROUP_HEADER_BYTES, GroupHeader, SEGMENT_HEADER_BYTES, SegmentHeader, entries_crc,
};
use super::read::records_of;
use super::scan::{GroupFound, Window, group_at};
use super::{Lsn, Prepared, TooLarge};
use crate::disk::{Disk, DiskFile};
use crate::num::{narrow, wide};

/// Bytes of a group of the base.
const GROUP_BYTES: usize = 1 << 20;

/// Why a base was not written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BaseError {
    /// The file is not what was written.
    #[error("base {file} is damaged at offset {offset}; restore it from a copy")]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Offset of the first group that is not whole.
        offset: u64,
    },
    /// A record of it is of a kind that this software does not know.
    #[error("base {file} was written by a newer version; use a newer tillstream")]
    Newer {
        /// The file.
        file: PathBuf,
    },
    /// A row is too large for an entry.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The file system refused.
    #[error("{doing} base {file} failed: {cause}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

/// Writes the base that stands in for everything before `lsn`, and makes it durable. It replaces older ones, which are
/// removed. The records are written as they come; none needs to stay in memory.
///
/// # Errors
/// [`BaseError`], or what comes in place of a record; the older base is then still there and whole.
pub fn write_base<E: From<BaseError>>(
    disk: &dyn Disk,
    dir: &Path,
    lsn: Lsn,
    records: impl IntoIterator<Item = Result<Record, E>>,
) -> Result<(), E> {
    let path = dir.join(name(lsn));
    let before = path.with_extension("new");
    let io = |doing| {
        let file = path.clone();
        move |cause| BaseError::Io { doing, file, cause }
    };
    let file = disk.create(&before).map_err(io("making"))?;
    let filled = fill(file.as_ref(), lsn, disk.salt(), records, &path);
    if let Err(error) = filled {
        drop(file);
        disk.remove(&before).map_err(io("removing"))?;
        return Err(error);
    }
    disk.rename(&before, &path).map_err(io("renaming"))?;
    disk.sync_dir(dir).map_err(io("syncing the folder of"))?;
    for older in all(disk, dir).map_err(io("looking for older than"))? {
        if older < lsn {
            let removed = disk.remove(&dir.join(name(older)));
            removed.map_err(io("removing one older than"))?;
        }
    }
    Ok(())
}

fn fill<E: From<BaseError>>(
    file: &dyn DiskFile,
    lsn: Lsn,
    salt: u64,
    records: impl IntoIterator<Item = Result<Record, E>>,
    path: &Path,
) -> Result<(), E> {
    let io = |cause| BaseError::Io {
        doing: "writing",
        file: path.to_path_buf(),
        cause,
    };
    let header = SegmentHeader {
        kind: FileKind::Base,
        start: lsn,
        log: 0,
        salt,
        key: 0,
    };
    file.write_at(&[IoSlice::new(&header.encode())], 0)
        .map_err(io)?;
    let mut group = BaseGroup {
        at: SEGMENT_HEADER_BYTES,
        ..BaseGroup::default()
    };
    for record in records {
        group.add(&Prepared::new(&record?).map_err(BaseError::from)?);
        if group.body.len() >= GROUP_BYTES {
            group.write(file, salt, false).map_err(io)?;
        }
    }
    if !group.body.is_empty() {
        group.write(file, salt, false).map_err(io)?;
    }
    // The closing group says that nothing is missing.
    group.write(file, salt, true).map_err(io)?;
    file.sync().map_err(io)?;
    Ok(())
}

#[derive(Debug, Default)]
struct BaseGroup {
    at: u64,
    body: Vec<u8>,
    entries: u32,
    crc: u32,
}

impl BaseGroup {
    fn add(&mut self, entry: &Prepared) {
        self.crc = entries_crc(self.crc, &entry.prefix());
        self.entries += 1;
        self.body.extend_from_slice(&entry.front);
        self.body.extend_from_slice(&entry.payload);
        self.body.extend_from_slice(&entry.tail);
    }

    // In a base, places are offsets in the file.
    fn write(&mut self, file: &dyn DiskFile, salt: u64, closing: bool) -> io::Result<()> {
        let header = GroupHeader {
            lsn: Lsn::new(self.at),
            durable_before: Lsn::new(self.at),
            body_bytes: narrow(self.body.len()),
            entries: self.entries,
            entries_crc: self.crc,
            closing,
        };
        let header = header.encode(salt);
        file.write_at(&[IoSlice::new(&header), IoSlice::new(&self.body)], self.at)?;
        self.at += GROUP_HEADER_BYTES + wide(self.body.len());
        self.body.clear();
        self.entries = 0;
        self.crc = 0;
        Ok(())
    }
}

/// The newest base of a folder: the position it stands in for, and its records in the order they were written. `None`
/// where there is no base.
///
/// # Errors
/// [`BaseError`]; damage shows at the latest at the end of the records.
pub fn read_base(disk: &dyn Disk, dir: &Path) -> Result<Option<(Lsn, BaseRecords)>, BaseError> {
    let found = find(disk, dir).map_err(|cause| BaseError::Io {
        doing: "looking for",
        file: dir.to_path_buf(),
        cause,
    })?;
    let Some(lsn) = found else {
        return Ok(None);
    };
    Ok(Some((lsn, BaseRecords::open(disk, dir, lsn)?)))
}

/// The records of a base. Ends after the first error.
#[derive(Debug)]
pub struct BaseRecords {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    salt: u64,
    at: u64,
    ready: std::vec::IntoIter<Record>,
    done: bool,
}

impl BaseRecords {
    fn open(disk: &dyn Disk, dir: &Path, lsn: Lsn) -> Result<Self, BaseError> {
        let path = dir.join(name(lsn));
        let io = |cause| BaseError::Io {
            doing: "reading",
            file: path.clone(),
            cause,
        };
        let file = disk.open(&path).map_err(io)?;
        let mut bytes = [0_u8; 64];
        let read = file.read_at(&mut bytes, 0).map_err(io)?;
        let header = SegmentHeader::decode(&bytes[..read])
            .ok()
            .filter(|header| header.kind == FileKind::Base && header.start == lsn);
        let Some(header) = header else {
            return Err(BaseError::Damaged {
                file: path,
                offset: 0,
            });
        };
        Ok(Self {
            file,
            path,
            salt: header.salt,
            at: SEGMENT_HEADER_BYTES,
            ready: Vec::new().into_iter(),
            done: false,
        })
    }

    // Reads the next group; false after the closing one.
    fn load(&mut self) -> Result<bool, BaseError> {
        let at = Lsn::new(self.at);
        let mut window = Window::new(self.file.as_ref());
        let found = group_at(&mut window, Lsn::ZERO, Some(self.salt), at);
        let found = found.map_err(|cause| BaseError::Io {
            doing: "reading",
            file: self.path.clone(),
            cause,
        })?;
        let GroupFound::Group(group) = found else {
            return Err(BaseError::Damaged {
                file: self.path.clone(),
                offset: self.at,
            });
        };
        self.at = group.head.end().get();
        let records = records_of(&group.body).ok_or_else(|| BaseError::Newer {
            file: self.path.clone(),
        })?;
        self.ready = records.into_iter();
        Ok(!group.head.closing)
    }
}

impl Iterator for BaseRecords {
    type Item = Result<Record, BaseError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            if self.done {
                return None;
            }
            match self.load() {
                Ok(more) => self.done = !more,
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// Checks the newest base whole, and gives the position that it stands in for.
pub(crate) fn newest(disk: &dyn Disk, dir: &Path, bases: &[Lsn]) -> Result<Option<Lsn>, BaseError> {
    let Some(lsn) = bases.last().copied() else {
        return Ok(None);
    };
    let mut records = BaseRecords::open(disk, dir, lsn)?;
    while records.load()? {}
    Ok(Some(lsn))
}

/// Bytes of the newest base of a folder; 0 without one.
///
/// # Errors
/// [`BaseError::Io`].
pub fn base_bytes(disk: &dyn Disk, dir: &Path) -> Result<u64, BaseError> {
    let bytes = find(disk, dir)
        .and_then(|found| found.map_or(Ok(0), |lsn| disk.open(&dir.join(name(lsn)))?.size()));
    bytes.map_err(|cause| BaseError::Io {
        doing: "looking for",
        file: dir.to_path_buf(),
        cause,
    })
}

/// The position of the newest base.
pub(crate) fn find(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Lsn>> {
    Ok(all(disk, dir)?.into_iter().max())
}

fn all(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Lsn>> {
    let names = disk.list(dir)?;
    Ok(names.iter().filter_map(|name| parse_name(name)).collect())
}

fn name(lsn: Lsn) -> String {
    format!("base-{:020}.till", lsn.get())
}

pub(crate) fn parse_name(name: &str) -> Option<Lsn> {
    let digits = name.strip_prefix("base-")?.strip_suffix(".till")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Lsn::new))?
}
