//! What a terminal has said and the engine has not yet committed.
//!
//! Frames enter at the end with gap-free sequence numbers and leave at the front once they are committed. The frame that
//! holds the last committed event stays: its digest answers the question whether the engine and this device mean the same
//! history. [`DiskOutbox`] survives a crash at any byte; [`MemoryOutbox`] is for sources that can say everything again.

mod device;
mod disk;
mod files;
mod memory;
mod segment;

use std::fmt;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use thiserror::Error;
use till_protocol::id::Epoch;

use crate::frame::FrameError;

pub use self::device::{FileHandle, FileLock, FileSystem, StdFileSystem};
pub use self::disk::{DiskConfig, DiskOutbox};
pub use self::files::{SyncDone, SyncJob};
pub use self::memory::{MemoryConfig, MemoryOutbox};

/// When a sent event counts as kept.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sync {
    /// `send` returns when the event is on disk.
    Each,
    /// `send` returns when the event is queued. It is synced with its neighbours before it leaves the device; a crash in
    /// between loses it on both sides. [`Terminal::synced`](crate::Terminal::synced) waits for the disk.
    #[default]
    Group,
}

/// Where an outbox stands. All numbers are sequence numbers of `epoch`; 0 = none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Standing {
    /// The epoch of the frames, or `None` while the engine has not granted one.
    pub epoch: Option<Epoch>,
    /// The last event.
    pub last: u64,
    /// The last event that survives a crash of the device.
    pub durable: u64,
    /// The last event that the engine has committed, as far as this device knows.
    pub committed: u64,
    /// Bytes of the frames that are not yet committed.
    pub pending_bytes: u64,
}

/// A frame in an outbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Sequence number of its first event.
    pub first: u64,
    /// Number of its events, at least 1.
    pub count: u32,
    /// Header and payload as they go over the wire.
    pub bytes: Bytes,
}

impl Stored {
    /// Sequence number of its last event.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }

    /// Which of its events has a number.
    pub(crate) fn index_of(&self, seq: u64) -> u32 {
        u32::try_from(seq - self.first).unwrap_or(u32::MAX)
    }
}

/// The memory of one terminal's session.
pub trait Outbox: fmt::Debug + Send {
    /// Where the outbox stands.
    fn standing(&self) -> Standing;

    /// Whether another frame may be appended now. Without room senders wait; nothing is dropped.
    fn has_room(&self) -> bool;

    /// How the outbox promises to keep what it is given.
    fn sync_policy(&self) -> Sync;

    /// Whether what it holds is still there after a crash of the device.
    fn survives_crash(&self) -> bool;

    /// Adds a frame of `count` events whose header starts at [`Standing::last`] + 1.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when the frame does not follow the last one, or can't be written; then nothing was added.
    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError>;

    /// The frame that holds an event, if the outbox still has it.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when it can't be read back.
    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError>;

    /// Learns that everything up to `upto` is committed, and forgets the frames below that event's own.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when this can't be written.
    fn commit(&mut self, upto: u64) -> Result<(), OutboxError>;

    /// Starts a new epoch in one step: the events from `from` on become 1, 2, 3, ... of `epoch`, those before it are
    /// forgotten. What it returns from is durable.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when the new epoch can't be written; then the old one goes on.
    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError>;

    /// The sync that would make everything durable that is not, or `None` when all of it is.
    ///
    /// # Errors
    /// Returns [`OutboxError`] when the outbox failed earlier and nothing can be made durable any more.
    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError>;

    /// Takes the result of a [`SyncJob`].
    ///
    /// # Errors
    /// Returns [`OutboxError`] when the sync failed. The outbox is then unusable until it is opened again.
    fn synced(&mut self, done: SyncDone) -> Result<(), OutboxError>;
}

/// Why an outbox could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// The file system said no.
    #[error("outbox can't {what} {}: {source}; free the disk or mend the permissions, then try again", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Bytes that were durable are damaged.
    #[error(
        "outbox file {} is damaged at byte {offset}, below what was synced; keep a copy of the folder, then move it away \
         to start with an empty outbox: events of {} behind that byte are not sent",
        path.display(), path.display()
    )]
    Damaged {
        /// The damaged file.
        path: PathBuf,
        /// Where the damage starts.
        offset: u64,
    },
    /// The folder belongs to another terminal.
    #[error("outbox {} belongs to terminal {found}, not {expected}; give each terminal its own folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The terminal in its files.
        found: u64,
        /// The terminal that was to be opened.
        expected: u64,
    },
    /// Another process has the outbox open.
    #[error("outbox {} is open elsewhere; stop the other process first", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// An earlier write or sync failed half-way.
    #[error("outbox {} failed earlier and what it holds in memory can't be trusted; open it again", path.display())]
    Poisoned {
        /// The folder.
        path: PathBuf,
    },
    /// A frame does not start where the last one ended.
    #[error("frame starts at {first}, the outbox expects {expected}")]
    OutOfOrder {
        /// The frame's first sequence number.
        first: u64,
        /// The number that the outbox expects.
        expected: u64,
    },
    /// A frame in the outbox can't be read as a frame.
    #[error("frame at {seq}: {source}")]
    Frame {
        /// First sequence number of the frame.
        seq: u64,
        /// What is wrong with it.
        source: FrameError,
    },
}

#[cfg(test)]
mod tests;
