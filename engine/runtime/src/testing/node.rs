//! A stepped engine that is one of several: the turns of its part in the cluster.

use std::time::Duration;

use crate::cluster::job::Job;
use crate::cluster::start::{NodeTurns, RELEASED_WITHIN};
use crate::cluster::work::{Call, Completion};
use crate::publish::door::Wait;
use crate::testing::{Halt, Stepped};

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

/// How far a stop in good order is.
pub(super) enum Stopping {
    /// The last flush is on its way.
    Flushing(Wait),
    /// Slots are being given up, until then.
    Releasing(Duration),
}

impl Stepped {
    // Nothing of an engine that is alone.
    fn turn<T: Default>(&mut self, act: impl FnOnce(&mut NodeTurns) -> T) -> Result<T, Halt> {
        self.guarded(|this| this.node.as_mut().map(act).unwrap_or_default())
    }

    /// For how long the clock of the node has nothing to do.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn pause(&mut self) -> Result<Duration, Halt> {
        self.turn(|turns| turns.clock.pause())
    }

    /// The turn of the node's clock: heartbeats, looks at the others, and what is to be tried again.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn tick(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.clock.turn())
    }

    /// The next call that a thread would make to the shared store. Any number of them may be under way.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn next_call(&mut self) -> Result<Option<Asking>, Halt> {
        self.turn(|turns| {
            let duty = turns.duties.try_recv().ok().map(Call::Duty);
            let call = duty.or_else(|| match turns.jobs.try_recv() {
                Ok(Job::Command(tenure, command)) => Some(Call::Command(tenure, command)),
                Ok(Job::Stop) | Err(_) => None,
            });
            call.map(Asking)
        })
    }

    /// A call is made.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn ask(&mut self, call: Asking) -> Result<Option<Answered>, Halt> {
        self.turn(|turns| Some(Answered(turns.worker.ask(call.0))))
    }

    /// What was answered to a call reaches those who wait for it.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn complete(&mut self, answered: Answered) -> Result<(), Halt> {
        self.turn(|turns| turns.worker.complete(answered.0))
    }

    /// The turn of slots that leave. False: there is nothing to do, or it waits.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn leave_turn(&mut self) -> Result<bool, Halt> {
        self.turn(|turns| turns.leaver.turn())
    }

    /// The turn of records that are in no commit: about twice a second.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn tend(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.tender.turn())
    }

    /// Begins to stop in good order: nothing new is taken in, all is committed, and every slot is given up.
    pub fn begin_stop(&mut self) {
        self.engine.draining.send_replace(true);
        let stopping = self.engine.flush.begin_stop(Duration::ZERO);
        self.stopping = stopping.ok().map(Stopping::Flushing);
    }

    /// Gets on with that. True: [`close`](Self::close) it.
    pub fn stop_turn(&mut self) -> bool {
        let Some(cluster) = self.engine.row_backend.cluster() else {
            return true;
        };
        match &self.stopping {
            None => return true,
            Some(Stopping::Releasing(until)) => {
                return cluster.has_released() || cluster.now() >= *until;
            }
            Some(Stopping::Flushing(wait)) => match wait.look() {
                None => return false,
                Some(Err(_)) => return true,
                Some(Ok(_)) => {}
            },
        }
        cluster.begin_release();
        let until = cluster.now().saturating_add(RELEASED_WITHIN);
        self.stopping = Some(Stopping::Releasing(until));
        false
    }
}
