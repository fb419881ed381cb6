//! Rows in memory: the model that every other store of rows is compared with.
//!
//! Also the scratch space of a fold. It holds everything in ordered maps: about 200 bytes a row.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use till_core::{
    Dim, EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow, Rows, RowsError,
    SkuRow, Space, StoreRow, TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::views::{FlushBatch, StoreError, Views, Visit, WriteViews};

/// Rows in ordered maps.
#[derive(Debug, Default)]
pub struct MemoryViews {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    stores: BTreeMap<StoreId, StoreRow>,
    terminals: BTreeMap<TerminalId, TerminalRow>,
    skus: BTreeMap<(StoreId, SkuId), SkuRow>,
    rollups: BTreeMap<RollupKey, RollupRow>,
    event_ids: BTreeMap<[u8; 16], EventIdRow>,
    quarantine: BTreeMap<QuarantineKey, QuarantineRow>,
    names: BTreeMap<(Space, u64), String>,
    checkpoint: u64,
}

impl MemoryViews {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Drops all rows but names.
    pub fn clear_but_names(&self) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        let names = std::mem::take(&mut tables.names);
        *tables = Tables {
            names,
            ..Tables::default()
        };
    }

    // A writer can't panic between two maps: inserting does not fail. So a poisoned lock still guards whole flushes.
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn walk<K, R>(rows: impl Iterator<Item = (K, R)>, visit: Visit<'_, K, R>) {
    for (key, row) in rows {
        if visit(key, row).is_break() {
            return;
        }
    }
}

impl WriteViews for MemoryViews {
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.stores.extend(flush.stores.iter().cloned());
        tables.terminals.extend(flush.terminals.iter().cloned());
        tables.skus.extend(flush.skus.iter().copied());
        tables.rollups.extend(flush.rollups.iter().copied());
        let ids = flush
            .event_ids
            .iter()
            .map(|(id, row)| (id.to_bytes(), *row));
        tables.event_ids.extend(ids);
        for (key, row) in &flush.quarantine {
            match row {
                Some(row) => tables.quarantine.insert(*key, *row),
                None => tables.quarantine.remove(key),
            };
        }
        let names = flush
            .names
            .iter()
            .map(|(space, id, name)| ((*space, *id), name.clone()));
        tables.names.extend(names);
        tables.checkpoint = tables.checkpoint.max(flush.checkpoint.unwrap_or(0));
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Views for MemoryViews {
    fn checkpoint(&self) -> Result<u64, StoreError> {
        Ok(self.read().checkpoint)
    }

    fn stores(&self, visit: Visit<'_, StoreId, StoreRow>) -> Result<(), StoreError> {
        walk(
            self.read()
                .stores
                .iter()
                .map(|(key, row)| (*key, row.clone())),
            visit,
        );
        Ok(())
    }

    fn terminals(
        &self,
        store: StoreId,
        visit: Visit<'_, TerminalId, TerminalRow>,
    ) -> Result<(), StoreError> {
        let tables = self.read();
        let rows = tables
            .terminals
            .iter()
            .map(|(key, row)| (*key, row.clone()));
        let from = rows.skip_while(|(key, _)| key.store() < store);
        walk(from.take_while(|(key, _)| key.store() == store), visit);
        Ok(())
    }

    fn skus(
        &self,
        store: StoreId,
        from: SkuId,
        visit: Visit<'_, SkuId, SkuRow>,
    ) -> Result<(), StoreError> {
        let tables = self.read();
        let last = (store, SkuId::from_u64(u64::MAX));
        let rows = tables.skus.range((store, from)..=last);
        walk(rows.map(|((_, sku), row)| (*sku, *row)), visit);
        Ok(())
    }

    fn rollups(
        &self,
        store: StoreId,
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: Visit<'_, RollupKey, RollupRow>,
    ) -> Result<(), StoreError> {
        if days.is_empty() {
            return Ok(());
        }
        let key = |day, hour_us, key| RollupKey {
            store: store.get(),
            dim,
            day,
            hour_us,
            key,
        };
        let first = key(*days.start(), i64::MIN, 0);
        let last = key(*days.end(), i64::MAX, u64::MAX);
        let tables = self.read();
        walk(
            tables
                .rollups
                .range(first..=last)
                .map(|(key, row)| (*key, *row)),
            visit,
        );
        Ok(())
    }

    fn quarantine(&self, visit: Visit<'_, QuarantineKey, QuarantineRow>) -> Result<(), StoreError> {
        walk(
            self.read().quarantine.iter().map(|(key, row)| (*key, *row)),
            visit,
        );
        Ok(())
    }

    fn name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError> {
        Ok(self.read().names.get(&(space, id)).cloned())
    }

    fn names(&self, visit: Visit<'_, (Space, u64), String>) -> Result<(), StoreError> {
        walk(
            self.read()
                .names
                .iter()
                .map(|(key, name)| (*key, name.clone())),
            visit,
        );
        Ok(())
    }

    fn event_ids(&self, visit: Visit<'_, EventId, EventIdRow>) -> Result<(), StoreError> {
        let tables = self.read();
        let rows = tables
            .event_ids
            .iter()
            .map(|(key, row)| (EventId::from_bytes(*key), *row));
        walk(rows, visit);
        Ok(())
    }

    fn event_id_count(&self) -> Result<u64, StoreError> {
        Ok(u64::try_from(self.read().event_ids.len()).unwrap_or(u64::MAX))
    }

    fn quarantined(&self, key: &QuarantineKey) -> Result<Option<QuarantineRow>, StoreError> {
        Ok(self.read().quarantine.get(key).copied())
    }
}

impl Rows for MemoryViews {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        Ok(self.read().stores.get(&store).cloned())
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        Ok(self.read().terminals.get(&terminal).cloned())
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        Ok(self.read().skus.get(&(store, sku)).copied())
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        Ok(self.read().rollups.get(key).copied())
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        Ok(self.read().event_ids.get(&id.to_bytes()).copied())
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(self.read().quarantine.contains_key(key))
    }

    fn moved_after(
        &self,
        store: StoreId,
        _: &[(SkuId, MoveKey)],
        _: u64,
    ) -> Result<Vec<i128>, RowsError> {
        crate::views::without_facts(store)
    }
}
