//! The engine's machine: starts, groups, flushes, upkeep, and the end of the process.

mod turns;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use till_protocol::time::Timestamp;
use till_runtime::{Config, Halt, RecoveryError, StartError, Stepped, SteppedParts};
use till_storage::disk::Disk;
use till_storage::journal::{Journal, Lsn, OpenError};
use till_storage::memory::MemoryViews;
use till_storage::rebuild::{Registrations, rebuild};
use till_storage::views::{Fit, Views as _, check_base};

use super::{Event, World};
use crate::coverage::Sight;
use crate::disk::WorldDisk;
use crate::oracle::{Model, compare, same_rows};
use crate::plan::{MS, Plan, SECOND};
use crate::rng::Rng;
use crate::rows::WorldRows;

/// Where the engine keeps its things.
const DIR: &str = "/engine";

/// The machine.
pub(super) struct Node {
    pub(super) engine: Option<Stepped>,
    pub(super) disk: WorldDisk,
    pub(super) rows: Arc<WorldRows>,
    config: Config,
    /// What its clock shows.
    clock: Arc<AtomicI64>,
    /// By how much that is wrong.
    pub(super) leapt: i64,
    /// What was said to be durable and would not survive.
    watch: Arc<Mutex<Watch>>,
    pub(super) crashes: u64,
    is_committing: bool,
    is_flushing: bool,
    /// Where the journal ended when the last flush began.
    flushed_at: u64,
    is_writing: bool,
    has_base: bool,
    /// Of events that happened before this, the facts may be gone.
    dropped_us: i64,
    segments: usize,
    is_slow: bool,
}

#[derive(Debug, Default)]
struct Watch {
    loose: Option<u64>,
    /// Where the last two groups ended.
    ends: [u64; 2],
}

impl Node {
    pub(super) fn new(plan: &Plan, rng: &mut Rng) -> Self {
        let mut config = Config::dev(&PathBuf::from(DIR));
        config.shards = plan.shards;
        config.permits_frames = plan.permits;
        config.segment_bytes = plan.segment_bytes;
        config.reserve_bytes = plan.reserve_bytes;
        config.actors_max = plan.actors_max;
        config.recent_bytes = plan.recent_bytes;
        config.dirty_rows_max = 400;
        Self {
            engine: None,
            disk: WorldDisk::new(rng.fork(), plan.disk),
            rows: WorldRows::new(rng.fork(), plan.rows),
            config,
            clock: Arc::default(),
            leapt: 0,
            watch: Arc::default(),
            crashes: 0,
            is_committing: false,
            is_flushing: false,
            flushed_at: 0,
            is_writing: false,
            has_base: false,
            dropped_us: i64::MIN,
            segments: 0,
            is_slow: false,
        }
    }

    pub(super) fn calm(&mut self) {
        self.disk.calm();
        self.rows.calm();
    }

    pub(super) fn journal_dir() -> PathBuf {
        PathBuf::from(DIR).join("journal")
    }

    /// How it stands, in words.
    pub(super) fn words(&self) -> String {
        let Some(engine) = &self.engine else {
            return "the engine is down".to_owned();
        };
        format!(
            "the engine holds {:?} frames, journal at {}, rows at {:?}",
            engine.frames_held(),
            engine.journal().end(),
            self.rows.checkpoint()
        )
    }

    /// Where the last group that was told begins, or before it.
    pub(super) fn last_group(&self) -> u64 {
        self.watch().ends[0]
    }

    fn watch(&self) -> std::sync::MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parts(&self, lies: bool) -> SteppedParts {
        let (disk, watch) = (self.disk.clone(), Arc::clone(&self.watch));
        let on_durable = move |through: Lsn| {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.ends = [watch.ends[1], through.get()];
            if !lies && !disk.is_durable(&Self::journal_dir(), through.get()) {
                watch.loose.get_or_insert_with(|| through.get());
            }
        };
        let clock = Arc::clone(&self.clock);
        SteppedParts {
            disk: Arc::new(self.disk.clone()),
            views: Arc::<WorldRows>::clone(&self.rows),
            clock: Arc::new(move || Timestamp::from_us(clock.load(Ordering::Relaxed))),
            on_durable: Box::new(on_durable),
            screen: [7; 32],
        }
    }
}

impl World {
    /// The process starts.
    pub(super) fn start(&mut self) {
        if self.node.engine.is_some() {
            return;
        }
        self.tell_time();
        self.fit_rows();
        self.look_at_rot();
        let parts = self.node.parts(self.plan.lies);
        match Stepped::start(self.node.config.clone(), parts) {
            Ok(engine) => self.started(engine),
            Err(error) => self.not_started(&error),
        }
    }

    fn started(&mut self, engine: Stepped) {
        if self.node.disk.is_dead() {
            drop(engine);
            return self.end_process();
        }
        let report = engine.report();
        let (is_cut, clean, new) = (report.cut.is_some(), report.closed_cleanly, report.is_new);
        let (replayed, rebuilt) = (report.replayed, report.rebuilt.is_some());
        let unplaced = report.unplaced.len();
        for (seen, sight) in [
            (is_cut, Sight::TornCut),
            (clean && !new, Sight::CleanStart),
            (replayed > 0, Sight::Replayed),
            (rebuilt, Sight::BasedStart),
        ] {
            if seen {
                self.saw(sight);
            }
        }
        if unplaced > 0 && !self.plan.lies {
            let what = format!("{unplaced} records fit nowhere");
            self.oracle.fail("REP-1", what);
        }
        self.oracle.ends_at(engine.journal().end().get());
        self.node.segments = engine.journal().segments().len();
        self.node.engine = Some(engine);
        self.node.is_committing = false;
        self.node.is_flushing = false;
        self.node.flushed_at = 0;
        self.node.is_writing = false;
        self.engine_moved();
        self.want_flush(self.plan.flush_every);
    }

