//! The rows of a slot from its log: what a rebuild writes into the tables, and a base keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use till_core::{Record, ShardConfig};
use till_protocol::id::StoreId;

use super::{
    Commit, FlushLog, LogError, LogStart, Maintenance, SharedStore, SlotBase, SlotRow, entry_of,
    records_of,
};
use crate::base::{self, FoldError};
use crate::journal::Lsn;
use crate::num::narrow;
use crate::query::FactReader;
use crate::rebuild::{Fold, Unapplied, store_of};
use crate::views::{FlushBatch, StoreError, WriteViews};

/// Flushes of which the records are in memory at once. Those of a busy chain have some hundred kilobytes each, and tens of megabytes
/// after an hour without the store.
const FLUSHES: u64 = 4;
/// Records of a base in memory at once: 64 KiB each.
pub(super) const BASE_RECORDS: u32 = 64;

/// Why a log was not read to its end.
pub(super) enum WindowError {
    /// It is not whole.
    Log(LogError),
    /// The store did not answer.
    Store(StoreError),
    /// Whoever was given its commits failed.
    Fold(FoldError),
}

/// The commits of a slot without their rows, from flush `first` to `last`, in order, some at a time. `each` says whether to go on.
pub(super) fn each_window(
    store: &dyn SharedStore,
    row: &SlotRow,
    (first, last): (u64, u64),
    each: &mut dyn FnMut(Vec<Arc<Commit>>) -> Result<bool, FoldError>,
) -> Result<(), WindowError> {
    let mut next = first;
    while next <= last {
        let upto = last.min(next + FLUSHES - 1);
        let commits = window(store, row, (next, upto))?.into_iter();
        let commits: Result<Vec<_>, LogError> = commits.collect();
        if !each(commits.map_err(WindowError::Log)?).map_err(WindowError::Fold)? {
            return Ok(());
        }
        next = upto + 1;
    }
    Ok(())
}

/// As [`each_window`], of flushes of which the log may be deleted: those that are gone are left out.
pub(super) fn each_left(
    store: &dyn SharedStore,
    row: &SlotRow,
    (first, last): (u64, u64),
    each: &mut dyn FnMut(Vec<Arc<Commit>>) -> Result<(), FoldError>,
) -> Result<(), WindowError> {
    let mut next = first;
    while next <= last {
        let upto = last.min(next + FLUSHES - 1);
        let commits = window(store, row, (next, upto))?.into_iter();
        let is_gone = |error: &LogError| {
            matches!(
                error,
                LogError::Unsealed { .. } | LogError::Records { found: 0, .. }
            )
        };
        let left = commits.filter(|commit| !commit.as_ref().is_err_and(is_gone));
        let left: Result<Vec<_>, LogError> = left.collect();
        each(left.map_err(WindowError::Log)?).map_err(WindowError::Fold)?;
        next = upto + 1;
    }
    Ok(())
}

fn window(
    store: &dyn SharedStore,
    row: &SlotRow,
    (first, last): (u64, u64),
) -> Result<Vec<Result<Arc<Commit>, LogError>>, WindowError> {
    let logs = store.logs(row, (first, last)).map_err(WindowError::Store)?;
    let commits = (first..=last).map(|flush| commit_of(row.slot, flush, &logs).map(Arc::new));
    Ok(commits.collect())
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

/// The records of a base in order, some at a time in memory. What is not as its digest has it is found behind the last.
pub(super) struct SlotBaseRecords<'a> {
    store: &'a dyn Maintenance,
    base: SlotBase,
    next: u32,
    found: std::vec::IntoIter<bytes::Bytes>,
    digest: Sha256,
    has_ended: bool,
}

impl<'a> SlotBaseRecords<'a> {
    pub(super) fn new(store: &'a dyn Maintenance, base: &SlotBase) -> Self {
        Self {
            store,
            base: *base,
            next: 0,
            found: Vec::new().into_iter(),
            digest: Sha256::new(),
            has_ended: false,
        }
    }

