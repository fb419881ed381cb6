//! Sums of days.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;

use till_core::{Dim, RollupKey, RollupRow, Totals};
use till_protocol::id::{SkuId, StoreId};

use super::samples::{rollup_key, rollup_row, store_id, store_row};
use crate::cluster::{Commit, DueDay, Maintenance, SharedStore};
use crate::views::{FlushBatch, StoreError, Views};

/// All dimensions.
const DIMS: [Dim; 5] = [
    Dim::Store,
    Dim::Sku,
    Dim::Category,
    Dim::Tender,
    Dim::Operator,
];
const STORES: [u32; 3] = [1, 2, 3];
/// Across the end of a year.
const DAYS: [u16; 3] = [20_818, 20_819, 20_820];
const HOUR_US: i64 = 3_600_000_000;

/// Sums of days are what their hours add up to, whether a day is due or not, also after a late change and a late or repeated
/// sum; and a day that changed while it was added up stays due. On an empty store of one slot.
///
/// # Errors
/// What the store says.
pub fn days(store: &dyn Maintenance) -> Result<(), StoreError> {
    project(store, 1, first()?)?;
    let mut expected = Vec::new();
    for number in STORES {
        for day in DAYS {
            expected.push(due(number, day, 1)?);
        }
    }
    assert_eq!(store.days_due(0)?, expected, "what is written is due");
    same_sums(store, "all are due")?;
    let last = expected.pop();
    for day in &expected {
        store.sum_day(0, day, 1)?;
    }
    assert_eq!(store.days_due(0)?, last.as_slice(), "what is summed is not");
    same_sums(store, "one is due")?;
    // Something comes late, for a day that is summed and for the one that is not.
    let (changed, new) = (due(1, DAYS[0], 2)?, due(3, DAYS[2], 2)?);
    let mut late = FlushBatch::default();
    for day in [changed, new] {
        late.rollups.extend(hours(day.store.get(), day.day, 100));
    }
    project(store, 2, late)?;
    assert_eq!(store.days_due(0)?, [changed, new], "and due again");
    same_sums(store, "two came late")?;
    // Of an engine that knew of nothing behind flush 1.
    store.sum_day(0, &due(1, DAYS[0], 1)?, 1)?;
    assert_eq!(
        store.days_due(0)?,
        [changed, new],
        "a day that was written meanwhile stays due"
    );
    same_sums(store, "after a late sum")?;
    for day in [changed, new] {
        store.sum_day(0, &day, 2)?;
        same_sums(store, "a late day is summed")?;
    }
    assert_eq!(store.days_due(0)?, []);
    store.sum_day(0, &changed, 2)?;
    store.sum_day(0, &changed, 1)?;
    assert_eq!(store.days_due(0)?, []);
    same_sums(store, "again changes nothing")?;
    made_again(store)
}

// Rows that are made from the log again have one flush for all: what was deleted before does not hide that.
fn made_again(store: &dyn Maintenance) -> Result<(), StoreError> {
    store.clear()?;
    project(store, 2, first()?)?;
    let all = store.days_due(0)?;
    assert_eq!(all.len(), STORES.len() * DAYS.len(), "all are due again");
    same_sums(store, "made again")?;
    for day in all {
        store.sum_day(0, &day, 2)?;
    }
    assert_eq!(store.days_due(0)?, []);
    same_sums(store, "made and summed again")
}

fn due(store: u32, day: u16, flush: u64) -> Result<DueDay, StoreError> {
    let store = store_id(store)?;
    Ok(DueDay { store, day, flush })
}

fn project(store: &dyn SharedStore, flush: u64, rows: FlushBatch) -> Result<(), StoreError> {
    store.project(&[Arc::new(Commit {
        slot: 0,
        flush,
        epoch: 1,
        rows,
        ..Commit::default()
    })])
}

