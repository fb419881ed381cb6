//! The file system of the operating system.

use std::collections::hash_map::RandomState;
use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::io::IoSlice;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, Mode, OFlags};

use super::{Disk, DiskFile};
use crate::num::{size, wide};

/// Slices that Linux takes in one call (UIO_MAXIOV).
const SLICES_PER_CALL_MAX: usize = 1_024;

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdDisk;

impl StdDisk {
    /// The file system of the operating system.
    pub const fn new() -> Self {
        Self
    }
}

impl Disk for StdDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::RDWR | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?;
        Ok(Box::new(StdFile(File::from(file))))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Box::new(StdFile(File::from(file))))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        // As the files in it: for the owner and the group.
        DirBuilder::new().recursive(true).mode(0o750).create(dir)?;
        match dir.parent() {
            Some(above) if above.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(above) => self.sync_dir(above),
            None => Ok(()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(dir, flags, Mode::empty())?;
        Ok(rustix::fs::fsync(dir)?)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn salt(&self) -> u64 {
        RandomState::new().build_hasher().finish()
    }
}

#[derive(Debug)]
struct StdFile(File);

impl DiskFile for StdFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for part in slices.chunks(SLICES_PER_CALL_MAX) {
            let wanted: usize = part.iter().map(|slice| slice.len()).sum();
            let written = retry(|| rustix::io::pwritev(&self.0, part, at))?;
            if written < wanted {
                self.write_rest(part, written, at)?;
            }
            at += wide(wanted);
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let room = &mut buffer[filled..];
            let read = retry(|| rustix::io::pread(&self.0, &mut *room, offset + wide(filled)))?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        match retry(|| rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes)) {
            // A file system without fallocate: the length alone keeps the layout right, room is then found on writing.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                if self.size()? < bytes {
                    self.0.set_len(bytes)?;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)?;
        self.0.sync_all()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl StdFile {
    // The kernel took fewer bytes than asked for (a signal, or a disk that is nearly full): write the rest plainly.
    fn write_rest(&self, slices: &[IoSlice<'_>], written: usize, offset: u64) -> io::Result<()> {
        let mut skip = written;
        let mut at = offset + wide(written);
        for slice in slices {
            let rest = slice.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(slice.len());
            let mut done = 0;
            while done < rest.len() {
                let step = retry(|| rustix::io::pwrite(&self.0, &rest[done..], at))?;
                if step == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                done += step;
                at += wide(step);
            }
        }
        debug_assert_eq!(
            size(at - offset),
            slices.iter().map(|s| s.len()).sum::<usize>()
        );
        Ok(())
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
