//! An engine from outside: started from a configuration, asked, and stopped.

pub(crate) mod assembly;
pub(crate) mod sharing;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ractor::{Actor, ActorRef};
use thiserror::Error;
use till_core::Shard;
use till_storage::journal::{Lsn, SyncError, Syncer};
use till_storage::views::{StoreError, Views};

use crate::clock::now;
use crate::cluster::identity::new_incarnation;
use crate::cluster::start::{JoinError, Members};
use crate::commit::Companion;
use crate::config::Config;
use crate::driver::Threads;
use crate::ingress::intake::{Ingress, Intake};
use crate::ingress::registry::RegistryError;
use crate::ingress::screen::{ScreenKeyError, screen_key};
use crate::lifecycle::drain;
use crate::lifecycle::drain::DrainError;
use crate::lifecycle::engine::Engine;
use crate::lifecycle::lock::{DirLock, Holder, LockError, Role};
use crate::lifecycle::parts::Parts;
use crate::lifecycle::recovery::{RecoveryError, StartReport};
use crate::lifecycle::retry::{Retried, RetryAllError, retry_all};
use crate::lifecycle::upkeep::{RetentionError, Upkeeper, retain_before};
use crate::observe::health::{Health, health};
use crate::observe::metrics::{Metrics, read};
use crate::observe::query::{Query, Reply, answer};
use crate::publish::door::FlushError;
use crate::shard::supervisor::{Supervisor, SupervisorMessage};

pub(crate) use crate::lifecycle::runtime::assembly::{Assembly, Surroundings, assemble};

/// Longest wait of a question for the flush before it.
const QUERY_FLUSH: Duration = Duration::from_secs(30);
/// Threads that verify segments at the start.
const VERIFY_THREADS: usize = 2;

/// Why an engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder is in use, or cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Journal or rows do not open.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The key for card numbers is of no use.
    #[error(transparent)]
    ScreenKey(#[from] ScreenKeyError),
    /// The registry file is of no use.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The journal's thread does not start.
    #[error(transparent)]
    Commit(#[from] SyncError),
    /// The data folder has been that of one of several engines on a shared store.
    #[error(
        "{0} is the data folder of an engine that shares a store with others: its journal holds what is not committed there, \
         and nothing else. Start it with that store, or give another folder"
    )]
    OfCluster(PathBuf),
    /// The configuration names a shared store, and the caller gave none.
    #[error("store.kind is scylla, and no store was given to the engine")]
    NoStore,
    /// The shared store was asked and did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node of a cluster does not start.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A thread or actor does not start.
    #[error("could not start {what}: {cause}")]
    Thread {
        /// Which.
        what: &'static str,
        /// What the system said.
        cause: String,
    },
}

/// An engine that is about to start: its data folder is its own.
#[derive(Debug)]
pub struct Runtime {
    config: Config,
    parts: Parts,
    lock: DirLock,
}

/// A running engine. Dropping it without [`drain`](Self::drain) ends it like a crash: nothing acknowledged is lost, and the
/// next start replays what was not flushed.
#[derive(Debug)]
pub struct Handle {
    engine: Arc<Engine>,
    running: Mutex<Option<Running>>,
    address: SocketAddr,
    identity: Option<PathBuf>,
    report: StartReport,
}

/// What has to be stopped.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) engine: Arc<Engine>,
    /// What brings devices in, once it is open.
    pub(crate) ingress: Option<Box<dyn Ingress>>,
    pub(crate) syncer: Syncer<Companion>,
    pub(crate) flusher: JoinHandle<()>,
    pub(crate) upkeep: Upkeeper,
    pub(crate) supervisor: ActorRef<SupervisorMessage>,
    pub(crate) supervised: tokio::task::JoinHandle<()>,
    pub(crate) shards: tokio::runtime::Runtime,
    /// The threads of a node that is one of several.
    pub(crate) members: Option<Members>,
    pub(crate) lock: DirLock,
}

impl Runtime {
    /// Takes the data folder, and waits a moment for an engine that is about to leave it.
    ///
    /// # Errors
    /// [`StartError::Lock`] when another one has it.
    pub async fn prepare(config: Config, parts: Parts) -> Result<Self, StartError> {
        let lock = DirLock::wait(&config.data_dir, Role::Engine).await?;
        Ok(Self {
            config,
            parts,
            lock,
        })
    }

