//! What all parts of a running engine share.

use std::sync::Arc;

use crossbeam::channel::bounded;
use parking_lot::Mutex;
use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_protocol::time::Timestamp;
use till_storage::facts::Facts;
use till_storage::journal::{Appender, Journal, SyncStats};
use till_storage::query::FactReader;
use till_storage::views::Views;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::cluster::watched::Watched;
use crate::commit::Companion;
use crate::config::Config;
use crate::driver::Driver;
use crate::figures::Figures;
use crate::ingress::intake::{Intake, Shards};
use crate::ingress::placement::{Commits, Placement};
use crate::ingress::registry::Registry;
use crate::ingress::session::farewell::Farewell;
use crate::publish::door::FlushDoor;
use crate::publish::names::NameBook;
use crate::publish::row_backend::RowBackend;
use crate::shard::handle::{ShardHandle, shard_of};
use crate::shard::waiting::Waiting;

/// What all parts of a running engine share.
pub(crate) struct Engine {
    pub(crate) config: Config,
    pub(crate) journal: Journal,
    /// The facts in the own journal.
    pub(crate) facts: Arc<Facts>,
    /// The facts that are decided with.
    pub(crate) decision_facts: Arc<dyn FactReader>,
    /// The facts that questions are answered from.
    pub(crate) query_facts: Arc<dyn FactReader>,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) row_backend: RowBackend,
    /// What passes between this engine and the shared store.
    pub(crate) watched: Option<Arc<Watched>>,
    pub(crate) appender: Appender<Companion>,
    pub(crate) sync_stats: Arc<SyncStats>,
    pub(crate) names: NameBook,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) commits: Commits,
    pub(crate) slots: Vec<Arc<ShardHandle>>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) flush: FlushDoor,
    /// The way in.
    pub(crate) intake: Arc<Intake>,
    /// Held while a base is made and segments are dropped. Two such runs at a time would share a folder, and each would drop
    /// what the other reads.
    pub(crate) retention: Mutex<()>,
    /// Stores whose records wait for their registration.
    pub(crate) waiting: Waiting,
    /// True once the engine drains.
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) clock: Clock,
    /// What lets others get on while a part waits.
    pub(crate) driver: Arc<dyn Driver>,
}

/// What an engine stands on.
pub(crate) struct Ground {
    pub(crate) journal: Journal,
    pub(crate) facts: Arc<Facts>,
    pub(crate) decision_facts: Arc<dyn FactReader>,
    pub(crate) query_facts: Arc<dyn FactReader>,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) row_backend: RowBackend,
    pub(crate) watched: Option<Arc<Watched>>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) commits: Commits,
    pub(super) screen: ScreenKey,
}

/// How its parts reach each other.
pub(crate) struct Ways {
    pub(crate) appender: Appender<Companion>,
    pub(crate) sync_stats: Arc<SyncStats>,
    pub(crate) flush: FlushDoor,
    pub(crate) figures: Arc<Figures>,
    pub(crate) slots: Vec<Arc<ShardHandle>>,
    pub(super) registry: Registry,
    pub(crate) clock: Clock,
    pub(crate) driver: Arc<dyn Driver>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine that nobody drives yet. `left_out` are the stores whose records wait for their registration.
    pub(crate) fn on(
        ground: Ground,
        ways: Ways,
        config: Config,
        left_out: &[(StoreId, u64)],
    ) -> Self {
        let (draining, drains) = watch::channel(false);
        let shards = Shards {
            slots: ways.slots.clone(),
            placement: Arc::clone(&ground.placement),
            commits: ground.commits,
            facts: Arc::clone(&ground.decision_facts),
            figures: Arc::clone(&ways.figures),
        };
        let intake = Intake::new(shards, ways.registry, ground.screen, drains);
        Self {
            names: NameBook::new(Arc::clone(&ground.views)),
            journal: ground.journal,
            facts: ground.facts,
            decision_facts: ground.decision_facts,
            query_facts: ground.query_facts,
            views: ground.views,
            row_backend: ground.row_backend,
            watched: ground.watched,
            placement: ground.placement,
            commits: ground.commits,
            appender: ways.appender,
            sync_stats: ways.sync_stats,
            slots: ways.slots,
            figures: ways.figures,
            flush: ways.flush,
            clock: ways.clock,
            driver: ways.driver,
            intake: Arc::new(intake),
            retention: Mutex::new(()),
            waiting: Waiting::new(left_out),
            draining,
            config,
        }
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The shard of a store.
    pub(crate) fn slot(&self, store: StoreId) -> Option<&Arc<ShardHandle>> {
        self.slots.get(shard_of(store, self.slots.len()))
    }

    /// Waits until everything that the caller gave to the journal before is durable. For threads that may block.
    pub(crate) fn barrier(&self) {
        let (passed, done) = bounded(1);
        if self.appender.marker(Companion::Barrier(passed)).is_ok() {
            self.driver.await_journal(&done);
        }
    }

    /// Returns when nothing that a shard handed off before will be written any more. For threads that may block.
    pub(crate) fn restart_flush(&self, shard: usize) {
        self.driver.await_flush(&self.flush.restart(shard));
    }

    /// What a device is told in a session of a store that is not served here any more; `None` where it is.
    pub(crate) fn moved_away(&self, store: StoreId) -> Option<Farewell> {
        if self.placement.is_here(store) {
            return None;
        }
        // It may have come back in between: the device comes again.
        Some(
            self.not_served(store)
                .unwrap_or(Farewell::Bye(Reason::Moved)),
        )
    }

    /// What a device is told that says Hello for a store which this engine cannot speak for; `None` where it can.
    pub(crate) fn not_served(&self, store: StoreId) -> Option<Farewell> {
        self.intake.not_here(store)
    }

    /// The facts that answers are told from: those that are committed.
    pub(crate) fn query_facts(&self) -> &dyn FactReader {
        self.query_facts.as_ref()
    }

    /// Whether more is journalled and not in the rows than there may be.
    pub(crate) fn is_behind(&self) -> bool {
        let Some(shared) = &self.config.shared else {
            return false;
        };
        self.figures.uncommitted() > shared.backlog_bytes
    }

    pub(crate) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }
}
