//! A disk in memory that does what real disks do on a bad day.

use std::collections::BTreeMap;
use std::io;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};
use crate::num::{size, wide};

/// Smallest chunk that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk in memory for tests: unsynced writes are lost or torn at a crash, room is limited, syncs fail.
///
/// Clones are the same disk. Everything random comes from the seed.
#[derive(Clone, Debug)]
pub struct SimDisk {
    world: Arc<Mutex<SimWorld>>,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    world: Arc<Mutex<SimWorld>>,
    node: usize,
}

#[derive(Debug, Default)]
struct SimWorld {
    nodes: Vec<SimNode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    seed: u64,
    syncs: u64,
    freeze_at: Option<u64>,
    fail_at: Option<(u64, io::ErrorKind)>,
    frozen: bool,
    limit: Option<u64>,
    salts: u64,
    open: usize,
    stuck: Option<PathBuf>,
    shut: Option<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct SimNode {
    data: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
    resized: bool,
}

impl SimDisk {
    /// An empty disk. What a crash keeps of unsynced bytes is drawn from `seed`; with 0 it keeps none.
    pub fn new(seed: u64) -> Self {
        let world = SimWorld {
            seed,
            ..SimWorld::default()
        };
        Self {
            world: Arc::new(Mutex::new(world)),
        }
    }

    /// Everything stops at the sync with this number (from 1, all files and folders counted): it does not happen, and no
    /// call succeeds after it.
    pub fn freeze_at_sync(&self, number: u64) {
        self.lock().freeze_at = Some(number);
    }

    /// The sync with this number (from 1) fails, and the bytes that it should have saved count as clean from then on: no
    /// later sync saves them.
    pub fn fail_sync(&self, number: u64) {
        self.lock().fail_at = Some((number, io::ErrorKind::Other));
    }

    /// As [`fail_sync`](Self::fail_sync), and the error says that there is no room: what a file system reports that finds
    /// room only when it writes back.
    pub fn fail_sync_for_room(&self, number: u64) {
        self.lock().fail_at = Some((number, io::ErrorKind::StorageFull));
    }

    /// Room of the disk in bytes; `None` for no limit.
    pub fn limit_bytes(&self, limit: Option<u64>) {
        self.lock().limit = limit;
    }

    /// Bytes that the files on it take.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// Files that are open now.
    pub fn open_files(&self) -> usize {
        self.lock().open
    }

    /// The file that cannot be removed; `None` for none.
    pub fn refuse_removal(&self, path: Option<&Path>) {
        self.lock().stuck = path.map(Path::to_path_buf);
    }

    /// The file that cannot be opened, as when the process has too many open; `None` for none.
    pub fn refuse_opening(&self, path: Option<&Path>) {
        self.lock().shut = path.map(Path::to_path_buf);
    }

    /// Syncs so far, the failed ones counted.
    pub fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Whether [`freeze_at_sync`](Self::freeze_at_sync) has struck.
    pub fn is_frozen(&self) -> bool {
        self.lock().frozen
    }

    /// The disk as it is found after a loss of power now: what was synced, and of the rest what chance kept.
    #[must_use]
    pub fn crash(&self) -> Self {
        let world = self.lock();
        let mut chance = Chance(world.seed);
        let mut after = SimWorld {
            seed: world.seed.wrapping_mul(31).wrapping_add(world.seed.min(1)),
            salts: world.salts,
            ..SimWorld::default()
        };
        for (path, node) in &world.synced_names {
            let data = world.nodes[*node].after_crash(&mut chance, world.seed != 0);
            after.names.insert(path.clone(), after.nodes.len());
            after.nodes.push(SimNode {
                synced: data.clone(),
                data,
                ..SimNode::default()
            });
        }
        after.synced_names.clone_from(&after.names);
        Self {
            world: Arc::new(Mutex::new(after)),
        }
    }

    /// As [`crash`](Self::crash), where every name had reached the disk: a file system may write those ahead of contents.
    #[must_use]
    pub fn crash_after_names(&self) -> Self {
        let mut world = self.lock();
        world.synced_names = world.names.clone();
        drop(world);
        self.crash()
    }

    /// A copy of the disk as it is now, on which nothing is pending.
    #[must_use]
    pub fn copy(&self) -> Self {
        let world = self.lock();
        let mut nodes = world.nodes.clone();
        for node in &mut nodes {
            node.synced.clone_from(&node.data);
            node.pending.clear();
        }
        let copy = SimWorld {
            nodes,
            names: world.names.clone(),
            synced_names: world.names.clone(),
            seed: world.seed,
            salts: world.salts,
            ..SimWorld::default()
        };
        Self {
            world: Arc::new(Mutex::new(copy)),
        }
    }

    /// All bytes of a file; `None` when there is no such file.
    pub fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.lock();
        let node = world.names.get(path)?;
        Some(world.nodes[*node].data.clone())
    }

