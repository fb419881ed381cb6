//! All rows of views, in batches.

use std::ops::ControlFlow;

use till_core::Dim;
use till_protocol::id::{SkuId, StoreId};

use super::{FlushBatch, StoreError, Views};

/// What rollups are split by.
pub const DIMS: [Dim; 5] = [
    Dim::Store,
    Dim::Sku,
    Dim::Category,
    Dim::Tender,
    Dim::Operator,
];

/// Gives all rows of views in batches of `most` rows, table by table. Stores come last: what says how far a store's rows are
/// comes behind the rows.
///
/// # Errors
/// What the views or `take` say; the rest is not given then.
pub fn each_batch(
    views: &dyn Views,
    most: usize,
    take: &mut dyn FnMut(FlushBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut stores = Vec::new();
    views.stores(&mut |id, row| {
        stores.push((id, row));
        ControlFlow::Continue(())
    })?;
    let mut out = Batches {
        batch: FlushBatch::default(),
        rows: 0,
        most,
        take,
        taken: Ok(()),
    };
    for (store, _) in &stores {
        out.of_store(views, *store)?;
    }
    views.event_ids(&mut |id, row| out.add(|batch| batch.event_ids.push((id, row))))?;
    views.quarantine(&mut |key, row| out.add(|batch| batch.quarantine.push((key, Some(row)))))?;
    views.names(&mut |(space, id), name| out.add(|batch| batch.names.push((space, id, name))))?;
    for store in stores {
        let _goes_on = out.add(|batch| batch.stores.push(store));
    }
    out.finish()
}

struct Batches<'a> {
    batch: FlushBatch,
    rows: usize,
    most: usize,
    take: &'a mut dyn FnMut(FlushBatch) -> Result<(), StoreError>,
    taken: Result<(), StoreError>,
}

impl Batches<'_> {
    fn of_store(&mut self, views: &dyn Views, store: StoreId) -> Result<(), StoreError> {
        views.terminals(store, &mut |id, row| {
            self.add(|batch| batch.terminals.push((id, row)))
        })?;
        views.skus(store, SkuId::from_u64(0), &mut |sku, row| {
            self.add(|batch| batch.skus.push(((store, sku), row)))
        })?;
        for dim in DIMS {
            views.rollups(store, dim, 0..=u16::MAX, &mut |key, row| {
                self.add(|batch| batch.rollups.push((key, row)))
            })?;
        }
        Ok(())
    }

    fn add(&mut self, row: impl FnOnce(&mut FlushBatch)) -> ControlFlow<()> {
        row(&mut self.batch);
        self.rows += 1;
        if self.rows >= self.most && self.taken.is_ok() {
            self.rows = 0;
            self.taken = (self.take)(std::mem::take(&mut self.batch));
        }
        match self.taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn finish(self) -> Result<(), StoreError> {
        self.taken?;
        match self.batch.is_empty() {
            true => Ok(()),
            false => (self.take)(self.batch),
        }
    }
}
