//! The derived rows of commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use till_storage::cluster::Commit;
use till_storage::views::FlushBatch;

use super::key::{dim_cell, signed, space_cell};
use super::tables::{
    EventIdCells, LevelRow, NameRow, QuarantineCells, QuarantineGone, RollupCells, RollupDayRow,
    StoreCells, TerminalCells,
};
use crate::rows::{DueCells, Id64, Stamped, date};

/// Derived rows, each with its timestamp.
#[derive(Debug, Default)]
pub(crate) struct Derived {
    pub(crate) terminals: Vec<Stamped<TerminalCells>>,
    pub(crate) levels: Vec<Stamped<LevelRow>>,
    pub(crate) rollups: Vec<Stamped<RollupCells>>,
    pub(crate) rollup_days: Vec<Stamped<RollupDayRow>>,
    pub(crate) days_due: Vec<Stamped<DueCells>>,
    pub(crate) event_ids: Vec<Stamped<EventIdCells>>,
    pub(crate) quarantine: Vec<Stamped<QuarantineCells>>,
    pub(crate) gone: Vec<Stamped<QuarantineGone>>,
    pub(crate) names: Vec<Stamped<NameRow>>,
    pub(crate) stores: Vec<Stamped<StoreCells>>,
}

// Rows of one flush have one timestamp: of two with one key the server would keep the larger, not the later.
fn last_of<'a, K: Ord + Copy + 'a, R: 'a>(
    commits: &'a [Arc<Commit>],
    rows: impl Fn(&'a FlushBatch) -> &'a Vec<(K, R)>,
) -> BTreeMap<K, Stamped<&'a R>> {
    let of_one = |commit: &'a Arc<Commit>| {
        let stamp = commit.flush.cast_signed();
        let rows = rows(&commit.rows).iter();
        rows.map(move |(key, row)| (*key, (stamp, row)))
    };
    commits.iter().flat_map(of_one).collect()
}

/// The derived rows of commits that follow each other: each key once, as the last of them left it.
pub(crate) fn derived_of(commits: &[Arc<Commit>]) -> Derived {
    let mut out = Derived::default();
    for (store, (stamp, row)) in last_of(commits, |rows| &rows.stores) {
        out.stores.push((stamp, StoreCells::new(store, row)));
    }
    for (terminal, (stamp, row)) in last_of(commits, |rows| &rows.terminals) {
        out.terminals
            .push((stamp, TerminalCells::new(terminal, row)));
    }
    for ((store, sku), (stamp, row)) in last_of(commits, |rows| &rows.skus) {
        out.levels.push((stamp, LevelRow::new(store, sku, row)));
    }
    let mut days = BTreeSet::new();
    for (key, (stamp, row)) in last_of(commits, |rows| &rows.rollups) {
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
    out.days_due = due_of(commits);
    for (id, (stamp, row)) in last_of(commits, |rows| &rows.event_ids) {
        out.event_ids.push((stamp, EventIdCells::new(&id, row)));
    }
    for (key, (stamp, row)) in last_of(commits, |rows| &rows.quarantine) {
        match row {
            Some(row) => {
                let cells = QuarantineCells::new(&key, row);
                out.quarantine.push((stamp, cells));
            }
            None => out.gone.push((stamp, QuarantineGone::new(&key))),
        }
    }
    for commit in commits {
        out.names.extend(names_of(commit));
    }
    out
}

// Each day of which hours are written, as the last commit with some leaves it.
fn due_of(commits: &[Arc<Commit>]) -> Vec<Stamped<DueCells>> {
    let mut last = BTreeMap::new();
    for commit in commits {
        for (key, _) in &commit.rows.rollups {
            last.insert((commit.slot, (key.store, key.day)), commit.flush);
        }
    }
    let rows = last.into_iter().map(|((slot, day), flush)| {
        let row = DueCells::new(slot, day, flush);
        (flush.cast_signed(), row)
    });
    rows.collect()
}

fn names_of(commit: &Commit) -> impl Iterator<Item = Stamped<NameRow>> {
    let names = commit.rows.names.iter();
    names.map(|(space, id, name)| {
        let row = NameRow {
            space: space_cell(*space),
            id: Id64(*id),
            name: name.clone(),
        };
        (commit.flush.cast_signed(), row)
    })
}
