//! Retention of a chain's log: records that were received before a time go, and a base stands in for them.
//!
//! One slot after the other, while engines work. The base is made at the flush up to which all rows are written, by folding the log
//! since the base before: as on a single engine (`DESIGN.md`, section 9), counts that came late are decided again only from facts
//! that stay. In this order, so that whatever is cut short leaves a log that rows can be made from: the base is written and read
//! back, noted, the flushes are noted as dropped, what points to their records and their facts are deleted, then their log, then the
//! base before.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use till_core::Record;
use till_protocol::id::StoreId;

use super::fold::{BASE_RECORDS, SlotBaseRecords, SlotFold, WindowError, each_left, each_window};
use super::{LogError, LogNote, LogStart, Maintenance, Scratch, SlotBase, SlotRow};
use crate::base::{FoldError, each_record};
use crate::journal::Prepared;
use crate::num::narrow;
use crate::pack::Table;
use crate::views::{StoreError, Views, WriteViews};

/// Flushes between two notes of how far the log is deleted: a partition of it.
const FLUSHES_PER_NOTE: u64 = 64;

/// Why retention ended before its end. What it has not dropped is whole; run again, it goes on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetainError {
    /// The log of a slot is not whole.
    #[error("the log of slot {slot} is not whole: {error}; nothing of it was dropped")]
    Log {
        /// The slot.
        slot: u32,
        /// What is missing or damaged.
        error: LogError,
    },
    /// The rows of a slot are to be made of its log.
    #[error("slot {slot} is being rebuilt, or was not to the end: rebuild first")]
    Unmade {
        /// The slot.
        slot: u32,
    },
    /// Records are in no row, so that no base can stand in for them.
    #[error(
        "slot {slot} has {records} records of store {store} without its registration: they are in no row, and are not dropped"
    )]
    LeftOut {
        /// The slot.
        slot: u32,
        /// The store.
        store: StoreId,
        /// How many.
        records: u64,
    },
    /// Somebody else does the same.
    #[error("another retention of slot {slot} runs: wait for its end")]
    Beside {
        /// The slot.
        slot: u32,
    },
    /// Rows could not be made, or the scratch store could not be used.
    #[error("slot {slot}: {error}")]
    Fold {
        /// The slot.
        slot: u32,
        /// Why.
        error: FoldError,
    },
    /// The store did not answer.
    #[error("{0}; run it again: it goes on where it was")]
    Store(#[from] StoreError),
}

/// What is to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RetainRequest {
    /// Records that were received before this time, in microseconds since 1970 UTC.
    pub before_us: i64,
    /// Tells the bases of this run from those of another one: chosen at random.
    pub run: [u8; 16],
}

/// What retention came to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Retained {
    /// Slots of which records were dropped.
    pub slots: u32,
    /// Records that were dropped.
    pub records: u64,
    /// Bytes of the bases that were written.
    pub base_bytes: u64,
}

/// How far it is: so many slots of so many.
pub type RetainStep = (u32, u32);

/// Drops what is old enough of the log of every slot, and the facts that are made of it. Sums, levels and all other rows stay as they
/// are, and so do event ids: nothing counts twice.
///
/// Only a run of flushes at the front of a log goes, and nothing of a slot whose first flush is younger. Engines may work meanwhile;
/// two of this, or this and a rebuild, should not.
///
/// # Errors
/// [`RetainError`]; slots before that one are done.
pub fn retain(
    store: &dyn Maintenance,
    request: RetainRequest,
    scratch: Scratch<'_>,
    told: &mut dyn FnMut(RetainStep),
) -> Result<Retained, RetainError> {
    let mut retained = Retained::default();
    for slot in 0..store.slots() {
        let row = store.slot(slot)?;
        if row.applied == SlotRow::UNMADE {
            return Err(RetainError::Unmade { slot });
        }
        let mut of_slot = OfSlot {
            store,
            request,
            start: store.log_start(slot)?,
            row,
        };
        of_slot.run(scratch, &mut retained)?;
        told((slot + 1, store.slots()));
    }
    Ok(retained)
}

/// One slot.
struct OfSlot<'a> {
    store: &'a dyn Maintenance,
    request: RetainRequest,
    row: SlotRow,
    start: LogStart,
}

