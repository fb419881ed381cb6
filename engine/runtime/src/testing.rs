//! An engine in one thread: its parts, turn by turn, as whoever owns its time takes them. For simulators, which stop between
//! any two turns.
//!
//! What has a thread or an actor otherwise is a call here, around the same function: [`Stepped::commit`] is a turn of the
//! journal, [`Stepped::flush_turn`] one of the flush, [`Stepped::keep_up`] one of upkeep. A shard turns to a message at the
//! call that brings it. Of one of several engines, [`Stepped::tick`], [`Stepped::next_call`], [`Stepped::leave_turn`] and
//! [`Stepped::tend`] are those of its part in the cluster.

mod hand;
mod node;
mod sight;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use till_core::Shard;
use till_protocol::time::Timestamp;
use till_storage::base::FoldError;
use till_storage::cluster::NodeId;
use till_storage::journal::{Attempt, GroupSync, SyncError};

use crate::cluster::start::NodeTurns;
use crate::commit::{Companion, DurableSink};
use crate::config::Config;
use crate::lifecycle::engine::Engine;
use crate::lifecycle::parts::Parts;
use crate::lifecycle::recovery::StartReport;
use crate::lifecycle::retry::{Retried, RetryAllError, retry_each};
use crate::lifecycle::runtime::StartError;
use crate::lifecycle::runtime::assembly::{Assembly, Surroundings, assemble};
use crate::lifecycle::upkeep::Upkeep;
use crate::publish::flusher::{Flusher, Next};
use crate::shard::state::{ShardArguments, ShardState, Stop};
use crate::shard::supervisor::restore;

use crate::testing::hand::{Hand, Hosted};
use crate::testing::node::Stopping;

pub use crate::testing::node::{Answered, Asking};
pub use crate::testing::stream::{Said, Stream, Taken};

/// What a stepped engine has of the world around it.
pub struct SteppedParts {
    /// Its disk, and its rows or the store that it shares.
    pub parts: Parts,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// What its monotonic clock shows.
    pub monotonic: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// The id of this incarnation.
    pub me: NodeId,
    /// Where devices reach it.
    pub address: String,
    /// The key under which card numbers are masked.
    pub screen: [u8; 32],
}

impl fmt::Debug for SteppedParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteppedParts").finish_non_exhaustive()
    }
}

/// Why an engine cannot go on: its process would end here, or wait for ever.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Halt {
    /// A write or sync failed.
    #[error(transparent)]
    Journal(#[from] SyncError),
    /// A shard waits for the journal, and the disk is full.
    #[error("a shard waits for room on the disk")]
    Stuck,
    /// A shard ended.
    #[error("a shard ended: {0}")]
    Shard(String),
    /// A shard could not be filled again.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Shard(stop.to_string())
    }
}

/// How far a flush is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub enum Flushed {
    /// No round has begun.
    Idle,
    /// The records behind some rows are not durable yet, or the shared store has not answered.
    Waiting,
    /// The rows could not be written; they are with the next turn.
    Failed,
    /// A round is over.
    Over,
}

/// An engine that does nothing by itself.
pub struct Stepped {
    engine: Arc<Engine>,
    hand: Arc<Hand>,
    shards: Vec<Arc<Hosted>>,
    group: Arc<Mutex<GroupSync<Companion, DurableSink>>>,
    flusher: Arc<Mutex<Flusher>>,
    upkeep: Upkeep,
    node: Option<NodeTurns>,
    stopping: Option<Stopping>,
    report: StartReport,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").finish_non_exhaustive()
    }
}

