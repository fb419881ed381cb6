//! How a disk fails, and how often it did.

use std::io;
use std::path::{Path, PathBuf};

use super::bytes::SECTOR;
use super::{DiskState, WorldDisk};

/// What the disk says of bytes that it cannot read.
pub(crate) const UNREAD: &str = "the disk could not read the bytes";

/// How often the disk fails, in a million operations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskFaults {
    /// A sync fails, and what it should have saved counts as clean.
    pub(crate) sync_fails: u64,
    /// A sync says that it is done, and is not.
    pub(crate) sync_lies: u64,
    /// A write stops half-way.
    pub(crate) short_write: u64,
    /// A read fails; the next one may not.
    pub(crate) read_fails: u64,
    /// A write lands elsewhere, once in the epoch of a disk.
    pub(crate) strays: u64,
}

/// What the disk has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskCounts {
    pub(crate) syncs: u64,
    pub(crate) sync_failed: u64,
    pub(crate) sync_lied: u64,
    pub(crate) short_writes: u64,
    pub(crate) full: u64,
    pub(crate) torn: u64,
    pub(crate) lost_writes: u64,
    pub(crate) stopped: u64,
    pub(crate) reads_failed: u64,
    pub(crate) strayed: u64,
}

/// While it lives, whoever reads is no engine: nothing fails.
#[derive(Debug)]
pub(crate) struct Look<'a>(&'a WorldDisk);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.lock().is_looked_at = false;
    }
}

impl WorldDisk {
    /// For the oracle, which reads what an engine reads, and is not to be kept from it.
    pub(crate) fn look(&self) -> Look<'_> {
        self.lock().is_looked_at = true;
        Look(self)
    }

    /// A file cannot be read until it is mended.
    pub(crate) fn blind(&self, path: &Path) {
        let mut state = self.lock();
        state.unreadable = state.names.get(path).copied();
    }

    /// No read fails any more.
    pub(crate) fn read_all(&self) {
        let mut state = self.lock();
        state.unreadable = None;
        state.faults.read_fails = 0;
    }

    /// Every file can be read again.
    pub(crate) fn mend(&self) {
        self.lock().unreadable = None;
    }
}

impl DiskState {
    /// Where a write to a file lands: at another offset of it, or in another file of its folder.
    pub(super) fn landing(&mut self, node: usize, at: usize) -> (usize, usize) {
        let strays = self.faults.strays;
        if strays == 0 || self.counts.strayed > 0 || !self.later.chance(strays) {
            return (node, at);
        }
        let folder = |path: &PathBuf| path.parent().map(Path::to_path_buf);
        let own = self.names.iter().find(|(_, number)| **number == node);
        let own = own.and_then(|(path, _)| folder(path));
        let beside = self.names.iter().filter(|(path, _)| folder(path) == own);
        let beside: Vec<usize> = beside.map(|(_, number)| *number).collect();
        let other = beside.get(self.later.index(beside.len())).copied();
        self.counts.strayed += 1;
        if let Some(other) = other.filter(|other| *other != node) {
            return (other, at);
        }
        // Little too early, it falls on what was written last.
        if at > SECTOR && !self.later.one_in(4) {
            return (node, at - 1 - self.later.index(SECTOR));
        }
        let sectors = self.nodes[node].data.len() / SECTOR;
        let step = (self.later.index(sectors) + 1) * SECTOR;
        (node, (at + step) % (sectors * SECTOR).max(2 * SECTOR))
    }

    /// Whether bytes of a file can be read now.
    pub(super) fn readable(&mut self, node: usize) -> io::Result<()> {
        if self.is_looked_at {
            return Ok(());
        }
        let fails = self.faults.read_fails;
        if self.unreadable == Some(node) || (fails > 0 && self.later.chance(fails)) {
            self.counts.reads_failed += 1;
            return Err(io::Error::other(UNREAD));
        }
        Ok(())
    }
}
