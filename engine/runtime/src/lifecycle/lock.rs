//! One process at a time: the lock on a data folder, and a note of who holds it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Longest wait for somebody who asks a folder and will be gone soon.
const VISITOR_MAX: Duration = Duration::from_secs(10);
/// Longest wait of somebody who asks for an engine that is coming up: it reads its journal first.
const STARTING_MAX: Duration = Duration::from_secs(60);
/// Longest wait of an engine for another that is not up yet: what the lock file says may be older than the lock.
const SECOND_ENGINE_MAX: Duration = Duration::from_secs(1);
/// Waits shorter than this are nobody's business.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Time between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The engine that has a folder open, as its `engine.json` says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Holder {
    /// Where devices reach it.
    pub quic: String,
    /// Where its admin port is.
    pub admin: String,
    /// Its process.
    pub pid: u32,
}

/// What a process does with a folder that it has locked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It is the folder's engine, or is about to be.
    Engine,
    /// It asks or repairs the folder without an engine, and is gone when it has its answer.
    Visitor,
}

/// Who has a folder locked, as the lock file says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Occupant {
    /// What for.
    pub role: Role,
    /// Its process.
    pub pid: u32,
}

/// Why a folder could not be had alone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process has it.
    #[error("{} is in use by {}", dir.display(), whom(*by, holder.as_ref()))]
    Held {
        /// The folder.
        dir: PathBuf,
        /// Who, if it has said so yet.
        by: Option<Occupant>,
        /// Where it is reached: an engine that is up.
        holder: Option<Holder>,
    },
    /// There is no such folder.
    #[error("there is no data folder {}", .0.display())]
    Missing(PathBuf),
    /// The file system refused.
    #[error("locking {} failed: {cause}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the file system said.
        cause: io::Error,
    },
}

fn whom(by: Option<Occupant>, holder: Option<&Holder>) -> String {
    if let Some(engine) = holder {
        return format!(
            "the engine of process {} (admin port {}); stop it first, or ask it",
            engine.pid, engine.admin
        );
    }
    match by {
        Some(Occupant {
            role: Role::Engine,
            pid,
        }) => format!("the engine of process {pid}, which is not up yet; try again when it is"),
        Some(Occupant {
            role: Role::Visitor,
            pid,
        }) => format!("process {pid}, which asks or repairs it; try again when that has ended"),
        None => "another process".to_owned(),
    }
}

/// A locked folder. The lock goes with the process, however that ends.
#[derive(Debug)]
pub(crate) struct DirLock {
    dir: PathBuf,
    _file: File,
    is_announced: bool,
}

impl DirLock {
    /// Locks a folder, at once or not at all. An engine makes it where it is missing.
    pub(crate) fn take(dir: &Path, role: Role) -> Result<Self, LockError> {
        let io = |file: &Path, cause| LockError::Io {
            file: file.to_path_buf(),
            cause,
        };
        if role == Role::Engine {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o750).create(dir);
            made.map_err(|cause| io(dir, cause))?;
        } else if !dir.is_dir() {
            return Err(LockError::Missing(dir.to_path_buf()));
        }
        let path = dir.join("lock");
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let options = options.mode(0o640);
        let mut file = options.open(&path).map_err(|cause| io(&path, cause))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(held(dir, &mut file)),
            Err(error) => return Err(io(&path, error.into())),
        }
        // What an engine that was killed left behind says nothing any more.
        match fs::remove_file(note(dir)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io(&note(dir), error));
            }
            _ => {}
        }
        sign(&mut file, role).map_err(|cause| io(&path, cause))?;
        Ok(Self {
            dir: dir.to_path_buf(),
            _file: file,
            is_announced: false,
        })
    }

    /// Locks a folder; waits for those who will be done with it soon.
    pub(crate) async fn wait(dir: &Path, role: Role) -> Result<Self, LockError> {
        let mut patience = LockPatience::new(role);
        loop {
            match Self::take(dir, role) {
                Err(error) if patience.lasts(&error) => tokio::time::sleep(LOOK_AGAIN).await,
                taken => return taken,
            }
        }
    }

    /// As [`wait`](Self::wait), for threads that may block.
    pub(crate) fn wait_blocking(dir: &Path, role: Role) -> Result<Self, LockError> {
        let mut patience = LockPatience::new(role);
        loop {
            match Self::take(dir, role) {
                Err(error) if patience.lasts(&error) => std::thread::sleep(LOOK_AGAIN),
                taken => return taken,
            }
        }
    }

    /// Writes who holds the folder, for commands that would rather ask than wait.
    pub(crate) fn announce(&mut self, holder: &Holder) -> io::Result<()> {
        let new = self.dir.join("engine.json.new");
        fs::write(&new, serde_json::to_vec(holder)?)?;
        fs::rename(&new, note(&self.dir))?;
        self.is_announced = true;
        Ok(())
    }
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if self.is_announced && fs::remove_file(note(&self.dir)).is_err() {
            tracing::debug!("engine.json was gone already");
        }
    }
}

/// How long somebody waits for a folder.
struct LockPatience {
    role: Role,
    began: Instant,
    is_announced: bool,
}

impl LockPatience {
    fn new(role: Role) -> Self {
        Self {
            role,
            began: Instant::now(),
            is_announced: false,
        }
    }

    // Whether to look again. An engine that is up is to be asked, or to be stopped: nobody waits for that.
    fn lasts(&mut self, error: &LockError) -> bool {
        let LockError::Held {
            by, holder: None, ..
        } = error
        else {
            return false;
        };
        let longest = match (self.role, by.map(|by| by.role)) {
            (Role::Engine, Some(Role::Engine)) => SECOND_ENGINE_MAX,
            (Role::Visitor, Some(Role::Engine)) => STARTING_MAX,
            (_, Some(Role::Visitor) | None) => VISITOR_MAX,
        };
        let waited = self.began.elapsed();
        if waited > SILENT_MAX && !self.is_announced {
            self.is_announced = true;
            tracing::warn!("waiting: {error}");
        }
        waited < longest
    }
}

fn note(dir: &Path) -> PathBuf {
    dir.join("engine.json")
}

// The lock file says who has it: for messages, and for those who weigh whether to wait. The lock itself is the kernel's.
fn sign(file: &mut File, role: Role) -> io::Result<()> {
    let word = match role {
        Role::Engine => "engine",
        Role::Visitor => "visitor",
    };
    file.set_len(0)?;
    file.write_all(format!("{word} {}\n", std::process::id()).as_bytes())
}

fn occupant(file: &mut File) -> Option<Occupant> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let (word, pid) = text.trim_end().split_once(' ')?;
    let role = match word {
        "engine" => Role::Engine,
        "visitor" => Role::Visitor,
        _ => return None,
    };
    let pid = pid.parse().ok()?;
    Some(Occupant { role, pid })
}

fn held(dir: &Path, file: &mut File) -> LockError {
    let by = occupant(file);
    // A note of another process was left by one that died.
    let holder = holder(dir)
        .filter(|holder| by.is_some_and(|by| (by.role, by.pid) == (Role::Engine, holder.pid)));
    LockError::Held {
        dir: dir.to_path_buf(),
        by,
        holder,
    }
}

// Who wrote that it holds a folder. It may have died since; the lock alone is certain.
fn holder(dir: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(note(dir)).ok()?).ok()
}

/// The engine that has a folder open right now; `None` when none has.
pub fn engine_of(dir: &Path) -> Option<Holder> {
    match DirLock::take(dir, Role::Visitor) {
        Err(LockError::Held { holder, .. }) => holder,
        _ => None,
    }
}

#[cfg(test)]
mod tests;
