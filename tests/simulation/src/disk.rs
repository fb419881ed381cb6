//! A disk that does what disks do on a bad day, and that knows what of it would survive.

mod bytes;
mod faults;

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use till_storage::disk::{Disk, DiskFile};

use self::bytes::DiskNode;
use crate::rng::Rng;

pub(crate) use self::faults::{DiskCounts, DiskFaults, UNREAD};

/// The disk of one engine. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct WorldDisk {
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug)]
struct WorldFile {
    state: Arc<Mutex<DiskState>>,
    node: usize,
}

#[derive(Clone, Debug)]
struct DiskState {
    nodes: Vec<DiskNode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    rng: Rng,
    /// What reads and stray writes draw from, so that they change nothing else.
    later: Rng,
    /// A file that cannot be read for a while.
    unreadable: Option<usize>,
    /// Who reads now is no engine: nothing fails.
    is_looked_at: bool,
    faults: DiskFaults,
    counts: DiskCounts,
    /// Operations until everything stops.
    fuse: Option<u64>,
    is_dead: bool,
    limit: Option<u64>,
    salts: u64,
}

impl WorldDisk {
    pub(crate) fn new(rng: Rng, faults: DiskFaults) -> Self {
        let state = DiskState {
            nodes: Vec::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            later: rng.clone().fork(),
            rng,
            unreadable: None,
            is_looked_at: false,
            faults,
            counts: DiskCounts::default(),
            fuse: None,
            is_dead: false,
            limit: None,
            salts: 0,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Another disk in its place, which has the same faults.
    pub(crate) fn replaced(&self, rng: Rng) -> Self {
        let counts = self.counts();
        let faults = self.lock().faults;
        let new = Self::new(rng, faults);
        new.lock().counts = counts;
        new
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        lock(&self.state)
    }

    pub(crate) fn counts(&self) -> DiskCounts {
        self.lock().counts
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = DiskFaults::default();
        state.unreadable = None;
        state.fuse = None;
        state.limit = None;
    }

    /// Everything stops at an operation that is so many ahead: the process ends there.
    pub(crate) fn stop_after(&self, operations: u64) {
        self.lock().fuse = Some(operations);
    }

    /// Whether it has come to that.
    pub(crate) fn is_dead(&self) -> bool {
        self.lock().is_dead
    }

    /// Room beyond what is used now; `None` for no bound.
    pub(crate) fn leave_room(&self, bytes: Option<u64>) {
        let mut state = self.lock();
        let used = state.used();
        state.limit = bytes.map(|bytes| used + bytes);
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.lock().limit.is_some()
    }

    /// The process ended: what it wrote is there, synced or not.
    pub(crate) fn process_ended(&self) {
        let mut state = self.lock();
        state.is_dead = false;
        state.fuse = None;
    }

    /// The power failed: of what was not synced, chance keeps some sectors.
    pub(crate) fn power_failed(&self) {
        let mut state = self.lock();
        state.is_dead = false;
        state.fuse = None;
        let DiskState {
            nodes,
            synced_names,
            rng,
            counts,
            ..
        } = &mut *state;
        for node in nodes.iter_mut() {
            node.lose(rng, counts);
        }
        state.names = synced_names.clone();
    }

    /// Whether all that a journal in `dir` holds below a place would survive a loss of power.
    pub(crate) fn is_durable(&self, dir: &Path, upto: u64) -> bool {
        let state = self.lock();
        let files = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir));
        for (path, number) in files {
            let Some(start) = segment_start(path) else {
                continue;
            };
            if start >= upto {
                continue;
            }
            if state.synced_names.get(path) != Some(number) {
                return false;
            }
            let node = &state.nodes[*number];
            let below = narrow(upto - start);
            let [seen, kept] =
                [&node.data, &node.durable].map(|image| &image[..below.min(image.len())]);
            // Room that was allocated and never written reads as zeros, also where its allocation is lost.
            let (both, longer) = (seen.len().min(kept.len()), seen.len().max(kept.len()));
            let rest = if seen.len() == longer { seen } else { kept };
            if seen[..both] != kept[..both] || rest[both..].iter().any(|byte| *byte != 0) {
                return false;
            }
        }
        true
    }

