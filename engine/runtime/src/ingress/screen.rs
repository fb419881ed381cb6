//! The key under which suspected card numbers become tokens: made once, and kept.

use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustls::crypto::aws_lc_rs;
use thiserror::Error;

/// Why there is no key to go on with.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScreenKeyError {
    /// A file could not be read or written.
    #[error("{doing} {} failed: {cause}", file.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        file: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no usable key: {found} bytes instead of 32; restore it from a copy", file.display())]
    Content {
        /// The file.
        file: PathBuf,
        /// Bytes that it has.
        found: usize,
    },
    /// The key of a folder that has been used is gone.
    #[error("{} is missing, and the journal beside it is not new: with another key, codes that look like card numbers would from now on pass for other SKUs. Restore it from a copy; if there is none, accept that by `head -c 32 /dev/urandom > {}`", .0.display(), .0.display())]
    Lost(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes for a key")]
    Random,
}

/// The key that turns suspected card numbers into tokens: made once, and kept. Another key makes other tokens of the
/// same codes, so that a folder whose journal holds any is not opened without its key: ask for it before a journal is made.
pub(crate) fn screen_key(data_dir: &Path) -> Result<[u8; 32], ScreenKeyError> {
    let path = data_dir.join("chain.key");
    if !path.exists() {
        if has_files(&data_dir.join("journal"))? {
            return Err(ScreenKeyError::Lost(path));
        }
        let mut bytes = [0_u8; 32];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut bytes)
            .map_err(|_| ScreenKeyError::Random)?;
        let new = data_dir.join("chain.key.new");
        write_secret(&new, &bytes)?;
        fs::rename(&new, &path).map_err(io_error("renaming", &new))?;
        sync_dir(data_dir)?;
    }
    let bytes = fs::read(&path).map_err(io_error("reading", &path))?;
    let found = bytes.len();
    let key = bytes.try_into();
    key.map_err(|_| ScreenKeyError::Content { file: path, found })
}

// Whether a folder is there and not empty.
fn has_files(dir: &Path) -> Result<bool, ScreenKeyError> {
    match fs::read_dir(dir) {
        Ok(mut files) => Ok(files.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("reading", dir)(error)),
    }
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), ScreenKeyError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).map_err(io_error("making", path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io_error("writing", path))
}

fn sync_dir(dir: &Path) -> Result<(), ScreenKeyError> {
    fs::File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("syncing", dir))
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ScreenKeyError {
    let file = path.to_path_buf();
    move |cause| ScreenKeyError::Io { doing, file, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let made = screen_key(dir.path()).unwrap();
        assert_eq!(screen_key(dir.path()).unwrap(), made);
        assert_eq!(fs::read(dir.path().join("chain.key")).unwrap(), made);
    }

    #[test]
    fn a_folder_that_was_used_is_not_given_another_key() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("journal")).unwrap();
        screen_key(dir.path()).unwrap();
        fs::write(dir.path().join("journal/00000000000000000000.till"), b"x").unwrap();
        let key = dir.path().join("chain.key");
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let error = screen_key(dir.path()).unwrap_err().to_string();
        assert!(error.contains("chain.key is missing"), "{error}");
        assert!(error.contains("Restore it from a copy"), "{error}");
        assert!(!key.exists());
        fs::write(&key, kept).unwrap();
        screen_key(dir.path()).unwrap();
    }
}
