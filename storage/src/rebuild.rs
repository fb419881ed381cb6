//! From records to rows: recovery after a crash, and rebuild of every row from the base and the journal.
//!
//! Both drive the same fold as the live run. Rebuilt rows are equal to those that were lost, byte for byte, because
//! everything that was decided from outside the events lies in the records.

mod moved;

use till_core::{Dirty, Record, RecordHead, RowsError, Shard, ShardConfig};
use till_protocol::codec::Frame;
use till_protocol::id::StoreId;
use till_protocol::verified::Verified;

use crate::base::{FoldError, load_newest};
use crate::facts::Facts;
use crate::journal::{Journal, Lsn};
use crate::query::FactReader;
use crate::views::{FlushBatch, StoreError, Views};

pub use moved::FactRows;

/// Told the position of each record after it was applied. Called often: it should only take note.
pub type Progress<'a> = &'a mut dyn FnMut(Lsn);

/// Rows that wait in memory before a fold writes them.
const DIRTY_ROWS_MAX: usize = 100_000;
/// Records between two looks at the rows that wait.
const RECORDS_PER_LOOK: u32 = 256;

impl From<Dirty> for FlushBatch {
    fn from(dirty: Dirty) -> Self {
        Self {
            stores: dirty.stores,
            terminals: dirty.terminals,
            skus: dirty.skus,
            rollups: dirty.rollups,
            event_ids: dirty.event_ids,
            quarantine: dirty.quarantine,
            names: dirty.names,
            checkpoint: None,
        }
    }
}

/// One shard that folds records into views.
#[derive(Debug)]
pub struct Fold<'a> {
    shard: Shard,
    rows: FactRows<'a>,
    records: u32,
}

impl<'a> Fold<'a> {
    /// A fold that starts from what the views hold.
    pub fn new(views: &'a dyn Views, facts: &'a dyn FactReader, config: ShardConfig) -> Self {
        Self {
            shard: Shard::new(config),
            rows: FactRows::new(views, facts),
            records: 0,
        }
    }

    /// Applies a record; what the views hold already changes nothing.
    ///
    /// # Errors
    /// [`FoldError`] when rows cannot be read or written, or the record is none that this software writes.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) -> Result<(), FoldError> {
        self.shard.apply(lsn.get(), record, &self.rows)?;
        self.records += 1;
        if self.records >= RECORDS_PER_LOOK {
            self.records = 0;
            if self.shard.dirty_rows() >= DIRTY_ROWS_MAX {
                self.flush(None)?;
            }
        }
        Ok(())
    }

    /// Writes what is left; the views then hold every record that ends at or before `end`.
    ///
    /// # Errors
    /// [`FoldError::Store`].
    pub fn finish(mut self, end: Lsn) -> Result<(), FoldError> {
        self.flush(Some(end.get()))?;
        self.rows.views().sync()?;
        Ok(())
    }

    /// Writes what is left where the fold had the records of some stores only: the views' checkpoint stays.
    ///
    /// # Errors
    /// [`FoldError::Store`].
    pub fn finish_part(mut self) -> Result<(), FoldError> {
        self.flush(None)
    }

    fn flush(&mut self, checkpoint: Option<u64>) -> Result<(), FoldError> {
        let dirty = self.shard.take_dirty();
        let generation = dirty.generation;
        let mut flush = FlushBatch::from(dirty);
        flush.checkpoint = checkpoint;
        self.rows.views().write(&flush)?;
        self.shard.flushed(generation);
        self.shard.passivate();
        Ok(())
    }
}

/// Fills empty views from the newest base and every record after it. Gives the position that they then hold everything
/// up to.
///
/// # Errors
/// [`FoldError`]; the views are then of no use, and the journal is unchanged.
pub fn rebuild(
    journal: &Journal,
    facts: &Facts,
    views: &dyn Views,
    progress: Progress<'_>,
) -> Result<Lsn, FoldError> {
    let from = load_newest(journal.disk().as_ref(), journal.dir(), views)?;
    let end = journal.end();
    let mut fold = Fold::new(views, facts, ShardConfig::default());
    for item in journal.records_between(from, end) {
        let (lsn, record) = item?;
        fold.apply(lsn, &record)?;
        progress(lsn);
    }
    fold.finish(end)?;
    Ok(end)
}

/// Brings shards to the end of the journal: gives each record above the views' checkpoint to the shard of its store.
/// Returns the number of records.
///
/// The shards hold the difference to the views as rows to flush. `apply` is called in the order of the journal; a shard
/// leaves out by itself what its store's row holds. For several threads, hand records on from `apply` by store.
///
/// # Errors
/// What reading the journal or `apply` returns.
pub fn recover(
    journal: &Journal,
    views: &dyn Views,
    apply: &mut dyn FnMut(StoreId, Lsn, &Record) -> Result<(), RowsError>,
) -> Result<u64, FoldError> {
    let mut records = 0;
    for item in journal.records(Lsn::new(views.checkpoint()?)) {
        let (lsn, record) = item?;
        if let Some(store) = store_of(&record.head) {
            apply(store, lsn, &record)?;
            records += 1;
        }
    }
    Ok(records)
}

/// The store that a record is of; `None` for rows of a base.
pub fn store_of(head: &RecordHead) -> Option<StoreId> {
    StoreId::new(u32::try_from(head.terminal >> 32).ok()?).ok()
}

/// The batch of a record, checked again.
pub(crate) fn batch_of(record: &Record) -> Result<Verified, StoreError> {
    let head = &record.head;
    let damaged = |cause: String| StoreError::Damaged {
        table: "journal",
        cause,
    };
    let payload = record.payload.clone();
    let frame = Frame::new(
        head.family,
        head.version,
        head.count,
        head.first_seq,
        payload,
    );
    let frame = frame.map_err(|error| damaged(error.to_string()))?;
    Verified::from_journal(frame).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
