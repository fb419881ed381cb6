//! Every fact and row of a chain again, from the committed log of its slots, while no engine works on it.
//!
//! All of the log is read before anything changes: where records of it are lost, the rows that are there are worth more than
//! those that could be made. Then every slot is fenced and noted as [unmade](SlotRow::UNMADE), the tables are emptied, and one slot after the
//! other is folded in a scratch store and written. Until a slot's row says again that all its rows are written, an engine that takes
//! it does not serve it. A rebuild that was cut short is begun anew by the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use till_core::ShardConfig;
use till_protocol::id::StoreId;

use super::{
    Change, Commit, FlushLog, LogError, NodeRow, SharedStore, SlotRow, change_slot, records_of,
};
use crate::base::FoldError;
use crate::journal::Lsn;
use crate::num::narrow;
use crate::rebuild::{Fold, Unapplied, store_of};
use crate::views::{FlushBatch, StoreError, WriteViews, each_batch};

/// Flushes of which the records are in memory at once. Those of a busy chain have some hundred kilobytes each, and tens of megabytes
/// after an hour without the store.
const FLUSHES: u64 = 4;
/// Rows that are written at once: a few megabytes.
const ROWS: usize = 20_000;

/// Why a chain could not be rebuilt.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The log of a slot is not whole.
    #[error("the log of slot {slot} is not whole: {error}; nothing was changed")]
    Log {
        /// The slot.
        slot: u32,
        /// What is missing or damaged.
        error: LogError,
    },
    /// An engine lives.
    #[error("the engine at {address} runs: stop every engine of the chain first")]
    Runs {
        /// Where devices reach it.
        address: String,
    },
    /// The log of a slot was whole, and is not any more.
    #[error(
        "the log of slot {slot} was whole before tables were emptied, and is not any more: {error}; rebuild again once it is"
    )]
    Lost {
        /// The slot.
        slot: u32,
        /// What is missing or damaged.
        error: LogError,
    },
    /// Somebody else has changed a slot.
    #[error(
        "slot {slot} changed hands meanwhile: stop every engine of the chain, and rebuild again"
    )]
    Taken {
        /// The slot.
        slot: u32,
    },
    /// Records could not be folded, or the scratch store could not be used.
    #[error("slot {slot}: {error}; rebuild again once that is mended")]
    Fold {
        /// The slot.
        slot: u32,
        /// Why.
        error: FoldError,
    },
    /// The store did not answer.
    #[error("{0}; rebuild again: until it has ended, engines do not serve what is not rebuilt")]
    Store(#[from] StoreError),
}

/// What a rebuild came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Rebuilt {
    /// Slots with records.
    pub slots: u32,
    /// Their records.
    pub records: u64,
    /// Rows that were made of them, facts left out.
    pub rows: u64,
    /// Records of stores without a registration, which are in no row.
    pub left_out: BTreeMap<StoreId, u64>,
    /// Records that fit nowhere.
    pub unapplied: Vec<Unapplied>,
}

/// How far a rebuild is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RebuildStep {
    /// The log of so many slots of so many was read and is whole.
    Read(u64, u64),
    /// So many slots of so many are rebuilt.
    Made(u64, u64),
}

/// Gives an empty store for the rows of a slot. It can be dropped afterwards.
pub type Scratch<'a> = &'a mut dyn FnMut(u32) -> Result<Box<dyn WriteViews>, StoreError>;

/// Makes every fact and row of a chain anew from its log. Names stay as they are.
///
/// The caller has made sure that no engine runs. One that starts meanwhile fences the rebuild, or serves nothing that is not
/// rebuilt.
///
/// # Errors
/// [`RebuildError`]. But for [`RebuildError::Log`], the chain has to be rebuilt again.
pub fn rebuild(
    store: &dyn SharedStore,
    scratch: Scratch<'_>,
    told: &mut dyn FnMut(RebuildStep),
) -> Result<Rebuilt, RebuildError> {
    store.may_clear()?;
    let nodes = store.nodes()?;
    let mut slots = Vec::new();
    for slot in 0..store.slots() {
        // After everything that was decided of it.
        slots.push(store.slot(slot)?);
    }
    let with_log = u64::from(narrow(slots.iter().filter(|row| row.flush > 0).count()));
    for (done, row) in (1..).zip(slots.iter().filter(|row| row.flush > 0)) {
        each_window(store, row, &mut |_| Ok(())).map_err(unchanged)?;
        told(RebuildStep::Read(done, with_log));
    }
    // Those without a log as well: nobody writes rows of them either while tables are emptied.
    for row in &mut slots {
        *row = noted(store, row, SlotRow::UNMADE)?;
    }
    none_lives(store, &nodes)?;
    store.clear()?;
    let (empty, slots): (Vec<_>, Vec<_>) = slots.into_iter().partition(|row| row.flush == 0);
    for row in &empty {
        let _row = noted(store, row, 0)?;
    }
    let mut rebuilt = Rebuilt {
        slots: narrow(slots.len()),
        ..Rebuilt::default()
    };
    for (done, row) in (1..).zip(&slots) {
        let rows = scratch(row.slot)?;
        of_slot(store, row, rows.as_ref(), &mut rebuilt)?;
        let _row = noted(store, row, row.flush)?;
        told(RebuildStep::Made(done, with_log));
    }
    Ok(rebuilt)
}

