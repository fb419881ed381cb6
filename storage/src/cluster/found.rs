//! What a shared store says of rows that were asked for together.

use std::collections::HashMap;
use std::hash::Hash;

use till_core::{EventIdRow, ReadSet, RollupKey, RollupRow, SkuRow, Space, StoreRow, TerminalRow};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::views::{StoreError, Views};

/// Rows that were asked for together. `None` stands for a row that is not there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Stores.
    pub stores: HashMap<StoreId, Option<StoreRow>>,
    /// Terminals.
    pub terminals: HashMap<TerminalId, Option<TerminalRow>>,
    /// Stocks of SKUs.
    pub skus: HashMap<(StoreId, SkuId), Option<SkuRow>>,
    /// Sums of hours.
    pub rollups: HashMap<RollupKey, Option<RollupRow>>,
    /// The events behind event ids.
    pub event_ids: HashMap<[u8; 16], Option<EventIdRow>>,
    /// Names of ids.
    pub names: HashMap<(Space, u64), Option<String>>,
}

impl Found {
    /// Asked, and nothing found: what is found is put in its place.
    pub fn nothing_of(read_set: &ReadSet) -> Self {
        fn absent<K: Hash + Eq, R>(keys: impl Iterator<Item = K>) -> HashMap<K, Option<R>> {
            keys.map(|key| (key, None)).collect()
        }
        Self {
            stores: absent(read_set.stores.iter().copied()),
            terminals: absent(read_set.terminals.iter().copied()),
            skus: absent(read_set.skus.iter().copied()),
            rollups: absent(read_set.rollups.iter().copied()),
            event_ids: absent(read_set.event_ids.iter().map(|id| id.to_bytes())),
            names: absent(read_set.names.iter().copied()),
        }
    }

    /// Asks rows one after another, where that costs nothing.
    ///
    /// # Errors
    /// What the rows say.
    pub fn one_by_one(read_set: &ReadSet, views: &dyn Views) -> Result<Self, StoreError> {
        let mut found = Self::nothing_of(read_set);
        for (key, row) in &mut found.stores {
            *row = views.store(*key)?;
        }
        for (key, row) in &mut found.terminals {
            *row = views.terminal(*key)?;
        }
        for ((store, sku), row) in &mut found.skus {
            *row = views.sku(*store, *sku)?;
        }
        for (key, row) in &mut found.rollups {
            *row = views.rollup(key)?;
        }
        for (id, row) in &mut found.event_ids {
            *row = views.event_id(&EventId::from_bytes(*id))?;
        }
        for ((space, id), name) in &mut found.names {
            *name = views.name(*space, *id)?;
        }
        Ok(found)
    }

    /// Takes in what was asked for later.
    pub fn extend(&mut self, later: Self) {
        self.stores.extend(later.stores);
        self.terminals.extend(later.terminals);
        self.skus.extend(later.skus);
        self.rollups.extend(later.rollups);
        self.event_ids.extend(later.event_ids);
        self.names.extend(later.names);
    }
}
