//! Rows of a shared store: rounds are dealt to the slots, each of which commits and projects at its own pace.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::gather::Gather;
use crate::cluster::node::Cluster;
use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::publish::door::FlushError;
use crate::publish::publisher::{Publisher, Turned};

/// Rounds whose rows may be on their way: what waits in a round more waits in the shards as well, where rows that change again
/// are held once.
const ROUNDS_MAX: usize = 16;
/// Longest time without a look at what is on its way.
const LOOK: Duration = Duration::from_millis(100);
/// Time without any commit or row written after which that is told.
const SLOW: Duration = Duration::from_secs(3);

/// The store that this engine shares with others.
pub(crate) struct ClusterViews {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    /// A round on its way to the slots.
    gather: Option<Gather>,
    /// Rounds that were begun and are not over, oldest first.
    rounds: VecDeque<u64>,
    number: u64,
}

impl ClusterViews {
    pub(crate) fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
            gather: None,
            rounds: VecDeque::new(),
            number: 0,
        }
    }

    // Rounds that are over: nothing of them is left in any slot.
    fn take_over(&mut self) -> usize {
        let oldest = self.cluster.oldest_gather();
        let dealt = self.gather.as_ref().map(Gather::number);
        let left = [oldest, dealt].into_iter().flatten().min();
        let before = self.rounds.len();
        self.rounds
            .retain(|number| left.is_some_and(|left| *number >= left));
        before - self.rounds.len()
    }

    // Tells of a store that has taken nothing for a while, once. Where the engine stops, that ends the flush.
    fn look_at_time(&self) -> Result<(), FlushError> {
        let waited = self.cluster.waited();
        if self.engine.is_draining() && waited > self.engine.config.drain_timeout {
            let text = "the shared store does not answer".to_owned();
            return Err(FlushError::Rows(text));
        }
        if waited >= SLOW && self.engine.figures.flush_state(FlushState::Failed) {
            tracing::warn!(
                "the shared store does not take commits; events are taken in until too many wait"
            );
            self.engine.figures.problem(
                "the shared store does not take commits",
                "Look at the shared store; commits go on by themselves when it answers.",
            );
        }
        Ok(())
    }
}

impl Publisher for ClusterViews {
    fn has_room(&self) -> bool {
        self.gather.is_none() && self.rounds.len() < ROUNDS_MAX
    }

    fn begin(&mut self, parts: Vec<Part>, _checkpoint: Option<u64>) {
        self.number += 1;
        if self.rounds.is_empty() {
            self.cluster.gets_on();
        }
        self.rounds.push_back(self.number);
        self.gather = Some(Gather::new(&self.cluster, &self.engine, self.number, parts));
    }

    fn turn(&mut self) -> Turned {
        if let Some(gather) = &mut self.gather {
            match gather.turn(&self.cluster, &self.engine) {
                Ok(true) => self.gather = None,
                Ok(false) => {}
                Err(error) => return Turned::failed(error),
            }
        }
        self.cluster.notify_devices(&self.engine);
        let over = self.take_over();
        if self.rounds.is_empty() {
            return Turned::over(over);
        }
        match self.look_at_time() {
            Ok(()) => Turned {
                look: Some(LOOK),
                ..Turned::over(over)
            },
            Err(error) => Turned::failed(error),
        }
    }

    fn is_dealt(&self) -> bool {
        self.gather.is_none()
    }

    fn end(&mut self) {}
}
