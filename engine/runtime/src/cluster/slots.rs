//! What an engine does with its stores when a slot leaves it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use till_core::{Replayed, Shard};
use till_protocol::id::StoreId;
use till_storage::base::FoldError;
use till_storage::cluster::slot_of;
use till_storage::journal::Lsn;
use till_storage::rebuild::{FactRows, panic_text, store_of};
use till_storage::views::StoreError;

use crate::cluster::node::Cluster;
use crate::cluster::owners::Since;
use crate::ingress::placement::own_position;
use crate::lifecycle::engine::Engine;
use crate::shard::handle::shard_of;
use crate::shard::message::{ShardMessage, Which};
use crate::shard::supervisor::shard_config;

impl Cluster {
    fn which(&self, slots: &BTreeSet<u32>) -> Which {
        let (all, slots) = (self.store.slots(), slots.clone());
        Which::new(move |store: StoreId| slots.contains(&slot_of(store, all)))
    }

    /// Ends the sessions of the stores of slots.
    pub(super) fn evict(&self, engine: &Engine, slots: &BTreeSet<u32>) {
        let which = self.which(slots);
        for shard in &engine.slots {
            // A shard that is down has no sessions.
            let which = which.clone();
            let _down = shard.send(ShardMessage::Evict { which });
        }
    }

    /// Lets the shards forget the stores of slots, and waits until all that they said of them is durable. For threads that
    /// may block.
    pub(super) fn forget(&self, engine: &Engine, slots: &BTreeSet<u32>) {
        let which = self.which(slots);
        let asked: Vec<_> = engine
            .slots
            .iter()
            .map(|shard| (shard, shard.release(&which)))
            .collect();
        for (shard, mut asked) in asked {
            // One that fell in the meantime is told again: what it starts from may still have them.
            while let Some(done) = asked {
                if done.blocking_recv().is_ok() {
                    break;
                }
                asked = shard.release(&which);
            }
        }
        engine.barrier();
    }

    /// Parts with the sessions that are left of the stores of slots: they hear of no commit any more. Nothing comes to them
    /// once their shards have forgotten these stores.
    pub(super) fn part(&self, engine: &Engine, slots: &BTreeSet<u32>) {
        let all = self.store.slots();
        let has_left = |store: StoreId| slots.contains(&slot_of(store, all));
        for shard in &engine.slots {
            for session in shard.sessions_of(&has_left) {
                session.part();
            }
        }
    }

    /// A shard as the shared rows have it, with what its stores have in the own journal above them.
    ///
    /// The rows of a slot may be its next owner's, who has the same events from their devices: then nothing of it is replayed.
    /// This node hears soon that the slot is gone, and hands its records off.
    ///
    /// # Errors
    /// [`FoldError`] when rows or journal cannot be read, or a record cannot be applied.
    pub(crate) fn restore(&self, engine: &Engine, index: usize) -> Result<Shard, FoldError> {
        let mut ours = self.since();
        loop {
            let misfit = match self.replayed(engine, index, &ours)? {
                Ok(shard) => return Ok(shard),
                Err(misfit) => misfit,
            };
            let row = self.store.slot(misfit.slot).map_err(FoldError::Store)?;
            if row.owner == Some(self.me) || ours.remove(&misfit.slot).is_none() {
                return Err(failed(misfit.lsn, "it fits nowhere"));
            }
        }
    }

    fn replayed(
        &self,
        engine: &Engine,
        index: usize,
        ours: &BTreeMap<u32, Since>,
    ) -> Result<Result<Shard, Misfit>, FoldError> {
        let shards = engine.slots.len();
        let mut shard = Shard::new(shard_config(&engine.config));
        let rows = FactRows::new(engine.views.as_ref(), engine.decision_facts.as_ref());
        let applied = ours.values().map(|since| since.applied.of(index)).min();
        let from = Lsn::new(applied.unwrap_or(u64::MAX).min(engine.journal.end().get()));
        for item in engine.journal.records(from) {
            let (lsn, record) = item?;
            let Some(store) = store_of(&record.head) else {
                continue;
            };
            let slot = slot_of(store, self.store.slots());
            let is_ours = ours.get(&slot).is_some_and(|since| {
                lsn.get() >= since.position && lsn.get() > since.applied.of(index)
            });
            if shard_of(store, shards) != index || !is_ours {
                continue;
            }
            // Above every position of the shared store, and rising.
            let position = own_position(lsn.get());
            let applied = catch_unwind(AssertUnwindSafe(|| shard.replay(position, &record, &rows)));
            let applied = applied.map_err(|panic| failed(lsn, &panic_text(panic.as_ref())))?;
            match applied.map_err(|error| failed(lsn, &error.to_string()))? {
                Replayed::Held => {}
                Replayed::Nowhere => return Ok(Err(Misfit { slot, lsn })),
            }
        }
        Ok(Ok(shard))
    }
}

/// A record of the own journal that does not fit on the shared rows.
struct Misfit {
    slot: u32,
    lsn: Lsn,
}

fn failed(lsn: Lsn, cause: &str) -> FoldError {
    FoldError::Store(StoreError::Failed {
        table: "journal",
        cause: format!("record at {}: {cause}", lsn.get()),
    })
}
