//! The engine's machine: starts, groups, flushes, upkeep, and the end of the process.

mod judge;
mod turns;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use till_protocol::time::Timestamp;
use till_runtime::testing::{Halt, Stepped, SteppedParts};
use till_runtime::{Config, JoinError, Parts, RecoveryError, SharedConfig, StartError};
use till_storage::cluster::NodeId;
use till_storage::disk::Disk;
use till_storage::journal::{Journal, Lsn, OpenError};
use till_storage::views::{Fit, Views as _, check_base, reach};

use super::member::Member;
use super::{Event, World};
use crate::coverage::Sight;
use crate::disk::WorldDisk;
use crate::mistake::is_planted;
use crate::plan::{HOUR, MS, Plan, SECOND};
use crate::rng::Rng;
use crate::rows::WorldRows;

/// Where the engine keeps its things.
const DIR: &str = "/engine";

/// The machine.
pub(super) struct Node {
    pub(super) engine: Option<Stepped>,
    /// What makes it one of several.
    pub(super) member: Option<Member>,
    /// Its process stands still until then.
    pub(super) frozen_until: u64,
    /// It does not start before.
    pub(super) down_until: u64,
    pub(super) disk: WorldDisk,
    pub(super) rows: Arc<WorldRows>,
    config: Config,
    /// What its clock shows.
    clock: Arc<AtomicI64>,
    /// By how much that is wrong.
    pub(super) leapt: i64,
    /// What its monotonic clock shows, in us.
    mono: Arc<AtomicU64>,
    /// Where the last two groups ended.
    ends: [u64; 2],
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
    /// How often its rows held all that its journal did.
    levels: u64,
    /// Reads that failed while it started.
    pub(super) unread_at_start: u64,
    /// Starts in a row that could not read something.
    pub(super) starts_unread: u32,
    /// Its journal was found to be another than it wrote.
    pub(super) is_unlike: bool,
    /// Where the journal ended when something was decided again.
    pub(super) retried_at: Option<Lsn>,
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
        // A round begins when the world wants one.
        config.flush_interval = Duration::from_secs(u64::from(u32::MAX));
        config.shared = plan.cluster.map(|cluster| SharedConfig {
            lease: Duration::from_micros(cluster.lease),
            ..SharedConfig::default()
        });
        Self {
            engine: None,
            member: None,
            frozen_until: 0,
            down_until: 0,
            disk: WorldDisk::new(rng.fork(), plan.disk),
            rows: WorldRows::new(rng.fork(), plan.rows),
            config,
            clock: Arc::default(),
            leapt: 0,
            mono: Arc::default(),
            ends: [0; 2],
            crashes: 0,
            is_committing: false,
            is_flushing: false,
            flushed_at: 0,
            is_writing: false,
            has_base: false,
            dropped_us: i64::MIN,
            segments: 0,
            is_slow: false,
            levels: 0,
            unread_at_start: 0,
            starts_unread: 0,
            is_unlike: false,
            retried_at: None,
        }
    }

    pub(super) fn calm(&mut self) {
        self.disk.calm();
        self.rows.calm();
    }

    /// The disk is gone, and an empty one is in its place.
    pub(super) fn burn(&mut self, rng: &mut Rng) {
        self.disk = self.disk.replaced(rng.fork());
        self.ends = [0; 2];
    }

    pub(super) fn journal_dir() -> PathBuf {
        PathBuf::from(DIR).join("journal")
    }

    /// Whether devices find somebody there.
    pub(super) fn is_reachable(&self) -> bool {
        let is_stopping = self
            .member
            .as_ref()
            .is_some_and(|member| member.is_stopping);
        self.engine.is_some() && !is_stopping
    }

    /// How it stands, in words.
    pub(super) fn words(&self) -> String {
        let Some(engine) = &self.engine else {
            return "the engine is down".to_owned();
        };
        format!(
            "the engine holds {:?} frames, journal at {}, rows at {:?}, serves {:?}, marked {}, alive {}",
            engine.frames_held(),
            engine.journal().end(),
            self.rows.checkpoint(),
            engine.served(),
            engine.is_written(),
            engine.is_alive(),
        )
    }

    /// Where the last group that was told begins, or before it.
    pub(super) fn last_group(&self) -> u64 {
        self.ends[0]
    }

    fn parts(&mut self, rng: &mut Rng) -> SteppedParts {
        let (clock, mono) = (Arc::clone(&self.clock), Arc::clone(&self.mono));
        let mut parts = Parts {
            disk: Arc::new(self.disk.clone()),
            on_poison: Arc::new(|_| {}),
            ..Parts::default()
        };
        let mut me = NodeId::from_bytes([0; 16]);
        let mut address = String::new();
        match &mut self.member {
            Some(member) => {
                (me, address) = member.born(rng);
                parts.shared = Some(Arc::new(member.way.clone()));
            }
            None => parts.views = Some(Arc::<WorldRows>::clone(&self.rows)),
        }
        SteppedParts {
            parts,
            clock: Arc::new(move || Timestamp::from_us(clock.load(Ordering::Relaxed))),
            monotonic: Arc::new(move || Duration::from_micros(mono.load(Ordering::Relaxed))),
            me,
            address,
            screen: [7; 32],
        }
    }
}

