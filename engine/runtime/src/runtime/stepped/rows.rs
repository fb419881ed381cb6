//! A round of the flush, step by step.

use std::collections::VecDeque;

use till_storage::views::{FlushBatch, StoreError};

use super::{Flow, Halt, OwnRows, Stepped};
use crate::flush::split;
use crate::row_backend::RowBackend;
use crate::shard_actor::ShardMessage;

/// How far a flush is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Flushed {
    /// No round has begun.
    Idle,
    /// The records behind some rows are not durable yet.
    Waiting,
    /// The rows hold every record up to this LSN.
    Upto(u64),
}

/// Rows on their way to the store of rows.
pub(super) struct Writing {
    calls: VecDeque<FlushBatch>,
    moved: Option<u64>,
    takes: Vec<(usize, u32, usize)>,
}

impl OwnRows {
    /// Takes in what shards gave and is durable.
    pub(super) fn take_parts(&mut self) {
        while let Ok(part) = self.parts.try_recv() {
            self.rounds.take(part);
        }
    }

    // A round that is complete is about to be written.
    fn gather(&mut self) {
        self.take_parts();
        if self.rounds.is_complete()
            && let Some(round) = self.rounds.finish()
        {
            let moved = round.checkpoint.filter(|upto| *upto > self.checkpoint);
            let batches = round.parts.into_iter();
            let batches = batches.map(|part| FlushBatch::from(*part.dirty)).collect();
            self.writing = Some(Writing {
                calls: split(batches, moved).into(),
                moved,
                takes: round.takes,
            });
        }
    }
}

impl Stepped {
    /// Asks the shards for their changed rows, if no round is under way.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn begin_flush(&mut self) -> Result<(), Halt> {
        let own = match &mut self.flow {
            Flow::Own(own) => own,
            Flow::Shared(_) => return self.begin_round(),
        };
        if own.rounds.is_running() || own.writing.is_some() {
            return Ok(());
        }
        let mut rounds = std::mem::take(&mut own.rounds);
        let mut delivered = Ok(());
        rounds.begin(self.shards.len(), vec![()], |shard, round| {
            let asked = self.deliver(shard, ShardMessage::Flush { round });
            let runs = asked.is_ok();
            delivered = std::mem::replace(&mut delivered, Ok(())).and(asked);
            runs
        });
        if let Flow::Own(own) = &mut self.flow {
            own.rounds = rounds;
        }
        delivered
    }

    /// Writes rows whose records are durable into a store of the engine's own. After an error the same rows are written with
    /// the next call.
    ///
    /// # Errors
    /// What the store of rows says; nothing of the failed call was written.
    pub fn write_rows(&mut self) -> Result<Flushed, StoreError> {
        let (Flow::Own(own), RowBackend::Own(views)) = (&mut self.flow, &self.engine.row_backend)
        else {
            return Ok(Flushed::Idle);
        };
        own.gather();
        let Some(writing) = &mut own.writing else {
            let is_running = own.rounds.is_running();
            return Ok(if is_running {
                Flushed::Waiting
            } else {
                Flushed::Idle
            });
        };
        while let Some(call) = writing.calls.front() {
            if !call.is_empty() {
                let written = views.write(call);
                #[cfg(feature = "planted")]
                let written = match written {
                    Err(_) if till_core::planted::is("drop-failed-rows") => Ok(()),
                    other => other,
                };
                written?;
            }
            let names = call.names.iter();
            let names = names.map(|(space, id, name)| (*space, *id, name.as_str()));
            self.engine.names.written(names);
            writing.calls.pop_front();
        }
        own.checkpoint = own.checkpoint.max(writing.moved.unwrap_or(0));
        let (takes, checkpoint) = (std::mem::take(&mut writing.takes), own.checkpoint);
        own.writing = None;
        for (shard, generation, rows) in takes {
            if let Some(slot) = self.engine.slots.get(shard) {
                slot.rows_landed(rows);
            }
            // It only takes note.
            let _noted = self.deliver(shard, ShardMessage::Flushed { generation });
        }
        Ok(Flushed::Upto(checkpoint))
    }
}
