//! The only door to the file system.
//!
//! Everything that this crate writes goes through [`Disk`], so that tests replace the disk by one that loses, tears and
//! refuses writes ([`SimDisk`]). No other module opens a file.

mod real;
mod sim;

use std::fmt::Debug;
use std::io;
use std::io::IoSlice;
use std::path::Path;

pub use real::StdDisk;
pub use sim::{SimDisk, SimFile};

/// A file system.
pub trait Disk: Debug + Send + Sync {
    /// Makes an empty file, or empties the one that is there. Its name survives a crash only after
    /// [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// Whatever the file system says, as with every method of this trait.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Names of the files in a folder, sorted. Folders in it are left out.
    ///
    /// # Errors
    /// `NotFound` when there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder and those above it, and syncs the folder above. One that is there already is no error.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn make_dir(&self, dir: &Path) -> io::Result<()>;

    /// Gives a file another name in place of whatever had it. Survives a crash only after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    /// `NotFound` when there is no such file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive a crash.
    ///
    /// # Errors
    /// Whatever the file system says; the names are then in doubt.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that this process may still allocate on the file system of a folder.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// A number that a sender of data cannot guess: marks the groups of a segment as its own.
    fn salt(&self) -> u64;
}

/// An open file. Reads and writes name their place; there is no cursor.
pub trait DiskFile: Debug + Send + Sync {
    /// Writes all slices one after another from `offset` on.
    ///
    /// # Errors
    /// [`is_full`] tells a full disk from the rest. After an error an unknown part of the bytes has been written.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Reads until the buffer is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Makes all bytes written so far survive a loss of power (fdatasync).
    ///
    /// # Errors
    /// Whatever the file system says. The bytes are then in doubt for ever: a second sync that succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Reserves room up to `bytes` without writing it; the file is at least that long afterwards, and reads as zeros.
    ///
    /// # Errors
    /// [`is_full`] when there is no room.
    fn preallocate(&self, bytes: u64) -> io::Result<()>;

    /// Cuts the file to `bytes`, and makes that survive a loss of power.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn size(&self) -> io::Result<u64>;
}

/// Whether an error means that there is no room, which room heals, and not that the disk is broken.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
