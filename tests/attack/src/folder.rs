//! The folder of a run. One that is killed leaves it; the next run takes it away.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tempfile::TempDir;

const PREFIX: &str = "till-attack-";
/// The file that a run has locked as long as it lives.
const LOCK: &str = "lock";

/// A folder that goes with its run.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: TempDir,
    _lock: File,
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Makes a folder in another one, and takes away what runs left there that were killed.
///
/// # Errors
/// What the file system says to a new folder.
pub(crate) fn make(within: &Path) -> io::Result<Folder> {
    for entry in fs::read_dir(within)?.flatten() {
        let name = entry.file_name();
        let is_ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && is_left(&entry.path()) {
            // It may be another user's, or another run takes it away right now.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
    let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(within)?;
    let unlocked = dir.path().join("lock.new");
    let lock = File::create(&unlocked)?;
    lock.lock()?;
    // Whoever sees the name sees the lock.
    fs::rename(&unlocked, dir.path().join(LOCK))?;
    Ok(Folder { dir, _lock: lock })
}

fn is_left(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_goes_with_the_next_and_what_a_living_one_has_stays() {
        let within = tempfile::tempdir().unwrap();
        let killed = within.path().join("till-attack-killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join(LOCK), "").unwrap();
        let other = within.path().join("somebody-else-s");
        fs::create_dir(&other).unwrap();
        fs::write(other.join(LOCK), "").unwrap();

        let first = make(within.path()).unwrap();
        assert!(!killed.exists() && other.exists());
        let second = make(within.path()).unwrap();
        assert!(first.path().exists() && second.path().exists());
        let was = first.path().to_path_buf();
        drop(first);
        assert!(!was.exists());
    }
}
