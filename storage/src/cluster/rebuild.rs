//! Every fact and row of a chain again, from the committed log of its slots, while no engine works on it.
//!
//! All of the log is read before anything changes: where records of it are lost, the rows that are there are worth more than
//! those that could be made. Then every slot is fenced and noted as [unmade](SlotRow::UNMADE), the tables are emptied, and one slot after the
//! other is folded in a scratch store and written. Until a slot's row says again that all its rows are written, an engine that takes
//! it does not serve it. A rebuild that was cut short is begun anew by the next.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use thiserror::Error;
use till_protocol::id::StoreId;

use super::fold::{SlotBaseRecords, SlotFold, WindowError, each_window};
use super::{Change, Commit, LogError, Maintenance, NodeRow, SharedStore, SlotRow, change_slot};
use crate::base::FoldError;
use crate::num::narrow;
use crate::rebuild::Unapplied;
use crate::views::{StoreError, WriteViews, each_batch};

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
    /// The base of a slot is not whole.
    #[error("{0}; nothing was changed")]
    Base(StoreError),
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
    store: &dyn Maintenance,
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
        read_all(store, row)?;
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

// Reads everything that rows are made of, and makes nothing.
fn read_all(store: &dyn Maintenance, row: &SlotRow) -> Result<(), RebuildError> {
    let start = store.log_start(row.slot)?;
    if let Some(base) = &start.base {
        let mut records = SlotBaseRecords::new(store, base);
        records
            .try_for_each(|record| record.map(drop))
            .map_err(RebuildError::Base)?;
    }
    let flushes = (start.dropped + 1, row.flush);
    let read = each_window(store, row, flushes, &mut |_| Ok(true));
    read.map_err(|error| match failed(row.slot)(error) {
        RebuildError::Lost { slot, error } => RebuildError::Log { slot, error },
        other => other,
    })
}

fn failed(slot: u32) -> impl Fn(WindowError) -> RebuildError {
    move |error| match error {
        WindowError::Log(error) => RebuildError::Lost { slot, error },
        WindowError::Store(error) => RebuildError::Store(error),
        WindowError::Fold(error) => RebuildError::Fold { slot, error },
    }
}

fn of_slot(
    store: &dyn Maintenance,
    row: &SlotRow,
    rows: &dyn WriteViews,
    rebuilt: &mut Rebuilt,
) -> Result<(), RebuildError> {
    let slot = row.slot;
    let unfolded = |error: FoldError| RebuildError::Fold { slot, error };
    let facts = store.facts();
    let start = store.log_start(slot)?;
    let mut fold = SlotFold::begin(store, &start, (rows, facts.as_ref())).map_err(unfolded)?;
    known_stores(store, row, rows)?;
    let flushes = (start.dropped + 1, row.flush);
    let read = each_window(store, row, flushes, &mut |commits| {
        // Facts first: a count that came late is made of them.
        store.project(&commits)?;
        for commit in &commits {
            fold.apply(commit)?;
            rebuilt.records += u64::from(narrow(commit.records.len()));
        }
        Ok(true)
    });
    read.map_err(failed(slot))?;
    let folded = fold.finish().map_err(unfolded)?;
    rebuilt.left_out.extend(folded.left_out);
    rebuilt.unapplied.extend(folded.unapplied);
    each_batch(rows, ROWS, &mut |batch| {
        rebuilt.rows += u64::try_from(batch.rows()).unwrap_or(u64::MAX);
        let commit = Commit {
            slot,
            flush: row.flush,
            epoch: row.seal.epoch,
            records: Vec::new(),
            rows: batch,
        };
        store.project(&[Arc::new(commit)])
    })?;
    Ok(())
}

// Facts are written in a store's currency and time zone, and the record that registered it may be dropped.
fn known_stores(
    store: &dyn SharedStore,
    row: &SlotRow,
    rows: &dyn WriteViews,
) -> Result<(), StoreError> {
    let mut commit = Commit {
        slot: row.slot,
        epoch: row.seal.epoch,
        ..Commit::default()
    };
    rows.stores(&mut |id, row| {
        commit.rows.stores.push((id, row));
        ControlFlow::Continue(())
    })?;
    store.project(&[Arc::new(commit)])
}

#[cfg(test)]
pub(super) mod tests;
