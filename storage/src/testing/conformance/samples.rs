//! Rows that differ in every field, made from one number.

use std::ops::ControlFlow;

use till_core::{
    Dim, EpochProgress, EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow,
    SkuRow, Space, StoreRow, TerminalRow, Totals,
};
use till_protocol::id::{EventId, IdError, SkuId, StoreId, TerminalId, TillId};

use crate::views::{FlushBatch, StoreError, Views};

/// Everything that a store holds, in the order of its scans.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sample {
    /// The rows as one flush.
    pub rows: FlushBatch,
}

pub(super) fn store_id(number: u32) -> Result<StoreId, StoreError> {
    StoreId::new(number).map_err(|error| wrong(&error))
}

pub(super) fn terminal_id(store: u32, till: u32) -> Result<TerminalId, StoreError> {
    let till = TillId::new(till).map_err(|error| wrong(&error))?;
    Ok(TerminalId::new(store_id(store)?, till))
}

fn wrong(error: &IdError) -> StoreError {
    StoreError::Failed {
        table: "samples",
        cause: error.to_string(),
    }
}

pub(super) fn totals(n: u64) -> Totals {
    Totals {
        transactions: n,
        lines: n + 1,
        quantity: -i128::from(n) * 100_000,
        net: i128::from(n) * 1_000 + 7,
        discount: i128::from(n) + 3,
        tax: -i128::from(n),
    }
}

fn move_key(n: u64) -> MoveKey {
    MoveKey {
        at_us: -5_000 + n.cast_signed(),
        epoch: 2,
        seq: n,
        terminal: n << 32 | 9,
        line: u16::try_from(n % 60_000).unwrap_or(0),
    }
}

/// A stock row made from a number.
pub(super) fn sku_row(n: u64) -> SkuRow {
    SkuRow {
        counted: n.is_multiple_of(2).then(|| (move_key(n), -n.cast_signed())),
        moved: -3 * n.cast_signed(),
        reserved: n.cast_signed(),
        last_move: move_key(n + 1),
        as_of_us: n.cast_signed() - 77,
        flags: 5,
        unit: 2,
    }
}

pub(super) fn rollup_row(n: u64) -> RollupRow {
    RollupRow {
        totals: totals(n),
        returns_net: -i128::from(n),
        moved: i128::from(n) - 1,
    }
}

pub(super) fn rollup_key(store: u32, dim: Dim, day: u16, hour_us: i64, key: u64) -> RollupKey {
    RollupKey {
        store,
        dim,
        day,
        hour_us,
        key,
    }
}

pub(super) fn store_row(n: u64) -> StoreRow {
    StoreRow {
        currency: 978,
        zone: "Europe/Berlin".to_owned(),
        registered_at_us: 1_700_000_000_000_000 + n.cast_signed(),
        applied: n * 10,
        training: totals(n + 20),
    }
}

pub(super) fn terminal_row(n: u64) -> TerminalRow {
    let digest = |epoch| EpochProgress {
        epoch,
        next_seq: n + 1,
        digest: u64::MAX - n,
    };
    TerminalRow {
        epochs: vec![digest(1), digest(3)],
        last_seen_us: n.cast_signed(),
        last_event_at_us: -n.cast_signed(),
        totals: totals(n),
        shift_day: 20_000,
        shift: totals(n + 1),
        applied: n,
        duplicates: n + 1,
        refused: n + 2,
        quarantined: n + 3,
        flags: u32::MAX,
    }
}

pub(super) fn quarantine_row(n: u64) -> QuarantineRow {
    QuarantineRow {
        reason: 201,
        received_at_us: n.cast_signed(),
        position: n * 3,
        sku: n,
        quantity: -n.cast_signed(),
    }
}

pub(super) fn event_id(n: u64) -> EventId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    bytes[8..].copy_from_slice(&(!n).to_be_bytes());
    EventId::from_bytes(bytes)
}

/// One row of every table, made from a number from 1 on.
///
/// # Errors
/// [`StoreError`] for a number that is no store.
pub fn sample(n: u32) -> Result<FlushBatch, StoreError> {
    let wide = u64::from(n);
    let terminal = terminal_id(n, 4)?;
    Ok(FlushBatch {
        stores: vec![(store_id(n)?, store_row(wide))],
        terminals: vec![(terminal, terminal_row(wide))],
        skus: vec![((store_id(n)?, SkuId::from_u64(wide << 40)), sku_row(wide))],
        rollups: vec![(
            rollup_key(n, Dim::Sku, 20_000, -3_600_000_000, wide),
            rollup_row(wide),
        )],
        event_ids: vec![(
            event_id(wide),
            EventIdRow {
                terminal: terminal.to_u64(),
                epoch: n,
                seq: wide,
                content: u64::MAX - wide,
            },
        )],
        quarantine: vec![(
            QuarantineKey {
                terminal: terminal.to_u64(),
                epoch: 1,
                seq: wide,
                line: u16::MAX,
            },
            Some(quarantine_row(wide)),
        )],
        names: vec![(Space::Sku, wide, format!("code {n}"))],
        checkpoint: Some(wide * 100),
    })
}

/// Everything that a store holds, as one flush whose rows stand in scan order: two stores are equal when these are.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn filled(views: &dyn Views) -> Result<Sample, StoreError> {
    let mut all = FlushBatch {
        checkpoint: Some(views.checkpoint()?),
        ..FlushBatch::default()
    };
    views.stores(&mut |key, row| {
        all.stores.push((key, row));
        ControlFlow::Continue(())
    })?;
    for (store, _) in &all.stores {
        views.terminals(*store, &mut |key, row| {
            all.terminals.push((key, row));
            ControlFlow::Continue(())
        })?;
        views.skus(*store, SkuId::from_u64(0), &mut |sku, row| {
            all.skus.push(((*store, sku), row));
            ControlFlow::Continue(())
        })?;
        for dim in [
            Dim::Store,
            Dim::Sku,
            Dim::Category,
            Dim::Tender,
            Dim::Operator,
        ] {
            views.rollups(*store, dim, 0..=u16::MAX, &mut |key, row| {
                all.rollups.push((key, row));
                ControlFlow::Continue(())
            })?;
        }
    }
    views.event_ids(&mut |key, row| {
        all.event_ids.push((key, row));
        ControlFlow::Continue(())
    })?;
    views.quarantine(&mut |key, row| {
        all.quarantine.push((key, Some(row)));
        ControlFlow::Continue(())
    })?;
    views.names(&mut |(space, id), name| {
        all.names.push((space, id, name));
        ControlFlow::Continue(())
    })?;
    Ok(Sample { rows: all })
}
