//! A stepped engine that is one of several: the turns of its part in the cluster.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use till_storage::cluster::{NodeId, SharedStore};
use till_storage::disk::Disk;

use super::super::opened::{Opened, open_joined};
use super::{Flow, Halt, Stepped, stepped_journal};
use crate::cluster::{Answered, Asking, Cluster, Jobs, Joiner, Steps};
use crate::config::Config;
use crate::engine::Engine;
use crate::flush::{FlushInbox, FlushTurns};
use crate::runtime::StartError;
use crate::watched::Watched;

/// What makes an engine one of several.
pub struct SteppedNode {
    /// Its way to the store that they share.
    pub store: Arc<dyn SharedStore>,
    /// The id of this epoch.
    pub me: NodeId,
    /// Where devices reach it.
    pub address: String,
    /// What its monotonic clock shows.
    pub clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl fmt::Debug for SteppedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedNode").finish_non_exhaustive()
    }
}

/// Opens a node of a cluster.
///
/// # Errors
/// [`StartError`] when its journal does not open, or the store does not say what all nodes share.
pub(super) fn shared(
    config: &Config,
    (disk, node, screen): (&Arc<dyn Disk>, SteppedNode, [u8; 32]),
) -> Result<Opened, StartError> {
    let shards = usize::from(config.shards.max(1));
    let watched = Arc::new(Watched::new(node.store));
    let store: Arc<dyn SharedStore> = Arc::<Watched>::clone(&watched);
    let joiner = Joiner {
        me: node.me,
        address: node.address,
        clock: node.clock,
    };
    let shared = config.shared.clone().unwrap_or_default();
    let folder = (Arc::clone(disk), &*config.data_dir, stepped_journal(config));
    let (joined, screen) = open_joined(folder, (store, &shared, joiner), (screen, shards))?;
    Ok(Opened::shared(joined, screen, shards, watched))
}

/// The turns of a node's threads.
pub(super) struct NodeTurns {
    flush: FlushTurns,
    steps: Steps,
}

impl NodeTurns {
    pub(super) fn new(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        inbox: FlushInbox,
        jobs: Jobs,
    ) -> Self {
        let shared = engine.config.shared.as_ref();
        let lease = shared.map_or(Duration::ZERO, |shared| shared.lease);
        Self {
            flush: FlushTurns::new(engine, cluster, inbox),
            steps: Steps::new(engine, cluster, jobs, lease),
        }
    }

    pub(super) const fn is_writing(&self) -> bool {
        self.flush.is_writing()
    }

    pub(super) fn restart(&mut self, shard: usize) {
        self.flush.restart(shard);
    }
}

impl Stepped {
    // The turns of a node; nothing of an engine that is alone.
    fn turn<T: Default>(&mut self, act: impl FnOnce(&mut NodeTurns) -> T) -> Result<T, Halt> {
        self.guarded(|this| match &mut this.flow {
            Flow::Shared(turns) => act(turns),
            Flow::Own(_) => T::default(),
        })
    }

    pub(super) fn begin_round(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.flush.begin())
    }

    /// Gets on with a round of the flush into the shared store. True: one is over.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn flush_turn(&mut self) -> Result<bool, Halt> {
        self.turn(|turns| turns.flush.turn())
    }

    /// For how long the clock of the node has nothing to do.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn pause(&mut self) -> Result<Duration, Halt> {
        self.turn(|turns| turns.steps.pause())
    }

    /// The turn of the node's clock: heartbeats, looks at the others, and what is to be tried again.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn tick(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.steps.tick())
    }

    /// The next call that a thread would make to the shared store. Any number of them may be under way.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn next_call(&mut self) -> Result<Option<Asking>, Halt> {
        self.turn(|turns| turns.steps.next_call())
    }

    /// A call is made.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn ask(&mut self, call: Asking) -> Result<Option<Answered>, Halt> {
        self.turn(|turns| Some(turns.steps.ask(call)))
    }

    /// What was answered to a call reaches those who wait for it.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn complete(&mut self, answered: Answered) -> Result<(), Halt> {
        self.turn(|turns| turns.steps.complete(answered))
    }

    /// The turn of the thread for slots that leave. False: it has nothing to do, or waits.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn leave_turn(&mut self) -> Result<bool, Halt> {
        self.turn(|turns| turns.steps.leave())
    }

    /// The turn of the thread that hands records over and takes those of others in: about twice a second.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn tend(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.steps.tend())
    }

    /// Begins to stop in good order: nothing new is taken in, all is committed, and every slot is given up.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn begin_stop(&mut self) -> Result<(), Halt> {
        self.turn(|turns| turns.steps.begin_stop())
    }

    /// Gets on with that. True: [`close`](Self::close) it.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn stop_turn(&mut self) -> Result<bool, Halt> {
        self.turn(|turns| turns.steps.stop())
    }

    /// Slots that this engine serves now, also to devices that come. Of an engine that is alone none.
    pub fn served(&self) -> Vec<u32> {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or_else(Vec::new, |cluster| cluster.served())
    }

    /// Whether the node is heard by the others, as far as it knows.
    pub fn is_alive(&self) -> bool {
        let cluster = self.engine.row_backend.cluster();
        cluster.is_none_or(|cluster| cluster.is_alive())
    }

    /// Rounds of the flush that were committed after their records could not be read back at first.
    pub fn rounds_reread(&self) -> u64 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.unread.went_on())
    }

    /// Position in the journal up to which the next start finds everything committed, or handed off.
    pub fn is_written(&self) -> u64 {
        let cluster = self.engine.row_backend.cluster();
        cluster.map_or(0, |cluster| cluster.is_written().get())
    }
}
