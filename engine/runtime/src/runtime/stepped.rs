//! An engine in one thread: the parts of a running one, driven step by step by whoever owns its time. For simulators,
//! which stop between any two steps.
//!
//! What threads do otherwise is a call: [`Stepped::commit`] is a group of the journal's thread, [`Stepped::begin_flush`]
//! and [`Stepped::write_rows`] are a round of the flush, [`Stepped::keep_up`] is upkeep. A shard's actor turns to a message
//! at the call that brings it. Of one of several engines, [`Stepped::tick`], [`Stepped::next_call`], [`Stepped::leave_turn`]
//! and [`Stepped::tend`] are the threads of its part in the cluster.

mod line;
mod node;
mod retry;
mod rows;
mod stream;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crossbeam::channel::Receiver;
use parking_lot::Mutex;
use thiserror::Error;
use till_core::{Counters, InvariantId, Shard};
use till_protocol::time::Timestamp;
use till_storage::base::FoldError;
use till_storage::disk::Disk;
use till_storage::facts::Facts;
use till_storage::journal::{Appender, Attempt, Journal, JournalConfig, Lsn, SyncError};
use till_storage::views::WriteViews;

use super::opened::Opened;
use super::{journal_config, slots, sync_config};
use crate::admission::AHEAD_MAX;
use crate::clock::Clock;
use crate::config::Config;
use crate::durable::Part;
use crate::engine::{Engine, Ways};
use crate::figures::Figures;
use crate::flush::{self, Rounds};
use crate::parts::Parts;
use crate::recovery::{RowsAt, StartReport, Target, recover};
use crate::registry::Registry;
use crate::route::Down;
use crate::row_backend::RowBackend;
use crate::runtime::StartError;
use crate::shard_actor::{Done, ShardArguments, ShardMessage, ShardState, Stop};
use crate::supervisor::{refill, shard_config};
use crate::upkeep::drop_committed;

use self::line::{Line, Stuck};
use self::node::NodeTurns;
use self::rows::Writing;

pub use self::node::SteppedNode;
pub use self::rows::Flushed;
pub use self::stream::{Replies, Stream, Taken};

/// What a stepped engine stands on.
pub struct SteppedParts {
    /// The disk of the journal.
    pub disk: Arc<dyn Disk>,
    /// The rows.
    pub rows: SteppedRows,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Told of each group before anyone else: up to here everything counts as durable.
    pub on_durable: Box<dyn FnMut(Lsn) + Send>,
    /// The key under which card numbers are masked.
    pub screen: [u8; 32],
}

/// Where the rows of a stepped engine are.
pub enum SteppedRows {
    /// In a store of its own.
    Own(Arc<dyn WriteViews>),
    /// In one that it shares with others.
    Shared(SteppedNode),
}

impl fmt::Debug for SteppedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own(_) => "Own",
            Self::Shared(_) => "Shared",
        })
    }
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

/// An engine that does nothing by itself.
pub struct Stepped {
    engine: Arc<Engine>,
    shards: Vec<Arc<Mutex<ShardState>>>,
    line: Arc<Mutex<Line>>,
    flow: Flow,
    /// Why a shard ended that was told something by another part of the engine.
    ended: Arc<Mutex<Option<Stop>>>,
    report: StartReport,
}

/// The way of rows.
enum Flow {
    Own(OwnRows),
    Shared(Box<NodeTurns>),
}

/// Rows on their way into a store of the engine's own.
struct OwnRows {
    parts: Receiver<Part>,
    rounds: Rounds<()>,
    writing: Option<Writing>,
    checkpoint: u64,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").finish_non_exhaustive()
    }
}

// Recovers an engine with rows of its own.
fn own(
    config: &Config,
    (disk, views, screen): (&Arc<dyn Disk>, Arc<dyn WriteViews>, [u8; 32]),
) -> Result<Opened, StartError> {
    let count = usize::from(config.shards.max(1));
    let into = Target::Shards {
        count,
        config: shard_config(config),
        dirty_rows: config.dirty_rows_max / count,
    };
    let (rows, dir) = (RowsAt::Given(views), config.data_dir.clone());
    let recovered = recover(
        disk,
        &dir,
        stepped_journal(config),
        (&rows, into),
        &mut |_, _| {},
    )?;
    Opened::of(recovered, &Parts::default(), screen)
}

fn stepped_journal(config: &Config) -> JournalConfig {
    JournalConfig {
        verify_threads: 1,
        ..journal_config(config)
    }
}

