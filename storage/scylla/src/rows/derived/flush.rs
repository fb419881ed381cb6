//! The derived rows of a flush.

use std::collections::{BTreeMap, BTreeSet};

use till_storage::views::FlushBatch;

use super::key::{dim_cell, signed, space_cell};
use super::tables::{
    EventIdCells, LevelRow, NameRow, QuarantineCells, QuarantineGone, RollupCells, RollupDayRow,
    StoreCells, TerminalCells,
};
use crate::rows::{Stamped, date};

/// The derived rows of a commit, but for the stores: each key once, the last one of it.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    pub(crate) terminals: Vec<Stamped<TerminalCells>>,
    pub(crate) levels: Vec<Stamped<LevelRow>>,
    pub(crate) rollups: Vec<Stamped<RollupCells>>,
    pub(crate) rollup_days: Vec<Stamped<RollupDayRow>>,
    pub(crate) event_ids: Vec<Stamped<EventIdCells>>,
    pub(crate) quarantine: Vec<Stamped<QuarantineCells>>,
    pub(crate) gone: Vec<Stamped<QuarantineGone>>,
    pub(crate) names: Vec<Stamped<NameRow>>,
    pub(crate) stores: Vec<Stamped<StoreCells>>,
}

// Rows of one flush have one timestamp: of two with one key the server would keep the larger, not the later.
fn last_of<K: Ord + Copy, R>(rows: &[(K, R)]) -> BTreeMap<K, &R> {
    rows.iter().map(|(key, row)| (*key, row)).collect()
}

/// The derived rows of a flush with this number.
pub(crate) fn derived_of(flush: u64, rows: &FlushBatch) -> Derived {
    let stamp = flush.cast_signed();
    let mut out = Derived::default();
    for (store, row) in last_of(&rows.stores) {
        out.stores.push((stamp, StoreCells::new(store, row)));
    }
    for (terminal, row) in last_of(&rows.terminals) {
        out.terminals
            .push((stamp, TerminalCells::new(terminal, row)));
    }
    for ((store, sku), row) in last_of(&rows.skus) {
        out.levels.push((stamp, LevelRow::new(store, sku, row)));
    }
    let mut days = BTreeSet::new();
    for (key, row) in last_of(&rows.rollups) {
        out.rollups.push((stamp, RollupCells::new(&key, row)));
        if days.insert((key.store, key.dim, key.day)) {
            let day = RollupDayRow {
                store: signed(key.store),
                dim: dim_cell(key.dim),
                day: date(key.day),
            };
            out.rollup_days.push((stamp, day));
        }
    }
    let ids = rows.event_ids.iter();
    let ids: BTreeMap<_, _> = ids.map(|(id, row)| (id.to_bytes(), (id, row))).collect();
    for (id, row) in ids.into_values() {
        out.event_ids.push((stamp, EventIdCells::new(id, row)));
    }
    for (key, row) in last_of(&rows.quarantine) {
        match row {
            Some(row) => {
                let cells = QuarantineCells::new(&key, row);
                out.quarantine.push((stamp, cells));
            }
            None => out.gone.push((stamp, QuarantineGone::new(&key))),
        }
    }
    for (space, id, name) in &rows.names {
        let row = NameRow {
            space: space_cell(*space),
            id: id.cast_signed(),
            name: name.clone(),
        };
        out.names.push((stamp, row));
    }
    out
}