impl World {
    /// The process starts.
    pub(super) fn start(&mut self, n: usize) {
        if self.nodes[n].engine.is_some() {
            return;
        }
        let down_until = self.nodes[n].down_until;
        if self.now < down_until && !self.is_calm {
            return self.at(down_until, Event::Start(n));
        }
        self.advance_time(n);
        self.fit_rows(n);
        self.look_at_rot(n);
        let Self { nodes, rng, .. } = self;
        let parts = nodes[n].parts(rng);
        let unread = self.nodes[n].disk.counts().reads_failed;
        let started = Stepped::start(self.nodes[n].config.clone(), parts);
        self.note_unread(n, unread, started.is_ok());
        match started {
            Ok(engine) => self.started(n, engine),
            Err(error) => self.not_started(n, &error),
        }
    }

    fn started(&mut self, n: usize, engine: Stepped) {
        if self.nodes[n].disk.is_dead() {
            drop(engine);
            return self.end_process(n);
        }
        let report = engine.report();
        let (is_cut, clean, new) = (report.cut.is_some(), report.closed_cleanly, report.is_new);
        let (replayed, rebuilt) = (report.replayed, report.rebuilt.is_some());
        let unapplied = report.unapplied.len();
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
        if unapplied > 0 && !self.plan.is_excused() {
            let what = format!("{unapplied} records fit nowhere");
            self.oracle.fail("REP-1", what);
        }
        let end = engine.journal().end().get();
        match &self.nodes[n].member {
            None => {
                self.look_at_loss(n, Lsn::new(end));
                self.oracle.ends_at(end);
                self.oracle.counts_rebuilt();
            }
            Some(member) if member.read_upto > end => {
                let what = format!("durable records of engine {n} are gone behind {end}");
                self.oracle.fail("ACK-1", what);
            }
            Some(_) => {}
        }
        self.nodes[n].segments = engine.journal().segments().len();
        self.nodes[n].engine = Some(engine);
        self.nodes[n].is_committing = false;
        self.nodes[n].is_flushing = false;
        self.nodes[n].flushed_at = 0;
        self.nodes[n].is_writing = false;
        self.nodes[n].frozen_until = 0;
        self.joined(n);
        self.engine_moved(n);
        self.want_flush(n, self.plan.flush_every);
    }

    fn not_started(&mut self, n: usize, error: &StartError) {
        let died = self.nodes[n].disk.is_dead();
        if died {
            return self.end_process(n);
        }
        let lies = self.plan.is_excused();
        match error {
            error if self.is_stray_start(n, error) => {
                self.saw(Sight::StrayFound);
                self.is_over = true;
                return;
            }
            StartError::Recovery(RecoveryError::LostEnd(_)) if lies => {
                self.saw(Sight::LostEnd);
                // A base that holds what the journal has lost is found, and nothing goes on.
                if matches!(reach(self.nodes[n].rows.as_ref()), Ok(0)) {
                    self.is_over = true;
                    return;
                }
                // What an operator does otherwise: the rows are rebuilt from what is left.
                self.lose_rows(n);
            }
            StartError::Recovery(RecoveryError::Journal(
                OpenError::Damaged(_) | OpenError::Base(_) | OpenError::Missing { .. },
            )) if lies => {
                // It is found, and nothing goes on: that is all that can be asked.
                self.saw(Sight::LostEnd);
                self.is_over = true;
                return;
            }
            StartError::Store(_) | StartError::Join(JoinError::Name(_) | JoinError::Chain(_))
                if !self.is_calm =>
            {
                self.fault("start_failed");
            }
            StartError::Join(JoinError::Journal(OpenError::Full { .. })) => self.free(n),
            StartError::Join(JoinError::Journal(OpenError::Io { .. }))
            | StartError::Recovery(RecoveryError::Journal(OpenError::Io { .. }))
            | StartError::Recovery(RecoveryError::Commit(_))
                if !self.is_calm =>
            {
                self.fault("start_failed");
            }
            StartError::Recovery(RecoveryError::Journal(OpenError::Full { .. })) => self.free(n),
            StartError::Recovery(RecoveryError::Fold(_) | RecoveryError::Store(_))
                if !self.is_calm && self.plan.rows.fail() =>
            {
                self.fault("start_failed");
            }
            error if self.is_unread(error) => self.fault("start_failed"),
            _ => {
                let what = format!("the engine does not start: {error}");
                return self.oracle.fail("STA-1", what);
            }
        }
        self.after(SECOND, Event::Start(n));
    }

