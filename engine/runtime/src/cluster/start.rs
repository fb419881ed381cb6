//! The start of an engine that is one of several: its journal, its name, its threads.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use till_storage::cluster::{Duty, NodeId, SharedStore};
use till_storage::disk::Disk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{Journal, JournalConfig, Lsn, OpenError, Writer};

use crate::clock::{Clock, Monotonic, now};
use crate::cluster::backlog::{Backlog, CommittedLsnFile, Tender};
use crate::cluster::chain::ChainError;
use crate::cluster::clock::TickClock;
use crate::cluster::days::DaySums;
use crate::cluster::identity;
use crate::cluster::job::Job;
use crate::cluster::leaver::Leaver;
use crate::cluster::node::{Cluster, ClusterStanding, Inboxes};
use crate::cluster::work;
use crate::cluster::work::{WORKERS, Worker};
use crate::config::shared::SharedConfig;
use crate::lifecycle::engine::Engine;
use crate::lifecycle::recovery::StartReport;

/// An engine's own part of a cluster, opened.
pub(crate) struct Joined {
    pub(crate) journal: Journal,
    pub(crate) writer: Writer,
    pub(crate) facts: Arc<Facts>,
    pub(crate) cluster: Arc<Cluster>,
    /// What its threads read.
    pub(crate) inboxes: Inboxes,
    /// What the journal had at the start and may not be committed.
    pub(crate) backlog: Backlog,
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
    let backlog = Backlog::new(&cluster, (is_written, opened.journal.end()), committed_lsn);
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
pub(crate) const RELEASED_WITHIN: Duration = Duration::from_secs(5);

/// What a node does besides what any engine does, for threads or whoever takes their turns.
pub(crate) struct NodeTurns {
    /// Calls to the shared store: for the membership, and for the writers of slots. Any number of them may be under way.
    pub(crate) duties: Receiver<Duty>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) worker: Worker,
    /// Ticks, and what is tried again later.
    pub(crate) clock: TickClock,
    /// Slots that go, together.
    pub(crate) leaver: Leaver,
    /// Records that are in no commit.
    pub(crate) tender: Tender,
    /// Days that are over.
    pub(crate) days: DaySums,
}

impl NodeTurns {
    /// Nobody takes them yet.
    pub(crate) fn new(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        (inboxes, backlog): (Inboxes, Backlog),
        lease: Duration,
    ) -> Self {
        let tick = (lease / 20).max(Duration::from_millis(10));
        Self {
            duties: inboxes.duties,
            jobs: inboxes.jobs,
            worker: Worker::new(engine, cluster),
            clock: TickClock::new(cluster, inboxes.later, tick),
            leaver: Leaver::new(engine, cluster, inboxes.leaving),
            tender: Tender::new(engine, cluster, backlog),
            days: DaySums::new(Clock::clone(&engine.clock), cluster),
        }
    }
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
    pub(crate) fn start(cluster: &Arc<Cluster>, turns: NodeTurns) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(1);
        let mut threads = work::start(&turns.worker, &turns.jobs)?;
        threads.extend(work::members(&turns.worker, (&turns.duties, &stopped))?);
        threads.push(turns.leaver.start()?);
        threads.push(turns.clock.start()?);
        threads.push(turns.tender.start(stopped.clone())?);
        threads.push(turns.days.start(stopped)?);
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