impl OfSlot<'_> {
    fn run(&mut self, scratch: Scratch<'_>, retained: &mut Retained) -> Result<(), RetainError> {
        let upto = self.old()?;
        let before = self.start.base;
        if upto > self.start.dropped {
            // A run that was cut short may have made it already.
            if before.is_none_or(|base| base.flush < self.row.applied) {
                retained.base_bytes += self.make_base(scratch)?;
            }
            self.note(LogNote::Dropped(upto, self.request.before_us))?;
        }
        let records = self.clear()?;
        retained.slots += u32::from(records > 0);
        retained.records += records;
        match before {
            Some(before) if self.start.base != Some(before) => {
                Ok(self.store.forget_base(&before)?)
            }
            _ => Ok(()),
        }
    }

    // Gives its bytes.
    fn make_base(&mut self, scratch: Scratch<'_>) -> Result<u64, RetainError> {
        let slot = self.row.slot;
        let rows = scratch(slot)?;
        self.fold(rows.as_ref())?;
        let (base, bytes) = self.write(rows.as_ref())?;
        self.note(LogNote::Base(base))?;
        match self.start.base == Some(base) {
            true => Ok(bytes),
            false => {
                self.store.forget_base(&base)?;
                Err(RetainError::Beside { slot })
            }
        }
    }

    fn failed(&self, error: WindowError) -> RetainError {
        let slot = self.row.slot;
        match error {
            WindowError::Log(error) => RetainError::Log { slot, error },
            WindowError::Store(error) => RetainError::Store(error),
            WindowError::Fold(error) => RetainError::Fold { slot, error },
        }
    }

    fn unfolded(&self, error: FoldError) -> RetainError {
        let slot = self.row.slot;
        RetainError::Fold { slot, error }
    }

    // Notes, and reads what is there then: somebody else may have gone further.
    fn note(&mut self, note: LogNote) -> Result<(), StoreError> {
        self.store.note(self.row.slot, &note)?;
        self.start = self.store.log_start(self.row.slot)?;
        Ok(())
    }

    // The last flush of those at the front of which every record is old enough.
    fn old(&self) -> Result<u64, RetainError> {
        let before_us = self.request.before_us;
        let mut old = self.start.dropped;
        let flushes = (old + 1, self.row.applied);
        let read = each_window(self.store, &self.row, flushes, &mut |commits| {
            for commit in commits {
                let mut records = commit.records.iter();
                if !records.all(|record| record.head.received_at_us < before_us) {
                    return Ok(false);
                }
                old = commit.flush;
            }
            Ok(true)
        });
        read.map_err(|error| self.failed(error))?;
        Ok(old)
    }

    // All rows of the slot as they are at the flush up to which the tables have them.
    fn fold(&self, rows: &dyn WriteViews) -> Result<(), RetainError> {
        let facts = self.store.facts();
        let fold = SlotFold::begin(self.store, &self.start, (rows, facts.as_ref()));
        let mut fold = fold.map_err(|error| self.unfolded(error))?;
        let from = self.start.base.map_or(0, |base| base.flush) + 1;
        let flushes = (from, self.row.applied);
        let read = each_window(self.store, &self.row, flushes, &mut |commits| {
            for commit in &commits {
                fold.apply(commit)?;
            }
            Ok(true)
        });
        read.map_err(|error| self.failed(error))?;
        let folded = fold.finish().map_err(|error| self.unfolded(error))?;
        match folded.left_out.first_key_value() {
            None => Ok(()),
            Some((store, records)) => Err(RetainError::LeftOut {
                slot: self.row.slot,
                store: *store,
                records: *records,
            }),
        }
    }

    // Writes them as a base and reads it back, as nothing else will have what it stands in for.
    fn write(&self, rows: &dyn Views) -> Result<(SlotBase, u64), RetainError> {
        let mut writing = Writing::new(
            self.store,
            SlotBase {
                slot: self.row.slot,
                flush: self.row.applied,
                id: self.request.run,
                ..SlotBase::default()
            },
        );
        let mut written = Ok(());
        let given = each_record(rows, &mut |record| {
            written = writing.add(&record);
            written.is_ok()
        });
        given.map_err(|error| self.unfolded(error))?;
        written?;
        let bytes = writing.bytes;
        let base = writing.finish()?;
        for record in SlotBaseRecords::new(self.store, &base) {
            let _whole = record?;
        }
        Ok((base, bytes))
    }

    // Deletes what is dropped; gives how many records that were.
    fn clear(&mut self) -> Result<u64, RetainError> {
        let (slot, mut records) = (self.row.slot, 0);
        while self.start.cleared < self.start.dropped {
            let first = self.start.cleared + 1;
            let last = (first | (FLUSHES_PER_NOTE - 1)).min(self.start.dropped);
            let left = each_left(self.store, &self.row, (first, last), &mut |commits| {
                let all = commits.iter().map(|commit| commit.records.len());
                records += u64::from(narrow(all.sum::<usize>()));
                Ok(self.store.forget_facts(&commits, self.start.before_us)?)
            });
            left.map_err(|error| self.failed(error))?;
            self.store.forget_log(slot, (first, last))?;
            self.note(LogNote::Cleared(last))?;
        }
        Ok(records)
    }
}

/// A base on its way into the store.
struct Writing<'a> {
    store: &'a dyn Maintenance,
    base: SlotBase,
    digest: Sha256,
    waiting: Vec<Bytes>,
    bytes: u64,
}

impl<'a> Writing<'a> {
    fn new(store: &'a dyn Maintenance, base: SlotBase) -> Self {
        Self {
            store,
            base,
            digest: Sha256::new(),
            waiting: Vec::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, record: &Record) -> Result<(), StoreError> {
        // Names have a table of their own, which nothing empties.
        if record.payload.first() == Some(&Table::Names.number()) {
            return Ok(());
        }
        let entry = Prepared::new(record).map_err(|error| StoreError::Failed {
            table: "slot_base",
            cause: error.to_string(),
        })?;
        let mut bytes = BytesMut::with_capacity(entry.bytes());
        bytes.extend_from_slice(&entry.front);
        bytes.extend_from_slice(&entry.payload);
        bytes.extend_from_slice(&entry.tail);
        self.digest.update(&bytes);
        self.bytes += u64::from(narrow(bytes.len()));
        self.waiting.push(bytes.freeze());
        match narrow(self.waiting.len()) < BASE_RECORDS {
            true => Ok(()),
            false => self.put(),
        }
    }

    fn put(&mut self) -> Result<(), StoreError> {
        let records = std::mem::take(&mut self.waiting);
        self.store
            .put_base(&self.base, self.base.records, &records)?;
        self.base.records += narrow(records.len());
        Ok(())
    }

    fn finish(mut self) -> Result<SlotBase, StoreError> {
        self.put()?;
        self.base.digest = self.digest.finalize().into();
        Ok(self.base)
    }
}

#[cfg(test)]
mod tests;
