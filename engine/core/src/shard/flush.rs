//! Rows out: what has changed is taken for a flush, and what is flushed may be dropped from memory.

use till_protocol::id::{SkuId, StoreId, TerminalId};

use super::Shard;
use super::actors::cell_key;
use crate::dirty::Dirty;
use crate::row::Space;
use crate::sku::SkuKey;

/// Passivation goes down to this part of the budget (in 1/8), so that it does not start again at once.
const KEPT_EIGHTHS: usize = 7;
/// Terminals above which the oldest go, also those that were only accepted. A chain has fewer; there are more where somebody
/// accepts with numbers that no till has.
pub(super) const TERMINALS_MAX: usize = 1 << 17;

impl Shard {
    /// Takes the rows that have changed since the last take, each once, whole and sorted.
    ///
    /// They hold everything that was handled before; write them once the records of all that are durable. The shard gives
    /// them out once: where writing fails, write the same ones again.
    pub fn take_dirty(&mut self) -> Dirty {
        let generation = self.actors.generation;
        self.actors.generation += 1;
        let mut dirty = Dirty {
            generation,
            ..Dirty::default()
        };
        self.take_stores(&mut dirty);
        self.take_terminals(&mut dirty);
        self.take_skus(&mut dirty);
        let slots = self.actors.rollups.take_dirty();
        dirty.rollups.reserve_exact(slots.len());
        for table_index in slots {
            let actor = self.actors.rollups.get(table_index);
            dirty.rollups.push((actor.key, actor.row));
        }
        // Stable, as it makes use of the runs that are in order: those of SKUs are.
        dirty.rollups.sort_by_key(|(key, _)| *key);
        dirty.event_ids = self.event_ids.take();
        dirty.names = self.names.take();
        dirty.names.sort_unstable_by(|a, b| {
            (a.0 == Space::Tender, a.1, &a.2).cmp(&(b.0 == Space::Tender, b.1, &b.2))
        });
        dirty.quarantine = self.quarantine.drain().collect();
        dirty.quarantine.sort_unstable_by_key(|(key, _)| *key);
        dirty
    }

    fn take_stores(&mut self, dirty: &mut Dirty) {
        for number in std::mem::take(&mut self.stores_dirty) {
            let actor = self.actors.stores.get_mut(&number);
            if let (Some(actor), Ok(store)) = (actor, StoreId::new(number)) {
                actor.dirty = false;
                dirty.stores.push((store, actor.row.clone()));
            }
        }
        dirty.stores.sort_unstable_by_key(|(store, _)| *store);
    }

    fn take_terminals(&mut self, dirty: &mut Dirty) {
        for number in std::mem::take(&mut self.terminals_dirty) {
            let actor = self.actors.terminals.get_mut(&number);
            if let (Some(actor), Ok(terminal)) = (actor, TerminalId::from_u64(number)) {
                actor.stamp.dirty = false;
                dirty.terminals.push((terminal, actor.row.clone()));
            }
        }
        dirty
            .terminals
            .sort_unstable_by_key(|(terminal, _)| *terminal);
    }

    // Rows are wide and many: they are put down once, in order, where there is room for all.
    fn take_skus(&mut self, dirty: &mut Dirty) {
        let slots = self.actors.skus.take_dirty();
        let mut order = Vec::with_capacity(slots.len());
        order.extend(slots.into_iter().map(|table_index| {
            let key = self.actors.skus.get(table_index).level.key();
            (key.store, key.sku, table_index)
        }));
        order.sort_unstable();
        dirty.skus.reserve_exact(order.len());
        dirty.rollups.reserve_exact(order.len());
        for (_, _, table_index) in order {
            let actor = self.actors.skus.get_mut(table_index);
            let sku = actor.level.key();
            if std::mem::take(&mut actor.level.dirty)
                && let Ok(store) = StoreId::new(sku.store)
            {
                let key = (store, SkuId::from_u64(sku.sku));
                dirty.skus.push((key, actor.level.row()));
            }
            if std::mem::take(&mut actor.cell.dirty)
                && let Some(hour) = actor.cell.hour()
            {
                let key = cell_key(sku, hour);
                dirty.rollups.push((key, actor.cell.row()));
            }
        }
    }

    /// Names that the next take gives out. After a recovery nobody else knows of them yet.
    pub fn names_to_flush(&self) -> &[(Space, u64, String)] {
        &self.names.dirty
    }

