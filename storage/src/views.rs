//! The boundary to stores of derived rows: what every one of them can do.
//!
//! Rows are views of the journal. They are absolute, so that writing one twice changes nothing. All stores are read by
//! [`Views`]. One that belongs to a single engine is written by [`WriteViews`], and every call says up to which journal
//! position its rows hold every record. It never has to be durable on its own: what it loses is applied again from the
//! journal, as long as it lost a suffix of whole calls. One that several engines share is written by commits of slots
//! ([`cluster`](crate::cluster)).

mod batches;
mod error;
mod flush;

use std::ops::{ControlFlow, RangeInclusive};

use till_core::{
    Dim, EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, Rows, RowsError, SkuRow,
    Space, StoreRow, TerminalRow, Totals,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

pub use batches::{DIMS, each_batch};
pub use error::StoreError;
pub use flush::FlushBatch;

/// What a scan does with a row: go on, or stop the scan (which is no error).
pub type Visit<'a, K, R> = &'a mut dyn FnMut(K, R) -> ControlFlow<()>;

/// What takes in a part of a sum of sales.
pub type VisitPart<'a> = &'a mut dyn FnMut(&RollupKey, &Totals);

/// A store of derived rows, as readers see it.
///
/// All scans stream in rising key order. In a store of one engine they see one state of it: a call of
/// [`WriteViews::write`] that runs meanwhile is seen as a whole or not at all.
pub trait Views: Rows + Send + Sync {
    /// Journal position that the flushes so far reported: the rows hold every record that ends at or before it.
    /// 0 for an empty store, and for one that several engines share: there each store's row says how far it is.
    ///
    /// # Errors
    /// [`StoreError`] when the rows cannot be read, as do all reads of this trait.
    fn checkpoint(&self) -> Result<u64, StoreError>;

    /// All stores by number.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn stores(&self, visit: Visit<'_, StoreId, StoreRow>) -> Result<(), StoreError>;

    /// The terminals of a store by till.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn terminals(
        &self,
        store: StoreId,
        visit: Visit<'_, TerminalId, TerminalRow>,
    ) -> Result<(), StoreError>;

    /// The SKUs of a store by id, from `from` on (inclusive).
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn skus(
        &self,
        store: StoreId,
        from: SkuId,
        visit: Visit<'_, SkuId, SkuRow>,
    ) -> Result<(), StoreError>;

    /// The sums of a store in one dimension over business days, by day, then hour, then key.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn rollups(
        &self,
        store: StoreId,
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: Visit<'_, RollupKey, RollupRow>,
    ) -> Result<(), StoreError>;

    /// The sums of sales of stores in one dimension over business days, in parts and in any order: those of one store, day and
    /// key add up to what [`Self::rollups`] has of them. The hours in their keys mean nothing. Where nothing was sold there may
    /// be no part. A store that keeps sums of days gives these, where they are not older than the hours.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn day_parts(
        &self,
        stores: &[StoreId],
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        for store in stores {
            self.rollups(*store, dim, days.clone(), &mut |key, row| {
                visit(&key, &row.totals);
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    /// The sums of sales of one SKU in stores over business days, as [`Self::day_parts`] gives sums.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn sku_parts(
        &self,
        stores: &[StoreId],
        sku: SkuId,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        for store in stores {
            self.sku_hours(*store, sku, days.clone(), visit)?;
        }
        Ok(())
    }

    /// The sums of sales of one SKU in a store over business days, by hour and in any order. Where nothing was sold there may be
    /// no sum.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn sku_hours(
        &self,
        store: StoreId,
        sku: SkuId,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        // All SKUs of an hour are thousands of rows; the hours of a store are few, and of one SKU each is a single row.
        let mut hours = Vec::new();
        self.rollups(store, Dim::Store, days, &mut |key, _| {
            hours.push(key);
            ControlFlow::Continue(())
        })?;
        for key in hours {
            let key = RollupKey {
                dim: Dim::Sku,
                key: sku.get(),
                ..key
            };
            if let Some(row) = self.rollup(&key)? {
                visit(&key, &row.totals);
            }
        }
        Ok(())
    }

    /// Everything in quarantine by terminal, epoch, sequence number and line.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn quarantine(&self, visit: Visit<'_, QuarantineKey, QuarantineRow>) -> Result<(), StoreError>;

    /// The name of an id.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError>;

    /// All names by space and id.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn names(&self, visit: Visit<'_, (Space, u64), String>) -> Result<(), StoreError>;

    /// All event ids by their bytes.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn event_ids(&self, visit: Visit<'_, EventId, EventIdRow>) -> Result<(), StoreError>;

    /// How many event ids there are. Counts them one by one where the store keeps no count: for reports and tests.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn event_id_count(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        self.event_ids(&mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The quarantine row of one event or line.
    ///
    /// # Errors
    /// See [`Self::checkpoint`].
    fn quarantined(&self, key: &QuarantineKey) -> Result<Option<QuarantineRow>, StoreError>;
}

/// A store of derived rows that one engine writes.
pub trait WriteViews: Views {
    /// Writes a flush: all of it or nothing, seen by every read that starts after the call returned.
    ///
    /// # Errors
    /// [`StoreError::Failed`] and [`StoreError::Full`]: the flush is there as a whole or not at all, and since rows are
    /// absolute the same call may be made again, after [`Self::reopen`]. [`StoreError::Damaged`]: rebuild the store.
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError>;

    /// Makes everything that was written survive a power cut.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room; [`StoreError::Failed`] otherwise.
    fn sync(&self) -> Result<(), StoreError>;

    /// Opens the store again in place after [`StoreError::Full`]. What was written before is still there.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened (still no room, or damaged).
    fn reopen(&self) -> Result<(), StoreError>;
}

/// The answer of a bare store of rows to [`Rows::moved_after`]: an error, because only facts know single movements.
/// A shard is given rows together with facts.
///
/// # Errors
/// Always [`RowsError`].
pub fn without_facts(store: StoreId) -> Result<Vec<i128>, RowsError> {
    Err(RowsError {
        table: "facts",
        cause: format!("movements in store {store} asked of rows without facts"),
    })
}

/// What a start does with rows that it found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fit {
    /// They fit the journal: apply what is above them.
    Good,
    /// They end below the base, so that records between are gone from the journal: move them aside and rebuild.
    OlderThanBase,
    /// They hold records that the journal does not (a restored journal, or foreign rows): move aside and rebuild.
    NewerThanJournal,
}

/// Whether rows fit a journal that reaches from the end of the base (`base`, 0 without one) to `end`.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn check_base(views: &dyn Views, base: u64, end: u64) -> Result<Fit, StoreError> {
    if views.checkpoint()? < base {
        return Ok(Fit::OlderThanBase);
    }
    Ok(if reach(views)? > end {
        Fit::NewerThanJournal
    } else {
        Fit::Good
    })
}

/// The position before which the rows hold records: a journal that ends earlier has lost some. The record at which a store's
/// rows are is among them, and is no shorter than a byte.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn reach(views: &dyn Views) -> Result<u64, StoreError> {
    let mut reach = views.checkpoint()?;
    views.stores(&mut |_, row| {
        if row.applied > 0 {
            reach = reach.max(row.applied.saturating_add(1));
        }
        ControlFlow::Continue(())
    })?;
    Ok(reach)
}