    /// Replaces all bytes of a file, behind the back of whoever uses it. Makes the file where there is none.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.lock();
        let node = SimNode {
            data: bytes.to_vec(),
            synced: bytes.to_vec(),
            ..SimNode::default()
        };
        let number = match world.names.get(path).copied() {
            Some(number) => {
                world.nodes[number] = node;
                number
            }
            None => {
                world.nodes.push(node);
                world.nodes.len() - 1
            }
        };
        world.names.insert(path.to_path_buf(), number);
        world.synced_names.insert(path.to_path_buf(), number);
    }

    /// Turns one bit of a file over, as a failing disk does.
    pub fn flip_bit(&self, path: &Path, bit: usize) {
        let mut world = self.lock();
        if let Some(node) = world.names.get(path).copied() {
            let node = &mut world.nodes[node];
            let mask = 1_u8 << (bit % 8);
            for image in [&mut node.data, &mut node.synced] {
                if let Some(byte) = image.get_mut(bit / 8) {
                    *byte ^= mask;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SimWorld> {
        lock(&self.world)
    }
}

fn lock(world: &Mutex<SimWorld>) -> MutexGuard<'_, SimWorld> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimWorld {
    fn alive(&self) -> io::Result<()> {
        if self.frozen {
            return Err(io::Error::other("the disk is frozen"));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        let lengths = self.names.values().map(|node| self.nodes[*node].data.len());
        lengths.map(wide).sum()
    }

    fn has_room_for(&self, more: u64) -> io::Result<()> {
        match self.limit {
            Some(limit) if self.used() + more > limit => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.alive()?;
        self.names
            .get(path)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    // Counts a sync. An error where everything stops; a kind of error where this sync alone fails.
    fn begin_sync(&mut self) -> io::Result<Option<io::ErrorKind>> {
        self.alive()?;
        self.syncs += 1;
        if self.freeze_at == Some(self.syncs) {
            self.frozen = true;
            self.alive()?;
        }
        let fails = self.fail_at.filter(|(number, _)| *number == self.syncs);
        Ok(fails.map(|(_, kind)| kind))
    }
}

impl SimNode {
    fn sync(&mut self) {
        if self.resized {
            self.synced.resize(self.data.len(), 0);
            self.resized = false;
        }
        for (at, bytes) in std::mem::take(&mut self.pending) {
            overlay(&mut self.synced, at, &bytes);
        }
    }

    fn after_crash(&self, chance: &mut Chance, keeps: bool) -> Vec<u8> {
        let mut found = self.synced.clone();
        if !keeps {
            return found;
        }
        if self.resized && chance.coin() {
            found.resize(self.data.len(), 0);
        }
        for (at, bytes) in &self.pending {
            let mut from = 0;
            while from < bytes.len() {
                // Up to the next border of a sector in the file.
                let step = (SECTOR - (at + from) % SECTOR).min(bytes.len() - from);
                if chance.coin() {
                    overlay(&mut found, at + from, &bytes[from..from + step]);
                }
                from += step;
            }
        }
        found
    }
}

fn overlay(image: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[at..end].copy_from_slice(bytes);
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.lock();
        world.alive()?;
        let number = world.nodes.len();
        world.nodes.push(SimNode::default());
        world.names.insert(path.to_path_buf(), number);
        world.open += 1;
        Ok(Box::new(SimFile {
            world: Arc::clone(&self.world),
            node: number,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.lock();
        let node = world.find(path)?;
        if world.shut.as_deref() == Some(path) {
            return Err(io::Error::other("too many open files"));
        }
        world.open += 1;
        Ok(Box::new(SimFile {
            world: Arc::clone(&self.world),
            node,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.lock();
        world.alive()?;
        let inside = world.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names.map(|n| n.to_string_lossy().into_owned()).collect())
    }

    fn make_dir(&self, _dir: &Path) -> io::Result<()> {
        self.lock().alive()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        let node = world.find(from)?;
        world.names.remove(from);
        world.names.insert(to.to_path_buf(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        world.find(path)?;
        if world.stuck.as_deref() == Some(path) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        world.names.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.lock();
        if let Some(kind) = world.begin_sync()? {
            return Err(io::Error::new(kind, "the folder could not be synced"));
        }
        world
            .synced_names
            .retain(|path, _| path.parent() != Some(dir));
        let inside: Vec<(PathBuf, usize)> = world
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .map(|(path, node)| (path.clone(), *node))
            .collect();
        world.synced_names.extend(inside);
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let world = self.lock();
        let limit = world.limit.unwrap_or(u64::MAX);
        Ok(limit.saturating_sub(world.used()))
    }

    fn salt(&self) -> u64 {
        let mut world = self.lock();
        world.salts += 1;
        Chance(world.salts).next()
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        lock(&self.world).open -= 1;
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.alive()?;
        let mut at = size(offset);
        for slice in slices {
            let end = at + slice.len();
            let grown = end.saturating_sub(world.nodes[self.node].data.len());
            world.has_room_for(wide(grown))?;
            let node = &mut world.nodes[self.node];
            overlay(&mut node.data, at, slice);
            node.pending.push((at, slice.to_vec()));
            at = end;
        }
        Ok(())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = lock(&self.world);
        world.alive()?;
        let data = &world.nodes[self.node].data;
        let rest = data.get(size(offset)..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = lock(&self.world);
        let fails = world.begin_sync()?;
        let node = &mut world.nodes[self.node];
        if let Some(kind) = fails {
            node.pending.clear();
            return Err(io::Error::new(kind, "the bytes could not be synced"));
        }
        node.sync();
        Ok(())
    }

    fn preallocate(&self, bytes: u64) -> io::Result<()> {
        let mut world = lock(&self.world);
        world.alive()?;
        let bytes = size(bytes);
        let grown = bytes.saturating_sub(world.nodes[self.node].data.len());
        world.has_room_for(wide(grown))?;
        let node = &mut world.nodes[self.node];
        if grown > 0 {
            node.data.resize(bytes, 0);
            node.resized = true;
        }
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut world = lock(&self.world);
        if let Some(kind) = world.begin_sync()? {
            return Err(io::Error::new(kind, "the new length could not be synced"));
        }
        let node = &mut world.nodes[self.node];
        node.sync();
        node.data.resize(size(bytes), 0);
        node.synced.resize(size(bytes), 0);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let world = lock(&self.world);
        world.alive()?;
        Ok(wide(world.nodes[self.node].data.len()))
    }
}

// SplitMix64: enough chance for a disk, the same on every machine.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}
