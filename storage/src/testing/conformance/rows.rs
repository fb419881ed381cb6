//! Single rows: written, read, overwritten, kept.

use till_core::{Dim, RollupRow, Space, Totals};
use till_protocol::id::SkuId;

use super::samples::{
    filled, quarantine_row, rollup_key, rollup_row, sample, sku_row, store_id, store_row,
};
use super::{Fixture, shown};
use crate::views::{FlushBatch, StoreError};

pub(super) fn empty(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let nothing = FlushBatch {
        checkpoint: Some(0),
        ..FlushBatch::default()
    };
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &nothing),
        "an empty store holds rows"
    );
    assert_eq!(
        views.store(store_id(1)?)?,
        None,
        "an empty store knows a store"
    );
    assert_eq!(views.event_id_count()?, 0, "an empty store has event ids");
    Ok(())
}

pub(super) fn every_row(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let all = sample(3)?;
    fixture.write(&all)?;
    for (key, row) in &all.stores {
        assert_eq!(views.store(*key)?.as_ref(), Some(row), "store {key}");
    }
    for (key, row) in &all.terminals {
        assert_eq!(views.terminal(*key)?.as_ref(), Some(row), "terminal {key}");
    }
    for ((store, sku), row) in &all.skus {
        assert_eq!(views.sku(*store, *sku)?, Some(*row), "SKU {sku}");
    }
    for (key, row) in &all.rollups {
        assert_eq!(views.rollup(key)?, Some(*row), "rollup {key:?}");
    }
    for (key, row) in &all.event_ids {
        assert_eq!(views.event_id(key)?, Some(*row), "event id {key}");
    }
    for (key, row) in &all.quarantine {
        assert_eq!(views.quarantined(key)?, *row, "quarantine {key:?}");
    }
    for (space, id, name) in &all.names {
        assert_eq!(views.name(*space, *id)?.as_ref(), Some(name), "name {id}");
        assert_eq!(
            views.name(Space::Tender, *id)?,
            None,
            "name in another space"
        );
    }
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &all),
        "scans and reads differ"
    );
    Ok(())
}

pub(super) fn last_write(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    fixture.write(&sample(1)?)?;
    let mut second = sample(1)?;
    second.skus[0].1 = sku_row(99);
    second.rollups[0].1 = rollup_row(98);
    second.stores[0].1 = store_row(97);
    second.checkpoint = Some(500);
    fixture.write(&second)?;
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &second),
        "an older row stands"
    );
    Ok(())
}

pub(super) fn later_row(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let mut both = sample(1)?;
    let key = both.rollups[0].0;
    both.rollups.push((key, rollup_row(55)));
    fixture.write(&both)?;
    assert_eq!(
        views.rollup(&key)?,
        Some(rollup_row(55)),
        "the earlier row stands"
    );
    Ok(())
}

pub(super) fn twice(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    fixture.write(&sample(1)?)?;
    fixture.write(&sample(2)?)?;
    let before = filled(views)?;
    fixture.write(&sample(1)?)?;
    fixture.write(&sample(2)?)?;
    assert_eq!(
        filled(views)?,
        before,
        "a flush that came again changed rows"
    );
    Ok(())
}

pub(super) fn extremes(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let wide = |number: i128| RollupRow {
        totals: Totals {
            transactions: u64::MAX,
            lines: u64::MAX,
            quantity: number,
            net: number,
            discount: -(number / 2),
            tax: number,
        },
        returns_net: number,
        moved: number,
    };
    let store = store_id(u32::MAX >> 1)?;
    let mut flush = sample(1)?;
    flush.stores.push((store, store_row(5)));
    for (hour, number) in [
        (i64::MIN, i128::MIN),
        (-1, -1),
        (0, 0),
        (i64::MAX, i128::MAX),
    ] {
        let key = rollup_key(store.get(), Dim::Operator, u16::MAX, hour, u64::MAX);
        flush.rollups.push((key, wide(number)));
    }
    let mut sku = sku_row(2);
    sku.moved = i64::MIN;
    sku.reserved = i64::MAX;
    flush.skus.push(((store, SkuId::from_u64(u64::MAX)), sku));
    fixture.write(&flush)?;
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &flush),
        "an extreme number came back as another"
    );
    Ok(())
}

pub(super) fn large(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let mut flush = sample(1)?;
    flush.terminals[0].1.epochs = (1..=5_000)
        .map(|epoch| till_core::EpochProgress {
            epoch,
            next_seq: u64::MAX,
            digest: u64::MAX,
        })
        .collect();
    flush.rollups = (0..20_000)
        .map(|n| (rollup_key(1, Dim::Sku, 1, 0, n), rollup_row(n)))
        .collect();
    flush.names = vec![(Space::Tender, 1, "é".repeat(20_000))];
    fixture.write(&flush)?;
    assert_eq!(
        filled(views)?.rows,
        shown(fixture, &flush),
        "a part of a large flush is missing"
    );
    Ok(())
}

pub(super) fn quarantine(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    fixture.write(&sample(1)?)?;
    fixture.write(&sample(2)?)?;
    let key = sample(1)?.quarantine[0].0;
    let release = |row| FlushBatch {
        quarantine: vec![(key, row)],
        ..FlushBatch::default()
    };
    fixture.write(&release(None))?;
    assert_eq!(
        views.quarantined(&key)?,
        None,
        "a released row is still there"
    );
    assert_eq!(
        filled(views)?.rows.quarantine,
        sample(2)?.quarantine,
        "another row went too"
    );
    fixture.write(&release(None))?;
    fixture.write(&release(Some(quarantine_row(8))))?;
    assert_eq!(
        views.quarantined(&key)?,
        Some(quarantine_row(8)),
        "a row cannot come back"
    );
    Ok(())
}

pub(super) fn checkpoint(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    let to = |checkpoint| FlushBatch {
        checkpoint,
        ..FlushBatch::default()
    };
    for (given, expected) in [
        (Some(7), 7),
        (None, 7),
        (Some(3), 7),
        (Some(u64::MAX), u64::MAX),
    ] {
        fixture.write(&to(given))?;
        assert_eq!(views.checkpoint()?, expected, "after {given:?}");
    }
    Ok(())
}

pub(super) fn restart(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    for n in 1..=5 {
        fixture.write(&sample(n)?)?;
    }
    let before = filled(fixture.views())?;
    fixture.sync()?;
    fixture.restart();
    assert_eq!(filled(fixture.views())?, before, "a restart changed rows");
    Ok(())
}

pub(super) fn reopen(fixture: &mut dyn Fixture) -> Result<(), StoreError> {
    let views = fixture.views();
    for n in 1..=5 {
        fixture.write(&sample(n)?)?;
    }
    let before = filled(views)?;
    fixture.reopen()?;
    assert_eq!(filled(views)?, before, "reopening changed rows");
    fixture.write(&sample(6)?)?;
    assert!(
        views.store(store_id(6)?)?.is_some(),
        "no write after reopening"
    );
    Ok(())
}
