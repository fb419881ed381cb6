//! A round of the flush, step by step.

use std::collections::VecDeque;

use till_storage::views::{FlushBatch, StoreError};

use super::{Halt, Stepped};
use crate::flush::split;
use crate::keeping::Keeping;
use crate::shard_actor::ShardMessage;

/// How far a flush is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Flushed {
    /// No round has begun.
    Idle,
    /// The records behind some rows are not durable yet.
    Waiting,
    /// The rows hold every record up to this place.
    Upto(u64),
}

/// Rows on their way to the store of rows.
pub(super) struct Writing {
    calls: VecDeque<FlushBatch>,
    moved: Option<u64>,
    takes: Vec<(usize, u32, usize)>,
}

impl Stepped {
    /// Asks the shards for their changed rows, if no round is under way.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn begin_flush(&mut self) -> Result<(), Halt> {
        if self.rounds.is_running() || self.writing.is_some() {
            return Ok(());
        }
        let mut rounds = std::mem::take(&mut self.rounds);
        let mut told = Ok(());
        rounds.begin(self.shards.len(), vec![()], |shard, round| {
            let asked = self.tell(shard, ShardMessage::Flush { round });
            let runs = asked.is_ok();
            told = std::mem::replace(&mut told, Ok(())).and(asked);
            runs
        });
        self.rounds = rounds;
        told
    }

    /// Writes rows whose records are durable. After an error the same rows are written with the next call.
    ///
    /// # Errors
    /// What the store of rows says; nothing of the failed call was written.
    pub fn write_rows(&mut self) -> Result<Flushed, StoreError> {
        while let Ok(part) = self.parts.try_recv() {
            self.rounds.take(part);
        }
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
        let Some(writing) = &mut self.writing else {
            let is_running = self.rounds.is_running();
            return Ok(if is_running {
                Flushed::Waiting
            } else {
                Flushed::Idle
            });
        };
        let Keeping::Own(views) = &self.engine.keeping else {
            return Ok(Flushed::Idle);
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
        self.checkpoint = self.checkpoint.max(writing.moved.unwrap_or(0));
        let takes = std::mem::take(&mut writing.takes);
        self.writing = None;
        for (shard, generation, rows) in takes {
            if let Some(slot) = self.engine.slots.get(shard) {
                slot.rows_landed(rows);
            }
            // It only takes note.
            let _noted = self.tell(shard, ShardMessage::Flushed { generation });
        }
        Ok(Flushed::Upto(self.checkpoint))
    }
}