    // What a start does with rows in a folder that end before the base: they are moved aside.
    fn fit_rows(&mut self, n: usize) {
        if !self.nodes[n].has_base {
            return;
        }
        let disk: Arc<dyn Disk> = Arc::new(self.nodes[n].disk.image());
        let Ok(looked) = Journal::look(disk, &Node::journal_dir()) else {
            return;
        };
        let (base, end) = (looked.journal.base(), looked.journal.end());
        let base = base.map_or(0, Lsn::get);
        let fit = check_base(self.nodes[n].rows.as_ref(), base, end.get());
        if matches!(fit, Ok(Fit::OlderThanBase)) {
            self.lose_rows(n);
        }
    }

    fn lose_rows(&mut self, n: usize) {
        if let Ok(rows) = self.nodes[n].rows.after_loss() {
            self.nodes[n].rows = rows;
        }
    }

    pub(super) fn advance_time(&self, n: usize) {
        let shown = self.wall().saturating_add(self.nodes[n].leapt);
        let node = &self.nodes[n];
        node.clock.store(shown, Ordering::Relaxed);
        let rate = node.member.as_ref().map_or(1_000, |member| member.rate);
        let mut mono = self.now * rate / 1_000;
        if is_planted("lease-by-wall-clock") {
            mono = mono
                .saturating_add(30 * HOUR)
                .saturating_add_signed(node.leapt);
        }
        node.mono.store(mono, Ordering::Relaxed);
    }

    /// The engine cannot go on where it stands: its process ends.
    pub(super) fn halted(&mut self, n: usize, halt: &Halt) {
        match halt {
            Halt::Journal(_) if self.nodes[n].disk.is_dead() => {}
            Halt::Journal(_) => self.saw(Sight::SyncFailed),
            Halt::Stuck => {
                self.saw(Sight::StuckOnFull);
                self.free(n);
            }
            Halt::Fold(_) if !self.is_calm || self.has_strayed(n) => self.fault("refill_failed"),
            _ => {
                let what = format!("the engine halts: {halt}");
                return self.oracle.fail("STA-1", what);
            }
        }
        self.end_process(n);
    }

    /// The process ends, with or without the power.
    pub(super) fn end_process(&mut self, n: usize) {
        self.nodes[n].crashes += 1;
        self.fault("crash");
        if self.nodes[n].disk.is_dead() {
            self.saw(Sight::MidwayCrash);
        }
        self.count_engine(n);
        let engine = self.nodes[n].engine.as_ref();
        let end = engine.map(|engine| engine.journal().end());
        if end.is_some() && self.nodes[n].retried_at.take() == end {
            self.saw(Sight::RetryLost);
        }
        self.member_died(n);
        self.nodes[n].engine = None;
        self.hang_up_all(n);
        if self.is_calm || self.rng.chance(self.plan.node.power) {
            self.fault("power_loss");
            self.saw(Sight::PowerLoss);
            self.nodes[n].disk.power_failed();
            match self.nodes[n].rows.after_power_failure() {
                Ok(rows) => self.nodes[n].rows = rows,
                Err(error) => self.oracle.fail("WLD-1", error.to_string()),
            }
        } else {
            self.nodes[n].disk.process_ended();
        }
        if !self.is_calm && self.rng.chance(self.plan.node.rows_lost) {
            self.fault("rows_lost");
            self.saw(Sight::RowsLost);
            self.lose_rows(n);
        }
        let most = if self.is_calm { SECOND } else { 8 * SECOND };
        let pause = self.rng.within(50 * MS, most);
        self.after(pause, Event::Start(n));
    }

    fn count_engine(&mut self, n: usize) {
        if self.nodes[n].engine.is_some() {
            // What it has decided last may end with it.
            self.oracle.counts_rebuilt();
            self.check_engine(n);
        }
    }

    /// Whether every till has said all it has, and the rows hold it.
    pub(super) fn is_quiet(&self) -> bool {
        if self.shared.is_some() {
            return self.is_shared_quiet();
        }
        let node = &self.nodes[0];
        let Some(engine) = &node.engine else {
            return false;
        };
        let flushed = node.rows.checkpoint().unwrap_or(0);
        node.crashes > 0
            && !engine.has_waiting()
            && flushed >= engine.journal().end().get()
            && self.tills.iter().all(|till| till.waits_for().is_none())
    }
}
