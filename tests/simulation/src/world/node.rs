//! The engine's machine: starts, groups, flushes, upkeep, and the end of the process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use till_protocol::time::Timestamp;
use till_runtime::{Config, Flushed, Halt, RecoveryError, StartError, Stepped, SteppedParts};
use till_storage::disk::Disk;
use till_storage::journal::{Attempt, Journal, Lsn, OpenError};
use till_storage::memory::MemoryViews;
use till_storage::rebuild::{Registrations, rebuild};
use till_storage::views::{Fit, Views as _, WriteViews, check_base};

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
    calm: bool,
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
            calm: false,
        }
    }

    pub(super) fn calm(&mut self) {
        self.disk.calm();
        self.rows.calm();
        self.calm = true;
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
                watch.loose.get_or_insert(through.get());
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
            StartError::Recovery(RecoveryError::Journal(OpenError::Damaged(_))) if lies => {
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

    /// The engine has done something: what is durable is read, what it says goes out, what waits gets its turn.
    pub(super) fn engine_moved(&mut self) {
        if self.node.disk.is_dead() {
            return self.end_process();
        }
        self.read_durable();
        self.speak();
        let waits = self.node.engine.as_ref().is_some_and(Stepped::has_waiting);
        if waits && !std::mem::replace(&mut self.node.is_committing, true) {
            let pause = self.sync_takes();
            self.after(pause, Event::Commit);
        }
    }

    fn sync_takes(&mut self) -> u64 {
        if self.is_calm {
            return MS;
        }
        if self.rng.chance(self.plan.node.slow_sync) {
            self.fault("slow_sync");
            return self.rng.within(SECOND, 6 * SECOND);
        }
        self.rng.within(100, 12 * MS)
    }

    // Reads what is durable now, as anyone could after a loss of power.
    fn read_durable(&mut self) {
        if let Some(through) = self.node.watch().loose {
            let what = format!("the group up to {through} counts as durable and would not survive");
            return self.oracle.fail("ACK-1", what);
        }
        let Some(engine) = &self.node.engine else {
            return;
        };
        let end = engine.journal().end();
        let from = Lsn::new(self.oracle.read_upto);
        if end <= from {
            return;
        }
        for item in engine.journal().records_between(from, end) {
            match item {
                Ok((place, record)) => self.oracle.durable(place.get(), &record),
                Err(error) => {
                    let what = format!("the journal cannot be read: {error}");
                    return self.oracle.fail("JRN-1", what);
                }
            }
        }
        self.oracle.read_upto = end.get();
        let segments = engine.journal().segments().len();
        if segments > self.node.segments {
            self.node.segments = segments;
            self.coverage.saw(Sight::Rotated);
            let pause = self.rng.within(MS, 2 * SECOND);
            self.after(pause, Event::Upkeep);
        }
    }

    /// The journal's turn.
    pub(super) fn commit(&mut self) {
        self.node.is_committing = false;
        self.tell_time();
        let Some(engine) = &mut self.node.engine else {
            return;
        };
        match engine.commit() {
            Ok(Attempt::Done) => {
                if std::mem::take(&mut self.node.is_slow) {
                    self.saw(Sight::RoomAgain);
                }
            }
            Ok(Attempt::Full { .. }) => {
                self.saw(Sight::DiskFull);
                self.node.is_slow = true;
                self.node.is_committing = true;
                self.after(250 * MS, Event::Commit);
                return self.engine_moved();
            }
            Err(halt) => return self.halted(&halt),
        }
        self.engine_moved();
        let end = self
            .node
            .engine
            .as_ref()
            .map_or(0, |e| e.journal().end().get());
        if end > self.node.flushed_at {
            self.want_flush(self.plan.flush_every);
        }
        self.want_write();
        let conns: Vec<u64> = self.conns.keys().copied().collect();
        for conn in conns {
            self.take_in(conn);
        }
        self.check_engine();
    }

    fn check_engine(&mut self) {
        let Some(engine) = &mut self.node.engine else {
            return;
        };
        let counters = engine.counters();
        let (held, most) = engine.frames_held();
        let broken = engine.violations();
        if !counters.adds_up() {
            self.oracle.fail("CNT-1", format!("{counters:?}"));
        }
        if held > most {
            let what = format!("{held} frames are held, and {most} may be");
            self.oracle.fail("LIM-1", what);
        }
        if let (Some((id, times)), false) = (broken.first(), self.plan.lies) {
            let what = format!(
                "the engine found it broken {times} times: {}",
                id.sentence()
            );
            self.oracle.fail(id.id(), what);
        }
        for (seen, sight) in [
            (counters.passivations, Sight::Passivated),
            (counters.activations, Sight::Activated),
            (counters.counts_from_facts, Sight::LateFromFacts),
            (counters.duplicate, Sight::Known),
            (counters.quarantined, Sight::Conflict),
        ] {
            if seen > 0 {
                self.saw(sight);
            }
        }
    }

    pub(super) fn want_flush(&mut self, pause: u64) {
        if !std::mem::replace(&mut self.node.is_flushing, true) {
            self.after(pause, Event::Flush);
        }
    }

    fn want_write(&mut self) {
        if !std::mem::replace(&mut self.node.is_writing, true) {
            let pause = if self.is_calm {
                MS
            } else {
                self.rng.within(MS, 60 * MS)
            };
            self.after(pause, Event::Write);
        }
    }

    pub(super) fn flush(&mut self) {
        self.node.is_flushing = false;
        self.tell_time();
        let Some(engine) = &mut self.node.engine else {
            return;
        };
        self.node.flushed_at = engine.journal().end().get();
        if let Err(halt) = engine.begin_flush() {
            return self.halted(&halt);
        }
        self.engine_moved();
    }

    pub(super) fn write_rows(&mut self) {
        self.node.is_writing = false;
        let Some(engine) = &mut self.node.engine else {
            return;
        };
        match engine.write_rows() {
            Ok(Flushed::Upto(_)) => {
                if self.rng.one_in(3) && self.node.rows.sync().is_err() {
                    self.fault("rows_not_synced");
                }
                // Devices that were held back go on.
                let conns: Vec<u64> = self.conns.keys().copied().collect();
                for conn in conns {
                    self.take_in(conn);
                }
            }
            Ok(Flushed::Idle | Flushed::Waiting) => {}
            Err(_) => {
                self.node.is_writing = true;
                self.after(250 * MS, Event::Write);
            }
        }
        self.engine_moved();
    }

    /// Indexes of sealed segments, and segments that are old enough to go.
    pub(super) fn upkeep(&mut self) {
        self.tell_time();
        let shown = self.wall() + self.node.leapt;
        let Some(engine) = &mut self.node.engine else {
            return;
        };
        if engine.keep_up().is_err() {
            self.fault("index_unwritten");
        } else if let Some(keep) = self.plan.retention {
            let before = shown.saturating_sub_unsigned(keep);
            let scratch = MemoryViews::new();
            match engine.retain_before(before, &scratch) {
                Ok(Some(upto)) => {
                    self.node.has_base = true;
                    self.node.segments = engine.journal().segments().len();
                    let log = self.oracle.log.iter();
                    let gone = log.filter(|entry| entry.place < upto.get());
                    let truths = gone.flat_map(|entry| entry.events.iter());
                    let at = truths.filter_map(|(_, _, truth)| *truth);
                    let newest = at.map(|truth| self.oracle.truths[truth].at).max();
                    let dropped = self.node.dropped_us.max(newest.unwrap_or(i64::MIN));
                    self.node.dropped_us = dropped;
                    self.saw(Sight::Retained);
                }
                Ok(None) => {}
                Err(_) => self.fault("retention_failed"),
            }
        }
        self.engine_moved();
    }

    /// The engine cannot go on where it stands: its process ends.
    pub(super) fn halted(&mut self, halt: &Halt) {
        match halt {
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
                if let Err(broken) = same_rows(self.node.rows.as_ref(), &anew) {
                    self.oracle.fail(broken.id, broken.what);
                }
            }
            Err(error) => self.oracle.fail("REP-1", format!("no rebuild: {error}")),
        }
    }
}
