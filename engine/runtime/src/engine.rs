//! A running engine: what its parts share, its start, and the handle that others hold.

mod handle;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use ractor::{ActorId, ActorRef};
use till_embedded::EmbeddedViews;
use till_protocol::card::ScreenKey;
use till_protocol::id::{StoreId, first_u64_of_sha256};
use till_storage::facts::Facts;
use till_storage::journal::CommitStats;
use till_storage::names::NameBook;
use tokio::sync::{Notify, Semaphore, watch};

use crate::config::Config;
use crate::published::Published;
use crate::shard_actor::Message;

pub use self::handle::Handle;
pub use self::start::{Runtime, StartError};

/// Problems that are remembered for the page.
const PROBLEMS_MAX: usize = 20;

/// What the parts of an engine share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) names: Arc<NameBook>,
    pub(crate) views: Arc<EmbeddedViews>,
    pub(crate) facts: Arc<Facts>,
    pub(crate) published: Arc<Published>,
    pub(crate) screen: ScreenKey,
    pub(crate) commit: Mutex<Option<Arc<CommitStats>>>,
    /// Where the durable journal ends.
    pub(crate) durable: Arc<AtomicU64>,
    pub(crate) draining: AtomicBool,
    /// Told when draining begins.
    pub(crate) drained: Notify,
    /// Bytes of frames that are being gathered, in KiB.
    pub(crate) gather: Arc<Semaphore>,
    /// Permits of each shard, in KiB of admitted batches.
    pub(crate) permits: Vec<Arc<Semaphore>>,
    permits_each: usize,
    actors: RwLock<Vec<Option<ActorRef<Message>>>>,
    flushing: Vec<AtomicBool>,
    crowded: Vec<AtomicBool>,
    checkpoint: watch::Sender<u64>,
    views_full: AtomicBool,
    problems: Mutex<VecDeque<(i64, String)>>,
}

impl Shared {
    /// Number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.permits.len()
    }

    /// Permits that each shard has, in KiB.
    pub(crate) fn permits_each(&self) -> usize {
        self.permits_each
    }

    /// The shard that a store lives in. Any stable hash will do: nothing on disk depends on it.
    pub(crate) fn route(&self, store: StoreId) -> usize {
        let hash = first_u64_of_sha256(&[&store.get().to_le_bytes()]);
        let shards = u64::try_from(self.shards()).unwrap_or(1).max(1);
        usize::try_from(hash.rem_euclid(shards)).unwrap_or(0)
    }

    /// The actor of a shard, unless it is being restarted or parked.
    pub(crate) fn actor(&self, shard: usize) -> Option<ActorRef<Message>> {
        self.actors.read().get(shard).cloned().flatten()
    }

    pub(crate) fn set_actor(&self, shard: usize, actor: Option<ActorRef<Message>>) {
        if let Some(place) = self.actors.write().get_mut(shard) {
            *place = actor;
        }
    }

    pub(crate) fn number_of(&self, id: ActorId) -> Option<usize> {
        let actors = self.actors.read();
        actors
            .iter()
            .position(|actor| actor.as_ref().is_some_and(|actor| actor.get_id() == id))
    }

    /// Actors (SKUs and sums) that a shard keeps in memory when they are clean.
    pub(crate) fn actors_max(&self) -> usize {
        self.config.actors_per_shard()
    }

    /// Asks every shard that is not at it already for its changed rows.
    pub(crate) fn ask_for_rows(&self) {
        for (shard, flushing) in self.flushing.iter().enumerate() {
            let Some(actor) = self.actor(shard) else {
                continue;
            };
            if !flushing.swap(true, Ordering::AcqRel) && actor.cast(Message::Flush).is_err() {
                flushing.store(false, Ordering::Release);
            }
        }
    }

    /// A shard's rows are written; everything below `checkpoint` is in the views.
    pub(crate) fn flushed(&self, shard: usize, checkpoint: u64) {
        if let Some(flushing) = self.flushing.get(shard) {
            flushing.store(false, Ordering::Release);
        }
        self.set_crowded(shard, false);
        self.checkpoint
            .send_modify(|reached| *reached = checkpoint.max(*reached));
    }

    /// Whether rows of a shard are on their way to the views.
    pub(crate) fn is_flushing(&self, shard: usize) -> bool {
        self.flushing
            .get(shard)
            .is_some_and(|flushing| flushing.load(Ordering::Acquire))
    }

    /// A shard has as many changed rows as it may have: nothing more is admitted until a flush is through.
    pub(crate) fn set_crowded(&self, shard: usize, is_crowded: bool) {
        if let Some(crowded) = self.crowded.get(shard) {
            crowded.store(is_crowded, Ordering::Release);
        }
    }

    pub(crate) fn is_crowded(&self, shard: usize) -> bool {
        self.crowded
            .get(shard)
            .is_some_and(|crowded| crowded.load(Ordering::Acquire))
    }

    /// Everything below it is in the views.
    pub(crate) fn checkpoint(&self) -> u64 {
        *self.checkpoint.borrow()
    }

    pub(crate) fn set_views_full(&self, is_full: bool) {
        if self.views_full.swap(is_full, Ordering::AcqRel) != is_full {
            if is_full {
                tracing::error!(
                    "the disk is full: rows wait, and nothing more is taken until there is room"
                );
                self.problem("the disk is full; rows wait for room");
            } else {
                tracing::info!("there is room again; rows are written");
            }
        }
    }

    pub(crate) fn views_full(&self) -> bool {
        self.views_full.load(Ordering::Acquire)
    }

    /// Remembers something that a person should know of.
    pub(crate) fn problem(&self, text: &str) {
        let mut problems = self.problems.lock();
        if problems.len() >= PROBLEMS_MAX {
            problems.pop_front();
        }
        problems.push_back((crate::shard_actor::now_us(), text.to_owned()));
    }

    pub(crate) fn problems(&self) -> Vec<(i64, String)> {
        self.problems.lock().iter().cloned().collect()
    }
}
