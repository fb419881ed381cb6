//! What a start opens, alone or as one of several.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use till_core::Shard;
use till_protocol::card::ScreenKey;
use till_storage::cluster::{ChainId, SharedStore};
use till_storage::disk::Disk;
use till_storage::facts::Facts;
use till_storage::journal::{Journal, JournalConfig, Lsn, Writer};
use till_storage::query::FactReader;
use till_storage::views::WriteViews;

use super::{Handle, Running, StartError, journal_config, report_start};
use crate::chain::bind;
use crate::cluster::{
    BothFacts, Cluster, Jobs, JoinError, Joined, Joiner, Members, has_joined, join, new_incarnation,
};
use crate::config::{Config, SharedConfig};
use crate::engine::{Engine, Ground};
use crate::parts::Parts;
use crate::placement::{Commits, Placement};
use crate::recovery::{Recovered, StartReport};
use crate::row_backend::RowBackend;
use crate::watched::Watched;

/// What a start opens.
pub(super) struct Opened {
    pub(super) ground: Ground,
    pub(super) writer: Writer,
    /// LSN up to which the rows hold everything.
    pub(super) applied: u64,
    pub(super) shards: Vec<Shard>,
    pub(super) report: StartReport,
    pub(super) jobs: Option<Jobs>,
}

impl Opened {
    /// What is taken out before the engine is put together: what was found, the shards, and what the threads of a node read.
    pub(super) fn take(&mut self) -> (StartReport, Vec<Shard>, Option<Jobs>) {
        let report = std::mem::take(&mut self.report);
        report_start(&report);
        (report, std::mem::take(&mut self.shards), self.jobs.take())
    }
}

impl Opened {
    /// An engine with rows of its own.
    ///
    /// # Errors
    /// [`StartError`] when the rows cannot be read.
    pub(super) fn of(
        recovered: Recovered,
        parts: &Parts,
        key: [u8; 32],
    ) -> Result<Self, StartError> {
        let applied = recovered.views.checkpoint();
        let applied = applied.map_err(crate::recovery::RecoveryError::from)?;
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

/// Starts the threads of a node that is one of several.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn members(
    jobs: Option<Jobs>,
    engine: &Arc<Engine>,
) -> std::io::Result<Option<Members>> {
    let (Some(jobs), RowBackend::Shared(cluster), Some(shared)) =
        (jobs, &engine.row_backend, &engine.config.shared)
    else {
        return Ok(None);
    };
    Members::start(engine, cluster, jobs, shared.lease).map(Some)
}

/// The store that is shared with others, if there is one.
///
/// # Errors
/// [`StartError::NoStore`] when the configuration wants one and none was given, [`StartError::OfCluster`] when the folder does.
pub(super) fn shared(
    config: &Config,
    parts: &Parts,
) -> Result<Option<Arc<dyn SharedStore>>, StartError> {
    match (&parts.shared, &config.shared) {
        (None, Some(_)) => Err(StartError::NoStore),
        (None, None) if has_joined(&config.data_dir) => {
            Err(StartError::OfCluster(config.data_dir.clone()))
        }
        (store, _) => Ok(store.clone()),
    }
}

/// A node of a cluster, opened.
///
/// # Errors
/// [`StartError`] when its journal does not open, or the store does not say what all nodes share.
pub(super) async fn joined(
    config: &Config,
    parts: &Parts,
    store: Arc<dyn SharedStore>,
    (address, key): (SocketAddr, [u8; 32]),
) -> Result<Opened, StartError> {
    let shared = config.shared.clone().unwrap_or_default();
    let (disk, dir) = (Arc::clone(&parts.disk), config.data_dir.clone());
    let (journal, shards) = (journal_config(config), usize::from(config.shards.max(1)));
    let watched = Arc::new(Watched::new(store));
    let store: Arc<dyn SharedStore> = Arc::<Watched>::clone(&watched);
    let began = Instant::now();
    let opening = tokio::task::spawn_blocking(move || {
        let joiner = Joiner {
            me: new_incarnation().map_err(JoinError::Name)?,
            address: address.to_string(),
            clock: Arc::new(move || began.elapsed()),
        };
        let place = (store, &shared, joiner);
        open_joined((disk, &dir, journal), place, (key, shards))
    });
    let opened = opening.await.map_err(|error| StartError::Thread {
        what: "recovery",
        cause: error.to_string(),
    })?;
    let (joined, screen) = opened?;
    Ok(Opened::shared(joined, screen, shards, watched))
}

/// Opens the journal of a node, and makes sure that it is of the chain of its store.
///
/// # Errors
/// See [`joined`].
pub(super) fn open_joined(
    (disk, dir, journal): (Arc<dyn Disk>, &Path, JournalConfig),
    (store, shared, joiner): (Arc<dyn SharedStore>, &SharedConfig, Joiner),
    (key, shards): ([u8; 32], usize),
) -> Result<(Joined, [u8; 32]), StartError> {
    let screen = store.chain_key(key)?;
    let joined = join(
        Arc::clone(&disk),
        dir,
        journal,
        (store, shared, joiner),
        shards,
    )?;
    let chain = ChainId::of(&screen);
    let is_anything_left = || has_any_above(&joined.journal, joined.is_written);
    bind(disk.as_ref(), dir, chain, is_anything_left).map_err(JoinError::Chain)?;
    Ok((joined, screen))
}

impl Opened {
    /// A node of a cluster.
    pub(super) fn shared(
        joined: Joined,
        screen: [u8; 32],
        shards: usize,
        watched: Arc<Watched>,
    ) -> Self {
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
fn has_any_above(journal: &Journal, committed: Lsn) -> bool {
    let mut above = journal.records(committed);
    above.any(|item| item.map_or(true, |(lsn, _)| lsn > committed))
}

impl Handle {
    /// An engine from outside.
    pub(super) fn of(running: Running, address: SocketAddr, report: StartReport) -> Self {
        Self {
            engine: Arc::clone(&running.engine),
            running: Mutex::new(Some(running)),
            address,
            identity: None,
            report,
        }
    }
}
