//! From shards to the rows that queries read: rounds of absolute rows, written once every record behind them is durable.
//!
//! A round asks each shard for its changed rows. They travel through the journal's queue as a marker behind the shard's
//! records, so that they come out here when those are durable, and never sooner. The rows of one store are written in
//! one call together with the position that they hold, because recovery applies what lies above it again.

mod batches;
mod door;
mod rounds;
mod turns;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use till_storage::views::{FlushBatch, StoreError};

use crate::durable::Part;
use crate::engine::Engine;
use crate::figures::FlushState;
use crate::row_backend::RowBackend;
use crate::shard_actor::ShardMessage;

pub(crate) use batches::split;
pub use door::FlushError;
use door::Request;
pub(crate) use door::{FlushDoor, Wait};
use rounds::Finished;
pub(crate) use rounds::Rounds;
pub(crate) use turns::FlushTurns;

/// Time between two tries when the rows cannot be written.
const RETRY: Duration = Duration::from_millis(250);

/// Longest time between two rounds, however long one takes: what a crash has to replay stays small.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

/// A round may take this part of the time: the next one begins no sooner than so many times its length after it. Under
/// load rounds then grow apart and hot rows are written once instead of four times a second; queries flush first, so that
/// they see no difference.
const SPARING: u32 = 12;

/// Ends of the channels that the flush thread reads.
#[derive(Debug)]
pub(crate) struct FlushInbox {
    parts: Receiver<Part>,
    requests: Receiver<Request>,
}

impl FlushInbox {
    /// What shards give, for whoever needs no thread.
    pub(crate) fn into_parts(self) -> Receiver<Part> {
        self.parts
    }
}

/// The channels of a flush: for the journal's thread, for everyone else, and for the flush itself.
pub(crate) fn channels(shards: usize) -> (Sender<Part>, FlushDoor, FlushInbox) {
    // One round at a time; a shard that starts again may leave a part behind.
    let (parts, parts_in) = bounded(shards * 4 + 16);
    let (requests, requests_in) = bounded(256);
    let inbox = FlushInbox {
        parts: parts_in,
        requests: requests_in,
    };
    (parts, FlushDoor::new(requests), inbox)
}

/// Starts the flush thread.
///
/// # Errors
/// What the system says when it gives no thread.
pub(crate) fn start(engine: Arc<Engine>, inbox: FlushInbox) -> std::io::Result<JoinHandle<()>> {
    let mut flusher = Flusher::new(engine, inbox);
    std::thread::Builder::new()
        .name("flush".to_owned())
        .spawn(move || flusher.run())
}

type FlushReply = Sender<Result<u64, FlushError>>;

#[derive(Debug)]
pub(crate) struct Flusher {
    engine: Arc<Engine>,
    inbox: FlushInbox,
    rounds: Rounds<FlushReply>,
    checkpoint: u64,
    waiting: Vec<FlushReply>,
    last: Instant,
    /// How long the last round took.
    took: Duration,
    stop: Option<FlushReply>,
    /// They wait for the end of the round that is under way, however it ends.
    passing: Vec<Sender<()>>,
    /// A round was not written. Its rows are gone from the shards, and rows of a later one would pass for them: nothing is
    /// written any more, and the next start applies the journal to what the rows hold.
    given_up: Option<FlushError>,
}

impl Flusher {
    fn new(engine: Arc<Engine>, inbox: FlushInbox) -> Self {
        let checkpoint = match &engine.row_backend {
            RowBackend::Own(views) => views.checkpoint().unwrap_or(0),
            RowBackend::Shared(_) => engine.journal.end().get(),
        };
        Self {
            engine,
            inbox,
            rounds: Rounds::default(),
            checkpoint,
            waiting: Vec::new(),
            last: Instant::now(),
            took: Duration::ZERO,
            stop: None,
            passing: Vec::new(),
            given_up: None,
        }
    }

    fn run(&mut self) {
        loop {
            let due = self.interval().saturating_sub(self.last.elapsed());
            let pause = if self.rounds.is_running() { RETRY } else { due };
            crossbeam::channel::select! {
                recv(self.inbox.parts) -> part => match part {
                    Ok(part) => self.rounds.take(part),
                    Err(_) => return self.end(),
                },
                recv(self.inbox.requests) -> request => match request {
                    Ok(Request::Abandon) | Err(_) => return self.end(),
                    Ok(request) => self.request(request),
                },
                default(pause) => {}
            }
            if self.rounds.is_complete() {
                self.finish_round();
            }
            if !self.rounds.is_running() {
                if self.stop.is_some() && self.waiting.is_empty() {
                    return self.end();
                }
                let is_due = self.last.elapsed() >= self.interval();
                if is_due || !self.waiting.is_empty() {
                    self.begin();
                }
            }
        }
    }

