//! The flash of a device: folders and files in memory, and what a loss of power leaves of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use till_client::{FileHandle, FileLock, FileSystem};

use crate::mistake::is_planted;
use crate::rng::Rng;

/// Number of the folder that holds all others.
const ROOT: usize = 0;

/// Clones are the same flash.
#[derive(Clone, Debug)]
pub(crate) struct Flash(Arc<Mutex<FlashState>>);

/// What lies on it at some moment.
#[derive(Clone, Debug)]
pub(crate) struct FlashState {
    nodes: Vec<FlashNode>,
    /// What was done to names and is not safe, in its order: a file system keeps some of the first, as its journal does.
    unsafe_names: Vec<(usize, Change)>,
}

#[derive(Clone, Debug)]
enum FlashNode {
    File { bytes: Vec<u8>, synced: usize },
    Folder { names: Names, safe: Names },
}

type Names = BTreeMap<String, usize>;

#[derive(Clone, Debug)]
enum Change {
    Made(String, usize),
    Gone(String),
    Renamed(String, String),
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Made(name, node) => drop(names.insert(name.clone(), *node)),
            Self::Gone(name) => drop(names.remove(name)),
            Self::Renamed(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl Default for Flash {
    fn default() -> Self {
        Self::of(FlashState {
            nodes: vec![FlashNode::folder()],
            unsafe_names: Vec::new(),
        })
    }
}

impl FlashNode {
    const fn folder() -> Self {
        Self::Folder {
            names: Names::new(),
            safe: Names::new(),
        }
    }

    const fn file() -> Self {
        Self::File {
            bytes: Vec::new(),
            synced: 0,
        }
    }
}

impl Flash {
    /// Another flash with what is here.
    pub(crate) fn of(state: FlashState) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, FlashState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What would be left if the power failed now, and chance kept nothing.
    pub(crate) fn safe(&self) -> FlashState {
        let mut state = self.lock().clone();
        state.lose(|_| 0);
        state
    }

    /// The power fails: of what is not safe, chance keeps a part that was done first.
    pub(crate) fn power_failed(&self, rng: &mut Rng) {
        self.lock().lose(|most| rng.index(most + 1));
    }
}

impl FlashState {
    // `keeps` says how much of so many bytes or names is kept.
    fn lose(&mut self, mut keeps: impl FnMut(usize) -> usize) {
        let kept = keeps(self.unsafe_names.len());
        let changes = std::mem::take(&mut self.unsafe_names);
        for (folder, change) in changes.into_iter().take(kept) {
            if let Some(FlashNode::Folder { safe, .. }) = self.nodes.get_mut(folder) {
                change.apply(safe);
            }
        }
        for node in &mut self.nodes {
            match node {
                FlashNode::Folder { names, safe } => names.clone_from(safe),
                FlashNode::File { bytes, synced } => {
                    bytes.truncate(*synced + keeps(bytes.len() - *synced));
                    *synced = bytes.len();
                }
            }
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = ROOT;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let Some(FlashNode::Folder { names, .. }) = self.nodes.get(at) else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            let name = name.to_string_lossy();
            let next = names.get(name.as_ref());
            at = *next.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    // The folder of a path, and the name in it.
    fn position(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let folder = self.find(path.parent().unwrap_or_else(|| Path::new("")))?;
        Ok((folder, name.to_string_lossy().into_owned()))
    }

    fn change(&mut self, folder: usize, change: Change) {
        if let Some(FlashNode::Folder { names, .. }) = self.nodes.get_mut(folder) {
            change.apply(names);
        }
        self.unsafe_names.push((folder, change));
    }

    fn make(&mut self, path: &Path, node: FlashNode) -> io::Result<usize> {
        let (folder, name) = self.position(path)?;
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = self.nodes.len();
        self.nodes.push(node);
        self.change(folder, Change::Made(name, number));
        Ok(number)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        let (folder, name) = self.position(path)?;
        self.change(folder, Change::Gone(name));
        Ok(())
    }
}

impl FileSystem for Flash {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        for above in path.ancestors().collect::<Vec<_>>().into_iter().rev() {
            let mut state = self.lock();
            if state.find(above).is_err() {
                state.make(above, FlashNode::folder())?;
            }
        }
        Ok(())
    }

    fn is_there(&self, path: &Path) -> bool {
        self.lock().find(path).is_ok()
    }

    // A device is one process.
    fn lock(&self, _path: &Path) -> io::Result<Option<FileLock>> {
        Ok(Some(Box::new(())))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let node = self.lock().make(path, FlashNode::file())?;
        let flash = self.clone();
        Ok(Box::new(Open { flash, node }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let node = self.lock().find(path)?;
        let flash = self.clone();
        Ok(Box::new(Open { flash, node }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        match state.nodes.get(state.find(path)?) {
            Some(FlashNode::File { bytes, .. }) => Ok(bytes.clone()),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        match state.nodes.get(state.find(path)?) {
            Some(FlashNode::Folder { names, .. }) => Ok(names.keys().cloned().collect()),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.find(from)?;
        let ((folder, from), (other, to)) = (state.position(from)?, state.position(to)?);
        if folder != other {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        state.change(folder, Change::Renamed(from, to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.lock().remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        // As if the outbox had not asked for it.
        if is_planted("names-unsynced") {
            return Ok(());
        }
        let mut state = self.lock();
        let folder = state.find(path)?;
        let changes = std::mem::take(&mut state.unsafe_names);
        for (of, change) in changes {
            match state.nodes.get_mut(of) {
                Some(FlashNode::Folder { safe, .. }) if of == folder => change.apply(safe),
                _ => state.unsafe_names.push((of, change)),
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Open {
    flash: Flash,
    node: usize,
}

impl Open {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>, &mut usize) -> T) -> io::Result<T> {
        match self.flash.lock().nodes.get_mut(self.node) {
            Some(FlashNode::File { bytes, synced }) => Ok(act(bytes, synced)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl FileHandle for Open {
    fn append(&self, more: &[u8]) -> io::Result<()> {
        self.with(|bytes, _| bytes.extend_from_slice(more))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|bytes, synced| {
            bytes.truncate(len);
            *synced = (*synced).min(len);
        })
    }

    fn sync(&self) -> io::Result<()> {
        if is_planted("outbox-unsynced") {
            return Ok(());
        }
        self.with(|bytes, synced| *synced = bytes.len())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes, _| {
            let end = start.checked_add(into.len());
            let found = end.and_then(|end| bytes.get(start..end));
            found.map(|found| into.copy_from_slice(found))
        })?
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