    fn read(&mut self) -> Result<Option<Record>, StoreError> {
        let damaged = |cause: String| StoreError::Damaged {
            table: "slot_base",
            cause,
        };
        let (slot, flush) = (self.base.slot, self.base.flush);
        if self.found.len() == 0 && self.next < self.base.records {
            let count = BASE_RECORDS.min(self.base.records - self.next);
            let found = self.store.base_records(&self.base, self.next, count)?;
            if narrow(found.len()) != count {
                let records = self.base.records;
                return Err(damaged(format!(
                    "of {records} records of the base of slot {slot} at flush {flush}, some from {} on are gone",
                    self.next
                )));
            }
            self.next += count;
            self.found = found.into_iter();
        }
        let Some(bytes) = self.found.next() else {
            let digest: [u8; 32] = std::mem::take(&mut self.digest).finalize().into();
            return match digest == self.base.digest {
                true => Ok(None),
                false => Err(damaged(format!(
                    "the base of slot {slot} at flush {flush} is not the one that was made"
                ))),
            };
        };
        self.digest.update(&bytes);
        let (record, _) = entry_of(&bytes)
            .map_err(|what| damaged(format!("{what} of the base of slot {slot} cannot be read")))?;
        Ok(Some(record))
    }
}

impl Iterator for SlotBaseRecords<'_> {
    type Item = Result<Record, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let read = self.read().transpose();
        self.has_ended = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Folds the log of a slot into empty rows, on top of its base where there is one.
pub(super) struct SlotFold<'a> {
    fold: Fold<'a>,
    rows: &'a dyn WriteViews,
    /// The base has what is up to here.
    upto: u64,
    reach: BTreeMap<StoreId, u64>,
}

/// What came of it.
pub(super) struct Folded {
    /// Records of stores without a registration, which are in no row.
    pub(super) left_out: BTreeMap<StoreId, u64>,
    /// Records that fit nowhere.
    pub(super) unapplied: Vec<Unapplied>,
}

impl<'a> SlotFold<'a> {
    pub(super) fn begin(
        store: &dyn Maintenance,
        start: &LogStart,
        (rows, facts): (&'a dyn WriteViews, &'a dyn FactReader),
    ) -> Result<Self, FoldError> {
        if let Some(base) = &start.base {
            let end = Lsn::new(Commit::position(base.flush + 1, 0));
            base::load(rows, end, SlotBaseRecords::new(store, base))?;
        }
        Ok(Self {
            fold: Fold::new(rows, facts, ShardConfig::default()),
            rows,
            upto: start.base.map_or(0, |base| base.flush),
            reach: BTreeMap::new(),
        })
    }

    pub(super) fn apply(&mut self, commit: &Commit) -> Result<(), FoldError> {
        if commit.flush <= self.upto {
            return Ok(());
        }
        for (index, record) in (0..).zip(&commit.records) {
            let position = Lsn::new(Commit::position(commit.flush, index));
            self.fold.apply(position, record)?;
        }
        self.reach.extend(reached(commit));
        Ok(())
    }

    /// Writes the rest of the rows, and how far those of each store are.
    pub(super) fn finish(self) -> Result<Folded, FoldError> {
        let folded = Folded {
            left_out: self.fold.left_out().clone(),
            unapplied: self.fold.unapplied().to_vec(),
        };
        self.fold.finish_part()?;
        let mut reached = FlushBatch::default();
        for (id, applied) in self.reach {
            if let Some(mut row) = self.rows.store(id)? {
                row.applied = applied;
                reached.stores.push((id, row));
            }
        }
        self.rows.write(&reached)?;
        Ok(folded)
    }
}

/// The stores of a commit, with the position up to which their rows then hold everything: that of its last record.
pub(super) fn reached(commit: &Commit) -> impl Iterator<Item = (StoreId, u64)> {
    let last = narrow(commit.records.len().saturating_sub(1));
    let last = Commit::position(commit.flush, last);
    let stores = commit
        .records
        .iter()
        .filter_map(|record| store_of(&record.head));
    stores.map(move |store| (store, last))
}