    /// Time from the beginning of one round to that of the next.
    fn interval(&self) -> Duration {
        let sparing = self.took.saturating_mul(SPARING);
        self.engine
            .config
            .flush_interval
            .max(sparing.min(INTERVAL_MAX))
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Flush(reply) => self.waiting.push(reply),
            Request::Stop(reply) => {
                // One round more, that has everything.
                self.waiting.push(reply.clone());
                self.stop = Some(reply);
            }
            Request::Pass(reply) if self.rounds.is_running() => self.passing.push(reply),
            // Whoever asked may have given up.
            Request::Pass(reply) => drop(reply.send(())),
            Request::Restart(shard, reply) => {
                self.rounds.restart(shard);
                let _gone = reply.send(());
            }
            // Ends the thread where it comes in.
            Request::Abandon => {}
        }
    }

    fn begin(&mut self) {
        self.last = Instant::now();
        let slots = &self.engine.slots;
        let waiting = std::mem::take(&mut self.waiting);
        self.rounds.begin(slots.len(), waiting, |shard, round| {
            let slot = slots.get(shard);
            slot.is_some_and(|slot| slot.send(ShardMessage::Flush { round }).is_ok())
        });
    }

    fn finish_round(&mut self) {
        let Some(mut round) = self.rounds.finish() else {
            return;
        };
        let began = Instant::now();
        let parts = std::mem::take(&mut round.parts);
        let result = match &self.given_up {
            Some(error) => Err(error.clone()),
            None => self.keep(parts, round.checkpoint),
        };
        self.took = began.elapsed();
        self.kept(round, result);
    }

    // A round was written, or was not: those whom it concerns are told.
    fn kept(&mut self, round: Finished<FlushReply>, result: Result<(), FlushError>) {
        let checkpoint = round.checkpoint;
        if let (None, Err(error)) = (&self.given_up, &result) {
            self.report_given_up(error);
        }
        self.given_up = result.as_ref().err().cloned();
        if result.is_ok() {
            for (shard, generation, rows) in round.takes {
                if let Some(slot) = self.engine.slots.get(shard) {
                    slot.rows_landed(rows);
                    // A shard that is gone starts again from the rows.
                    let _down = slot.send(ShardMessage::Flushed { generation });
                }
            }
        }
        let answer = result.and_then(|()| {
            checkpoint
                .map(|_| self.checkpoint)
                .ok_or(FlushError::Parked)
        });
        for reply in round.waiting {
            // Whoever waited may have given up.
            let _gone = reply.send(answer.clone());
        }
        for reply in self.passing.drain(..) {
            let _gone = reply.send(());
        }
    }

    fn report_given_up(&self, error: &FlushError) {
        if self.engine.is_draining() {
            tracing::warn!(%error, "rows were not written; the next start makes up for it from the journal");
            return;
        }
        tracing::error!(%error, "rows are written no more; nothing acknowledged is lost: start the engine again");
        self.engine.figures.flush_state(FlushState::Failed);
        self.engine.figures.problem(
            &error.to_string(),
            "Start the engine again; it makes up for it from the journal.",
        );
    }

    fn keep(&mut self, parts: Vec<Part>, checkpoint: Option<u64>) -> Result<(), FlushError> {
        let RowBackend::Shared(cluster) = &self.engine.row_backend else {
            let batches = parts.into_iter().map(|part| FlushBatch::from(*part.dirty));
            return self.write(batches.collect(), checkpoint);
        };
        let began = Instant::now();
        let rows = parts.iter().map(|part| part.dirty.rows()).sum();
        cluster.commit(&self.engine, parts)?;
        self.committed(rows, checkpoint, began);
        Ok(())
    }

    fn committed(&mut self, rows: usize, checkpoint: Option<u64>, began: Instant) {
        self.checkpoint = self.checkpoint.max(checkpoint.unwrap_or(0));
        let figures = &self.engine.figures;
        figures.flush_state(FlushState::Running);
        figures.flushed(rows, self.checkpoint, began.elapsed());
    }

    // Writes all rows, then moves the checkpoint on. Comes back only when all is written, or when the engine stops.
    fn write(
        &mut self,
        shards: Vec<FlushBatch>,
        checkpoint: Option<u64>,
    ) -> Result<(), FlushError> {
        let moved = checkpoint.filter(|upto| *upto > self.checkpoint);
        let rows = shards.iter().map(FlushBatch::rows).sum();
        if rows == 0 && moved.is_none() {
            return Ok(());
        }
        let started = Instant::now();
        for mut part in split(shards, moved) {
            self.write_one(&part)?;
            let names = part.names.drain(..).collect::<Vec<_>>();
            let names = names
                .iter()
                .map(|(space, id, name)| (*space, *id, name.as_str()));
            self.engine.names.written(names);
        }
        self.checkpoint = self.checkpoint.max(moved.unwrap_or(0));
        self.engine
            .figures
            .flushed(rows, self.checkpoint, started.elapsed());
        Ok(())
    }

    fn write_one(&self, batch: &FlushBatch) -> Result<(), FlushError> {
        loop {
            let RowBackend::Own(views) = &self.engine.row_backend else {
                return Err(FlushError::Stopped);
            };
            let error = match views.write(batch) {
                Ok(()) => {
                    self.engine.figures.flush_state(FlushState::Running);
                    return Ok(());
                }
                Err(error) => error,
            };
            self.report(&error);
            if self.engine.is_draining() {
                return Err(FlushError::Rows(error.to_string()));
            }
            std::thread::sleep(RETRY);
            if let Err(again) = views.reopen() {
                tracing::debug!(error = %again, "rows do not open yet");
            }
        }
    }

    fn report(&self, error: &StoreError) {
        let (state, hint) = match error {
            StoreError::Full { .. } => (
                FlushState::Full,
                "Free some room; the flush goes on by itself.",
            ),
            StoreError::Damaged { .. } => (
                FlushState::Damaged,
                "Stop the engine and run `tillstream rebuild`; nothing that was acknowledged is lost.",
            ),
            _ => (
                FlushState::Failed,
                "The flush tries again; look at the disk.",
            ),
        };
        if self.engine.figures.flush_state(state) {
            tracing::error!(%error, "rows cannot be written; events are taken in until too many rows wait");
            self.engine.figures.problem(&error.to_string(), hint);
        }
    }

    fn end(&mut self) {
        if let RowBackend::Own(views) = &self.engine.row_backend
            && let Err(error) = views.sync()
        {
            tracing::warn!(%error, "rows were not synced; the journal has what they lack");
        }
        for reply in self.waiting.drain(..) {
            let _gone = reply.send(Err(FlushError::Stopped));
        }
    }
}

#[cfg(test)]
mod tests;
