//! A disk that stops before an operation of choice.

use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use crate::disk::{Disk, DiskFile, SimDisk};

/// Counts every call that changes something, and lets none through from the chosen one on. What lies between two of them
/// is no place of its own: a crash there finds what a crash before the second one finds.
#[derive(Clone, Debug)]
pub(super) struct StoppingDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
    pause: Option<Arc<Pause>>,
}

/// Holds whoever opens a file, so that something happens just before.
#[derive(Debug)]
pub(super) struct Pause {
    path: PathBuf,
    pub(super) is_armed: AtomicBool,
    /// Somebody is about to open it.
    pub(super) reached: Barrier,
    /// Now it is opened.
    pub(super) over: Barrier,
}

#[derive(Debug)]
struct Gate {
    asked: AtomicU64,
    last: u64,
}

#[derive(Debug)]
struct StoppingFile {
    file: Box<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl StoppingDisk {
    /// Lets `operations` through.
    pub(super) fn after(disk: &SimDisk, operations: u64) -> Self {
        let gate = Gate {
            asked: AtomicU64::new(0),
            last: operations,
        };
        Self {
            disk: disk.clone(),
            gate: Arc::new(gate),
            pause: None,
        }
    }

    /// Stops nothing, and holds the first one who opens a file once it is armed.
    pub(super) fn pausing(disk: &SimDisk, path: PathBuf) -> (Self, Arc<Pause>) {
        let pause = Arc::new(Pause {
            path,
            is_armed: AtomicBool::new(false),
            reached: Barrier::new(2),
            over: Barrier::new(2),
        });
        let mut pausing = Self::after(disk, u64::MAX);
        pausing.pause = Some(Arc::clone(&pause));
        (pausing, pause)
    }

    /// Whether something was kept from happening.
    pub(super) fn has_stopped(&self) -> bool {
        self.gate.has_stopped()
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let gate = Arc::clone(&self.gate);
        Box::new(StoppingFile { file, gate })
    }
}

impl Gate {
    fn has_stopped(&self) -> bool {
        self.asked.load(Ordering::Relaxed) > self.last
    }

    fn alive(&self) -> io::Result<()> {
        match self.has_stopped() {
            true => Err(io::Error::other("the disk has stopped")),
            false => Ok(()),
        }
    }

    fn pass(&self) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.alive()
    }
}

impl Disk for StoppingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.gate.pass()?;
        Ok(self.file(self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.gate.alive()?;
        if let Some(pause) = self.pause.as_ref()
            && pause.path == path
            && pause.is_armed.swap(false, Ordering::AcqRel)
        {
            pause.reached.wait();
            pause.over.wait();
        }
        Ok(self.file(self.disk.open(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.gate.alive()?;
        self.disk.list(dir)
    }

    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.disk.make_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.gate.pass()?;
        self.disk.sync_dir(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.gate.alive()?;
        self.disk.free_bytes(dir)
    }

    fn salt(&self) -> u64 {
        self.disk.salt()
    }
}

impl DiskFile for StoppingFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.gate.pass()?;
        self.file.write_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.gate.alive()?;
        self.file.read_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass()?;
        self.file.sync()
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        self.gate.pass()?;
        self.file.preallocate(bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.gate.pass()?;
        self.file.truncate(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.gate.alive()?;
        self.file.size()
    }
}
