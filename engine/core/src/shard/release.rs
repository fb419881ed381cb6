//! Stores that go to another shard of another node, and may come back.

use till_protocol::id::StoreId;

use super::Shard;

impl Shard {
    /// Forgets all that it knows of stores that have left: also what was not flushed. When one comes back, it is brought
    /// in from its rows as after a start. Names stay: they are nobody's.
    ///
    /// Whoever wants to lose nothing takes and writes the rows before. A take that has not been written when a store
    /// comes back must not be written any more: others may have changed its rows since.
    pub fn release(&mut self, which: &dyn Fn(StoreId) -> bool) {
        let has_left = |number: u32| StoreId::new(number).is_ok_and(which);
        let is_of_one = |terminal: u64| has_left(u32::try_from(terminal >> 32).unwrap_or(0));
        self.actors.stores.retain(|store, _| !has_left(*store));
        self.stores_dirty.retain(|store| !has_left(*store));
        self.actors
            .terminals
            .retain(|terminal, _| !is_of_one(*terminal));
        self.terminals_dirty
            .retain(|terminal| !is_of_one(*terminal));
        #[cfg(feature = "planted")]
        let has_left = |number: u32| !crate::planted::is("remember-rows") && has_left(number);
        // The newest movements of a SKU are found by its actor alone; a new actor has none, and asks the facts.
        self.actors
            .skus
            .remove_where(|actor| has_left(actor.level.key().store));
        self.actors
            .rollups
            .remove_where(|actor| has_left(actor.key.store));
        self.touched.clear();
        self.event_ids.release(is_of_one);
        self.quarantine.retain(|key, _| !is_of_one(key.terminal));
        self.retried.retain(|key, _| !is_of_one(key.terminal));
        self.names.write_again();
    }
}