    /// What the engine is to run with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Starts the engine: recovers what the last one left, and runs all but what brings devices in. `address` is where they
    /// will reach it. Call it on a multi-threaded tokio runtime with timers; shards run on one of their own.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then, and nothing was changed but what recovery may change.
    pub async fn start(self, address: SocketAddr) -> Result<Handle, StartError> {
        let Self {
            config,
            parts,
            lock,
        } = self;
        let (screen, began) = (screen_key(&config.data_dir)?, Instant::now());
        let around = Surroundings {
            parts,
            address: address.to_string(),
            me: new_incarnation().map_err(JoinError::Name)?,
            screen,
            clock: Arc::new(now),
            monotonic: Arc::new(move || began.elapsed()),
            driver: Arc::new(Threads),
            verify_threads: VERIFY_THREADS,
        };
        // It reads the journal: on a thread that may block.
        let assembling = tokio::task::spawn_blocking(move || assemble(config, around));
        let assembled = assembling.await.map_err(|error| StartError::Thread {
            what: "recovery",
            cause: error.to_string(),
        })?;
        let Assembly {
            engine,
            group,
            flusher,
            upkeep,
            shards: restored,
            node,
            report,
        } = assembled?;
        let syncer = Syncer::drive(group)?;
        let flusher = flusher.start().map_err(thread("the flush"))?;
        let upkeep = upkeep.start().map_err(thread("upkeep"))?;
        let shards = shard_runtime(&engine.config)?;
        let (supervisor, supervised) = supervise(&shards, &engine, restored).await?;
        let members = match (node, engine.row_backend.cluster()) {
            (Some(turns), Some(cluster)) => {
                Some(Members::start(cluster, turns).map_err(thread("the cluster"))?)
            }
            _ => None,
        };
        let running = Running {
            engine,
            ingress: None,
            syncer,
            flusher,
            upkeep,
            supervisor,
            supervised,
            shards,
            members,
            lock,
        };
        Ok(Handle {
            engine: Arc::clone(&running.engine),
            running: Mutex::new(Some(running)),
            address,
            identity: None,
            report,
        })
    }
}

