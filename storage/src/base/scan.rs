//! The rows of views as records, in table and key order.

use std::ops::ControlFlow;

use till_core::Record;
use till_protocol::id::{SkuId, StoreId};

use super::FoldError;
use super::codec::Packer;
use crate::pack::{Key, Row, Table};
use crate::views::{DIMS, StoreError, Views};

/// Gives all rows of views as records (about 20 bytes a row) to `take`, until it says false.
pub(crate) fn records(
    views: &dyn Views,
    take: &mut dyn FnMut(Record) -> bool,
) -> Result<(), FoldError> {
    let mut stores: Vec<StoreId> = Vec::new();
    table(take, Table::Stores, |visit| {
        views.stores(&mut |key, row| {
            stores.push(key);
            visit(&key, &row)
        })
    })?;
    table(take, Table::Terminals, |visit| {
        stores
            .iter()
            .try_for_each(|store| views.terminals(*store, &mut |key, row| visit(&key, &row)))
    })?;
    table(take, Table::Skus, |visit| {
        stores.iter().try_for_each(|store| {
            views.skus(*store, SkuId::from_u64(0), &mut |sku, row| {
                visit(&(*store, sku), &row)
            })
        })
    })?;
    table(take, Table::Rollups, |visit| {
        stores.iter().try_for_each(|store| {
            DIMS.iter().try_for_each(|dim| {
                views.rollups(*store, *dim, 0..=u16::MAX, &mut |key, row| {
                    visit(&key, &row)
                })
            })
        })
    })?;
    table(take, Table::EventIds, |visit| {
        views.event_ids(&mut |key, row| visit(&key, &row))
    })?;
    table(take, Table::Quarantine, |visit| {
        views.quarantine(&mut |key, row| visit(&key, &row))
    })?;
    table(take, Table::Names, |visit| {
        views.names(&mut |key, row| visit(&key, &row))
    })
}

fn table<K: Key, R: Row>(
    take: &mut dyn FnMut(Record) -> bool,
    table: Table,
    scan: impl FnOnce(&mut dyn FnMut(&K, &R) -> ControlFlow<()>) -> Result<(), StoreError>,
) -> Result<(), FoldError> {
    let mut packer = Packer::new(table);
    scan(&mut |key, row| {
        if packer.add(key, row).is_none_or(&mut *take) {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    if let Some(record) = packer.take() {
        take(record);
    }
    Ok(())
}
