//! Scans: their order, their ranges, and what they see of a write that runs.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use till_core::{Dim, RollupKey};
use till_protocol::id::SkuId;

use super::samples::{
    filled, rollup_key, rollup_row, sample, sku_row, store_id, store_row, terminal_id, terminal_row,
};
use super::{Fixture, shown};
use crate::views::{FlushBatch, StoreError, Views};

const HOURS: [i64; 5] = [i64::MIN, -3_600_000_000, 0, 3_600_000_000, i64::MAX];

fn mixed() -> Result<FlushBatch, StoreError> {
    let mut flush = FlushBatch {
        checkpoint: Some(1),
        ..FlushBatch::default()
    };
    for number in [70_000, 256, 1, 255, 2] {
        flush.stores.push((store_id(number)?, store_row(1)));
        for till in [300, 1, 256] {
            flush
                .terminals
                .push((terminal_id(number, till)?, terminal_row(1)));
        }
        for sku in [u64::MAX, 0, 256, 255] {
            let key = (store_id(number)?, SkuId::from_u64(sku));
            flush.skus.push((key, sku_row(sku >> 32)));
        }
        for dim in [Dim::Operator, Dim::Store, Dim::Sku] {
            for day in [300, 0, u16::MAX] {
                let keys = HOURS
                    .iter()
                    .map(|hour| rollup_key(number, dim, day, *hour, 9));
                flush.rollups.extend(keys.map(|key| (key, rollup_row(4))));
            }
        }
    }
    Ok(flush)
}

pub(super) fn scans(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let mut flush = mixed()?;
    fixture.write(&flush)?;
    flush.stores.sort_by_key(|(key, _)| *key);
    flush.terminals.sort_by_key(|(key, _)| *key);
    flush.skus.sort_by_key(|(key, _)| *key);
    flush.rollups.sort_by_key(|(key, _)| *key);
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &flush),
        "a scan is out of order or leaves rows out"
    );
    Ok(())
}

fn keys_of(
    views: &dyn Views,
    days: std::ops::RangeInclusive<u16>,
    most: usize,
) -> Result<Vec<RollupKey>, StoreError> {
    let mut keys = Vec::new();
    views.rollups(store_id(255)?, Dim::Sku, days, &mut |key, _| {
        keys.push(key);
        if keys.len() == most {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(keys)
}

pub(super) fn ranges(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    fixture.write(&mixed()?)?;
    let of_day = |day| HOURS.map(|hour| rollup_key(255, Dim::Sku, day, hour, 9));
    assert_eq!(keys_of(views, 300..=300, 99)?, of_day(300), "one day");
    assert_eq!(keys_of(views, 0..=299, 99)?, of_day(0), "before a day");
    assert_eq!(keys_of(views, 1..=299, 99)?, [], "between days");
    assert_eq!(
        keys_of(views, 301..=u16::MAX, 99)?,
        of_day(u16::MAX),
        "last day"
    );
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a span that ends before it starts"
    )]
    let none = keys_of(views, 5..=4, 99)?;
    assert_eq!(none, [], "an empty span");
    assert_eq!(
        keys_of(views, 0..=u16::MAX, 2)?.len(),
        2,
        "told to stop after two"
    );

    let mut skus = Vec::new();
    views.skus(store_id(2)?, SkuId::from_u64(256), &mut |sku, _| {
        skus.push(sku.get());
        ControlFlow::Continue(())
    })?;
    assert_eq!(skus, [256, u64::MAX], "SKUs from one on");
    Ok(())
}

/// Rows that one flush writes.
const TOGETHER: u64 = 50;
/// Flushes while scans run.
const FLUSHES: u64 = 100;

fn generation(n: u64) -> FlushBatch {
    FlushBatch {
        rollups: (0..TOGETHER)
            .map(|key| (rollup_key(1, Dim::Sku, 1, 0, key), rollup_row(n)))
            .collect(),
        checkpoint: Some(n),
        ..FlushBatch::default()
    }
}

pub(super) fn atomic(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    fixture.write(&sample(1)?)?;
    fixture.write(&generation(1))?;
    let done = AtomicBool::new(false);
    let store = store_id(1)?;
    thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<(), StoreError> {
            while !done.load(Ordering::Acquire) {
                let mut seen = Vec::new();
                views.rollups(store, Dim::Sku, 1..=1, &mut |_, row| {
                    seen.push(row.totals.transactions);
                    ControlFlow::Continue(())
                })?;
                let first = seen.first().copied();
                assert!(
                    seen.iter().all(|n| Some(*n) == first),
                    "a part of a flush was seen: {seen:?}"
                );
            }
            Ok(())
        });
        let written = (2..FLUSHES).try_for_each(|n| fixture.write(&generation(n)));
        done.store(true, Ordering::Release);
        let read = reader.join();
        let Ok(read) = read else {
            unreachable!("a scan saw a part of a flush");
        };
        written?;
        read
    })
}