impl Stepped {
    /// Recovers what the last engine left, in the folder of the configuration.
    ///
    /// # Errors
    /// [`StartError`]; nothing was changed then but what recovery may change.
    pub fn start(config: Config, parts: SteppedParts) -> Result<Self, StartError> {
        let hand = Arc::new(Hand::default());
        let around = Surroundings {
            parts: parts.parts,
            address: parts.address,
            me: parts.me,
            screen: parts.screen,
            clock: parts.clock,
            monotonic: parts.monotonic,
            driver: Arc::<Hand>::clone(&hand),
            verify_threads: 1,
        };
        let Assembly {
            engine,
            group,
            flusher,
            upkeep,
            shards,
            node,
            report,
        } = assemble(config, around)?;
        let (group, flusher) = (Arc::new(Mutex::new(group)), Arc::new(Mutex::new(flusher)));
        hand.take(&group, &flusher);
        let mut this = Self {
            engine,
            hand,
            shards: Vec::with_capacity(shards.len()),
            group,
            flusher,
            upkeep,
            node,
            stopping: None,
            report,
        };
        for (index, shard) in shards.into_iter().enumerate() {
            let hosted = this.host(index, shard);
            this.shards.extend(hosted);
        }
        Ok(this)
    }

    fn host(&self, index: usize, shard: Shard) -> Option<Arc<Hosted>> {
        let slot = self.engine.slots.get(index)?;
        let state = ShardState::new(ShardArguments {
            index,
            shard,
            engine: Arc::clone(&self.engine),
            slot: Arc::clone(slot),
        });
        let hosted = Arc::new(Hosted::new(state, &self.hand));
        slot.run(hosted.mailbox());
        Some(hosted)
    }

    // Does what may wait for another part of the engine, which halts it where that cannot go on.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Result<T, Halt> {
        let done = act(self);
        self.hand.take_halt().map_or(Ok(done), Err)
    }

    /// A turn of the journal: makes a group of what waits durable, and tells what became durable to those whom it concerns.
    ///
    /// # Errors
    /// [`Halt::Journal`]: the process ends here.
    pub fn commit(&mut self) -> Result<Attempt, Halt> {
        Ok(self.group.lock().turn()?)
    }

    /// Whether anything waits to become durable.
    pub fn has_waiting(&self) -> bool {
        self.group.lock().has_waiting()
    }

    /// Begins a round of the flush, if none is under way.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn begin_flush(&mut self) -> Result<(), Halt> {
        if self.flusher.lock().is_busy() {
            return Ok(());
        }
        // Nobody waits for it.
        drop(self.engine.flush.begin(Duration::ZERO));
        self.flush_turn().map(|_| ())
    }

    /// A turn of the flush.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn flush_turn(&mut self) -> Result<Flushed, Halt> {
        self.guarded(|this| {
            let mut flusher = this.flusher.lock();
            match flusher.turn() {
                Next::Over => Flushed::Over,
                Next::Again(_) => Flushed::Failed,
                Next::News(_) if flusher.is_busy() => Flushed::Waiting,
                Next::News(_) | Next::Ended => Flushed::Idle,
            }
        })
    }

    /// Whether rows are on their way to the store of rows.
    pub fn is_writing(&self) -> bool {
        self.flusher.lock().is_writing()
    }

    /// A shard fails and starts again from rows and journal; its sessions end. Not while rows are being written.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn restart_shard(&mut self, index: usize) -> Result<(), Halt> {
        if let Some(slot) = self.engine.slots.get(index) {
            slot.fail(false);
        }
        let shard = self.guarded(|this| restore(&this.engine, index))??;
        if let Some(hosted) = self.host(index, shard)
            && let Some(place) = self.shards.get_mut(index)
        {
            *place = hosted;
        }
        Ok(())
    }

    /// Decides again everything that the rows have in quarantine. What has taken effect is durable with the next group.
    ///
    /// # Errors
    /// [`Halt`]; and [`RetryAllError`], after which what was decided before stays decided.
    pub fn retry_quarantine(&mut self) -> Result<Result<Retried, RetryAllError>, Halt> {
        self.guarded(|this| retry_each(&this.engine, |_durable| Ok(())))
    }

    /// A turn of upkeep. False: an index or a segment is left for the next one.
    pub fn keep_up(&mut self) -> bool {
        self.upkeep.turn()
    }

    /// Ends in good order: writes the closing mark. What was not made durable before is dropped.
    ///
    /// # Errors
    /// [`SyncError`] when the mark could not be written.
    pub fn close(self) -> Result<(), SyncError> {
        let group = Arc::into_inner(self.group);
        group.map_or(Ok(()), |group| group.into_inner().close())
    }
}
