//! The way in: what whoever brings devices in has of a running engine, and what a session has of its shard.
//!
//! Nothing here knows how bytes come: QUIC does it in `till-gateway`, a simulator by hand.

pub(crate) mod check;
mod inlet;
pub(crate) mod placement;
pub(crate) mod registry;
pub(crate) mod screen;
pub(crate) mod session;
mod useless;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_protocol::reply::{Bye, Hello, Message};
use till_storage::query::FactReader;
use till_storage::views::StoreError;
use tokio::sync::{Semaphore, watch};

use crate::figures::{Figures, IngressFigures};
use crate::ingress::placement::{Commits, Location, Placement};
use crate::ingress::registry::Registry;
use crate::shard::handle::{ShardHandle, shard_of};
use session::{Farewell, RUNS_MAX};

pub use self::inlet::{End, FrameBatch, Inlet, Knocking};
pub use self::session::{Messages, Session};
pub use self::useless::ended;

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
    slots: Vec<Arc<ShardHandle>>,
    placement: Arc<dyn Placement>,
    registry: Registry,
    look_ups: LookUps,
    screen: ScreenKey,
    figures: Arc<Figures>,
    sessions: Sessions,
    draining: watch::Receiver<bool>,
}

/// What sessions are made with.
struct Sessions {
    commits: Commits,
    /// Refusals that wait for devices to read them, in runs.
    pending_refusals: Arc<Semaphore>,
}

/// Facts that devices ask for, few of them at a time.
struct LookUps {
    facts: Arc<dyn FactReader>,
    turns: Semaphore,
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

    /// A terminal that may speak says Hello: the way to its shard, or what it is told instead.
    ///
    /// # Errors
    /// What the device is told.
    pub fn open(self: &Arc<Self>, hello: Box<Hello>) -> Result<Knocking, Message> {
        let bye = |reason| Message::from(Bye::new(reason));
        if self.is_draining() {
            return Err(bye(Reason::Draining));
        }
        let terminal = hello.terminal;
        if let Some(last) = self.not_here(terminal.store()) {
            return Err(last.into_message().unwrap_or_else(|| bye(Reason::Moved)));
        }
        let listing = self
            .registry
            .admit(terminal, hello.currency, &hello.zone)
            .map_err(bye)?;
        let shard = shard_of(terminal.store(), self.slots.len());
        let slot = self.slots.get(shard).ok_or_else(|| bye(Reason::Internal))?;
        let pending_refusals = Arc::clone(&self.sessions.pending_refusals);
        let session = Session::new(terminal, pending_refusals, self.sessions.commits);
        let inlet = Inlet::new(Arc::clone(self), Arc::clone(slot), Arc::new(session));
        Ok(Knocking::new(inlet, hello, listing))
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

    // One look-up of a stream at a time, few of all streams.
    async fn look_up<T: Send + 'static>(
        &self,
        look_up: impl FnOnce(&dyn FactReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, End> {
        let Ok(_turn) = self.look_ups.turns.acquire().await else {
            return Err(End::Draining);
        };
        let facts = Arc::clone(&self.look_ups.facts);
        match tokio::task::spawn_blocking(move || look_up(facts.as_ref())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::warn!(%error, "events of a terminal could not be looked up");
                Err(End::Bye(Reason::Internal, None))
            }
            Err(_) => Err(End::Bye(Reason::Internal, None)),
        }
    }
}
