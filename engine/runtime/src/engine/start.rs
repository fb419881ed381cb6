//! The start: folder, rows, committer, flush, shards, gateway; in the order in which each needs the one before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Mutex, RwLock};
use ractor::{Actor, ActorRef};
use thiserror::Error;
use till_protocol::card::ScreenKey;
use till_storage::journal::{CommitConfig, CommitError, Committer, JournalConfig};
use till_storage::names::NameBook;
use till_storage::views::Views;
use tokio::sync::{Notify, Semaphore, watch};

use super::{Handle, Shared};
use crate::commit::{Answers, Companion};
use crate::config::Config;
use crate::data::{Data, DataError};
use crate::gateway::{self, GatewayError};
use crate::pki::{Pki, PkiError, screen_key};
use crate::published::Published;
use crate::shard_actor::Message;
use crate::supervisor::{Order, Supervisor};
use crate::{flush, registry};

/// Why an engine did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The QUIC port.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The journal's thread.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A thread could not be started, or one failed while starting.
    #[error("could not start {what}: {cause}")]
    Thread {
        /// Which part.
        what: &'static str,
        /// Why.
        cause: String,
    },
    /// A store of the registry file is registered otherwise.
    #[error("registry: {0}")]
    Registry(String),
}

/// Starts engines.
#[derive(Clone, Copy, Debug)]
pub struct Runtime;

impl Runtime {
    /// Starts an engine on its data folder. When it returns, devices may connect.
    ///
    /// # Errors
    /// [`StartError`] says which part did not start and why; nothing is left running.
    pub async fn start(config: Config) -> Result<Handle, StartError> {
        let dir = config.data_dir.clone();
        let journal = journal_config(&config);
        let data = tokio::task::spawn_blocking(move || Data::open(&dir, journal))
            .await
            .map_err(|error| StartError::Thread {
                what: "the journal",
                cause: error.to_string(),
            })??;
        let pki = Pki::open(&config.pki, &config.data_dir)?;
        let screen = screen_key(&config.data_dir)?;
        let (shared, parts) = Parts::new(config, data, screen);
        let (flushes, to_flush) = crossbeam::channel::bounded(shared.shards() * 2);
        let answers = Answers::new(
            flushes,
            Arc::clone(&shared.published),
            shared.shards(),
            Arc::clone(&shared.durable),
        );
        let queue_max = shared.permits_each() * shared.shards() + 1_024;
        let commit = CommitConfig {
            queue_max,
            ..CommitConfig::default()
        };
        let committer = Committer::start(parts.writer, commit, answers)?;
        *shared.commit.lock() = Some(committer.stats());
        let flusher =
            flush::start(Arc::clone(&shared), to_flush).map_err(|error| StartError::Thread {
                what: "the flush",
                cause: error.to_string(),
            })?;
        let workers = shard_threads(shared.shards())?;
        let supervisor = start_shards(&shared, &committer, &workers).await?;
        register(&shared).await?;
        let gateway = gateway::open(Arc::clone(&shared), &pki)?;
        let background = background(&shared);
        Ok(Handle::new(super::handle::Running {
            shared,
            committer,
            flusher,
            supervisor,
            workers,
            gateway,
            background,
            identity: pki.identity.clone(),
            report: parts.report,
            lock: parts.lock,
        }))
    }
}

/// What of the folder goes elsewhere than into [`Shared`].
struct Parts {
    writer: till_storage::journal::Writer,
    report: crate::data::StartReport,
    lock: std::fs::File,
}

impl Parts {
    fn new(config: Config, data: Data, screen: ScreenKey) -> (Arc<Shared>, Self) {
        let shards = usize::from(config.shards.max(1));
        let end = data.journal.end().get();
        let permits = usize_of(config.permits_bytes >> 10).div_ceil(shards);
        let gather = usize_of(config.gather_bytes >> 10);
        let views: Arc<dyn Views> = Arc::<till_embedded::EmbeddedViews>::clone(&data.views);
        let shared = Shared {
            names: Arc::new(NameBook::new(views)),
            views: data.views,
            facts: data.facts,
            published: Arc::new(Published::new(shards)),
            screen,
            commit: Mutex::new(None),
            durable: Arc::new(AtomicU64::new(end)),
            draining: AtomicBool::new(false),
            drained: Notify::new(),
            gather: Arc::new(Semaphore::new(gather)),
            permits_each: permits,
            permits: (0..shards)
                .map(|_| Arc::new(Semaphore::new(permits)))
                .collect(),
            actors: RwLock::new(vec![None; shards]),
            flushing: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            crowded: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            checkpoint: watch::Sender::new(end),
            views_full: AtomicBool::new(false),
            problems: Mutex::default(),
            config,
        };
        let parts = Self {
            writer: data.writer,
            report: data.report,
            lock: data.lock,
        };
        (Arc::new(shared), parts)
    }
}

/// Threads of the shards' own: a shard that looks something up on disk holds nobody up but itself.
fn shard_threads(shards: usize) -> Result<tokio::runtime::Runtime, StartError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(shards)
        .thread_name("till-shard")
        .enable_time()
        .build()
        .map_err(|error| StartError::Thread {
            what: "the shards",
            cause: error.to_string(),
        })
}

async fn start_shards(
    shared: &Arc<Shared>,
    committer: &Committer<Companion>,
    workers: &tokio::runtime::Runtime,
) -> Result<ActorRef<Order>, StartError> {
    let failed = |cause: String| StartError::Thread {
        what: "the shards",
        cause,
    };
    let supervisor = Supervisor {
        shared: Arc::clone(shared),
        journal: committer.appender(),
    };
    let (supervisor, _task) = workers
        .spawn(Actor::spawn(None, supervisor, ()))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    ractor::call!(supervisor, Order::Start)
        .map_err(|error| failed(error.to_string()))?
        .map_err(failed)?;
    Ok(supervisor)
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn journal_config(config: &Config) -> JournalConfig {
    JournalConfig {
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.reserve_bytes,
        durability: config.durability,
        ..JournalConfig::default()
    }
}

/// Registers the stores of the registry file.
async fn register(shared: &Shared) -> Result<(), StartError> {
    let Some(file) = &shared.config.registry.file else {
        return Ok(());
    };
    for (store, entry) in registry::read(file).map_err(StartError::Registry)? {
        let Some(actor) = shared.actor(shared.route(store)) else {
            continue;
        };
        ractor::call!(
            actor,
            Message::Register,
            store,
            entry.currency.numeric(),
            entry.zone
        )
        .map_err(|error| StartError::Registry(error.to_string()))?
        .map_err(|error| StartError::Registry(error.to_string()))?;
    }
    Ok(())
}

/// What happens by itself: flushes, and the indexes of sealed segments.
fn background(shared: &Arc<Shared>) -> Vec<tokio::task::JoinHandle<()>> {
    let flushes = Arc::clone(shared);
    let every = shared.config.flush_interval;
    let flush = tokio::spawn(async move {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            flushes.ask_for_rows();
        }
    });
    let indexes = Arc::clone(shared);
    let index = tokio::spawn(async move {
        let mut tick = tokio::time::interval(INDEX_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tick.tick().await;
            let facts = Arc::clone(&indexes.facts);
            match tokio::task::spawn_blocking(move || facts.catch_up()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "an index could not be built; it is tried again")
                }
                Err(error) => tracing::error!(%error, "building indexes failed"),
            }
        }
    });
    vec![flush, index]
}

/// Time between two looks for sealed segments without an index.
const INDEX_EVERY: std::time::Duration = std::time::Duration::from_secs(2);
