//! All rows of an engine, to be compared.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use till_core::{Dim, RollupKey, RollupRow, SkuRow, StoreRow, TerminalRow};
use till_protocol::id::{SkuId, StoreId, TerminalId};
use till_storage::views::{StoreError, Views};

/// All rows of an engine, in order.
#[derive(Debug, Default)]
pub(super) struct Dump {
    pub(super) stores: BTreeMap<StoreId, StoreRow>,
    pub(super) terminals: BTreeMap<u64, TerminalRow>,
    pub(super) skus: BTreeMap<(u32, u64), SkuRow>,
    pub(super) sums: BTreeMap<RollupKey, RollupRow>,
    pub(super) ids: BTreeMap<[u8; 16], String>,
    pub(super) quarantine: BTreeMap<String, String>,
    pub(super) names: BTreeMap<(u8, u64), String>,
}

impl Dump {
    pub(super) fn of(views: &dyn Views) -> Result<Self, StoreError> {
        let mut dump = Self::default();
        views.stores(&mut |store, row| {
            // How far a store's rows are differs with who wrote them last; the records do not.
            dump.stores.insert(store, StoreRow { applied: 0, ..row });
            ControlFlow::Continue(())
        })?;
        let stores: Vec<StoreId> = dump.stores.keys().copied().collect();
        for store in stores {
            views.terminals(store, &mut |terminal: TerminalId, row| {
                dump.terminals.insert(terminal.to_u64(), row);
                ControlFlow::Continue(())
            })?;
            views.skus(store, SkuId::from_u64(0), &mut |sku, row| {
                dump.skus.insert((store.get(), sku.get()), row);
                ControlFlow::Continue(())
            })?;
            for dim in [
                Dim::Store,
                Dim::Sku,
                Dim::Category,
                Dim::Tender,
                Dim::Operator,
            ] {
                views.rollups(store, dim, 0..=u16::MAX, &mut |key, row| {
                    dump.sums.insert(key, row);
                    ControlFlow::Continue(())
                })?;
            }
        }
        views.event_ids(&mut |id, row| {
            dump.ids.insert(id.to_bytes(), format!("{row:?}"));
            ControlFlow::Continue(())
        })?;
        views.quarantine(&mut |key, row| {
            dump.quarantine
                .insert(format!("{key:?}"), format!("{row:?}"));
            ControlFlow::Continue(())
        })?;
        views.names(&mut |(space, id), name| {
            dump.names
                .insert((u8::from(space == till_core::Space::Tender), id), name);
            ControlFlow::Continue(())
        })?;
        Ok(dump)
    }
}
