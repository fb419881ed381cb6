//! The read set: rows that are fetched together.

use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::row::{RollupKey, Space};

/// Rows that a shard is going to ask for and does not have. Where each look-up is a way to another machine and back, all of
/// them are made at once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadSet {
    /// Stores.
    pub stores: Vec<StoreId>,
    /// Terminals.
    pub terminals: Vec<TerminalId>,
    /// Stocks of SKUs.
    pub skus: Vec<(StoreId, SkuId)>,
    /// Sums of hours.
    pub rollups: Vec<RollupKey>,
    /// The events behind event ids.
    pub event_ids: Vec<EventId>,
    /// Names of ids.
    pub names: Vec<(Space, u64)>,
}

impl ReadSet {
    /// How many rows are asked for.
    pub const fn len(&self) -> usize {
        self.stores.len()
            + self.terminals.len()
            + self.skus.len()
            + self.rollups.len()
            + self.event_ids.len()
            + self.names.len()
    }

    /// Whether nothing is asked for.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// ReadSet nothing any more; keeps its room.
    pub fn clear(&mut self) {
        self.stores.clear();
        self.terminals.clear();
        self.skus.clear();
        self.rollups.clear();
        self.event_ids.clear();
        self.names.clear();
    }

    /// Each row once, in the order of keys.
    pub fn normalize(&mut self) {
        sort_and_dedup(&mut self.stores);
        sort_and_dedup(&mut self.terminals);
        sort_and_dedup(&mut self.skus);
        sort_and_dedup(&mut self.rollups);
        sort_and_dedup(&mut self.names);
        self.event_ids.sort_unstable_by_key(|id| id.to_bytes());
        self.event_ids.dedup();
    }
}

fn sort_and_dedup<K: Ord>(keys: &mut Vec<K>) {
    keys.sort_unstable();
    keys.dedup();
}
