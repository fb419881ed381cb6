//! What an engine does with its stores when a slot leaves it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use till_core::{Placed, Shard};
use till_protocol::id::StoreId;
use till_storage::base::FoldError;
use till_storage::cluster::slot_of;
use till_storage::journal::Lsn;
use till_storage::rebuild::{FactRows, panic_text, store_of};
use till_storage::views::StoreError;
use tokio::sync::oneshot;

use super::Cluster;
use super::both::own_place;
use crate::engine::Engine;
use crate::route::shard_of;
use crate::shard_actor::{ShardMessage, Which};
use crate::supervisor::shard_config;

impl Cluster {
    fn which(&self, slot: u32) -> Which {
        let slots = self.store.slots();
        Which::new(move |store: StoreId| slot_of(store, slots) == slot)
    }

    /// Ends the sessions of a slot's stores.
    pub(super) fn evict(&self, engine: &Engine, slot: u32) {
        let which = self.which(slot);
        for shard in &engine.slots {
            // A shard that is down has no sessions.
            let which = which.clone();
            let _down = shard.send(ShardMessage::Evict { which });
        }
    }

    /// Lets the shards forget a slot's stores, and waits until all that they said of them is durable. For threads that may
    /// block.
    pub(super) fn forget(&self, engine: &Engine, slot: u32) {
        let which = self.which(slot);
        let mut forgotten = Vec::new();
        for shard in &engine.slots {
            let (reply, done) = oneshot::channel();
            let which = which.clone();
            if shard.send(ShardMessage::Release { which, reply }).is_ok() {
                forgotten.push(done);
            }
        }
        for done in forgotten {
            // One that fell in the meantime has forgotten everything.
            let _fell = done.blocking_recv();
        }
        engine.settle();
    }

    /// Devices hear that what their stores have in the journal up to a place is committed.
    pub(super) fn tell_devices(&self, engine: &Engine, shard: usize, upto: u64) {
        let since = self.since();
        let slots = self.store.slots();
        let is_ours = |store: StoreId| {
            since
                .get(&slot_of(store, slots))
                .is_some_and(|at| *at <= upto)
        };
        if let Some(slot) = engine.slots.get(shard) {
            for session in slot.sessions_of(&is_ours) {
                session.committed_upto(upto);
            }
        }
    }

    /// A shard as the shared rows have it, with what its stores have in the own journal above them.
    ///
    /// # Errors
    /// [`FoldError`] when rows or journal cannot be read, or a record cannot be applied.
    pub(crate) fn restore(&self, engine: &Engine, index: usize) -> Result<Shard, FoldError> {
        let shards = engine.slots.len();
        let cursor = self.cursors.lock().of(index);
        let since = self.since();
        let mut shard = Shard::new(shard_config(&engine.config));
        let rows = FactRows::new(engine.views.as_ref(), engine.reader.as_ref());
        for item in engine.journal.records(Lsn::new(cursor)) {
            let (lsn, record) = item?;
            let Some(store) = store_of(&record.head) else {
                continue;
            };
            let slot = slot_of(store, self.store.slots());
            let is_ours = since.get(&slot).is_some_and(|since| lsn.get() >= *since);
            if lsn.get() <= cursor || shard_of(store, shards) != index || !is_ours {
                continue;
            }
            // Above every place of the shared store, and rising.
            let place = own_place(lsn.get());
            let applied = catch_unwind(AssertUnwindSafe(|| shard.apply(place, &record, &rows)));
            let failed = |cause: String| {
                FoldError::Store(StoreError::Failed {
                    table: "journal",
                    cause: format!("record at {}: {cause}", lsn.get()),
                })
            };
            let placed = applied
                .map_err(|panic| failed(panic_text(panic.as_ref())))?
                .map_err(|error| failed(error.to_string()))?;
            if placed == Placed::Nowhere {
                return Err(failed("it fits nowhere".to_owned()));
            }
        }
        Ok(shard)
    }
}