impl Stepped {
    /// Recovers what the last engine left, in the folder of the configuration. Nothing but the journal is read or written
    /// there.
    ///
    /// # Errors
    /// [`StartError`]; nothing was changed then but what recovery may change.
    pub fn start(config: Config, parts: SteppedParts) -> Result<Self, StartError> {
        match parts.rows {
            SteppedRows::Own(views) => {
                let opened = own(&config, (&parts.disk, views, parts.screen))?;
                Self::open(config, opened, (parts.clock, parts.on_durable))
            }
            SteppedRows::Shared(node) => {
                let opened = node::shared(&config, (&parts.disk, node, parts.screen))?;
                Self::open(config, opened, (parts.clock, parts.on_durable))
            }
        }
    }

    fn open(
        config: Config,
        mut opened: Opened,
        (clock, on_durable): (Clock, Box<dyn FnMut(Lsn) + Send>),
    ) -> Result<Self, StartError> {
        let (report, restored, jobs) = opened.take();
        let slots = slots(&config);
        let (rows, door, inbox) = flush::channels(slots.len());
        let end = opened.ground.journal.end();
        let figures = Arc::new(Figures::since(end.get(), opened.applied));
        let (appender, queue) = Appender::queue(sync_config(&config).queue_max);
        let sink = line::sink(slots.len(), &figures, rows, end, on_durable);
        let line = Line::new(opened.writer, sync_config(&config), sink, queue);
        let sync_stats = line.stats();
        let line = Arc::new(Mutex::new(line));
        let ways = Ways {
            appender,
            sync_stats,
            flush: door,
            figures,
            slots,
            registry: Registry::open(&config.registry)?,
            clock,
            by_hand: Some(line::by_hand(&line)),
        };
        let engine = Arc::new(Engine::on(opened.ground, ways, config, &report.left_out));
        let flow = match (jobs, engine.row_backend.cluster()) {
            (Some(jobs), Some(cluster)) => {
                let turns = NodeTurns::new(&engine, cluster, inbox, jobs);
                Flow::Shared(Box::new(turns))
            }
            _ => Flow::Own(OwnRows {
                parts: inbox.into_parts(),
                rounds: Rounds::default(),
                writing: None,
                checkpoint: opened.applied,
            }),
        };
        let mut this = Self {
            shards: Vec::with_capacity(engine.slots.len()),
            engine,
            line,
            flow,
            ended: Arc::default(),
            report,
        };
        this.host(restored);
        Ok(this)
    }

    fn host(&mut self, restored: Vec<Shard>) {
        for shard in &restored {
            self.engine.names.hold(shard.names_to_flush());
        }
        let mut restored = restored.into_iter();
        for index in 0..self.engine.slots.len() {
            let shard = restored.next();
            let shard = shard.unwrap_or_else(|| Shard::new(shard_config(&self.engine.config)));
            if let Some(state) = self.state(index, shard) {
                self.shards.push(self.in_hand(index, state));
            }
        }
    }

    // What other parts of the engine tell a shard, it turns to at once.
    fn in_hand(&self, index: usize, state: ShardState) -> Arc<Mutex<ShardState>> {
        let state = Arc::new(Mutex::new(state));
        let (hand, ended) = (Arc::downgrade(&state), Arc::clone(&self.ended));
        let turn = move |message| {
            let shard = hand.upgrade().ok_or(Down)?;
            let done = shard.lock().handle(message);
            done.map_err(|stop| {
                ended.lock().get_or_insert(stop);
                Down
            })
        };
        if let Some(slot) = self.engine.slots.get(index) {
            slot.run_in_hand(Box::new(turn));
        }
        state
    }

    fn state(&self, index: usize, shard: Shard) -> Option<ShardState> {
        let slot = self.engine.slots.get(index)?;
        Some(ShardState::new(ShardArguments {
            index,
            shard,
            engine: Arc::clone(&self.engine),
            slot: Arc::clone(slot),
        }))
    }

    // A shard turns to a message. One that waits for a journal that cannot go on ends where it stands.
    fn deliver(&mut self, index: usize, message: ShardMessage) -> Result<(), Halt> {
        let Some(shard) = self.shards.get(index).map(Arc::clone) else {
            return Ok(());
        };
        let done = self.guarded(|_| -> Done { shard.lock().handle(message) })?;
        Ok(done?)
    }