    /// Says that the rows of a take, and of all takes before it, are written.
    pub fn flushed(&mut self, generation: u32) {
        self.flushed = self.flushed.max(generation);
        self.event_ids.flushed(self.flushed);
        self.retried.retain(|_, taken| *taken > self.flushed);
    }

    /// Drops clean actors from memory where there are more than [`actors_max`](super::ShardConfig::actors_max): first
    /// sums, the oldest hours first, then the SKUs that were not touched for longest. Returns how many were dropped.
    /// Terminals are bounded apart.
    ///
    /// Nothing that has not been flushed is dropped; no answer changes, but that an epoch whose grant nobody has used may be
    /// granted again, as after a restart.
    pub fn passivate(&mut self) -> usize {
        self.drop_oldest_terminals();
        let before = self.actors();
        if before <= self.config.actors_max {
            return 0;
        }
        let kept = self.config.actors_max.div_euclid(8) * KEPT_EIGHTHS;
        let mut excess = before.saturating_sub(kept);
        excess -= self.drop_rollups(excess);
        self.drop_skus(excess);
        self.drop_terminals();
        let dropped = before - self.actors();
        self.counters.passivations += u64::try_from(dropped).unwrap_or(u64::MAX);
        dropped
    }

    fn drop_rollups(&mut self, most: usize) -> usize {
        let mut clean: Vec<_> = self
            .actors
            .rollups
            .clean(self.flushed)
            .map(|(table_index, actor)| (actor.key.hour_us, actor.key, table_index))
            .collect();
        clean.sort_unstable();
        clean.truncate(most);
        for (hour_us, key, table_index) in &clean {
            self.actors.rollups.remove(*table_index);
            self.now_stored(key.store, Some(*hour_us), false);
        }
        clean.len()
    }

    fn drop_skus(&mut self, most: usize) -> usize {
        use crate::table::Actor as _;
        let mut clean: Vec<_> = self
            .actors
            .skus
            .clean(self.flushed)
            .map(|(table_index, actor)| {
                let SkuKey { store, sku } = actor.level.key();
                let hour_us = actor.cell.hour().map(|hour| hour.hour_us);
                (actor.stamp().generation, store, sku, table_index, hour_us)
            })
            .collect();
        clean.sort_unstable();
        clean.truncate(most);
        for (_, store, _, table_index, hour_us) in &clean {
            self.actors.skus.remove(*table_index);
            self.now_stored(*store, *hour_us, true);
        }
        clean.len()
    }

    // Terminals are few and small; they go when SKUs have to go as well.
    fn drop_terminals(&mut self) {
        let flushed = self.flushed;
        let dropped: Vec<u64> = self
            .actors
            .terminals
            .extract_if(|_, actor| actor.stamp.is_clean(flushed) && !actor.is_pinned())
            .map(|(terminal, _)| terminal)
            .collect();
        self.terminals_now_stored(dropped);
    }

    fn drop_oldest_terminals(&mut self) {
        let terminals = &mut self.actors.terminals;
        if terminals.len() <= TERMINALS_MAX {
            return;
        }
        let kept = TERMINALS_MAX.div_euclid(8) * KEPT_EIGHTHS;
        let mut clean: Vec<_> = terminals
            .iter()
            .filter(|(_, actor)| actor.stamp.is_clean(self.flushed) && actor.collided.is_empty())
            .map(|(terminal, actor)| (actor.stamp.generation, *terminal))
            .collect();
        clean.sort_unstable();
        clean.truncate(terminals.len() - kept);
        for (_, terminal) in &clean {
            terminals.remove(terminal);
        }
        self.terminals_now_stored(clean.into_iter().map(|(_, terminal)| terminal).collect());
    }

    fn terminals_now_stored(&mut self, mut dropped: Vec<u64>) {
        dropped.sort_unstable();
        for terminal in dropped {
            let store = u32::try_from(terminal >> 32).unwrap_or(0);
            if let Some(actor) = self.actors.stores.get_mut(&store) {
                actor.terminals_stored = true;
            }
        }
    }

    // From now on rows of this store have to be looked up.
    fn now_stored(&mut self, store: u32, hour_us: Option<i64>, is_sku: bool) {
        #[cfg(feature = "planted")]
        if crate::planted::is("lost-rollup-on-passivation") {
            return;
        }
        if let Some(actor) = self.actors.stores.get_mut(&store) {
            actor.hours_stored = actor.hours_stored.max(hour_us.unwrap_or(i64::MIN));
            actor.skus_stored |= is_sku;
        }
    }
}
