//! An engine put together from what a start opens, alone or as one of several: all of its parts, and nobody who drives them.

use std::sync::Arc;

use till_core::Shard;
use till_protocol::card::ScreenKey;
use till_storage::cluster::{ChainId, NodeId, SharedStore};
use till_storage::facts::Facts;
use till_storage::journal::{GroupSync, Journal, JournalConfig, Lsn, SyncConfig, Writer};
use till_storage::query::FactReader;
use till_storage::views::WriteViews;
use tokio::sync::Semaphore;

use crate::admission::Gate;
use crate::clock::{Clock, Monotonic};
use crate::cluster::backlog::Backlog;
use crate::cluster::both::BothFacts;
use crate::cluster::chain::bind;
use crate::cluster::identity::has_joined;
use crate::cluster::node::{Cluster, Inboxes};
use crate::cluster::start::{JoinError, Joined, Joiner, NodeTurns, join};
use crate::cluster::watched::Watched;
use crate::commit::{Companion, DurableSink};
use crate::config::Config;
use crate::driver::Driver;
use crate::figures::Figures;
use crate::ingress::placement::{Commits, Placement};
use crate::ingress::registry::Registry;
use crate::lifecycle::engine::{Engine, Ground, Ways};
use crate::lifecycle::parts::Parts;
use crate::lifecycle::recovery::{Recovered, RecoveryError, RowsAt, StartReport, Target, recover};
use crate::lifecycle::runtime::{StartError, rows_dir};
use crate::lifecycle::upkeep::Upkeep;
use crate::publish::flusher::{self, Flusher};
use crate::publish::row_backend::RowBackend;
use crate::shard::handle::ShardHandle;
use crate::shard::supervisor::shard_config;

/// Entries in the journal's queue that need no permit: a few for each shard, and one for each thread that may block.
const UNPERMITTED_MAX: usize = 4_096;

/// What an engine has of the world around it.
pub(crate) struct Surroundings {
    pub(crate) parts: Parts,
    /// Where devices reach it.
    pub(crate) address: String,
    /// The id of this incarnation.
    pub(crate) me: NodeId,
    /// The key under which card numbers are masked.
    pub(crate) screen: [u8; 32],
    /// The time of day.
    pub(crate) clock: Clock,
    pub(crate) monotonic: Monotonic,
    pub(crate) driver: Arc<dyn Driver>,
    /// Threads that verify segments.
    pub(crate) verify_threads: usize,
}

/// All parts of an engine. Each does its work in turns.
pub(crate) struct Assembly {
    pub(crate) engine: Arc<Engine>,
    pub(crate) group: GroupSync<Companion, DurableSink>,
    pub(crate) flusher: Flusher,
    pub(crate) upkeep: Upkeep,
    /// The shards, as rows and journal have them.
    pub(crate) shards: Vec<Shard>,
    /// What one of several engines does besides.
    pub(crate) node: Option<NodeTurns>,
    pub(crate) report: StartReport,
}

