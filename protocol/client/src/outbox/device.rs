//! The file system of a device, as far as an outbox needs one.

use std::any::Any;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

/// Held for as long as nobody else may have what it locks.
pub type FileLock = Box<dyn Any + Send + Sync>;

/// A file system: that of the operating system ([`StdFileSystem`]), or one of a device's own. A name is safe from a loss of
/// power once its folder was synced, bytes once their file was.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Makes a folder, and those above it that are missing. One that is there is no error.
    ///
    /// # Errors
    /// What the system says, as everywhere here.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Whether there is a file or folder of that name.
    fn is_there(&self, path: &Path) -> bool;

    /// Locks a file, which is made where it is missing. `None` while somebody else has the lock.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>>;

    /// Makes a file that is not there yet.
    ///
    /// # Errors
    /// `AlreadyExists` where it is.
    fn create(&self, path: &Path) -> io::Result<Box<dyn FileHandle>>;

    /// Opens a file that is there.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn FileHandle>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Names of all files and folders in a folder, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Gives a file or folder another name in the same folder, all at once.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` where there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder and all that is in it.
    ///
    /// # Errors
    /// What the system says.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder safe.
    ///
    /// # Errors
    /// What the system says. `PermissionDenied`, `ReadOnlyFilesystem`, `InvalidInput` and `Unsupported` pass for the folders above
    /// an outbox, whose names are not new.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// An open file, which grows at its end.
pub trait FileHandle: fmt::Debug + Send + Sync {
    /// Writes at the end.
    ///
    /// # Errors
    /// What the system says; an unknown part may have been written.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the end off.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Makes all bytes safe, and what was cut off.
    ///
    /// # Errors
    /// What the system says; the bytes are in doubt then.
    fn sync(&self) -> io::Result<()>;

    /// Fills a buffer from a place on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file ends before.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()>;

    /// Which file it is, and its length.
    #[cfg(test)]
    fn inode(&self) -> (u64, u64);
}

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdFileSystem;

#[derive(Debug)]
struct StdFile(File);

impl FileSystem for StdFileSystem {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn is_there(&self, path: &Path) -> bool {
        path.exists()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        let mut options = File::options();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create_new(true)
            .open(path)?;
        Ok(Box::new(StdFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        Ok(Box::new(StdFile(file)))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // Folders can't be opened where NTFS keeps its own order of renames.
        if cfg!(unix) {
            let folder = File::open(path)?;
            really(|| folder.sync_all())?;
        }
        Ok(())
    }
}

impl FileHandle for StdFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &self.0, bytes)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        really(|| self.0.sync_data())
    }

    #[cfg(unix)]
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, into, offset)
    }

    // Moves the cursor, which nobody uses: what is written goes to the end.
    #[cfg(not(unix))]
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read as _, Seek as _};
        let mut file = &self.0;
        file.seek(io::SeekFrom::Start(offset))?;
        file.read_exact(into)
    }

    #[cfg(test)]
    fn inode(&self) -> (u64, u64) {
        use std::os::unix::fs::MetadataExt as _;
        let meta = self.0.metadata().unwrap();
        (meta.ino(), meta.len())
    }
}

/// In tests the power fails in a model alone: there thousands of syncs would only take time.
fn really(sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if cfg!(test) { Ok(()) } else { sync() }
}
