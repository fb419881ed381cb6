//! From shards to the rows that queries read: rounds of absolute rows, written once every record behind them is durable.
//!
//! A round asks each shard for its changed rows. They travel through the journal's queue as a marker behind the shard's
//! records, so that they come out here when those are durable, and never sooner. The rows of one store are written in
//! one call together with the position that they hold, because recovery applies what lies above it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, Sender, TryRecvError, bounded};

use crate::clock::Monotonic;
use crate::cluster::views::ClusterViews;
use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::publish::door::{FlushDoor, FlushError, Request};
use crate::publish::local::LocalViews;
use crate::publish::publisher::{Publisher, Turned};
use crate::publish::rounds::{Finished, Rounds};
use crate::publish::row_backend::RowBackend;
use crate::shard::message::ShardMessage;

/// Longest wait for the rest of a round, and for those that are being written.
const LOOK: Duration = Duration::from_millis(250);

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
    /// Nothing: rounds are over, and there may be others.
    Over,
    /// What shards give and others ask for, for so long.
    News(Duration),
    /// The store of rows has taken nothing: it is asked again after a while.
    Again(Duration),
    /// Nothing any more.
    Ended,
}

/// The flush: a round of rows after another.
pub(crate) struct Flusher {
    engine: Arc<Engine>,
    clock: Monotonic,
    inbox: FlushInbox,
    rounds: Rounds<FlushReply>,
    publisher: Box<dyn Publisher>,
    /// Rounds on their way into the store of rows, oldest first.
    under_way: VecDeque<Written>,
    checkpoint: u64,
    waiting: Vec<FlushReply>,
    last: Duration,
    /// How long the last round took.
    took: Duration,
    stop: Option<FlushReply>,
    /// They wait until what shards have given is dealt with.
    passing: Vec<Sender<()>>,
    /// Shards that start again wait for what they have given: so many rounds have to be over first.
    restarting: Vec<(usize, Sender<()>)>,
    /// A round was not written. Its rows are gone from the shards, and rows of a later one would pass for them: nothing is
    /// written any more, and the next start applies the journal to what the rows hold.
    given_up: Option<FlushError>,
}

/// A round on its way into the store of rows.
struct Written {
    round: Finished<FlushReply>,
    rows: usize,
    began: Duration,
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
        let publisher: Box<dyn Publisher> = match &engine.row_backend {
            RowBackend::Own(views) => Box::new(LocalViews::new(&engine, views)),
            RowBackend::Shared(cluster) => Box::new(ClusterViews::new(&engine, cluster)),
        };
        Self {
            engine,
            inbox,
            rounds: Rounds::default(),
            publisher,
            under_way: VecDeque::new(),
            checkpoint,
            waiting: Vec::new(),
            last: clock(),
            clock,
            took: Duration::ZERO,
            stop: None,
            passing: Vec::new(),
            restarting: Vec::new(),
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
                    Next::Over => {}
                    Next::Again(pause) => std::thread::sleep(pause),
                    Next::News(within) => self.wait(within),
                }
            }
        })
    }

    fn wait(&self, within: Duration) {
        let mut news = Select::new();
        news.recv(&self.inbox.parts);
        news.recv(&self.inbox.requests);
        // The next turn finds what has come.
        let _ready = news.ready_timeout(within);
    }

    /// Turns to what has come, and gets on with rounds as far as that goes without waiting.
    pub(crate) fn turn(&mut self) -> Next {
        if !self.take_news() {
            return self.end();
        }
        self.tell_those_who_wait();
        let (mut is_over, mut turned) = self.publish();
        if self.rounds.is_complete() && self.publisher.has_room() {
            self.begin_writing();
            let (later, again) = self.publish();
            is_over |= later;
            turned = again;
        }
        self.tell_those_who_wait();
        match turned.retry {
            _ if is_over => return Next::Over,
            Some(pause) => return Next::Again(pause),
            None => {}
        }
        let is_clear = !self.rounds.is_running() && self.publisher.has_room();
        if self.stop.is_some() && self.waiting.is_empty() && is_clear && self.under_way.is_empty() {
            return self.end();
        }
        if is_clear && (self.due().is_zero() || !self.waiting.is_empty()) {
            self.begin();
        }
        let pause = match self.rounds.is_running() || !self.publisher.has_room() {
            true => LOOK,
            false => self.due(),
        };
        Next::News(turned.look.map_or(pause, |look| look.min(pause)))
    }

    /// Whether a round has begun, and not all of it is dealt with.
    #[cfg(feature = "testing")]
    pub(crate) fn is_busy(&self) -> bool {
        self.rounds.is_running() || !self.publisher.has_room()
    }

    /// Whether rows are on their way into the store.
    #[cfg(feature = "testing")]
    pub(crate) fn is_writing(&self) -> bool {
        !self.under_way.is_empty()
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
            Request::Pass(reply) => self.passing.push(reply),
            Request::Restart(shard, reply) => {
                self.rounds.restart(shard);
                self.restarting.push((self.under_way.len(), reply));
            }
            // That it came is all there is to it.
            Request::Look => {}
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
        let checkpoint = round.checkpoint.filter(|upto| *upto > self.checkpoint);
        if self.given_up.is_none() {
            self.publisher.begin(parts, checkpoint);
        }
        self.under_way.push_back(Written {
            round,
            rows,
            began: (self.clock)(),
        });
    }

    // Gets on with the rounds that are being written. Whether one is over, and what the turn has come to.
    fn publish(&mut self) -> (bool, Turned) {
        let turned = match &self.given_up {
            Some(error) => Turned::failed(error.clone()),
            None => self.publisher.turn(),
        };
        let before = self.under_way.len();
        match &turned.over {
            Ok(rounds) => {
                let rounds = self.under_way.drain(..*rounds).collect::<Vec<_>>();
                rounds.into_iter().for_each(|written| self.written(written));
            }
            Err(error) => {
                for written in std::mem::take(&mut self.under_way) {
                    self.kept(written.round, Err(error.clone()));
                }
            }
        }
        let over = before.saturating_sub(self.under_way.len());
        for (left, _) in &mut self.restarting {
            *left = left.saturating_sub(over);
        }
        (over > 0, turned)
    }

    fn written(&mut self, written: Written) {
        let Written { round, rows, began } = written;
        self.took = (self.clock)().saturating_sub(began);
        let upto = self.checkpoint.max(round.checkpoint.unwrap_or(0));
        let figures = &self.engine.figures;
        figures.flush_state(FlushState::Running);
        if rows > 0 || upto > self.checkpoint {
            figures.flushed(rows, upto, self.took);
        }
        self.checkpoint = upto;
        self.kept(round, Ok(()));
    }

    fn tell_those_who_wait(&mut self) {
        if !self.rounds.is_running() && self.publisher.is_dealt() {
            for reply in self.passing.drain(..) {
                // Whoever asked may have given up.
                let _gone = reply.send(());
            }
        }
        for (_, reply) in self.restarting.extract_if(.., |(left, _)| *left == 0) {
            let _gone = reply.send(());
        }
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

    fn end(&mut self) -> Next {
        self.publisher.end();
        let rounds = std::mem::take(&mut self.under_way);
        let left = rounds.into_iter().flat_map(|written| written.round.waiting);
        for reply in self.waiting.drain(..).chain(left) {
            let _gone = reply.send(Err(FlushError::Stopped));
        }
        Next::Ended
    }
}

#[cfg(test)]
mod tests;