/// Recovers what the last engine left, and puts an engine together on it. Blocks.
///
/// # Errors
/// [`StartError`]; nothing was changed then but what recovery may change.
pub(crate) fn assemble(config: Config, around: Surroundings) -> Result<Assembly, StartError> {
    let registry = Registry::open(&config.registry)?;
    let journal = JournalConfig {
        segment_bytes: config.segment_bytes,
        reserve_bytes: config.reserve_bytes,
        durability: config.durability,
        verify_threads: around.verify_threads,
    };
    let opened = match shared(&config, &around.parts)? {
        Some(store) => joined(&config, &around, (store, journal))?,
        None => alone(&config, &around, journal)?,
    };
    tell(&opened.report);
    let slots = slots(&config);
    let (rows, flush, inbox) = flusher::channels(slots.len());
    let end = opened.ground.journal.end();
    let figures = Arc::new(Figures::since(end.get(), opened.applied));
    let on_poison = Arc::clone(&around.parts.on_poison);
    let sink = DurableSink::new(slots.len(), Arc::clone(&figures), rows, on_poison, end);
    let group = GroupSync::new(opened.writer, sync_config(&config), sink);
    let ways = Ways {
        appender: group.appender(),
        sync_stats: group.stats(),
        flush,
        figures,
        slots,
        registry,
        clock: around.clock,
        driver: around.driver,
    };
    let left_out = &opened.report.left_out;
    let engine = Arc::new(Engine::on(opened.ground, ways, config, left_out));
    let lease = engine.config.shared.clone().unwrap_or_default().lease;
    let node = match (opened.jobs, engine.row_backend.cluster()) {
        (Some(jobs), Some(cluster)) => Some(NodeTurns::new(&engine, cluster, jobs, lease)),
        _ => None,
    };
    let clock = around.monotonic;
    let standing = (Arc::clone(&clock), opened.applied);
    Ok(Assembly {
        group,
        flusher: Flusher::new(Arc::clone(&engine), inbox, standing),
        upkeep: Upkeep::new(Arc::clone(&engine), clock),
        shards: shards(&engine, opened.shards),
        node,
        report: opened.report,
        engine,
    })
}

// A shard for each place: those that were recovered with records, and new ones.
fn shards(engine: &Engine, recovered: Vec<Shard>) -> Vec<Shard> {
    for shard in &recovered {
        engine.names.hold(shard.names_to_flush());
    }
    let config = || shard_config(&engine.config);
    let new = std::iter::repeat_with(|| Shard::new(config()));
    let all = recovered.into_iter().chain(new);
    all.take(engine.slots.len()).collect()
}

/// What a start opens.
struct Opened {
    ground: Ground,
    writer: Writer,
    /// Place up to which the rows hold everything.
    applied: u64,
    shards: Vec<Shard>,
    report: StartReport,
    jobs: Option<(Inboxes, Backlog)>,
}

// Opens an engine with rows of its own.
fn alone(
    config: &Config,
    around: &Surroundings,
    journal: JournalConfig,
) -> Result<Opened, StartError> {
    let (parts, dir) = (&around.parts, &config.data_dir);
    let rows = parts.views.as_ref().map_or_else(
        || RowsAt::Dir(rows_dir(dir)),
        |views| RowsAt::Given(Arc::clone(views)),
    );
    let count = usize::from(config.shards.max(1));
    let into = Target::Shards {
        count,
        config: shard_config(config),
        dirty_rows: config.dirty_rows_max / count,
    };
    let recovered = recover(&parts.disk, dir, journal, (&rows, into), &mut |at, end| {
        tracing::info!(at, end, "applying what the rows lack");
    });
    Opened::of(recovered?, parts, around.screen)
}

impl Opened {
    /// An engine with rows of its own.
    ///
    /// # Errors
    /// [`StartError`] when the rows cannot be read.
    fn of(recovered: Recovered, parts: &Parts, key: [u8; 32]) -> Result<Self, StartError> {
        let applied = recovered.views.checkpoint();
        let applied = applied.map_err(RecoveryError::from)?;
        let facts: Arc<dyn FactReader> = Arc::<Facts>::clone(&recovered.facts);
        Ok(Self {
            ground: Ground {
                journal: recovered.journal,
                facts: recovered.facts,
                decision_facts: Arc::clone(&facts),
                query_facts: facts,
                views: Arc::<dyn WriteViews>::clone(&recovered.views),
                row_backend: RowBackend::Own(recovered.views),
                watched: None,
                placement: Arc::clone(&parts.placement),
                commits: parts.commits,
                screen: ScreenKey::new(key),
            },
            writer: recovered.writer,
            applied,
            shards: recovered.shards,
            report: recovered.report,
            jobs: None,
        })
    }
}

// The store that is shared with others, if there is one.
fn shared(config: &Config, parts: &Parts) -> Result<Option<Arc<dyn SharedStore>>, StartError> {
    match (&parts.shared, &config.shared) {
        (None, Some(_)) => Err(StartError::NoStore),
        (None, None) if has_joined(&config.data_dir) => {
            Err(StartError::OfCluster(config.data_dir.clone()))
        }
        (store, _) => Ok(store.clone()),
    }
}

