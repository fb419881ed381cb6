//! Sums by store, SKU, category, tender and operator: one actor per hour and key.

use crate::hash::fold;
use crate::row::{Dim, RollupKey, RollupRow, Totals};
use crate::table::{Actor, Stamp};

/// Adds `part` to a sum.
#[inline]
pub(crate) fn add_totals(sum: &mut Totals, part: &Totals) {
    sum.transactions += part.transactions;
    sum.lines += part.lines;
    sum.quantity += part.quantity;
    sum.net += part.net;
    sum.discount += part.discount;
    sum.tax += part.tax;
}

impl RollupRow {
    /// Adds the part that an event contributes (see [`contribution`](crate::contribution)).
    #[inline]
    pub fn add(&mut self, part: &Self) {
        add_totals(&mut self.totals, &part.totals);
        self.returns_net += part.returns_net;
        self.moved += part.moved;
    }
}

/// The actor of one sum.
#[derive(Debug)]
pub(crate) struct RollupActor {
    pub(crate) key: RollupKey,
    pub(crate) row: RollupRow,
    stamp: Stamp,
}

impl RollupActor {
    pub(crate) fn new(key: RollupKey, row: RollupRow) -> Self {
        Self {
            key,
            row,
            stamp: Stamp::default(),
        }
    }
}

impl Default for RollupActor {
    fn default() -> Self {
        let key = RollupKey {
            store: 0,
            dim: Dim::Store,
            day: 0,
            hour_us: 0,
            key: 0,
        };
        Self::new(key, RollupRow::default())
    }
}

impl Actor for RollupActor {
    type Key = RollupKey;

    fn key(&self) -> RollupKey {
        self.key
    }

    #[inline]
    fn hash(key: &RollupKey) -> u64 {
        let hash =
            (u64::from(key.store) << 32) | (u64::from(key.day) << 8) | u64::from(key.dim.number());
        fold(fold(hash, key.hour_us.cast_unsigned()), key.key)
    }

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }
}