fn first() -> Result<FlushBatch, StoreError> {
    let mut rows = FlushBatch::default();
    for number in STORES {
        let row = store_row(u64::from(number));
        rows.stores.push((store_id(number)?, row));
        for day in DAYS {
            rows.rollups.extend(hours(number, day, 1));
        }
    }
    Ok(rows)
}

// Hours of a day, in every dimension: some keys in several of them.
fn hours(store: u32, day: u16, salt: u64) -> Vec<(RollupKey, RollupRow)> {
    let mut rows = Vec::new();
    for dim in DIMS {
        for hour in 0..4_u64 {
            for key in 0..hour {
                let hour_us = (i64::from(day) * 24 + hour.cast_signed()) * HOUR_US;
                let key = u64::MAX - key * u64::from(dim.number());
                let row = rollup_row(salt + hour + u64::from(day) + u64::from(store));
                rows.push((rollup_key(store, dim, day, hour_us, key), row));
            }
        }
    }
    // Of two with one key the store may take either.
    let each: BTreeMap<RollupKey, RollupRow> = rows.into_iter().collect();
    each.into_iter().collect()
}

type ByDay = BTreeMap<RollupKey, RollupRow>;

fn add(sums: &mut ByDay, key: &RollupKey, totals: &Totals) {
    let day = RollupKey { hour_us: 0, ..*key };
    let row = RollupRow {
        totals: *totals,
        ..RollupRow::default()
    };
    sums.entry(day).or_default().add(&row);
}

fn same_sums(store: &dyn SharedStore, when: &str) -> Result<(), StoreError> {
    let views = store.views();
    let mut stores: Vec<StoreId> = Vec::new();
    for number in STORES {
        stores.push(store_id(number)?);
    }
    for dim in DIMS {
        for days in [0..=u16::MAX, DAYS[1]..=DAYS[1]] {
            let mut expected = ByDay::new();
            for one in &stores {
                views.rollups(*one, dim, days.clone(), &mut |key, row| {
                    add(&mut expected, &key, &row.totals);
                    ControlFlow::Continue(())
                })?;
            }
            assert!(!expected.is_empty(), "{when}: {dim:?} has no hour");
            for some in [stores.as_slice(), &stores[1..], &stores[..1]] {
                let mut found = ByDay::new();
                views.day_parts(some, dim, days.clone(), &mut |key, totals| {
                    add(&mut found, key, totals);
                })?;
                let mut expected = expected.clone();
                expected.retain(|key, _| some.iter().any(|one| one.get() == key.store));
                assert_eq!(found, expected, "{when}: {dim:?} of {some:?} on {days:?}");
                if dim == Dim::Sku {
                    same_skus(views.as_ref(), some, &days, &expected, when)?;
                }
            }
        }
    }
    Ok(())
}

// Each SKU, and one that there is not.
fn same_skus(
    views: &dyn Views,
    stores: &[StoreId],
    days: &RangeInclusive<u16>,
    expected: &ByDay,
    when: &str,
) -> Result<(), StoreError> {
    let skus: BTreeSet<u64> = expected.keys().map(|key| key.key).chain([7]).collect();
    for sku in skus {
        let mut of_sku = expected.clone();
        of_sku.retain(|key, _| key.key == sku);
        let id = SkuId::from_u64(sku);
        let mut parts = ByDay::new();
        views.sku_parts(stores, id, days.clone(), &mut |key, totals| {
            add(&mut parts, key, totals);
        })?;
        assert_eq!(parts, of_sku, "{when}: {sku} of {stores:?} on {days:?}");
        let mut hours = ByDay::new();
        for store in stores {
            views.sku_hours(*store, id, days.clone(), &mut |key, totals| {
                assert_eq!(key.hour_us / HOUR_US / 24, i64::from(key.day), "{when}");
                add(&mut hours, key, totals);
            })?;
        }
        assert_eq!(hours, of_sku, "{when}: hours of {sku} on {days:?}");
    }
    Ok(())
}
