//! Names of files as a disk keeps them: those of a folder that was not synced may be gone, or back, after a loss of power.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was done to names since their folders were synced.
#[derive(Debug)]
pub(in crate::outbox) struct Names {
    /// In the order in which it was done.
    unsynced: Vec<Change>,
    /// Holds on to removed files, which may come back.
    attic: tempfile::TempDir,
    removed: u64,
}

#[derive(Debug)]
enum Change {
    Made(PathBuf),
    Renamed { from: PathBuf, to: PathBuf },
    RemovedFile { path: PathBuf, kept: PathBuf },
    RemovedFolder(PathBuf),
}

impl Change {
    fn path(&mut self) -> &mut PathBuf {
        match self {
            Self::Made(path)
            | Self::Renamed { to: path, .. }
            | Self::RemovedFile { path, .. }
            | Self::RemovedFolder(path) => path,
        }
    }

    fn undo(&self) -> io::Result<()> {
        match self {
            Self::Made(path) if path.is_dir() => fs::remove_dir_all(path),
            Self::Made(path) => fs::remove_file(path),
            Self::Renamed { from, to } => fs::rename(to, from),
            Self::RemovedFile { path, kept } => fs::hard_link(kept, path),
            Self::RemovedFolder(path) => fs::create_dir(path),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self {
            unsynced: Vec::new(),
            attic: tempfile::tempdir().unwrap(),
            removed: 0,
        }
    }
}

impl Names {
    pub(in crate::outbox) fn made(&mut self, path: &Path) {
        self.unsynced.push(Change::Made(path.to_owned()));
    }

    pub(in crate::outbox) fn renamed(&mut self, from: &Path, to: &Path) {
        self.moved(from, to);
        let (from, to) = (from.to_owned(), to.to_owned());
        self.unsynced.push(Change::Renamed { from, to });
    }

    /// Has to be told before: what is removed may have to come back.
    pub(in crate::outbox) fn removes_file(&mut self, path: &Path) {
        self.removed += 1;
        let kept = self.attic.path().join(self.removed.to_string());
        match fs::hard_link(path, &kept) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            result => result.unwrap(),
        }
        let path = path.to_owned();
        self.unsynced.push(Change::RemovedFile { path, kept });
    }

    /// Has to be told before. The names in it go one by one.
    pub(in crate::outbox) fn removes_folder(&mut self, path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            self.removes_file(&entry.unwrap().path());
        }
        self.unsynced.push(Change::RemovedFolder(path.to_owned()));
    }

    pub(in crate::outbox) fn synced(&mut self, folder: &Path) {
        self.unsynced
            .retain_mut(|change| change.path().parent() != Some(folder));
    }

    /// The power fails: those changes that were not synced and that chance takes have never been.
    pub(super) fn forget(&mut self, is_taken: impl Fn(usize) -> bool) {
        while let Some(change) = self.unsynced.pop() {
            if !is_taken(self.unsynced.len()) {
                continue;
            }
            match change.undo() {
                // It lies in a folder that is gone itself.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.unwrap(),
            }
            if let Change::Renamed { from, to } = change {
                self.moved(&to, &from);
            }
        }
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        for change in &mut self.unsynced {
            let path = change.path();
            if let Ok(rest) = path.strip_prefix(from)
                && path != from
            {
                *path = to.join(rest);
            }
        }
    }
}