    /// A copy on which nothing goes wrong.
    pub(crate) fn image(&self) -> Self {
        let mut state = self.lock().clone();
        state.faults = DiskFaults::default();
        state.unreadable = None;
        state.fuse = None;
        state.is_dead = false;
        state.limit = None;
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Files of a folder with their lengths.
    pub(crate) fn lengths(&self, dir: &Path) -> Vec<(PathBuf, usize)> {
        let state = self.lock();
        let files = state.names.iter();
        files
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, node)| (path.clone(), state.nodes[*node].data.len()))
            .collect()
    }

    /// Turns one bit over, as a failing disk does.
    pub(crate) fn flip_bit(&self, path: &Path, bit: usize) {
        let mut state = self.lock();
        let Some(number) = state.names.get(path).copied() else {
            return;
        };
        let node = &mut state.nodes[number];
        for image in [&mut node.data, &mut node.durable] {
            if let Some(byte) = image.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Cuts a file short behind everyone's back.
    pub(crate) fn cut(&self, path: &Path, bytes: usize) {
        let mut state = self.lock();
        if let Some(number) = state.names.get(path).copied() {
            state.nodes[number].data.truncate(bytes);
            state.nodes[number].durable.truncate(bytes);
        }
    }
}

fn lock(state: &Mutex<DiskState>) -> MutexGuard<'_, DiskState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn narrow(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Where a segment of the journal starts, as its name says.
pub(crate) fn segment_start(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_suffix(".till")?;
    digits.parse().ok()
}

impl DiskState {
    fn used(&self) -> u64 {
        let lengths = self.names.values().map(|node| self.nodes[*node].data.len());
        lengths.map(wide).sum()
    }

    fn alive(&self) -> io::Result<()> {
        if self.is_dead {
            return Err(io::Error::other("the machine has stopped"));
        }
        Ok(())
    }

    // One more operation. False: it is the one at which everything stops.
    fn operate(&mut self) -> io::Result<bool> {
        self.alive()?;
        let Some(left) = self.fuse.filter(|_| !self.is_looked_at) else {
            return Ok(true);
        };
        self.fuse = left.checked_sub(1);
        if left == 0 {
            self.is_dead = true;
            self.counts.stopped += 1;
        }
        Ok(left != 0)
    }

    fn step(&mut self) -> io::Result<()> {
        self.operate()?;
        self.alive()
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let found = self.names.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn has_room_for(&mut self, more: u64) -> io::Result<()> {
        match self.limit {
            Some(limit) if more > 0 && self.used() + more > limit => {
                self.counts.full += 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, node: usize, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let goes_on = self.operate()?;
        let mut bytes: Vec<u8> = Vec::new();
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        let at = narrow(offset);
        let end = at + bytes.len();
        let grown = end.saturating_sub(self.nodes[node].data.len());
        if let Err(error) = self.has_room_for(wide(grown)) {
            // A part of it is there.
            bytes.truncate(self.rng.index(bytes.len() - grown.min(bytes.len()) + 1));
            self.nodes[node].write(at, bytes);
            return Err(error);
        }
        let is_short = self.rng.chance(self.faults.short_write);
        if is_short || !goes_on {
            bytes.truncate(self.rng.index(bytes.len() + 1));
            self.counts.short_writes += u64::from(is_short);
        }
        let (node, at) = self.landing(node, at);
        self.nodes[node].write(at, bytes);
        if is_short {
            return Err(io::Error::other("the write stopped half-way"));
        }
        self.alive()
    }

    fn sync(&mut self, node: usize) -> io::Result<()> {
        self.step()?;
        self.counts.syncs += 1;
        if self.rng.chance(self.faults.sync_fails) {
            self.counts.sync_failed += 1;
            self.nodes[node].pending.clear();
            return Err(io::Error::other("the bytes could not be synced"));
        }
        if self.rng.chance(self.faults.sync_lies) {
            self.counts.sync_lied += 1;
            return Ok(());
        }
        self.nodes[node].sync();
        Ok(())
    }
}

impl Disk for WorldDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock();
        state.step()?;
        let node = state.nodes.len();
        state.nodes.push(DiskNode::default());
        state.names.insert(path.to_path_buf(), node);
        Ok(Box::new(WorldFile {
            state: Arc::clone(&self.state),
            node,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock();
        state.alive()?;
        let node = state.find(path)?;
        Ok(Box::new(WorldFile {
            state: Arc::clone(&self.state),
            node,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names.map(|n| n.to_string_lossy().into_owned()).collect())
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        self.lock().alive()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let node = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.find(path)?;
        state.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.counts.syncs += 1;
        let fails = state.faults.sync_fails;
        if state.rng.chance(fails) {
            state.counts.sync_failed += 1;
            return Err(io::Error::other("the folder could not be synced"));
        }
        let inside: Vec<(PathBuf, usize)> = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        state
            .synced_names
            .retain(|path, _| path.parent() != Some(dir));
        state.synced_names.extend(inside);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.lock();
        let limit = state.limit.unwrap_or(u64::MAX);
        Ok(limit.saturating_sub(state.used()))
    }

    fn salt(&self) -> u64 {
        let mut state = self.lock();
        state.salts += 1;
        Rng::new(state.salts).next()
    }
}

impl DiskFile for WorldFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        lock(&self.state).write(self.node, slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = lock(&self.state);
        state.alive()?;
        state.readable(self.node)?;
        let data = &state.nodes[self.node].data;
        let rest = data.get(narrow(offset)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.state).sync(self.node)
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.step()?;
        let bytes = narrow(bytes);
        let grown = bytes.saturating_sub(state.nodes[self.node].data.len());
        state.has_room_for(wide(grown))?;
        let node = &mut state.nodes[self.node];
        if grown > 0 {
            node.data.resize(bytes, 0);
            node.resized = true;
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.sync(self.node)?;
        let node = &mut state.nodes[self.node];
        node.sync();
        node.data.resize(narrow(bytes), 0);
        node.durable.resize(narrow(bytes), 0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let state = lock(&self.state);
        state.alive()?;
        Ok(wide(state.nodes[self.node].data.len()))
    }
}
