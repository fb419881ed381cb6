//! What nobody waits for: indexes of sealed segments, and segments that retention drops.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{RecvTimeoutError, Sender, bounded};
use thiserror::Error;
use till_embedded::{EmbeddedConfig, EmbeddedViews};
use till_storage::base::{FoldError, Pace};
use till_storage::journal::Lsn;
use till_storage::memory::MemoryViews;

use crate::clock::Monotonic;
use crate::cluster::node::Cluster;
use crate::lifecycle::engine::Engine;
use crate::lifecycle::recovery::RecoveryError;
use crate::publish::door::FlushError;

/// Time between two looks at what the journal has by now. A late count that asks the facts has their index made up to the
/// present first, on the thread of its shard: it finds little to do. Under a flood of 900,000 events/s that was 100 ms for each
/// such count, and every till of the shard waited.
const LOOK: Duration = Duration::from_millis(250);
/// Time until an index that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Time between two looks for segments that are old enough to go, and whether that is worth a base.
const RETENTION: Duration = Duration::from_secs(600);
/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Why no segment was dropped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetentionError {
    /// The rows must hold what is dropped, and do not.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The base could not be made.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// There is no room for the rows that the base is made from.
    #[error(transparent)]
    Rows(#[from] till_embedded::OpenError),
    /// What an earlier run left could not be removed.
    #[error(transparent)]
    Quarantined(#[from] RecoveryError),
}

/// Makes indexes, and drops what is old.
pub(crate) struct Upkeep {
    engine: Arc<Engine>,
    clock: Monotonic,
    started: Duration,
    /// Place up to which indexes are made.
    indexed: Lsn,
    /// When one could not be written.
    failed: Option<Duration>,
    /// The first look comes with the start: an engine that is started every day would never drop anything otherwise.
    looked: Option<Duration>,
    pace: Pace,
}

/// The thread and the way to end it.
#[derive(Debug)]
pub(crate) struct Upkeeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Upkeeper {
    /// Ends the thread after what it is doing.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread for indexes and retention failed");
        }
    }
}

impl Upkeep {
    pub(crate) fn new(engine: Arc<Engine>, clock: Monotonic) -> Self {
        Self {
            engine,
            started: clock(),
            clock,
            indexed: Lsn::ZERO,
            failed: None,
            looked: None,
            pace: Pace::default(),
        }
    }

    pub(crate) fn start(mut self) -> std::io::Result<Upkeeper> {
        let (stop, stopped) = bounded::<()>(1);
        let thread = std::thread::Builder::new()
            .name("upkeep".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    self.turn();
                }
            })?;
        Ok(Upkeeper { stop, thread })
    }

    /// One look at all of it. False: an index or a segment is left for the next one.
    pub(crate) fn turn(&mut self) -> bool {
        let has_dropped = self.drop_committed();
        let has_indexed = self.index();
        self.retain();
        has_dropped && has_indexed
    }

    fn drop_committed(&self) -> bool {
        let Some(cluster) = self.engine.row_backend.cluster() else {
            return true;
        };
        let dropped = drop_committed(&self.engine, cluster);
        if let Err(error) = &dropped {
            tracing::warn!(%error, "segments that are in the shared store stay for now");
        }
        dropped.is_ok()
    }

    fn index(&mut self) -> bool {
        let (now, end) = ((self.clock)(), self.engine.journal.end());
        let is_soon = |at: Duration| now.saturating_sub(at) < AGAIN;
        if end == self.indexed || self.failed.is_some_and(is_soon) {
            return self.failed.is_none();
        }
        match self.engine.facts.catch_up() {
            Ok(_) => (self.indexed, self.failed) = (end, None),
            Err(error) => match self.failed.replace(now) {
                Some(_) => tracing::debug!(%error, "still without an index"),
                None => {
                    tracing::warn!(%error, "an index is missing on the disk; it is tried again")
                }
            },
        }
        self.failed.is_none()
    }

    fn retain(&mut self) {
        let now = (self.clock)();
        let is_due = |at: Duration| now.saturating_sub(at) >= RETENTION;
        if self.engine.config.retention_days.is_none() || !self.looked.is_none_or(is_due) {
            return;
        }
        self.looked = Some(now);
        let at = now.saturating_sub(self.started);
        if let Err(error) = retain(&self.engine, &mut self.pace, at) {
            tracing::warn!(%error, "old segments stay for now");
        }
    }
}

// Drops the segments whose every record was received long enough ago, once that is worth a base. Where several engines share a
// store, they go when what they hold is committed and in the rows.
fn retain(engine: &Engine, pace: &mut Pace, at: Duration) -> Result<(), RetentionError> {
    let (Some(days), None) = (engine.config.retention_days, engine.row_backend.cluster()) else {
        return Ok(());
    };
    let before = engine.now().us().saturating_sub(i64::from(days) * DAY_US);
    let found = till_storage::base::old(&engine.facts, before);
    let Some(old) = found.map_err(FoldError::from)? else {
        return Ok(());
    };
    let is_due = pace.is_due(&engine.journal, old, at);
    if is_due.map_err(FoldError::from)? {
        // One that failed is tried again with the next look.
        let ran = std::mem::take(pace);
        retain_before(engine, before)?;
        *pace = ran;
    }
    Ok(())
}

/// Drops the segments whose every record was received before an instant. Gives the position at which the facts start
/// afterwards; `None` when nothing was dropped. One run at a time: another one waits.
pub(crate) fn retain_before(
    engine: &Engine,
    received_before_us: i64,
) -> Result<Option<Lsn>, RetentionError> {
    if let Some(cluster) = engine.row_backend.cluster() {
        return drop_committed(engine, cluster);
    }
    engine.waiting.may_drop()?;
    let _alone = engine.retention.lock();
    // Rows that end before the base would have to be rebuilt at the next start: the base is made where they end.
    let upto = engine.flush.flush(Duration::from_secs(60))?;
    let dir = engine.config.data_dir.join("rows.base");
    let clean = || std::fs::remove_dir_all(&dir);
    if dir.exists() {
        clean().map_err(|cause| RecoveryError::Io {
            doing: "removing",
            path: dir.clone(),
            cause,
        })?;
    }
    let scratch = EmbeddedViews::open(EmbeddedConfig::new(&dir))?;
    let kept = till_storage::base::retain(
        &engine.journal,
        &engine.facts,
        &scratch,
        received_before_us,
        Lsn::new(upto),
        &mut |_| {},
    );
    drop(scratch);
    if let Err(error) = clean() {
        tracing::warn!(%error, "a folder of a finished retention run stays until the next one");
    }
    Ok(kept?)
}

/// Drops the segments of one of several engines whose every record is in the rows: they are facts of the shared store, and
/// nothing has to stand in for them here. How long facts stay is for that store to say.
fn drop_committed(engine: &Engine, cluster: &Cluster) -> Result<Option<Lsn>, RetentionError> {
    let _alone = engine.retention.lock();
    let spent_upto = cluster.spent_upto();
    let segments = engine.journal.segments();
    let spent = segments
        .iter()
        .filter(|one| one.sealed && one.end <= spent_upto);
    let Some(end) = spent.map(|one| one.end).max() else {
        return Ok(None);
    };
    till_storage::base::write(&engine.journal, &MemoryViews::new(), end)?;
    let dropped = engine.journal.drop_before(end);
    dropped.map_err(FoldError::from)?;
    Ok(Some(end))
}
