//! The start of an engine that is one of several: its journal, its name, its threads.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use till_storage::cluster::{NodeId, SharedStore};
use till_storage::disk::Disk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{Journal, JournalConfig, Lsn, OpenError, Writer};

use super::backlog::{CommittedLsnFile, Tender};
use super::work::WORKERS;
use super::{Cluster, ClusterStanding, Inboxes, Monotonic, clock, identity, leaver, work};
use crate::chain::ChainError;
use crate::clock::now;
use crate::config::SharedConfig;
use crate::engine::Engine;
use crate::recovery::StartReport;

/// An engine's own part of a cluster, opened.
pub(crate) struct Joined {
    pub(crate) journal: Journal,
    pub(crate) writer: Writer,
    pub(crate) facts: Arc<Facts>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) inboxes: Inboxes,
    /// What the journal had at the start and may not be committed.
    pub(crate) backlog: Tender,
    /// LSN up to which the incarnation before saw everything committed.
    pub(crate) is_written: Lsn,
    pub(crate) report: StartReport,
}

/// Who joins, and by which clock.
pub(crate) struct Joiner {
    pub(crate) me: NodeId,
    pub(crate) address: String,
    pub(crate) clock: Monotonic,
}

/// Opens the journal of a node and gives the node a name. No rows are its own: what its journal has above its commits is
/// submitted to whoever has the slots then.
///
/// # Errors
/// [`OpenError`] when the journal does not open; the text of what keeps the node from having a name.
pub(crate) fn join(
    disk: Arc<dyn Disk>,
    data_dir: &Path,
    journal: JournalConfig,
    (store, shared, joiner): (Arc<dyn SharedStore>, &SharedConfig, Joiner),
    shards: usize,
) -> Result<Joined, JoinError> {
    let started = Instant::now();
    let at = data_dir.join("journal");
    let opened = Journal::open_known(Arc::clone(&disk), &at, journal, Lsn::ZERO)?;
    let facts = Arc::new(Facts::new(opened.journal.clone(), FactsConfig::default()));
    let former = identity::begin(disk.as_ref(), data_dir, joiner.me).map_err(JoinError::Name)?;
    let standing = ClusterStanding {
        me: joiner.me,
        former,
        address: shared.advertise.clone().unwrap_or(joiner.address),
        lease: shared.lease,
        started_us: now().us(),
        clock: joiner.clock,
    };
    let committed_lsn = CommittedLsnFile::of(disk, data_dir);
    let is_written = committed_lsn.read().max(opened.journal.start());
    let (cluster, inboxes) = Cluster::new(store, standing, (shards, opened.journal.end()));
    let backlog = Tender::new(&cluster, (is_written, opened.journal.end()), committed_lsn);
    let report = StartReport {
        cut: opened.cut,
        closed_cleanly: opened.closed_cleanly,
        is_new: opened.is_new,
        took: started.elapsed(),
        ..StartReport::default()
    };
    Ok(Joined {
        journal: opened.journal,
        writer: opened.writer,
        facts,
        cluster: Arc::new(cluster),
        inboxes,
        backlog,
        is_written,
        report,
    })
}

/// Why a node does not join.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its folder is of another chain than the store.
    #[error(transparent)]
    Chain(ChainError),
    /// Its journal does not open.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// It cannot be given a name.
    #[error("the node's name could not be written: {0}")]
    Name(std::io::Error),
}

/// Time that slots get to be given up.
pub(super) const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// What a node's threads read, and what looks after records that may not be committed.
pub(crate) type Jobs = (Inboxes, Tender);

/// Time between two ticks of a node's clock.
pub(super) fn tick_of(lease: Duration) -> Duration {
    (lease / 20).max(Duration::from_millis(10))
}

/// The threads of a node.
#[derive(Debug)]
pub(crate) struct Members {
    cluster: Arc<Cluster>,
    threads: Vec<JoinHandle<()>>,
    /// Some end when the other end of this is gone.
    stop: Sender<()>,
}

impl Members {
    /// Starts them: from here on the node is seen by others and takes slots.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(crate) fn start(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        (inboxes, mut backlog): Jobs,
        lease: Duration,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(1);
        let mut threads = work::start(engine, cluster, &inboxes.jobs)?;
        threads.extend(work::members(engine, cluster, (&inboxes.duties, &stopped))?);
        threads.push(leaver::start(engine, cluster, inboxes.leaving)?);
        threads.push(clock::start(cluster, inboxes.later, tick_of(lease))?);
        let (tender, owner) = (Arc::clone(cluster), Arc::clone(engine));
        let tending = std::thread::Builder::new()
            .name("backlog".to_owned())
            .spawn(move || tender.tend(&owner, &mut backlog, &stopped))?;
        threads.push(tending);
        Ok(Self {
            cluster: Arc::clone(cluster),
            threads,
            stop,
        })
    }

    /// Gives every slot up and ends the threads. Everything is committed before. For threads that may block.
    pub(crate) fn leave(self) {
        self.cluster.release_all(RELEASED_WITHIN);
        self.end();
    }

    /// Ends the threads as a crash would.
    pub(crate) fn end(self) {
        drop(self.stop);
        self.cluster.stop(WORKERS);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the cluster failed");
            }
        }
    }
}
