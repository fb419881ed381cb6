//! From shards to the rows that queries read: rounds of absolute rows, written once every record behind them is durable.
//!
//! A round asks each shard for its changed rows. They travel through the journal's queue as a marker behind the shard's
//! records, so that they come out here when those are durable, and never sooner. The rows of one store are written in
//! one call together with the position that they hold, because recovery applies what lies above it again.

use crate::publish::door::FlushDoor;
use crate::publish::door::FlushError;
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError, bounded};
use till_storage::views::{FlushBatch, StoreError, WriteViews};

use crate::clock::Monotonic;
use crate::cluster::commit::Committing;
use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::planted;
use crate::publish::row_backend::RowBackend;
use crate::shard::message::ShardMessage;

use crate::publish::batches::split;
use crate::publish::door::Request;
use crate::publish::rounds::{Finished, Rounds};

/// Time between two tries when the rows cannot be written.
const RETRY: Duration = Duration::from_millis(250);

/// Longest time between two rounds into a store of the engine's own, however long one takes: what a crash has to replay
/// stays small.
const INTERVAL_MAX: Duration = Duration::from_secs(5);

/// A round into a store of the engine's own may take this part of the time: the next one begins no sooner than so many times
/// its length after it. Under load rounds then grow apart and hot rows are written once instead of four times a second;
/// queries flush first, so that they see no difference.
const SPARING: u32 = 12;

/// Ends of the channels that the flush thread reads.
#[derive(Debug)]
pub(crate) struct FlushInbox {
    parts: Receiver<Part>,
    requests: Receiver<Request>,
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

type FlushReply = Sender<Result<u64, FlushError>>;

/// What a flush waits for between two turns.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing: a round is over, and there may be another.
    Over,
    /// What shards give and others ask for, until the next round is due.
    News(Duration),
    /// The store of rows takes nothing: it is asked again after a while.
    Again(Duration),
    /// Answers of the shared store.
    Answers,
    /// Nothing any more.
    Ended,
}

/// The flush: a round of rows after another.
pub(crate) struct Flusher {
    engine: Arc<Engine>,
    clock: Monotonic,
    inbox: FlushInbox,
    rounds: Rounds<FlushReply>,
    writing: Option<Writing>,
    checkpoint: u64,
    waiting: Vec<FlushReply>,
    last: Duration,
    /// How long the last round took.
    took: Duration,
    stop: Option<FlushReply>,
    /// They wait for the end of the round that is under way, however it ends.
    passing: Vec<Sender<()>>,
    /// A round was not written. Its rows are gone from the shards, and rows of a later one would pass for them: nothing is
    /// written any more, and the next start applies the journal to what the rows hold.
    given_up: Option<FlushError>,
}

/// A round on its way into the store of rows. Nothing else is turned to meanwhile.
struct Writing {
    round: Finished<FlushReply>,
    rows: usize,
    began: Duration,
    to: Destination,
}

enum Destination {
    /// Calls that write into a store of the engine's own, and whether the first of them has failed before.
    Own(VecDeque<FlushBatch>, bool),
    /// Commits of a shared store.
    Shared(Box<Committing>),
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}