    fn not_started(&mut self, error: &StartError) {
        let died = self.node.disk.is_dead();
        if died {
            return self.end_process();
        }
        let lies = self.plan.lies;
        match error {
            StartError::Recovery(RecoveryError::LostEnd(_)) if lies => {
                // What an operator does then: the rows are made anew from what is left.
                self.saw(Sight::LostEnd);
                self.lose_rows();
            }
            StartError::Recovery(RecoveryError::Journal(
                OpenError::Damaged(_) | OpenError::Base(_) | OpenError::Missing { .. },
            )) if lies => {
                // It is found, and nothing goes on: that is all that can be asked.
                self.saw(Sight::LostEnd);
                self.is_over = true;
                return;
            }
            StartError::Recovery(RecoveryError::Journal(OpenError::Io { .. }))
            | StartError::Recovery(RecoveryError::Commit(_))
                if !self.is_calm =>
            {
                self.fault("start_failed");
            }
            StartError::Recovery(RecoveryError::Journal(OpenError::Full { .. })) => self.free(),
            StartError::Recovery(RecoveryError::Fold(_) | RecoveryError::Store(_))
                if !self.is_calm && self.plan.rows.write_fails + self.plan.rows.read_fails > 0 =>
            {
                self.fault("start_failed");
            }
            _ => {
                let what = format!("the engine does not start: {error}");
                return self.oracle.fail("STA-1", what);
            }
        }
        self.after(SECOND, Event::Start);
    }

    // What a start does with rows in a folder that end before the base: they are moved aside.
    fn fit_rows(&mut self) {
        if !self.node.has_base {
            return;
        }
        let disk: Arc<dyn Disk> = Arc::new(self.node.disk.image());
        let Ok(looked) = Journal::look(disk, &Node::journal_dir()) else {
            return;
        };
        let (base, end) = (looked.journal.base(), looked.journal.end());
        let base = base.map_or(0, Lsn::get);
        let fit = check_base(self.node.rows.as_ref(), base, end.get());
        if matches!(fit, Ok(Fit::OlderThanBase)) {
            self.lose_rows();
        }
    }

    fn lose_rows(&mut self) {
        if let Ok(rows) = self.node.rows.after_loss() {
            self.node.rows = rows;
        }
    }

    pub(super) fn tell_time(&self) {
        let shown = self.wall().saturating_add(self.node.leapt);
        self.node.clock.store(shown, Ordering::Relaxed);
    }

    /// The engine cannot go on where it stands: its process ends.
    pub(super) fn halted(&mut self, halt: &Halt) {
        match halt {
            Halt::Journal(_) if self.node.disk.is_dead() => {}
            Halt::Journal(_) => self.saw(Sight::SyncFailed),
            Halt::Stuck => {
                self.saw(Sight::StuckOnFull);
                self.free();
            }
            Halt::Fold(_) if !self.is_calm => self.fault("refill_failed"),
            _ => {
                let what = format!("the engine halts: {halt}");
                return self.oracle.fail("STA-1", what);
            }
        }
        self.end_process();
    }

    /// The process ends, with or without the power.
    pub(super) fn end_process(&mut self) {
        self.node.crashes += 1;
        self.fault("crash");
        if self.node.disk.is_dead() {
            self.saw(Sight::MidwayCrash);
        }
        self.count_engine();
        self.node.engine = None;
        self.hang_up_all();
        if self.is_calm || self.rng.chance(self.plan.node.power) {
            self.fault("power_loss");
            self.saw(Sight::PowerLoss);
            self.node.disk.power_failed();
            match self.node.rows.after_power_failure() {
                Ok(rows) => self.node.rows = rows,
                Err(error) => self.oracle.fail("WLD-1", error.to_string()),
            }
        } else {
            self.node.disk.process_ended();
        }
        if !self.is_calm && self.rng.chance(self.plan.node.rows_lost) {
            self.fault("rows_lost");
            self.saw(Sight::RowsLost);
            self.lose_rows();
        }
        let most = if self.is_calm { SECOND } else { 8 * SECOND };
        let pause = self.rng.within(50 * MS, most);
        self.after(pause, Event::Start);
    }

    fn count_engine(&mut self) {
        if self.node.engine.is_some() {
            self.check_engine();
        }
    }

    /// Whether every till has said all it has, and the rows hold it.
    pub(super) fn is_settled(&self) -> bool {
        let Some(engine) = &self.node.engine else {
            return false;
        };
        let flushed = self.node.rows.checkpoint().unwrap_or(0);
        self.node.crashes > 0
            && !engine.has_waiting()
            && flushed >= engine.journal().end().get()
            && self.tills.iter().all(|till| till.waits_for().is_none())
    }

    /// The last judgement.
    pub(super) fn finish(&mut self) {
        self.oracle.settled();
        self.check_engine();
        let model = Model::of(&self.oracle, self.node.dropped_us);
        if let Err(broken) = compare(&model, self.node.rows.as_ref()) {
            return self.oracle.fail(broken.id, broken.what);
        }
        let Some(engine) = &self.node.engine else {
            return;
        };
        let anew = MemoryViews::new();
        let registrations = Registrations::new(engine.journal().clone(), []);
        let made = rebuild(
            engine.journal(),
            engine.facts(),
            &anew,
            &registrations,
            &mut |_| {},
        );
        match made {
            Ok(_) => {
                if let Err(broken) = same_rows(&model, self.node.rows.as_ref(), &anew) {
                    self.oracle.fail(broken.id, broken.what);
                }
            }
            Err(error) => self.oracle.fail("REP-1", format!("no rebuild: {error}")),
        }
    }
}
