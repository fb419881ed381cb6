//! One process at a time: the lock on a data folder, and a note of who holds it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The engine that has a folder open, as its `engine.json` says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Holder {
    /// Where devices reach it.
    pub quic: String,
    /// Where its admin port is.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

/// Why a folder could not be had alone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {}", dir.display(), holder.as_ref().map_or_else(|| "another process".to_owned(), |one| format!("the engine of process {} (admin port {}); stop it first, or ask it", one.pid, one.admin)))]
    Held {
        /// The folder.
        dir: PathBuf,
        /// Who, if it says so.
        holder: Option<Holder>,
    },
    /// There is no such folder.
    #[error("there is no data folder {}", .0.display())]
    Missing(PathBuf),
    /// The file system refused.
    #[error("locking {} failed: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

/// A locked folder. The lock goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    dir: PathBuf,
    _file: File,
    told: bool,
}

impl DirLock {
    /// Locks a folder; makes it where `make` says so.
    pub(crate) fn take(dir: &Path, make: bool) -> Result<Self, LockError> {
        let io = |file: &Path, cause| LockError::Io {
            file: file.to_path_buf(),
            cause,
        };
        if make {
            fs::create_dir_all(dir).map_err(|cause| io(dir, cause))?;
        } else if !dir.is_dir() {
            return Err(LockError::Missing(dir.to_path_buf()));
        }
        let path = dir.join("lock");
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|cause| io(&path, cause))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held {
                    dir: dir.to_path_buf(),
                    holder: holder(dir),
                });
            }
            Err(error) => return Err(io(&path, error.into())),
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            _file: file,
            told: false,
        })
    }

    /// Writes who holds the folder, for commands that would rather ask than wait.
    pub(crate) fn tell(&mut self, holder: &Holder) -> io::Result<()> {
        let new = self.dir.join("engine.json.new");
        fs::write(&new, serde_json::to_vec(holder)?)?;
        fs::rename(&new, note(&self.dir))?;
        self.told = true;
        Ok(())
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if self.told && fs::remove_file(note(&self.dir)).is_err() {
            tracing::debug!("engine.json was gone already");
        }
    }
}

fn note(dir: &Path) -> PathBuf {
    dir.join("engine.json")
}

/// Who wrote that it holds a folder. It may have died since; the lock alone is certain.
pub(crate) fn holder(dir: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(note(dir)).ok()?).ok()
}

/// The engine that has a folder open right now; `None` when none has.
pub fn engine_of(dir: &Path) -> Option<Holder> {
    match DirLock::take(dir, false) {
        Err(LockError::Held { holder, .. }) => holder,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_held_by_one_and_says_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = DirLock::take(dir.path(), true).unwrap();
        let me = Holder {
            quic: "127.0.0.1:1".to_owned(),
            admin: "127.0.0.1:2".to_owned(),
            pid: 42,
        };
        lock.tell(&me).unwrap();
        let error = DirLock::take(dir.path(), true).unwrap_err();
        assert!(error.to_string().contains("process 42"), "{error}");
        assert_eq!(engine_of(dir.path()), Some(me));
        drop(lock);
        assert_eq!(engine_of(dir.path()), None);
        DirLock::take(dir.path(), false).unwrap();
        assert!(holder(dir.path()).is_none());
    }
}
