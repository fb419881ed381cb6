//! Rows that are made anew from the records of commits, beside those that engines wrote.
//!
//! A commit brings records and the rows after them. What its records make of the rows before must be these rows: nothing
//! else may come into them, from an engine's memory or from an earlier owner, and nothing may stay out. What differs for good
//! reasons is left out:
//!
//! * how far a store's rows are: they say the place of the last record of their commit, which may be another store's;
//! * rows of a commit that are as they were: an engine may write one again;
//! * names that no record brings: they are written before the commit that uses them, which may then be another's, or nobody's
//!   where an engine is lost with its disk and a device with what it had.

use std::fmt::Debug;

use till_core::{Rows as _, RowsError, ShardConfig, StoreRow};
use till_storage::base::FoldError;
use till_storage::cluster::Commit;
use till_storage::journal::Lsn;
use till_storage::memory::MemoryViews;
use till_storage::query::FactReader;
use till_storage::rebuild::Fold;
use till_storage::views::{FlushBatch, Views, WriteViews as _};

use super::Placed;

/// Why rows are not those that their records make.
type Unlike = String;

/// Rows as the records of all commits make them.
#[derive(Debug, Default)]
pub(super) struct Anew(MemoryViews);

impl Anew {
    /// Takes in the records of a commit whose rows were written for the first time just now, and compares what changes.
    pub(super) fn take_in(
        &self,
        commit: &Commit,
        facts: &dyn FactReader,
        written: &dyn Views,
    ) -> Result<(), Unlike> {
        let mut fold = Fold::new(&self.0, facts, ShardConfig::default());
        for (index, record) in (0..).zip(&commit.records) {
            let place = Lsn::new(Commit::position(commit.flush, index));
            fold.apply(place, record).map_err(|error| unmade(&error))?;
        }
        is_whole(&fold)?;
        let made = FlushBatch::from(fold.into_shard().take_dirty());
        self.0.write(&made).map_err(|error| error.to_string())?;
        let mut first = First::default();
        for rows in [&made, &commit.rows] {
            self.compare(rows, written, &mut first)
                .map_err(|error| error.to_string())?;
        }
        let last = commit.records.len().saturating_sub(1);
        let last = Commit::position(commit.flush, u32::try_from(last).unwrap_or(u32::MAX));
        for (key, _) in &commit.rows.stores {
            let row = written.store(*key).map_err(|error| error.to_string())?;
            first.note("marks", key, row.map(|row| row.applied), Some(last));
        }
        first.0.map_or(Ok(()), Err)
    }

    // The rows of these keys.
    fn compare(
        &self,
        of: &FlushBatch,
        written: &dyn Views,
        unlike: &mut First,
    ) -> Result<(), RowsError> {
        for (key, _) in &of.stores {
            let [told, anew] = [written.store(*key)?, self.0.store(*key)?];
            let unmarked = |row: StoreRow| StoreRow { applied: 0, ..row };
            unlike.note("stores", key, told.map(unmarked), anew.map(unmarked));
        }
        for (key, _) in &of.terminals {
            let anew = self.0.terminal(*key)?;
            unlike.note("terminals", key, written.terminal(*key)?, anew);
        }
        for (key, _) in &of.skus {
            let anew = self.0.sku(key.0, key.1)?;
            unlike.note("skus", key, written.sku(key.0, key.1)?, anew);
        }
        for (key, _) in &of.rollups {
            unlike.note("sums", key, written.rollup(key)?, self.0.rollup(key)?);
        }
        for (key, _) in &of.event_ids {
            let anew = self.0.event_id(key)?;
            unlike.note("event ids", key, written.event_id(key)?, anew);
        }
        for (key, _) in &of.quarantine {
            let anew = self.0.quarantined(key)?;
            unlike.note("quarantine", key, written.quarantined(key)?, anew);
        }
        for (space, id, name) in &of.names {
            let told = written.name(*space, *id)?;
            unlike.note("names", &(*space, *id), told.as_ref(), Some(name));
        }
        Ok(())
    }
}

/// The first difference.
#[derive(Default)]
struct First(Option<Unlike>);

impl First {
    fn note<R: Debug + PartialEq>(
        &mut self,
        table: &str,
        key: &impl Debug,
        told: Option<R>,
        anew: Option<R>,
    ) {
        if told != anew && self.0.is_none() {
            let what = format!("{table}: {key:?} is {told:?}, and its records make {anew:?}");
            self.0 = Some(what);
        }
    }
}

/// All rows of a store, from its facts alone.
pub(super) fn rebuilt(kept: &Placed, facts: &dyn FactReader) -> Result<MemoryViews, Unlike> {
    let rows = MemoryViews::new();
    let mut fold = Fold::new(&rows, facts, ShardConfig::default());
    for (place, record) in kept {
        let place = Lsn::new(*place);
        fold.apply(place, record).map_err(|error| unmade(&error))?;
    }
    is_whole(&fold)?;
    fold.finish_part().map_err(|error| unmade(&error))?;
    Ok(rows)
}

fn unmade(error: &FoldError) -> Unlike {
    format!("no rows from records: {error}")
}

fn is_whole(fold: &Fold<'_>) -> Result<(), Unlike> {
    match (fold.unplaced(), fold.left_out().is_empty()) {
        ([], true) => Ok(()),
        (unplaced, _) => Err(format!("{unplaced:?} fit nowhere, {fold:?}")),
    }
}
