//! The journal's side of a stepped engine.

use std::panic::resume_unwind;
use std::sync::Arc;

use crossbeam::channel::Sender;
use parking_lot::Mutex;
use till_storage::journal::{
    Attempt, Durable, GroupSync, Lsn, Queue, Sink, SyncConfig, SyncError, SyncStats, Writer,
};

use super::Halt;
use crate::durable::ByHand;
use crate::durable::Part;
use crate::durable::{Companion, DurableSink};
use crate::figures::Figures;

/// Hands on what is durable, once whoever watches has been told.
pub(super) struct Observed {
    committed: DurableSink,
    on_durable: Box<dyn FnMut(Lsn) + Send>,
}

pub(super) fn sink(
    shards: usize,
    figures: &Arc<Figures>,
    rows: Sender<Part>,
    end: Lsn,
    on_durable: Box<dyn FnMut(Lsn) + Send>,
) -> Observed {
    let figures = Arc::clone(figures);
    Observed {
        committed: DurableSink::new(shards, figures, rows, Arc::new(|_| {}), end),
        on_durable,
    }
}

impl Sink<Companion> for Observed {
    fn durable(&mut self, durable: &Durable, group: &mut Vec<(Lsn, Companion)>) {
        (self.on_durable)(durable.through());
        self.committed.durable(durable, group);
    }

    fn poisoned(&mut self, error: &SyncError) {
        self.committed.poisoned(error);
    }
}

/// What a shard ends with that waits for a journal which cannot go on.
pub(super) struct Stuck;

/// The queue and the group behind it.
pub(super) struct Line {
    group: Option<GroupSync<Companion, Observed>>,
    queue: Queue<Companion>,
    /// The group has no room on the disk.
    full: Option<u64>,
    failed: Option<SyncError>,
}

impl Line {
    pub(super) fn new(
        writer: Writer,
        config: SyncConfig,
        sink: Observed,
        queue: Queue<Companion>,
    ) -> Self {
        Self {
            group: Some(GroupSync::new(writer, config, sink)),
            queue,
            full: None,
            failed: None,
        }
    }

    pub(super) fn stats(&self) -> Arc<SyncStats> {
        self.group
            .as_ref()
            .map_or_else(Arc::default, GroupSync::stats)
    }

    pub(super) fn has_waiting(&self) -> bool {
        let group = self.group.as_ref();
        !self.queue.is_empty() || group.is_some_and(|group| !group.is_empty())
    }

    pub(super) fn commit(&mut self) -> Result<Attempt, SyncError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let Some(group) = &mut self.group else {
            return Ok(Attempt::Done);
        };
        match self.full {
            Some(bytes) if !group.has_room_again(bytes) => return Ok(Attempt::Full { bytes }),
            Some(_) => {}
            None => group.gather(&self.queue),
        }
        if group.is_empty() {
            return Ok(Attempt::Done);
        }
        let committed = group.commit();
        self.failed = committed.as_ref().err().cloned();
        self.full = match &committed {
            Ok(Attempt::Full { bytes }) => Some(*bytes),
            _ => None,
        };
        committed
    }

    /// Makes everything durable that waits.
    pub(super) fn barrier(&mut self) -> Result<(), Halt> {
        while self.has_waiting() {
            if let Attempt::Full { .. } = self.commit()? {
                return Err(Halt::Stuck);
            }
        }
        Ok(())
    }

    /// Why it cannot go on.
    pub(super) fn halt(&self) -> Halt {
        self.failed.clone().map_or(Halt::Stuck, Halt::Journal)
    }

    pub(super) fn close(&mut self) -> Result<(), SyncError> {
        self.group.take().map_or(Ok(()), GroupSync::close)
    }
}

/// Settles the journal for a shard that waits for it.
pub(super) fn by_hand(line: &Arc<Mutex<Line>>) -> ByHand {
    let line = Arc::clone(line);
    Arc::new(move || {
        let passed = line.lock().barrier();
        if passed.is_err() {
            resume_unwind(Box::new(Stuck));
        }
    })
}
