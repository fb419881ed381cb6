//! What the engine counts while it runs.

mod ages;
pub(crate) mod histogram;
pub(crate) mod ingress;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::now;
use crate::figures::histogram::Histogram;

use crate::figures::ages::Ages;

use crate::figures::ingress::IngressFigures;

/// Problems that are remembered.
const PROBLEMS_MAX: usize = 32;

/// Whether rows are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum FlushState {
    /// They are.
    #[default]
    Running = 0,
    /// The disk is full; it goes on by itself when there is room.
    Full = 1,
    /// Writing fails; it is tried again.
    Failed = 2,
    /// The rows are damaged and must be rebuilt.
    Damaged = 3,
    /// What is to be committed cannot be read back from the journal; it is tried again.
    Unread = 4,
}

impl FlushState {
    /// The name in metrics and health reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Full => "disk_full",
            Self::Failed => "failed",
            Self::Damaged => "damaged",
            Self::Unread => "journal_unread",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Running => 0,
            Self::Full => 1,
            Self::Failed => 2,
            Self::Damaged => 3,
            Self::Unread => 4,
        }
    }

    const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Running,
            1 => Self::Full,
            2 => Self::Failed,
            4 => Self::Unread,
            _ => Self::Damaged,
        }
    }
}

/// Something that went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// When, in us since 1970-01-01 UTC.
    pub at_us: i64,
    /// What, in one sentence.
    pub text: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// The flush.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FlushMetrics {
    /// Whether rows are written.
    pub state: FlushState,
    /// Position up to which the rows hold every record.
    pub applied: u64,
    /// Bytes of the journal that they do not hold yet.
    pub backlog_bytes: u64,
    /// Age of the oldest event that they do not hold, in us; 0 when there is none.
    pub behind_us: u64,
    /// Rounds that wrote something.
    pub rounds: u64,
    /// Rows that were written.
    pub rows: u64,
    /// Time spent writing, in us.
    pub spent_us: u64,
}

/// Counters that many threads add to. One addition for each frame or less.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) ack: Histogram,
    pub(crate) acked: AtomicU64,
    pub(crate) ingress: Arc<IngressFigures>,
    problems: Mutex<VecDeque<Problem>>,
    flush: FlushFigures,
    pub(crate) started_at_us: i64,
}

#[derive(Debug, Default)]
struct FlushFigures {
    state: AtomicU8,
    rounds: AtomicU64,
    rows: AtomicU64,
    spent_us: AtomicU64,
    applied: AtomicU64,
    durable: AtomicU64,
    /// Since when what the rows lack has been durable.
    ages: Mutex<Ages>,
}

impl Figures {
    pub(crate) fn new() -> Self {
        Self {
            ack: Histogram::default(),
            acked: AtomicU64::new(0),
            ingress: Arc::default(),
            problems: Mutex::default(),
            flush: FlushFigures::default(),
            started_at_us: now().us(),
        }
    }

    pub(crate) fn problem(&self, text: &str, hint: &'static str) {
        let mut problems = self.problems.lock();
        if problems.len() >= PROBLEMS_MAX {
            problems.pop_back();
        }
        problems.push_front(Problem {
            at_us: now().us(),
            text: text.to_owned(),
            hint,
        });
    }

    /// Those of a start: what is durable, and up to where the rows hold it.
    pub(crate) fn since(durable: u64, applied: u64) -> Self {
        let figures = Self::new();
        figures.durable(durable);
        figures.flushed(0, applied, Duration::ZERO);
        figures
    }

    /// The journal is durable up to here.
    pub(crate) fn durable(&self, through: u64) {
        let mut ages = self.flush.ages.lock();
        self.flush.durable.store(through, Ordering::Release);
        ages.durable(through, Instant::now());
    }

    /// The rows hold everything up to here.
    pub(crate) fn flushed(&self, rows: usize, applied: u64, took: Duration) {
        let flush = &self.flush;
        flush.rounds.fetch_add(1, Ordering::Relaxed);
        flush
            .rows
            .fetch_add(u64::try_from(rows).unwrap_or(0), Ordering::Relaxed);
        flush.spent_us.fetch_add(micros(took), Ordering::Relaxed);
        let mut ages = flush.ages.lock();
        flush.applied.store(applied, Ordering::Release);
        ages.applied(applied);
    }

    /// Bytes of the journal that no flush has covered.
    pub(crate) fn uncommitted(&self) -> u64 {
        let flush = &self.flush;
        let durable = flush.durable.load(Ordering::Acquire);
        durable.saturating_sub(flush.applied.load(Ordering::Acquire))
    }

    /// Age of the oldest event that is durable and not in the rows; zero when there is none. One that waits for its
    /// decision is not in the rows, however many flushes pass it.
    pub(crate) fn lag(&self) -> Duration {
        let oldest = self.flush.ages.lock().oldest();
        oldest.map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Those of the flush, where the journal is durable up to here.
    pub(crate) fn flush_metrics(&self, durable: u64) -> FlushMetrics {
        let flush = &self.flush;
        let applied = flush.applied.load(Ordering::Acquire);
        let backlog_bytes = durable.saturating_sub(applied);
        FlushMetrics {
            state: FlushState::from_number(flush.state.load(Ordering::Acquire)),
            applied,
            backlog_bytes,
            behind_us: micros(self.lag()),
            rounds: load(&flush.rounds),
            rows: load(&flush.rows),
            spent_us: load(&flush.spent_us),
        }
    }

    /// What went wrong lately, newest first.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.problems.lock().iter().cloned().collect()
    }

    /// Sets whether rows are written. True when that is news.
    pub(crate) fn flush_state(&self, state: FlushState) -> bool {
        self.flush.state.swap(state.number(), Ordering::AcqRel) != state.number()
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
