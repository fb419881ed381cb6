//! An engine in one thread: the parts of a running one, driven step by step by whoever owns its time. For simulators,
//! which stop between any two steps.
//!
//! What threads do otherwise is a call: [`Stepped::commit`] is a group of the journal's thread, [`Stepped::begin_flush`]
//! and [`Stepped::write_rows`] are a round of the flush, [`Stepped::keep_up`] is upkeep. A shard's actor turns to a message
//! at the call that brings it.

mod line;
mod rows;
mod stream;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::Receiver;
use parking_lot::Mutex;
use thiserror::Error;
use till_core::{Counters, InvariantId, Shard};
use till_protocol::time::Timestamp;
use till_storage::base::FoldError;
use till_storage::disk::Disk;
use till_storage::facts::Facts;
use till_storage::journal::{Appender, Attempt, CommitError, Journal, Lsn};
use till_storage::views::WriteViews;

use super::opened::Opened;
use super::{commit_config, journal_config, slots};
use crate::config::Config;
use crate::engine::{Engine, Ways};
use crate::flush::{self, Part, Rounds};
use crate::keeping::Keeping;
use crate::metrics::Figures;
use crate::parts::Parts;
use crate::recovery::{RowsAt, StartReport, Target, recover};
use crate::registry::Registry;
use crate::runtime::StartError;
use crate::shard_actor::{Done, ShardArguments, ShardMessage, ShardState, Stop};
use crate::supervisor::{refill, shard_config};

use self::line::{Line, Stuck};
use self::rows::Writing;

pub use self::rows::Flushed;
pub use self::stream::{Said, Stream, Taken};

/// What a stepped engine stands on.
pub struct SteppedParts {
    /// The disk of the journal.
    pub disk: Arc<dyn Disk>,
    /// The rows.
    pub views: Arc<dyn WriteViews>,
    /// The time of day.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// Told of each group before anyone else: up to here everything counts as durable.
    pub on_durable: Box<dyn FnMut(Lsn) + Send>,
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
    Journal(#[from] CommitError),
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
    shards: Vec<ShardState>,
    line: Arc<Mutex<Line>>,
    parts: Receiver<Part>,
    rounds: Rounds<()>,
    writing: Option<Writing>,
    checkpoint: u64,
    report: StartReport,
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepped").finish_non_exhaustive()
    }
}

impl Stepped {
    /// Recovers what the last engine left, in the folder of the configuration. Nothing but the journal is read or written
    /// there.
    ///
    /// # Errors
    /// [`StartError`]; nothing was changed then but what recovery may change.
    pub fn start(config: Config, parts: SteppedParts) -> Result<Self, StartError> {
        let count = usize::from(config.shards.max(1));
        let mut journal = journal_config(&config);
        journal.verify_threads = 1;
        let into = Target::Shards {
            count,
            config: shard_config(&config),
            dirty_rows: config.dirty_rows_max / count,
        };
        let rows = RowsAt::Given(parts.views);
        let dir: PathBuf = config.data_dir.clone();
        let recovered = recover(&parts.disk, &dir, journal, (&rows, into), &mut |_, _| {})?;
        let opened = Opened::of(recovered, &Parts::default(), parts.screen)?;
        let slots = slots(&config);
        let (rows, door, inbox) = flush::channels(slots.len());
        let end = opened.ground.journal.end();
        let figures = Arc::new(Figures::since(end.get(), opened.applied));
        let (appender, queue) = Appender::queue(commit_config(&config).queue_max);
        let sink = line::sink(slots.len(), &figures, rows, end, parts.on_durable);
        let line = Line::new(opened.writer, commit_config(&config), sink, queue);
        let commit_stats = line.stats();
        let line = Arc::new(Mutex::new(line));
        let ways = Ways {
            appender,
            commit_stats,
            flush: door,
            figures,
            slots,
            registry: Registry::open(&config.registry)?,
            clock: parts.clock,
            by_hand: Some(line::by_hand(&line)),
        };
        let (report, applied) = (opened.report, opened.applied);
        let engine = Engine::on(opened.ground, ways, config, &report.left_out);
        let mut this = Self {
            engine: Arc::new(engine),
            shards: Vec::with_capacity(count),
            line,
            parts: inbox.into_parts(),
            rounds: Rounds::default(),
            writing: None,
            checkpoint: applied,
            report,
        };
        this.host(opened.shards);
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
                self.shards.push(state);
            }
        }
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
    fn tell(&mut self, index: usize, message: ShardMessage) -> Result<(), Halt> {
        let Some(shard) = self.shards.get_mut(index) else {
            return Ok(());
        };
        let done = catch_unwind(AssertUnwindSafe(|| -> Done { shard.handle(message) }));
        match done {
            Ok(done) => Ok(done?),
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
        self.writing.is_some()
    }

    /// A shard fails and starts again from rows and journal; its sessions end. Not while rows are being written.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn restart_shard(&mut self, index: usize) -> Result<(), Halt> {
        self.rounds.restart(index);
        if let Some(slot) = self.engine.slots.get(index) {
            slot.fail(false);
        }
        #[cfg(feature = "planted")]
        let settles = !till_core::planted::is("refill-before-durable");
        #[cfg(not(feature = "planted"))]
        let settles = true;
        if settles {
            self.line.lock().settle()?;
        }
        while let Ok(part) = self.parts.try_recv() {
            self.rounds.take(part);
        }
        let Keeping::Own(views) = &self.engine.keeping else {
            return Ok(());
        };
        let shard = refill(&self.engine, views.as_ref(), index)?;
        if let (Some(state), Some(place)) = (self.state(index, shard), self.shards.get_mut(index)) {
            *place = state;
        }
        Ok(())
    }

    /// Makes the indexes of sealed segments.
    ///
    /// # Errors
    /// What the disk says, in words: it is tried again with the next call.
    pub fn keep_up(&self) -> Result<usize, String> {
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
            Lsn::new(self.checkpoint),
            &mut |_| {},
        )
    }

    /// Ends in good order: writes the closing mark. What was not made durable before is dropped.
    ///
    /// # Errors
    /// [`CommitError`] when the mark could not be written.
    pub fn close(self) -> Result<(), CommitError> {
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
            sum.add(&state.shard.counters());
        }
        sum
    }

    /// Invariants that shards found broken since they started.
    pub fn violations(&mut self) -> Vec<(InvariantId, u64)> {
        let shards = self.shards.iter_mut();
        shards
            .flat_map(|state| state.shard.violations().iter().collect::<Vec<_>>())
            .collect()
    }

    /// Frames that are held now, and those that may be; of the shard that holds most.
    pub fn frames_held(&self) -> (u32, u32) {
        let slots = self.engine.slots.iter();
        let held = slots.map(|slot| (slot.gate.in_use(), slot.gate.frames_max()));
        held.max().unwrap_or((0, 0))
    }

    /// SKUs and sums in memory.
    pub fn actors(&self) -> usize {
        self.shards.iter().map(|state| state.shard.actors()).sum()
    }
}
