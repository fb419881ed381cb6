//! Every step that the outbox takes on a file system, so that a test can stop between any two.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(test)]
use std::{
    collections::HashMap,
    sync::Mutex,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use super::OutboxError;
use super::device::{FileHandle, FileLock, FileSystem, StdFileSystem};
#[cfg(test)]
use super::tests::names::Names;

/// An open file, shared with a sync that another thread makes.
pub(super) type FileRef = Arc<dyn FileHandle>;

/// The file system as the outbox uses it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) system: Arc<dyn FileSystem>,
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

impl Default for Files {
    fn default() -> Self {
        Self::of(Arc::new(StdFileSystem))
    }
}

impl Files {
    pub(super) fn of(system: Arc<dyn FileSystem>) -> Self {
        Self {
            system,
            #[cfg(test)]
            steps: None,
            #[cfg(test)]
            synced: Arc::default(),
            #[cfg(test)]
            names: None,
            #[cfg(test)]
            keeps_files: Arc::default(),
        }
    }

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
        let was_there = self.is_there(path);
        self.run("make folder", path, || self.system.make_folder(path))?;
        #[cfg(test)]
        if !was_there {
            self.note_names(|names| names.made(path));
        }
        Ok(())
    }

    pub(super) fn is_there(&self, path: &Path) -> bool {
        self.system.is_there(path)
    }

    /// `None` while somebody else has it.
    pub(super) fn lock(&self, path: &Path) -> Result<Option<FileLock>, OutboxError> {
        self.run("lock", path, || self.system.lock(path))
    }

    pub(super) fn create(&self, path: &Path) -> Result<FileRef, OutboxError> {
        let file = self.run("make", path, || self.system.create(path))?;
        #[cfg(test)]
        self.note_names(|names| names.made(path));
        Ok(file.into())
    }

    pub(super) fn open(&self, path: &Path) -> Result<FileRef, OutboxError> {
        let file = self.run("open", path, || self.system.open(path))?;
        Ok(file.into())
    }

    pub(super) fn append(
        &self,
        file: &FileRef,
        path: &Path,
        bytes: &[u8],
    ) -> Result<(), OutboxError> {
        self.run("write", path, || file.append(bytes))
    }

    pub(super) fn truncate(
        &self,
        file: &FileRef,
        path: &Path,
        len: u64,
    ) -> Result<(), OutboxError> {
        self.run("cut", path, || file.truncate(len))
    }

    pub(super) fn sync(&self, file: &FileRef, path: &Path) -> Result<(), OutboxError> {
        self.run("sync", path, || file.sync())?;
        #[cfg(test)]
        self.note_synced(file);
        Ok(())
    }

    #[cfg(test)]
    fn note_synced(&self, file: &FileRef) {
        let (inode, len) = file.inode();
        let _before = self.synced.lock().unwrap().insert(inode, len);
    }

    pub(super) fn sync_dir(&self, path: &Path) -> Result<(), OutboxError> {
        self.run("sync folder", path, || self.system.sync_folder(path))?;
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
        self.run("rename", from, || self.system.rename(from, to))?;
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
            match self.system.remove(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                result => result,
            }
        })
    }

    pub(super) fn remove_dir(&self, path: &Path) -> Result<(), OutboxError> {
        self.run("remove folder", path, || {
            #[cfg(test)]
            self.note_names(|names| names.removes_folder(path));
            self.system.remove_folder(path)
        })
    }

    pub(super) fn read(&self, path: &Path) -> Result<Vec<u8>, OutboxError> {
        self.run("read", path, || self.system.read(path))
    }

    pub(super) fn read_at(
        &self,
        file: &FileRef,
        path: &Path,
        offset: u64,
        into: &mut [u8],
    ) -> Result<(), OutboxError> {
        self.run("read", path, || file.read_at(into, offset))
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<String>, OutboxError> {
        let mut names = self.run("list", path, || self.system.list(path))?;
        names.sort_unstable();
        Ok(names)
    }
}

/// A sync that may be run on another thread while the outbox takes more.
#[derive(Debug)]
pub struct SyncJob {
    pub(super) files: Files,
    pub(super) file: FileRef,
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
