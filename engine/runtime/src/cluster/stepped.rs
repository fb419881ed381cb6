//! A node of a cluster without its threads: whoever steps the engine takes their turns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use till_storage::cluster::{Duty, End};

use super::Cluster;
use super::backlog::{COMMITTED_WITHIN, Tender};
use super::clock::{Later, TickClock};
use super::inbox::ReplayedHandoff;
use super::leaver::{Handed, Handing, LAST_COMMIT, Leave, Leaver, Leaving};
use super::owners::Tenure;
use super::start::{Jobs, RELEASED_WITHIN, tick_of};
use super::work::{Call, Completion, Job, Worker};
use crate::engine::Engine;
use crate::flush::{FlushError, Wait};

/// A call that is about to be made to the shared store.
#[derive(Debug)]
pub struct Asking(Call);

impl Asking {
    /// Whether it is about the node, and not about a slot.
    pub const fn is_of_node(&self) -> bool {
        matches!(self.0, Call::Duty(_))
    }
}

/// What became of a call, on its way to those who wait for it.
#[derive(Debug)]
pub struct Answered(Completion);

/// The turns of a node's threads.
pub(crate) struct Steps {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    duties: Receiver<Duty>,
    jobs: Receiver<Job>,
    later: Receiver<Later>,
    leaving: Receiver<Leave>,
    clock: TickClock,
    worker: Worker,
    leaver: Leaver,
    tender: Tender,
    stage: Stage,
    /// What was replayed, and the flush that it waits for.
    taken: Option<(ReplayedHandoff, Flushing)>,
    stopping: Option<Stopping>,
}

/// How far a stop in good order is.
enum Stopping {
    /// The last flush is on its way.
    Flushing(Wait),
    /// Slots are being given up, until then.
    Releasing(Duration),
}

/// What the leaver is at.
enum Stage {
    /// Nothing.
    Idle,
    /// Slots that have ended, whose round of the flush is not over, and those that are to be given up after them.
    Passing(BTreeMap<Tenure, End>, Receiver<()>, BTreeSet<u32>),
    /// Their records are on their way to the next owners.
    Handing(Handing, BTreeSet<u32>),
    /// Slots whose last commit is on its way.
    Giving(BTreeSet<u32>, Flushing),
}

/// A flush that is waited for, and until when.
struct Flushing(Wait, Duration);

