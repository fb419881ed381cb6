//! The handle of a running engine: its addresses, its figures, flush, questions, drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ractor::ActorRef;
use thiserror::Error;
use till_embedded::EmbeddedViews;
use till_protocol::code::Reason;
use till_storage::facts::Facts;
use till_storage::journal::{CommitError, CommitSummary, Committer};

use super::Shared;
use crate::commit::Companion;
use crate::config::Config;
use crate::data::StartReport;
use crate::gateway::Gateway;
use crate::offline::{RetryReport, entries, original};
use crate::published::Figures;
use crate::shard_actor::Message;
use crate::supervisor::Order;

/// Longest wait of a flush before it is an error: a disk that is full for so long.
const FLUSH_MAX: Duration = Duration::from_secs(30);

/// How long batches that were admitted may take to become durable while the engine drains.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Rows could not be brought up to date.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("rows are at position {reached} of {wanted} after {} s: {}", FLUSH_MAX.as_secs(), if *.full { "the disk is full" } else { "the flush does not keep up" })]
pub struct FlushError {
    /// How far they are.
    pub reached: u64,
    /// How far they were to be.
    pub wanted: u64,
    /// The disk is full.
    pub full: bool,
}

/// What a running engine is made of.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) committer: Committer<Companion>,
    pub(super) flusher: JoinHandle<()>,
    pub(super) supervisor: ActorRef<Order>,
    pub(super) workers: tokio::runtime::Runtime,
    pub(super) gateway: Gateway,
    pub(super) background: Vec<tokio::task::JoinHandle<()>>,
    pub(super) identity: Option<PathBuf>,
    pub(super) report: StartReport,
    pub(super) lock: std::fs::File,
}

/// A running engine.
#[derive(Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    quic: SocketAddr,
    identity: Option<PathBuf>,
    report: StartReport,
    running: Mutex<Option<Running>>,
}

impl Handle {
    pub(super) fn new(running: Running) -> Self {
        Self {
            shared: Arc::clone(&running.shared),
            quic: running.gateway.address(),
            identity: running.identity.clone(),
            report: running.report.clone(),
            running: Mutex::new(Some(running)),
        }
    }

    /// Where devices connect.
    pub fn quic(&self) -> SocketAddr {
        self.quic
    }

    /// PEM file of an identity that may speak for every terminal; an engine with certificates of its own has none.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// What the start found.
    pub fn report(&self) -> &StartReport {
        &self.report
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The rows.
    pub fn views(&self) -> &EmbeddedViews {
        &self.shared.views
    }

    /// The facts.
    pub fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    /// The figures as of now.
    pub fn figures(&self) -> Figures {
        let mut figures = self.shared.published.figures();
        for (shard, permits) in figures.shards.iter_mut().zip(&self.shared.permits) {
            let max = u64::try_from(self.shared.permits_each()).unwrap_or(u64::MAX);
            let free = u64::try_from(permits.available_permits()).unwrap_or(u64::MAX);
            shard.queue_kib_max = max;
            shard.queued_kib = max.saturating_sub(free);
        }
        figures
    }

    /// The committer's counters.
    pub fn commit(&self) -> Option<CommitSummary> {
        self.shared
            .commit
            .lock()
            .as_ref()
            .map(|stats| stats.summary())
    }

    /// Where the durable journal ends.
    pub fn durable(&self) -> u64 {
        self.shared.durable.load(Ordering::Acquire)
    }

    /// Everything below it is in the rows.
    pub fn checkpoint(&self) -> u64 {
        self.shared.checkpoint()
    }

    /// Rows wait for room on the disk.
    pub fn views_full(&self) -> bool {
        self.shared.views_full()
    }

    /// The engine takes no new sessions.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Acquire)
    }

    /// What a person should know of, oldest first: (us since 1970-01-01 UTC, text).
    pub fn problems(&self) -> Vec<(i64, String)> {
        self.shared.problems()
    }

    /// Waits until the rows hold everything that is durable now; returns that position. Blocks: not for async code.
    ///
    /// # Errors
    /// [`FlushError`] when they do not within half a minute.
    pub fn flush(&self) -> Result<u64, FlushError> {
        catch_up(&self.shared)
    }

    /// Decides every quarantined event again.
    ///
    /// # Errors
    /// Says in words what could not be read.
    pub async fn retry_quarantine(&self) -> Result<RetryReport, String> {
        let mut report = RetryReport::default();
        for key in entries(self.shared.views.as_ref())? {
            let record = original(&self.shared.facts, &key)?;
            let store = till_protocol::id::TerminalId::from_u64(key.terminal)
                .map_err(|error| error.to_string())?
                .store();
            let actor = self
                .shared
                .actor(self.shared.route(store))
                .ok_or("the store's shard is parked")?;
            let decided = ractor::call!(actor, Message::Retry, key, Box::new(record));
            report.count(decided.map_err(|error| error.to_string())?);
        }
        Ok(report)
    }

    /// Stops in good order: no new sessions, what was admitted becomes durable and is acknowledged, rows are written, the
    /// journal is closed. A second call does nothing.
    ///
    /// # Errors
    /// [`CommitError`] when the journal could not be closed; what was acknowledged is durable all the same.
    pub async fn drain(&self) -> Result<(), CommitError> {
        let Some(running) = self.running.lock().take() else {
            return Ok(());
        };
        let Running {
            shared,
            committer,
            flusher,
            supervisor,
            workers,
            gateway,
            background,
            lock,
            ..
        } = running;
        shared.draining.store(true, Ordering::Release);
        shared.drained.notify_waiters();
        gateway.stop_accepting(Reason::Draining).await;
        settle(&shared).await;
        for task in background {
            task.abort();
        }
        let flushing = Arc::clone(&shared);
        let flushed = tokio::task::spawn_blocking(move || catch_up(&flushing)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "rows are behind; the next start applies the rest from the journal");
        }
        gateway.close().await;
        for shard in 0..shared.shards() {
            shared.set_actor(shard, None);
        }
        supervisor.stop(None);
        let closed = tokio::task::spawn_blocking(move || {
            workers.shutdown_timeout(SETTLE_MAX);
            let closed = committer.close();
            let _panicked = flusher.join();
            closed
        })
        .await
        .map_err(|error| CommitError::Thread(error.to_string()))?;
        if let Err(error) = till_storage::views::Views::sync(shared.views.as_ref()) {
            tracing::warn!(%error, "rows could not be synced; the next start applies the rest from the journal");
        }
        drop(lock);
        closed
    }
}

/// Waits until every batch that was admitted has been answered.
async fn settle(shared: &Shared) {
    let deadline = Instant::now() + SETTLE_MAX;
    let all = shared.permits_each();
    while shared
        .permits
        .iter()
        .any(|permits| permits.available_permits() < all)
    {
        if Instant::now() > deadline {
            tracing::warn!("batches were not answered in time; their devices send them again");
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Flushes until the rows hold everything that is durable now.
fn catch_up(shared: &Shared) -> Result<u64, FlushError> {
    let wanted = shared.durable.load(Ordering::Acquire);
    let deadline = Instant::now() + FLUSH_MAX;
    while shared.checkpoint() < wanted {
        if Instant::now() > deadline {
            return Err(FlushError {
                reached: shared.checkpoint(),
                wanted,
                full: shared.views_full(),
            });
        }
        shared.ask_for_rows();
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(wanted)
}