// Opens one of several, and makes sure that its journal is of the chain of its store.
fn joined(
    config: &Config,
    around: &Surroundings,
    (store, journal): (Arc<dyn SharedStore>, JournalConfig),
) -> Result<Opened, StartError> {
    let shared = config.shared.clone().unwrap_or_default();
    let (disk, dir) = (&around.parts.disk, &config.data_dir);
    let shards = usize::from(config.shards.max(1));
    let watched = Arc::new(Watched::new(store));
    let store: Arc<dyn SharedStore> = Arc::<Watched>::clone(&watched);
    let joiner = Joiner {
        me: around.me,
        address: around.address.clone(),
        clock: Arc::clone(&around.monotonic),
    };
    let screen = store.chain_key(around.screen)?;
    let place = (store, &shared, joiner);
    let joined = join(Arc::clone(disk), dir, journal, place, shards)?;
    let chain = ChainId::of(&screen);
    let is_anything_left = || has_any_above(&joined.journal, joined.is_written);
    bind(disk.as_ref(), dir, chain, is_anything_left).map_err(JoinError::Chain)?;
    Ok(Opened::shared(joined, screen, shards, watched))
}

impl Opened {
    /// A node of a cluster.
    fn shared(joined: Joined, screen: [u8; 32], shards: usize, watched: Arc<Watched>) -> Self {
        let cluster = joined.cluster;
        let both = BothFacts::new(Arc::clone(&cluster), Arc::clone(&joined.facts), shards);
        let placement: Arc<dyn Placement> = Arc::<Cluster>::clone(&cluster);
        Self {
            applied: joined.journal.end().get(),
            ground: Ground {
                journal: joined.journal,
                facts: joined.facts,
                decision_facts: Arc::new(both),
                query_facts: cluster.store.facts(),
                views: cluster.store.views(),
                row_backend: RowBackend::Shared(cluster),
                watched: Some(watched),
                placement,
                commits: Commits::Apart,
                screen: ScreenKey::new(screen),
            },
            writer: joined.writer,
            shards: Vec::new(),
            report: joined.report,
            jobs: Some((joined.inboxes, joined.backlog)),
        }
    }
}

// Whether the journal has anything above what its engine saw committed. What cannot be read may be that.
fn has_any_above(journal: &Journal, digest: Lsn) -> bool {
    let mut above = journal.records(digest);
    above.any(|item| item.map_or(true, |(lsn, _)| lsn > digest))
}

fn tell(report: &StartReport) {
    if report.is_new {
        tracing::info!("the journal is empty");
    } else {
        tracing::info!(
            replayed = report.replayed,
            rebuilt = report.rebuilt.is_some(),
            clean = report.closed_cleanly,
            ms = report.took.as_millis(),
            "the journal is verified; rows and shards hold all of it"
        );
    }
}

fn slots(config: &Config) -> Vec<Arc<ShardHandle>> {
    let bytes = Arc::new(Semaphore::new(size(config.permits_bytes)));
    let shards = usize::from(config.shards.max(1));
    let slot = |_| {
        let gate = Gate::new(config.permits_frames, Arc::clone(&bytes));
        Arc::new(ShardHandle::new(
            Arc::new(gate),
            config.dirty_rows_max / shards,
        ))
    };
    (0..shards).map(slot).collect()
}

fn sync_config(config: &Config) -> SyncConfig {
    let permits = size(config.permits_frames) * usize::from(config.shards.max(1));
    SyncConfig {
        // Every permit has two places (the first Hello of a store brings a record and a handshake), and there is room for
        // what has none besides: rows, retries, waiting for durability. A shard never waits for the journal's queue.
        queue_max: 2 * permits + UNPERMITTED_MAX,
        linger_us: config.linger_us,
        ..SyncConfig::default()
    }
}

pub(super) fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