// The log was read before anything was changed.
fn unchanged(error: RebuildError) -> RebuildError {
    match error {
        RebuildError::Lost { slot, error } => RebuildError::Log { slot, error },
        other => other,
    }
}

// Whether no engine has shown a heartbeat since the slots were read: that took a while.
fn none_lives(store: &dyn SharedStore, before: &[NodeRow]) -> Result<(), RebuildError> {
    for node in store.nodes()? {
        let known = before.iter().find(|one| one.node == node.node);
        if known.is_none_or(|known| known.heartbeat < node.heartbeat) {
            return Err(RebuildError::Runs {
                address: node.address,
            });
        }
    }
    Ok(())
}

// Fences whoever has the slot, and notes up to where its rows are written. Gives its row as it is then.
fn noted(store: &dyn SharedStore, row: &SlotRow, applied: u64) -> Result<SlotRow, RebuildError> {
    let is = change_slot(store, row, Change::Release { applied })?;
    is.ok_or(RebuildError::Taken { slot: row.slot })
}

// The commits of a slot without their rows, in order, some at a time.
fn each_window(
    store: &dyn SharedStore,
    row: &SlotRow,
    each: &mut dyn FnMut(Vec<Arc<Commit>>) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    let mut next = 1;
    while next <= row.flush {
        let last = row.flush.min(next + FLUSHES - 1);
        let logs = store.logs(row, (next, last))?;
        let commits = (next..=last).map(|flush| commit_of(row.slot, flush, &logs).map(Arc::new));
        let commits: Result<Vec<_>, LogError> = commits.collect();
        let slot = row.slot;
        each(commits.map_err(|error| RebuildError::Lost { slot, error })?)?;
        next = last + 1;
    }
    Ok(())
}

fn commit_of(slot: u32, flush: u64, logs: &[FlushLog]) -> Result<Commit, LogError> {
    let log = logs.iter().find(|one| one.flush == flush);
    let log = log.ok_or(LogError::Unsealed { flush })?;
    Ok(Commit {
        slot,
        flush,
        epoch: log.seal.epoch,
        records: records_of((slot, flush), &log.seal, &log.log.records)?,
        rows: FlushBatch::default(),
    })
}

fn of_slot(
    store: &dyn SharedStore,
    row: &SlotRow,
    rows: &dyn WriteViews,
    rebuilt: &mut Rebuilt,
) -> Result<(), RebuildError> {
    let failed = |error: FoldError| RebuildError::Fold {
        slot: row.slot,
        error,
    };
    let facts = store.facts();
    let mut fold = Fold::new(rows, facts.as_ref(), ShardConfig::default());
    let mut reach = BTreeMap::new();
    each_window(store, row, &mut |commits| {
        // Facts first: a count that came late is made of them.
        store.project(&commits)?;
        for commit in &commits {
            for (index, record) in (0..).zip(&commit.records) {
                let position = Lsn::new(Commit::position(commit.flush, index));
                fold.apply(position, record).map_err(failed)?;
            }
            reach.extend(reached(commit));
            rebuilt.records += u64::from(narrow(commit.records.len()));
        }
        Ok(())
    })?;
    rebuilt.left_out.extend(fold.left_out());
    rebuilt.unapplied.extend_from_slice(fold.unapplied());
    fold.finish_part().map_err(failed)?;
    each_batch(rows, ROWS, &mut |mut batch| {
        for (id, store) in &mut batch.stores {
            store.applied = reach.get(id).copied().unwrap_or(store.applied);
        }
        rebuilt.rows += u64::try_from(batch.rows()).unwrap_or(u64::MAX);
        let commit = Commit {
            slot: row.slot,
            flush: row.flush,
            epoch: row.seal.epoch,
            records: Vec::new(),
            rows: batch,
        };
        store.project(&[Arc::new(commit)])
    })?;
    Ok(())
}

/// The stores of a commit, with the position up to which their rows then hold everything: that of its last record.
fn reached(commit: &Commit) -> impl Iterator<Item = (StoreId, u64)> {
    let last = narrow(commit.records.len().saturating_sub(1));
    let last = Commit::position(commit.flush, last);
    let stores = commit
        .records
        .iter()
        .filter_map(|record| store_of(&record.head));
    stores.map(move |store| (store, last))
}

#[cfg(test)]
mod tests;
