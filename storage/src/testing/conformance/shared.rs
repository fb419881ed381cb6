//! What stores that several engines share promise beyond their rows.

use std::sync::Arc;

use till_core::{Dim, ReadSet, RollupKey, Space};
use till_protocol::id::{EventId, SkuId};

use super::samples::{rollup_key, rollup_row, sample, sku_row, store_id, terminal_id};
use crate::cluster::{Commit, Found, SharedStore};
use crate::views::{FlushBatch, StoreError};

/// Samples, and rows of one store that lie side by side.
const MANY: u32 = 300;

/// Rows that are asked for together are what they are one by one, also those that are not there. On an empty store.
///
/// # Errors
/// What the store says.
pub fn rows_at_once(store: &dyn SharedStore) -> Result<(), StoreError> {
    assert_eq!(store.rows_of(&ReadSet::default())?, Found::default());
    let rows = many()?;
    store.project(&[Arc::new(Commit {
        slot: 0,
        flush: 1,
        rows: rows.clone(),
        ..Commit::default()
    })])?;
    store.write_names(&rows.names)?;
    let mut read_set = read_set_of(&rows);
    let written = read_set.len();
    read_set.stores.push(store_id(MANY + 1)?);
    read_set.terminals.push(terminal_id(MANY + 1, 4)?);
    for number in 0..u64::from(MANY) {
        read_set
            .skus
            .push((store_id(1)?, SkuId::from_u64(u64::MAX - number)));
        read_set.rollups.push(side_by_side(number, 3_600_000_000));
    }
    read_set.event_ids.push(EventId::from_bytes([0xee; 16]));
    read_set.names.push((Space::Tender, 1));
    let found = store.rows_of(&read_set)?;
    let views = store.views();
    assert_eq!(found, Found::one_by_one(&read_set, views.as_ref())?);
    let there = found.stores.values().flatten().count()
        + found.terminals.values().flatten().count()
        + found.skus.values().flatten().count()
        + found.rollups.values().flatten().count()
        + found.event_ids.values().flatten().count()
        + found.names.values().flatten().count();
    assert_eq!(there, written, "rows that were written and not found");
    Ok(())
}

fn side_by_side(number: u64, hour_us: i64) -> RollupKey {
    rollup_key(1, Dim::Sku, 20_100, hour_us, number << 8)
}

fn many() -> Result<FlushBatch, StoreError> {
    let mut rows = FlushBatch::default();
    for n in 1..=MANY {
        let mut one = sample(n)?;
        one.checkpoint = None;
        one.quarantine.clear();
        rows.append(one);
        let number = u64::from(n);
        let sku = SkuId::from_u64((number << 8) + 1);
        rows.skus.push(((store_id(1)?, sku), sku_row(number)));
        rows.rollups
            .push((side_by_side(number, 0), rollup_row(number)));
    }
    Ok(rows)
}

fn read_set_of(rows: &FlushBatch) -> ReadSet {
    let names = rows.names.iter();
    ReadSet {
        stores: rows.stores.iter().map(|(key, _)| *key).collect(),
        terminals: rows.terminals.iter().map(|(key, _)| *key).collect(),
        skus: rows.skus.iter().map(|(key, _)| *key).collect(),
        rollups: rows.rollups.iter().map(|(key, _)| *key).collect(),
        event_ids: rows.event_ids.iter().map(|(key, _)| *key).collect(),
        names: names.map(|(space, id, _)| (*space, *id)).collect(),
    }
}