impl Flusher {
    /// A flush that has not begun a round; `checkpoint` is the place up to which the rows hold everything.
    pub(crate) fn new(
        engine: Arc<Engine>,
        inbox: FlushInbox,
        (clock, checkpoint): (Monotonic, u64),
    ) -> Self {
        Self {
            engine,
            inbox,
            rounds: Rounds::default(),
            writing: None,
            checkpoint,
            waiting: Vec::new(),
            last: clock(),
            clock,
            took: Duration::ZERO,
            stop: None,
            passing: Vec::new(),
            given_up: None,
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(crate) fn start(mut self) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("flush".to_owned());
        thread.spawn(move || {
            loop {
                match self.turn() {
                    Next::Ended => return,
                    next => self.wait(&next),
                }
            }
        })
    }

    fn wait(&self, next: &Next) {
        match (next, &self.writing) {
            (Next::News(within), _) => {
                let mut news = Select::new();
                news.recv(&self.inbox.parts);
                news.recv(&self.inbox.requests);
                // The next turn finds what has come.
                let _ready = news.ready_timeout(*within);
            }
            (Next::Again(pause), _) => std::thread::sleep(*pause),
            (Next::Answers, Some(writing)) => {
                if let (Destination::Shared(round), RowBackend::Shared(cluster)) =
                    (&writing.to, &self.engine.row_backend)
                {
                    cluster.wait(round);
                }
            }
            _ => {}
        }
    }

    /// Turns to what has come, and gets on with a round as far as it goes without waiting.
    pub(crate) fn turn(&mut self) -> Next {
        if self.writing.is_none() && !self.take_news() {
            return self.end();
        }
        if self.rounds.is_complete() && self.writing.is_none() {
            self.begin_writing();
        }
        if self.writing.is_some() {
            return self.get_on();
        }
        if !self.rounds.is_running() {
            if self.stop.is_some() && self.waiting.is_empty() {
                return self.end();
            }
            if self.due().is_zero() || !self.waiting.is_empty() {
                self.begin();
            }
        }
        Next::News(match self.rounds.is_running() {
            true => RETRY,
            false => self.due(),
        })
    }

    /// Whether a round has begun and is not over.
    #[cfg(feature = "testing")]
    pub(crate) const fn is_busy(&self) -> bool {
        self.rounds.is_running() || self.is_writing()
    }

    /// Whether rows are on their way into the store.
    #[cfg(feature = "testing")]
    pub(crate) const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    // False: nothing comes any more.
    fn take_news(&mut self) -> bool {
        loop {
            match self.inbox.parts.try_recv() {
                Ok(part) => self.rounds.take(part),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        loop {
            match self.inbox.requests.try_recv() {
                Ok(Request::Abandon) | Err(TryRecvError::Disconnected) => return false,
                Ok(request) => self.request(request),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// For how long no round is due.
    fn due(&self) -> Duration {
        let since = (self.clock)().saturating_sub(self.last);
        self.interval().saturating_sub(since)
    }

    /// Time from the beginning of one round to that of the next.
    fn interval(&self) -> Duration {
        let least = self.engine.config.flush_interval;
        match &self.engine.row_backend {
            // Devices keep what is not committed and send a window ahead of it at most: time without a round is time in
            // which nothing comes in. A longer round makes the next one larger by itself.
            RowBackend::Shared(_) => least,
            RowBackend::Own(_) => least.max(self.took.saturating_mul(SPARING).min(INTERVAL_MAX)),
        }
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
            // Ends the flush where it comes in.
            Request::Abandon => {}
        }
    }

    fn begin(&mut self) {
        self.last = (self.clock)();
        let slots = &self.engine.slots;
        let waiting = std::mem::take(&mut self.waiting);
        self.rounds.begin(slots.len(), waiting, |shard, round| {
            let slot = slots.get(shard);
            slot.is_some_and(|slot| slot.send(ShardMessage::Flush { round }).is_ok())
        });
    }

    // Every shard has answered: what they gave is about to be written.
    fn begin_writing(&mut self) {
        let Some(mut round) = self.rounds.finish() else {
            return;
        };
        let parts = std::mem::take(&mut round.parts);
        let rows = parts.iter().map(|part| part.dirty.rows()).sum();
        let to = match &self.engine.row_backend {
            RowBackend::Shared(cluster) => {
                Destination::Shared(Box::new(cluster.gather(&self.engine, parts)))
            }
            RowBackend::Own(_) => {
                Destination::Own(self.calls(rows, parts, round.checkpoint), false)
            }
        };
        self.writing = Some(Writing {
            round,
            rows,
            began: (self.clock)(),
            to,
        });
    }

    fn calls(
        &self,
        rows: usize,
        parts: Vec<Part>,
        checkpoint: Option<u64>,
    ) -> VecDeque<FlushBatch> {
        let moved = checkpoint.filter(|upto| *upto > self.checkpoint);
        if rows == 0 && moved.is_none() {
            return VecDeque::new();
        }
        let batches = parts.into_iter().map(|part| FlushBatch::from(*part.dirty));
        split(batches.collect(), moved).into()
    }

    // Gets on with the round that is being written.
    fn get_on(&mut self) -> Next {
        let Some(mut writing) = self.writing.take() else {
            return Next::Over;
        };
        let engine = &self.engine;
        let (written, next) = match (&mut writing.to, &engine.row_backend, &self.given_up) {
            (_, _, Some(error)) => (Err(error.clone()), Next::Over),
            (Destination::Own(calls, is_again), RowBackend::Own(views), _) => {
                let written = self.write(views.as_ref(), calls, *is_again);
                *is_again = true;
                (written, Next::Again(RETRY))
            }
            (Destination::Shared(round), RowBackend::Shared(cluster), _) => {
                (cluster.commit(engine, round), Next::Answers)
            }
            _ => (Err(FlushError::Stopped), Next::Over),
        };
        if let Ok(false) = written {
            self.writing = Some(writing);
            return next;
        }
        let Writing {
            round, rows, began, ..
        } = writing;
        self.took = (self.clock)().saturating_sub(began);
        if written.is_ok() {
            let upto = self.checkpoint.max(round.checkpoint.unwrap_or(0));
            let figures = &self.engine.figures;
            figures.flush_state(FlushState::Running);
            if rows > 0 || upto > self.checkpoint {
                figures.flushed(rows, upto, self.took);
            }
            self.checkpoint = upto;
        }
        self.kept(round, written.map(|_| ()));
        Next::Over
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

    // Writes all rows, then moves the checkpoint on, call by call. False: one has failed, and is made again.
    fn write(
        &self,
        views: &dyn WriteViews,
        calls: &mut VecDeque<FlushBatch>,
        is_again: bool,
    ) -> Result<bool, FlushError> {
        if is_again && let Err(again) = views.reopen() {
            tracing::debug!(error = %again, "rows do not open yet");
        }
        while let Some(call) = calls.front() {
            if let Err(error) = views.write(call)
                && !planted::is("drop-failed-rows")
            {
                self.report(&error);
                return match self.engine.is_draining() {
                    true => Err(FlushError::Rows(error.to_string())),
                    false => Ok(false),
                };
            }
            let names = call.names.iter();
            let names = names.map(|(space, id, name)| (*space, *id, name.as_str()));
            self.engine.names.written(names);
            calls.pop_front();
        }
        Ok(true)
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

    fn end(&mut self) -> Next {
        if let RowBackend::Own(views) = &self.engine.row_backend
            && let Err(error) = views.sync()
        {
            tracing::warn!(%error, "rows were not synced; the journal has what they lack");
        }
        for reply in self.waiting.drain(..) {
            let _gone = reply.send(Err(FlushError::Stopped));
        }
        Next::Ended
    }
}

#[cfg(test)]
mod tests;
