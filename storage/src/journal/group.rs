//! Group commit, one group at a time and without a thread: what gathers, is written, synced and handed on.

use std::sync::Arc;

use crossbeam::channel::{Receiver, bounded};

use super::writer::WriteError;
use super::{
    Appender, Durable, Lsn, Prepared, Sink, State, SyncConfig, SyncError, SyncStats, Writer,
};

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

/// A queue of records, and what makes them durable in groups, a group with each [`turn`](Self::turn). Whoever drives it decides
/// when: the [`Syncer`](super::Syncer) does so on a thread of its own, a simulator step by step.
#[derive(Debug)]
pub struct GroupSync<T, S> {
    appender: Appender<T>,
    pub(super) queue: Receiver<Item<T>>,
    writer: Writer,
    pub(super) config: SyncConfig,
    sink: S,
    stats: Arc<SyncStats>,
    items: Vec<Item<T>>,
    bytes: usize,
    lsns: Vec<Lsn>,
    done: Vec<(Lsn, T)>,
    /// Bytes for which the disk had no room.
    full: Option<u64>,
    failed: Option<SyncError>,
}

impl<T, S: Sink<T>> GroupSync<T, S> {
    /// An empty group. `writer` comes from [`Opened`](super::Opened).
    pub fn new(writer: Writer, config: SyncConfig, sink: S) -> Self {
        let (queue, items) = bounded(config.queue_max.max(1));
        Self {
            appender: Appender { queue },
            queue: items,
            writer,
            config,
            sink,
            stats: Arc::new(SyncStats::default()),
            items: Vec::new(),
            bytes: 0,
            lsns: Vec::new(),
            done: Vec::new(),
            full: None,
            failed: None,
        }
    }

    /// A way into the queue.
    pub fn appender(&self) -> Appender<T> {
        self.appender.clone()
    }

    /// The counters and the state.
    pub fn stats(&self) -> Arc<SyncStats> {
        Arc::clone(&self.stats)
    }

    /// Whether anything waits to become durable.
    pub fn has_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.items.is_empty()
    }

    /// Makes what waits durable, as much as a group has room for, and hands it on. A full disk is no error: the group is kept,
    /// and each turn looks whether there is room again.
    ///
    /// # Errors
    /// [`SyncError::Poisoned`] when a write or sync failed, now or before: the sink has been told.
    pub fn turn(&mut self) -> Result<Attempt, SyncError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.full {
            Some(bytes) if !self.writer.has_room_again(bytes) => {
                return Ok(Attempt::Full { bytes });
            }
            Some(_) => {}
            None => self.gather(),
        }
        if self.items.is_empty() {
            return Ok(Attempt::Done);
        }
        let committed = self.commit();
        self.full = match &committed {
            Ok(Attempt::Full { bytes }) => Some(*bytes),
            _ => None,
        };
        self.failed = committed.as_ref().err().cloned();
        committed
    }

    fn gather(&mut self) {
        while self.has_room() {
            match self.queue.try_recv() {
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

    /// Records that wait; of those in the group markers are not counted.
    pub(super) fn waiting(&self) -> usize {
        let records = self.items.iter().filter(|item| item.entry.is_some());
        records.count() + self.queue.len()
    }

    // What was quarantined for a full disk is freed, and the group stays.
    fn commit(&mut self) -> Result<Attempt, SyncError> {
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

    /// Ends the journal in good order: writes the closing mark. What still waits is dropped.
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
