//! The rows of views as records, in table and key order.

use std::ops::ControlFlow;

use till_core::{Dim, Record};
use till_protocol::id::{SkuId, StoreId};

use super::FoldError;
use super::codec::Packer;
use crate::pack::{Key, Row, Table};
use crate::views::{StoreError, Views};

const DIMS: [Dim; 5] = [
    Dim::Store,
    Dim::Sku,
    Dim::Category,
    Dim::Tender,
    Dim::Operator,
];

/// All rows of views as records. They are packed (about 20 bytes a row) and held in memory until they are written.
pub(super) fn records(views: &dyn Views) -> Result<Vec<Record>, FoldError> {
    let mut out = Vec::new();
    let mut stores: Vec<StoreId> = Vec::new();
    table(&mut out, Table::Stores, |visit| {
        views.stores(&mut |key, row| {
            stores.push(key);
            visit(&key, &row)
        })
    })?;
    table(&mut out, Table::Terminals, |visit| {
        stores
            .iter()
            .try_for_each(|store| views.terminals(*store, &mut |key, row| visit(&key, &row)))
    })?;
    table(&mut out, Table::Skus, |visit| {
        stores.iter().try_for_each(|store| {
            views.skus(*store, SkuId::from_u64(0), &mut |sku, row| {
                visit(&(*store, sku), &row)
            })
        })
    })?;
    table(&mut out, Table::Rollups, |visit| {
        stores.iter().try_for_each(|store| {
            DIMS.iter().try_for_each(|dim| {
                views.rollups(*store, *dim, 0..=u16::MAX, &mut |key, row| {
                    visit(&key, &row)
                })
            })
        })
    })?;
    table(&mut out, Table::EventIds, |visit| {
        views.event_ids(&mut |key, row| visit(&key, &row))
    })?;
    table(&mut out, Table::Quarantine, |visit| {
        views.quarantine(&mut |key, row| visit(&key, &row))
    })?;
    table(&mut out, Table::Names, |visit| {
        views.names(&mut |key, row| visit(&key, &row))
    })?;
    Ok(out)
}

fn table<K: Key, R: Row>(
    out: &mut Vec<Record>,
    table: Table,
    scan: impl FnOnce(&mut dyn FnMut(&K, &R) -> ControlFlow<()>) -> Result<(), StoreError>,
) -> Result<(), FoldError> {
    let mut packer = Packer::new(table);
    scan(&mut |key, row| {
        out.extend(packer.add(key, row));
        ControlFlow::Continue(())
    })?;
    out.extend(packer.take());
    Ok(())
}
