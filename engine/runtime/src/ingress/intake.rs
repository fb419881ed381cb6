//! What whoever brings devices in has of a running engine.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_storage::query::FactReader;
use tokio::sync::{Semaphore, watch};

use crate::figures::Figures;
use crate::figures::ingress::IngressFigures;
use crate::ingress::placement::{Commits, Location, Placement};
use crate::ingress::registry::Registry;
use crate::ingress::session::{Farewell, RUNS_MAX};
use crate::shard::handle::ShardHandle;

/// Look-ups for devices at a time.
const LOOK_UPS_MAX: usize = 4;

/// Something that brings devices in, and is open.
pub trait Ingress: fmt::Debug + Send + Sync {
    /// Takes no new connection in.
    fn shut(&self);

    /// Closes every connection, and waits until devices were told.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What an ingress has of a running engine.
pub struct Intake {
    pub(crate) slots: Vec<Arc<ShardHandle>>,
    placement: Arc<dyn Placement>,
    pub(super) registry: Registry,
    pub(super) look_ups: LookUps,
    pub(super) screen: ScreenKey,
    figures: Arc<Figures>,
    pub(super) sessions: Sessions,
    draining: watch::Receiver<bool>,
}

/// What sessions are made with.
pub(super) struct Sessions {
    pub(crate) commits: Commits,
    /// Refusals that wait for devices to read them, in runs.
    pub(super) pending_refusals: Arc<Semaphore>,
}

/// Facts that devices ask for, few of them at a time.
pub(super) struct LookUps {
    pub(crate) facts: Arc<dyn FactReader>,
    pub(super) turns: Semaphore,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

/// Where an [`Intake`] leads.
pub(crate) struct Shards {
    pub(crate) slots: Vec<Arc<ShardHandle>>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) commits: Commits,
    pub(crate) facts: Arc<dyn FactReader>,
    pub(crate) figures: Arc<Figures>,
}

impl Intake {
    pub(crate) fn new(
        shards: Shards,
        registry: Registry,
        screen: ScreenKey,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let pending_refusals = usize::try_from(RUNS_MAX).unwrap_or(usize::MAX);
        Self {
            slots: shards.slots,
            placement: shards.placement,
            registry,
            look_ups: LookUps {
                facts: shards.facts,
                turns: Semaphore::new(LOOK_UPS_MAX),
            },
            screen,
            figures: shards.figures,
            sessions: Sessions {
                commits: shards.commits,
                pending_refusals: Arc::new(Semaphore::new(pending_refusals)),
            },
            draining,
        }
    }

    /// What is counted of the ways in.
    pub fn figures(&self) -> &Arc<IngressFigures> {
        &self.figures.ingress
    }

    /// Something went wrong that people should see.
    pub fn problem(&self, text: &str, hint: &'static str) {
        self.figures.problem(text, hint);
    }

    /// Whether the engine is about to stop.
    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Waits until the engine is about to stop.
    pub async fn cordoned(&self) {
        let mut draining = self.draining.clone();
        // An error means that it has stopped.
        let _stopped = draining.wait_for(|draining| *draining).await;
    }

    /// What a device is told that says Hello for a store which this engine cannot speak for; `None` where it can.
    pub(crate) fn not_here(&self, store: StoreId) -> Option<Farewell> {
        match self.placement.locate(store) {
            Location::Here => None,
            Location::Nobody => Some(Farewell::Bye(Reason::Moved)),
            Location::There(address) => {
                self.figures().redirects.fetch_add(1, Ordering::Relaxed);
                Some(Farewell::Redirect(address))
            }
        }
    }
}
