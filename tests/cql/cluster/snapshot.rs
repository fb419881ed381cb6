//! Rows as they stand, to see whether anything changed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::world::World;

/// Facts and derived rows, these with the flush that wrote them, and the checkpoint of each slot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Snapshot {
    /// Table and row, as JSON.
    rows: BTreeSet<(&'static str, String)>,
    /// Table, key, and the flush that wrote it.
    stamps: BTreeSet<(&'static str, String)>,
    /// By slot.
    checkpoints: BTreeMap<i32, Checkpoint>,
}

/// Flush and its seal.
type Checkpoint = (i64, Option<Vec<u8>>);

/// Derived tables, each with its key and a column whose write time tells that of the row.
const STAMPED: [(&str, &str, &str); 4] = [
    ("rollups", "store, day, dim, hour_us, key", "net_minor"),
    ("levels", "store, bucket, sku", "quantity_e5"),
    ("terminals", "store, terminal", "applied"),
    ("stores", "part, store", "applied"),
];
/// Tables whose rows say all by being there: other derived ones, facts, and what points to records.
const PLAIN: [&str; 13] = [
    "rollup_days",
    "event_ids",
    "quarantine",
    "names",
    "transactions",
    "lines",
    "stock_moves",
    "telemetry",
    "audit",
    "hours",
    "hour_index",
    "run_index",
    "receipt_index",
];

impl Snapshot {
    pub(crate) fn take(world: &World) -> Result<Self> {
        let k = &world.keyspace;
        let mut rows = BTreeSet::new();
        let mut stamps = BTreeSet::new();
        for table in STAMPED.map(|(table, ..)| table).into_iter().chain(PLAIN) {
            let text = format!("SELECT JSON * FROM {k}.{table}");
            let found = world.cql.rows::<(String,)>(&text)?;
            rows.extend(found.into_iter().map(|(row,)| (table, row)));
        }
        for (table, key, column) in STAMPED {
            let text = format!("SELECT JSON {key}, WRITETIME({column}) FROM {k}.{table}");
            let found = world.cql.rows::<(String,)>(&text)?;
            stamps.extend(found.into_iter().map(|(row,)| (table, row)));
        }
        let text = format!("SELECT slot, flush, seal FROM {k}.slots");
        let slots = world.cql.rows(&text)?.into_iter();
        let checkpoints =
            slots.map(|(slot, flush, seal): (i32, i64, Option<Vec<u8>>)| (slot, (flush, seal)));
        Ok(Self {
            rows,
            stamps,
            checkpoints: checkpoints.collect(),
        })
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Whether rows, their stamps and all checkpoints are the same.
    pub(crate) fn must_equal(&self, other: &Self) -> Result<()> {
        self.same_rows(other)?;
        differ("stamps", &self.stamps, &other.stamps)?;
        for (slot, before) in &self.checkpoints {
            let after = other.checkpoints.get(slot);
            if after != Some(before) {
                bail!("slot {slot} was at flush {before:?} and is at {after:?}");
            }
        }
        Ok(())
    }

    /// Whether the rows are the same, whoever wrote them.
    pub(crate) fn same_rows(&self, other: &Self) -> Result<()> {
        differ("rows", &self.rows, &other.rows)
    }
}

fn differ(
    what: &str,
    before: &BTreeSet<(&str, String)>,
    after: &BTreeSet<(&str, String)>,
) -> Result<()> {
    let gone = before.difference(after).take(5);
    let new = after.difference(before).take(5);
    let changed: Vec<String> = gone
        .map(|row| format!("was: {row:?}"))
        .chain(new.map(|row| format!("is: {row:?}")))
        .collect();
    if !changed.is_empty() {
        bail!("{what} changed:\n{}", changed.join("\n"));
    }
    Ok(())
}