    // Does what may wait for the journal, which ends the engine where that cannot go on.
    fn guarded<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> Result<T, Halt> {
        match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(done) => match self.ended.lock().take() {
                Some(stop) => Err(stop.into()),
                None => Ok(done),
            },
            Err(panic) if panic.is::<Stuck>() => Err(self.line.lock().halt()),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Makes a group of what waits durable, and tells what became durable to those whom it concerns.
    ///
    /// # Errors
    /// [`Halt::Journal`]: the process ends here.
    pub fn commit(&mut self) -> Result<Attempt, Halt> {
        Ok(self.line.lock().commit()?)
    }

    /// Whether anything waits to become durable.
    pub fn has_waiting(&self) -> bool {
        self.line.lock().has_waiting()
    }

    /// Whether rows are on their way to the store of rows.
    pub const fn is_writing(&self) -> bool {
        match &self.flow {
            Flow::Own(rows) => rows.writing.is_some(),
            Flow::Shared(turns) => turns.is_writing(),
        }
    }

    /// A shard fails and starts again from rows and journal; its sessions end. Not while rows are being written.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn restart_shard(&mut self, index: usize) -> Result<(), Halt> {
        match &mut self.flow {
            Flow::Own(rows) => rows.rounds.restart(index),
            Flow::Shared(turns) => turns.restart(index),
        }
        if let Some(slot) = self.engine.slots.get(index) {
            slot.fail(false);
        }
        #[cfg(feature = "planted")]
        let settles = !till_core::planted::is("refill-before-durable");
        #[cfg(not(feature = "planted"))]
        let settles = true;
        if settles {
            self.line.lock().barrier()?;
        }
        if let Flow::Own(rows) = &mut self.flow {
            rows.take_parts();
        }
        let shard = match &self.engine.row_backend {
            RowBackend::Own(views) => refill(&self.engine, views.as_ref(), index)?,
            RowBackend::Shared(cluster) => cluster.restore(&self.engine, index)?,
        };
        if let Some(state) = self.state(index, shard) {
            let state = self.in_hand(index, state);
            if let Some(place) = self.shards.get_mut(index) {
                *place = state;
            }
        }
        Ok(())
    }

    /// Makes the indexes of sealed segments. Of one of several engines it also drops segments that are in the shared store.
    ///
    /// # Errors
    /// What the disk says, in words: it is tried again with the next call.
    pub fn keep_up(&self) -> Result<usize, String> {
        if let Some(cluster) = self.engine.row_backend.cluster() {
            let dropped = drop_committed(&self.engine, cluster);
            dropped.map_err(|error| error.to_string())?;
        }
        self.engine
            .facts
            .catch_up()
            .map_err(|error| error.to_string())
    }

    /// Drops segments that were received before an instant, once a base stands in for them. `scratch` are empty rows.
    ///
    /// # Errors
    /// [`FoldError`]; nothing is dropped then.
    pub fn retain_before(
        &self,
        received_before_us: i64,
        scratch: &dyn WriteViews,
    ) -> Result<Option<Lsn>, FoldError> {
        till_storage::base::retain(
            &self.engine.journal,
            &self.engine.facts,
            scratch,
            received_before_us,
            self.checkpoint(),
            &mut |_| {},
        )
    }

    // LSN up to which rows of its own hold everything.
    fn checkpoint(&self) -> Lsn {
        match &self.flow {
            Flow::Own(rows) => Lsn::new(rows.checkpoint),
            Flow::Shared(_) => Lsn::ZERO,
        }
    }

    /// Ends in good order: writes the closing mark. What was not made durable before is dropped.
    ///
    /// # Errors
    /// [`SyncError`] when the mark could not be written.
    pub fn close(self) -> Result<(), SyncError> {
        self.line.lock().close()
    }

    /// What the start found and did.
    pub const fn report(&self) -> &StartReport {
        &self.report
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.engine.journal
    }

    /// The facts in it.
    pub fn facts(&self) -> &Facts {
        &self.engine.facts
    }

    /// What all shards counted since the start.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for state in &self.shards {
            sum.add(&state.lock().shard.counters());
        }
        sum
    }

    /// Invariants that shards found broken since they started.
    pub fn violations(&mut self) -> Vec<(InvariantId, u64)> {
        let shards = self.shards.iter();
        shards
            .flat_map(|state| state.lock().shard.violations().iter().collect::<Vec<_>>())
            .collect()
    }

    /// Frames that are held now, and those that may be; of the shard that holds most.
    pub fn frames_held(&self) -> (u32, u32) {
        let slots = self.engine.slots.iter();
        let held = slots.map(|slot| (slot.gate.in_use(), slot.gate.frames_max()));
        held.max().unwrap_or((0, 0))
    }

    /// Of each bound of what is held: its name, what is free of it now, and how much there is.
    pub fn room(&self) -> impl Iterator<Item = (&'static str, u32, u32)> + '_ {
        let bytes_max = self.engine.config.permits_bytes;
        self.engine.slots.iter().flat_map(move |slot| {
            let free = slot.gate.free();
            [
                ("frames", free.frames, slot.gate.frames_max()),
                ("events in front of a shard", free.ahead, AHEAD_MAX),
                ("bytes", free.bytes, bytes_max),
            ]
        })
    }

    /// SKUs and sums in memory.
    pub fn actors(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|state| state.lock().shard.actors()).sum()
    }
}
