//! Group commit, one group at a time and without a thread: what gathers, is written, synced and handed on.

use std::sync::Arc;

use super::writer::WriteError;
use super::{Durable, Lsn, Prepared, Queue, Sink, State, SyncConfig, SyncError, SyncStats, Writer};

/// What waits to become durable: a record, or nothing but its place behind those before it.
#[derive(Debug)]
pub(super) struct Item<T> {
    pub(super) entry: Option<Prepared>,
    pub(super) companion: T,
}

/// What became of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Attempt {
    /// It is durable, and was handed on.
    Done,
    /// The disk has no room for so many bytes. The group is kept: commit again once there is.
    Full {
        /// Bytes that it needs.
        bytes: u64,
    },
}

/// Makes groups of records durable. Whoever drives it decides when: the [`Syncer`](super::Syncer) does so on a
/// thread of its own, a simulator step by step.
#[derive(Debug)]
pub struct GroupSync<T, S> {
    writer: Writer,
    config: SyncConfig,
    sink: S,
    stats: Arc<SyncStats>,
    items: Vec<Item<T>>,
    bytes: usize,
    lsns: Vec<Lsn>,
    done: Vec<(Lsn, T)>,
}

impl<T, S: Sink<T>> GroupSync<T, S> {
    /// An empty group. `writer` comes from [`Opened`](super::Opened).
    pub fn new(writer: Writer, config: SyncConfig, sink: S) -> Self {
        Self {
            writer,
            config,
            sink,
            stats: Arc::new(SyncStats::default()),
            items: Vec::new(),
            bytes: 0,
            lsns: Vec::new(),
            done: Vec::new(),
        }
    }

    /// The counters and the state.
    pub fn stats(&self) -> Arc<SyncStats> {
        Arc::clone(&self.stats)
    }

    /// Replays what waits in a queue, as much as there is room for.
    pub fn gather(&mut self, queue: &Queue<T>) {
        while self.has_room() {
            match queue.items.try_recv() {
                Ok(item) => self.add(item),
                Err(_) => return,
            }
        }
    }

    pub(super) fn add(&mut self, item: Item<T>) {
        self.bytes += item.entry.as_ref().map_or(0, Prepared::bytes);
        self.items.push(item);
    }

    /// Whether the group may take more.
    pub(super) fn has_room(&self) -> bool {
        // Markers count too, so that they never hold a group open.
        self.items.len() < self.config.group_records_max.max(1)
            && self.bytes < self.config.group_bytes_max
    }

    /// Records in the group; markers are not counted.
    pub(super) fn records(&self) -> usize {
        self.items
            .iter()
            .filter(|item| item.entry.is_some())
            .count()
    }

    /// Whether nothing is in the group.
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Makes the group durable and hands it on. A full disk is no error: what was reserved for it is freed, and the group
    /// stays.
    ///
    /// # Errors
    /// [`SyncError::Poisoned`] when a write or sync failed: the sink has been told, and nothing may be committed any more.
    pub fn commit(&mut self) -> Result<Attempt, SyncError> {
        self.lsns.clear();
        let items = &self.items;
        let entries: Vec<&Prepared> = items.iter().filter_map(|i| i.entry.as_ref()).collect();
        if !entries.is_empty() {
            let since = self.writer.at();
            let written = self.writer.commit(&entries, &mut self.lsns, &self.stats);
            match written {
                Ok(_) => {
                    if self.stats.state() == State::Full {
                        tracing::info!("there is room on the disk again: the journal goes on");
                        self.stats.set_state(State::Running);
                    }
                }
                Err(WriteError::Full { bytes }) => {
                    self.note_full(bytes);
                    return Ok(Attempt::Full { bytes });
                }
                Err(error @ WriteError::Broken { .. }) => {
                    return Err(self.fail(since, error.to_string()));
                }
            }
        }
        self.hand_on();
        Ok(Attempt::Done)
    }

    fn note_full(&mut self, bytes: u64) {
        if self.stats.state() != State::Full {
            tracing::error!(
                bytes,
                "disk is full: nothing is acknowledged until there is room"
            );
            self.stats.set_state(State::Full);
            self.stats.count_full();
        }
        self.writer.free_reserve();
    }

    /// Whether it is worth trying again after the disk was full.
    pub fn has_room_again(&mut self, bytes: u64) -> bool {
        self.writer.has_room_again(bytes)
    }

    fn hand_on(&mut self) {
        let through = self.writer.at();
        let mut lsns = self.lsns.drain(..);
        for item in self.items.drain(..) {
            let place = match item.entry {
                Some(_) => lsns.next().unwrap_or(through),
                None => through,
            };
            self.done.push((place, item.companion));
        }
        drop(lsns);
        self.bytes = 0;
        self.sink.durable(&Durable::upto(through), &mut self.done);
        self.done.clear();
    }

    fn fail(&mut self, since: Lsn, cause: String) -> SyncError {
        let error = SyncError::Poisoned { since, cause };
        self.stats.set_state(State::Poisoned);
        tracing::error!(%error, "the journal has failed");
        self.sink.poisoned(&error);
        error
    }

    /// Ends the journal in good order: writes the closing mark.
    ///
    /// # Errors
    /// [`SyncError::Poisoned`] when it could not be written or synced for another reason than a full disk.
    pub fn close(mut self) -> Result<(), SyncError> {
        let since = self.writer.at();
        match self.writer.watermark(true) {
            Ok(()) => {}
            Err(WriteError::Full { .. }) => {
                tracing::warn!("disk is full: the journal ends without its closing mark");
            }
            Err(error @ WriteError::Broken { .. }) => {
                return Err(self.fail(since, error.to_string()));
            }
        }
        self.stats.set_state(State::Closed);
        Ok(())
    }
}
