//! Every step that the outbox takes on a file system, so that a test can stop between any two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(test)]
use std::{
    collections::HashMap,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use super::OutboxError;
#[cfg(test)]
use super::tests::names::Names;

/// The file system as the outbox uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    /// Steps that are left before everything fails, as after a crash.
    #[cfg(test)]
    pub(super) steps: Option<Arc<AtomicI64>>,
    /// Bytes of each file (by inode) that survive a power cut.
    #[cfg(test)]
    pub(super) synced: Arc<Mutex<HashMap<u64, u64>>>,
    /// Names that a power cut may take or bring back.
    #[cfg(test)]
    pub(super) names: Option<Arc<Mutex<Names>>>,
    /// Files can't be deleted.
    #[cfg(test)]
    pub(super) keeps_files: Arc<AtomicBool>,
}

impl Files {
    #[cfg(not(test))]
    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "a test counts its steps here"
    )]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        match &self.steps {
            Some(left) if left.fetch_sub(1, Ordering::Relaxed) <= 0 => {
                Err(io::Error::other("the device crashed"))
            }
            _ => Ok(()),
        }
    }

    fn run<T>(
        &self,
        what: &'static str,
        path: &Path,
        act: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, OutboxError> {
        self.step()
            .and_then(|()| act())
            .map_err(|source| OutboxError::Io {
                what,
                path: path.to_owned(),
                source,
            })
    }

    pub(super) fn create_dir(&self, path: &Path) -> Result<(), OutboxError> {
        #[cfg(test)]
        let was_there = path.exists();
        self.run("make folder", path, || fs::create_dir_all(path))?;
        #[cfg(test)]
        if !was_there {
            self.note_names(|names| names.made(path));
        }
        Ok(())
    }

    pub(super) fn create(&self, path: &Path) -> Result<File, OutboxError> {
        let file = self.run("make", path, || {
            OpenOptions::new().append(true).create_new(true).open(path)
        })?;
        #[cfg(test)]
        self.note_names(|names| names.made(path));
        Ok(file)
    }

    pub(super) fn open_append(&self, path: &Path) -> Result<File, OutboxError> {
        self.run("open", path, || OpenOptions::new().append(true).open(path))
    }

    pub(super) fn append(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), OutboxError> {
        self.run("write", path, || {
            let mut file = file;
            file.write_all(bytes)
        })
    }

    pub(super) fn truncate(&self, file: &File, path: &Path, len: u64) -> Result<(), OutboxError> {
        self.run("cut", path, || file.set_len(len))
    }

    pub(super) fn sync(&self, file: &File, path: &Path) -> Result<(), OutboxError> {
        self.run("sync", path, || really(|| file.sync_data()))?;
        #[cfg(test)]
        self.note_synced(file);
        Ok(())
    }

    #[cfg(test)]
    fn note_synced(&self, file: &File) {
        use std::os::unix::fs::MetadataExt as _;
        let meta = file.metadata().unwrap();
        let _before = self.synced.lock().unwrap().insert(meta.ino(), meta.len());
    }

    pub(super) fn sync_dir(&self, path: &Path) -> Result<(), OutboxError> {
        self.run("sync folder", path, || {
            // Folders can't be opened where NTFS keeps its own order of renames.
            if cfg!(unix) {
                let folder = File::open(path)?;
                really(|| folder.sync_all())?;
            }
            Ok(())
        })?;
        #[cfg(test)]
        self.note_names(|names| names.synced(path));
        Ok(())
    }

    #[cfg(test)]
    fn note_names(&self, note: impl FnOnce(&mut Names)) {
        if let Some(names) = &self.names {
            note(&mut names.lock().unwrap());
        }
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), OutboxError> {
        self.run("rename", from, || fs::rename(from, to))?;
        #[cfg(test)]
        self.note_names(|names| names.renamed(from, to));
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> Result<(), OutboxError> {
        #[cfg(test)]
        if self.keeps_files.load(Ordering::Relaxed) {
            return Err(OutboxError::Io {
                what: "remove",
                path: path.to_owned(),
                source: io::ErrorKind::PermissionDenied.into(),
            });
        }
        self.run("remove", path, || {
            #[cfg(test)]
            self.note_names(|names| names.removes_file(path));
            match fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            }
        })
    }

    pub(super) fn remove_dir(&self, path: &Path) -> Result<(), OutboxError> {
        self.run("remove folder", path, || {
            #[cfg(test)]
            self.note_names(|names| names.removes_folder(path));
            fs::remove_dir_all(path)
        })
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, OutboxError> {
        self.run("read", path, || fs::read(path))
    }

    pub(super) fn read_range(
        &self,
        file: &mut File,
        path: &Path,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), OutboxError> {
        self.run("read", path, || {
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(into)
        })
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<String>, OutboxError> {
        self.run("list", path, || {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        })
    }
}

/// In tests the power fails in a model alone: there thousands of syncs would only take time.
fn really(sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if cfg!(test) { Ok(()) } else { sync() }
}

/// A sync that may be run on another thread while the outbox takes more.
#[derive(Debug)]
pub struct SyncJob {
    pub(super) files: Files,
    pub(super) file: Arc<File>,
    pub(super) path: PathBuf,
    pub(super) generation: u64,
    pub(super) upto: u64,
    pub(super) len: u64,
}

impl SyncJob {
    /// Syncs. Blocks for as long as the disk takes; give the result to [`Outbox::synced`](super::Outbox::synced).
    pub fn run(self) -> SyncDone {
        SyncDone {
            result: self.files.sync(&self.file, &self.path),
            path: self.path,
            generation: self.generation,
            upto: self.upto,
            len: self.len,
        }
    }
}

/// What came of a [`SyncJob`].
#[must_use]
#[derive(Debug)]
pub struct SyncDone {
    pub(super) result: Result<(), OutboxError>,
    pub(super) path: PathBuf,
    pub(super) generation: u64,
    pub(super) upto: u64,
    pub(super) len: u64,
}