impl Steps {
    pub(crate) fn new(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        (inboxes, tender): Jobs,
        lease: Duration,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
            duties: inboxes.duties,
            jobs: inboxes.jobs,
            later: inboxes.later,
            leaving: inboxes.leaving,
            clock: TickClock::new(tick_of(lease), cluster.now()),
            worker: Worker::new(engine, cluster),
            leaver: Leaver::new(engine, cluster),
            tender,
            stage: Stage::Idle,
            taken: None,
            stopping: None,
        }
    }

    /// For how long the clock has nothing to do.
    pub(crate) fn pause(&mut self) -> Duration {
        self.take_later();
        self.clock.due().saturating_sub(self.cluster.now())
    }

    fn take_later(&mut self) {
        while let Ok(later) = self.later.try_recv() {
            self.clock.take(later);
        }
    }

    /// The clock's turn.
    pub(crate) fn tick(&mut self) {
        self.take_later();
        self.clock.turn(&self.cluster);
    }

    /// The next call that a thread would make.
    pub(crate) fn next_call(&mut self) -> Option<Asking> {
        if let Ok(duty) = self.duties.try_recv() {
            return Some(Asking(Call::Duty(duty)));
        }
        match self.jobs.try_recv() {
            Ok(Job::Command(tenure, command)) => Some(Asking(Call::Command(tenure, command))),
            Ok(Job::Stop) | Err(_) => None,
        }
    }

    /// A call is made.
    pub(crate) fn ask(&self, call: Asking) -> Answered {
        Answered(self.worker.ask(call.0))
    }

    /// Its answer is told.
    pub(crate) fn complete(&self, answered: Answered) {
        self.worker.complete(answered.0);
    }

    /// The turn of the thread for slots that leave. False: there was nothing to do.
    pub(crate) fn leave(&mut self) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let (stage, has_moved) = match stage {
            Stage::Idle => self.turn_to_leaving(),
            Stage::Passing(ended, done, given) => match done.try_recv() {
                Err(error) if error.is_empty() => (Stage::Passing(ended, done, given), false),
                _ => (Stage::Handing(self.leaver.part(ended), given), true),
            },
            Stage::Handing(handing, given) => self.hand_on(handing, given),
            Stage::Giving(slots, flushed) => match self.look(&flushed) {
                None => (Stage::Giving(slots, flushed), false),
                Some(result) => {
                    self.leaver.give_up(&slots, result.map(|_| ()));
                    (Stage::Idle, true)
                }
            },
        };
        self.stage = stage;
        has_moved
    }

    fn turn_to_leaving(&self) -> (Stage, bool) {
        let leaving = Leaving::of(self.leaving.try_iter());
        let Leaving { given, ended, .. } = leaving;
        if !ended.is_empty() {
            self.leaver.forget(&ended);
            let done = self.engine.flush.begin_pass();
            return (Stage::Passing(ended, done, given), true);
        }
        self.give(given)
    }

    fn give(&self, slots: BTreeSet<u32>) -> (Stage, bool) {
        if slots.is_empty() {
            return (Stage::Idle, false);
        }
        self.leaver.close(&slots);
        match self.begin_flush(LAST_COMMIT) {
            Ok(flushed) => (Stage::Giving(slots, flushed), true),
            Err(error) => {
                self.leaver.give_up(&slots, Err(error));
                (Stage::Idle, true)
            }
        }
    }

    fn hand_on(&self, handing: Handing, given: BTreeSet<u32>) -> (Stage, bool) {
        match self.leaver.hand_on(&handing) {
            Handed::NotYet => return (Stage::Handing(handing, given), false),
            Handed::Yes => self.leaver.closed(handing),
            Handed::Never => {}
        }
        let (stage, _) = self.give(given);
        (stage, true)
    }

    /// The turn of the thread for records that are in no commit, about every half second.
    pub(crate) fn tend(&mut self) {
        if let Some((taken, flushed)) = self.taken.take() {
            match self.look(&flushed) {
                None => self.taken = Some((taken, flushed)),
                Some(result) => self.cluster.taken_in(taken, result.map(|_| ())),
            }
            return;
        }
        if let Some(taken) = self.cluster.tend_turn(&self.engine, &mut self.tender) {
            match self.begin_flush(COMMITTED_WITHIN) {
                Ok(flushed) => self.taken = Some((taken, flushed)),
                Err(error) => self.cluster.taken_in(taken, Err(error)),
            }
        }
    }

    fn begin_flush(&self, within: Duration) -> Result<Flushing, FlushError> {
        let wait = self.engine.flush.begin(within)?;
        Ok(Flushing(wait, self.cluster.now().saturating_add(within)))
    }

    fn look(&self, flushing: &Flushing) -> Option<Result<u64, FlushError>> {
        let Flushing(wait, until) = flushing;
        let is_late = self.cluster.now() >= *until;
        wait.look()
            .or_else(|| is_late.then_some(Err(FlushError::Late(COMMITTED_WITHIN))))
    }

    /// Begins to stop in good order: a last flush, then every slot is given up.
    pub(crate) fn begin_stop(&mut self) {
        self.engine.draining.send_replace(true);
        self.stopping = self.engine.flush.begin_stop().ok().map(Stopping::Flushing);
    }

    /// Gets on with that. True: it is over, however it went.
    pub(crate) fn stop(&mut self) -> bool {
        match &self.stopping {
            None => return true,
            Some(Stopping::Releasing(until)) => {
                return self.cluster.has_released() || self.cluster.now() >= *until;
            }
            Some(Stopping::Flushing(wait)) => match wait.look() {
                None => return false,
                Some(Err(_)) => return true,
                Some(Ok(_)) => {}
            },
        }
        self.cluster.begin_release();
        let until = self.cluster.now().saturating_add(RELEASED_WITHIN);
        self.stopping = Some(Stopping::Releasing(until));
        false
    }
}