impl Handle {
    /// What an ingress has of the engine.
    pub fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.engine.intake)
    }

    /// Devices come in from now on, until the engine drains. `identity` is the one-file identity for devices, if there is one.
    ///
    /// # Errors
    /// [`StartError::Thread`] when the data folder does not take the note of who has it.
    pub fn take_devices(
        &mut self,
        ingress: Box<dyn Ingress>,
        identity: Option<PathBuf>,
    ) -> Result<(), StartError> {
        self.identity = identity;
        if let Some(running) = self.running.get_mut() {
            running.ingress = Some(ingress);
            note_holder(&mut running.lock, &self.engine.config, self.address)?;
        }
        Ok(())
    }

    /// Where devices reach the engine.
    pub const fn quic_addr(&self) -> SocketAddr {
        self.address
    }

    /// The one-file identity for devices (CA, certificate, key), where the engine is its own authority.
    pub fn identity(&self) -> Option<&Path> {
        self.identity.as_deref()
    }

    /// What the engine runs with.
    pub fn config(&self) -> &Config {
        &self.engine.config
    }

    /// The rows. They may be a flush behind what is durable.
    pub fn views(&self) -> &dyn Views {
        self.engine.views.as_ref()
    }

    /// What the start found and did.
    pub const fn report(&self) -> &StartReport {
        &self.report
    }

    /// Everything the engine counts, now. Does not wait.
    pub fn metrics(&self) -> Metrics {
        read(&self.engine)
    }

    /// Whether events may be sent, and why not. Does not wait.
    pub fn health(&self) -> Health {
        health(&self.engine)
    }

    /// Waits until queries see everything that is durable now; gives the journal position up to which they do. Blocks: for
    /// threads that may.
    ///
    /// # Errors
    /// [`FlushError`] when the rows cannot follow, for instance on a full disk.
    pub fn flush_now(&self) -> Result<u64, FlushError> {
        self.engine.flush.flush(QUERY_FLUSH)
    }

    /// Answers a question with everything that was acknowledged when it was asked. Where rows cannot follow the journal (a
    /// full disk), the answer is as old as its freshness says. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`StoreError`] when rows or facts cannot be read.
    pub fn query(&self, query: &Query) -> Result<Reply, StoreError> {
        if let Err(error) = self.flush_now() {
            tracing::warn!(%error, "answering from rows that are not up to date");
        }
        self.query_again(query)
    }

    /// Answers a further part of a question, from rows as they are. Blocks: for threads that may.
    ///
    /// # Errors
    /// See [`query`](Self::query).
    pub fn query_again(&self, query: &Query) -> Result<Reply, StoreError> {
        answer(self.engine.views.as_ref(), self.engine.query_facts(), query)
    }

    /// Decides again everything in quarantine that is of stores which are served here. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`RetryAllError`]; what was decided before stays decided.
    pub fn retry_quarantine(&self) -> Result<Retried, RetryAllError> {
        retry_all(&self.engine)
    }

    /// Drops segments whose every record was received before an instant, after their base is written. Gives the position
    /// at which single events start afterwards; `None` when nothing was old enough. Blocks: for threads that may.
    ///
    /// # Errors
    /// [`RetentionError`]; nothing is dropped then.
    pub fn retain_before(&self, received_before_us: i64) -> Result<Option<u64>, RetentionError> {
        let kept = retain_before(&self.engine, received_before_us)?;
        Ok(kept.map(Lsn::get))
    }

    /// Stops the engine in good order: takes nothing new in, finishes what was admitted, says goodbye to devices, writes
    /// every row, and closes the journal. A second call does nothing.
    ///
    /// # Errors
    /// [`DrainError`] names what could not be finished; nothing acknowledged is lost by it.
    pub async fn drain(&self) -> Result<(), DrainError> {
        let running = self.running.lock().take();
        match running {
            Some(running) => {
                Box::pin(drain::drain(running, self.engine.config.drain_timeout)).await
            }
            None => Ok(()),
        }
    }

    /// Stops the engine without flushing anything: what a crash leaves, for tests. Devices are not told.
    ///
    /// # Errors
    /// [`DrainError`] when a thread could not be ended.
    pub async fn kill(&self) -> Result<(), DrainError> {
        let running = self.running.lock().take();
        match running {
            Some(running) => Box::pin(drain::kill(running)).await,
            None => Ok(()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(running) = self.running.lock().take() {
            tracing::warn!("the engine is dropped without a drain");
            running.engine.draining.send_replace(true);
            running.ingress.inspect(|ingress| ingress.shut());
            running.shards.shutdown_background();
        }
    }
}

/// The folder of the rows in a data folder.
pub(crate) fn rows_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("rows")
}

fn note_holder(lock: &mut DirLock, config: &Config, address: SocketAddr) -> Result<(), StartError> {
    let holder = Holder {
        quic: address.to_string(),
        admin: format!("http://{}", config.admin),
        pid: std::process::id(),
    };
    tracing::info!(quic = %address, "taking devices in");
    lock.announce(&holder)
        .map_err(thread("writing engine.json"))
}

// Shards may wait for the disk (a late count reads facts): their threads are not those of the network.
fn shard_runtime(config: &Config) -> Result<tokio::runtime::Runtime, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(usize::from(config.shards).min(cores).max(2))
        .thread_name("till-shard")
        .enable_time()
        .build()
        .map_err(thread("threads for shards"))
}

type Supervised = (ActorRef<SupervisorMessage>, tokio::task::JoinHandle<()>);

async fn supervise(
    shards: &tokio::runtime::Runtime,
    engine: &Arc<Engine>,
    restored: Vec<Shard>,
) -> Result<Supervised, StartError> {
    let start = (Arc::clone(engine), restored);
    let spawning = shards.spawn(async move { Actor::spawn(None, Supervisor, start).await });
    let failed = |cause: String| StartError::Thread {
        what: "the shards",
        cause,
    };
    let spawned = spawning.await.map_err(|error| failed(error.to_string()))?;
    spawned.map_err(|error| failed(error.to_string()))
}

fn thread(what: &'static str) -> impl FnOnce(std::io::Error) -> StartError {
    move |cause| StartError::Thread {
        what,
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests;
