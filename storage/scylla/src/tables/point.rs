//! Single rows, for the core and for queries.

use std::sync::atomic::Ordering;

use till_core::{
    EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow, Rows, RowsError,
    SkuRow, Space, StoreRow, TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::views::{StoreError, Views as _, without_facts};

use super::Tables;
use super::read::damaged;
use crate::rows::{
    EventIdCells, Id64, LevelRow, NameRow, QuarantineCells, QuarantineGone, RollupCells,
    StoreCells, TerminalCells, bucket_of_sku, date, dim_cell, part_of_store, signed, space_cell,
};

impl Tables {
    pub(super) fn find_name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError> {
        let key = (space_cell(space), Id64(id));
        let found = self.few::<_, NameRow>(&self.reads.name, "names", key)?;
        if found.len() > 1 {
            self.ambiguous.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found.into_iter().next().map(|row| row.name))
    }

    pub(super) fn find_quarantined(
        &self,
        key: &QuarantineKey,
    ) -> Result<Option<QuarantineRow>, StoreError> {
        let key = QuarantineGone::new(key);
        let asked = (key.store, key.terminal, key.epoch, key.seq, key.line);
        let found =
            self.first::<_, QuarantineCells>(&self.reads.quarantined, "quarantine", asked)?;
        read(found, "quarantine", |cells| cells.read())
    }
}

// The row of cells that were found, without its key.
fn read<C, K, R>(
    found: Option<C>,
    table: &'static str,
    row: impl FnOnce(C) -> Option<(K, R)>,
) -> Result<Option<R>, StoreError> {
    match found {
        Some(cells) => match row(cells) {
            Some((_, row)) => Ok(Some(row)),
            None => Err(damaged(table)),
        },
        None => Ok(None),
    }
}

impl Rows for Tables {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        let key = (part_of_store(store), signed(store.get()));
        let found = self.first(&self.reads.store, "stores", key)?;
        Ok(read(found, "stores", StoreCells::read)?)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        let key = (
            signed(terminal.store().get()),
            terminal.to_u64().cast_signed(),
        );
        let found = self.first(&self.reads.terminal, "terminals", key)?;
        Ok(read(found, "terminals", TerminalCells::read)?)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        let key = (
            signed(store.get()),
            bucket_of_sku(sku.get()),
            Id64(sku.get()),
        );
        let found = self.first::<_, LevelRow>(&self.reads.level, "levels", key)?;
        Ok(read(found, "levels", |cells| cells.read())?)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        let asked = (
            signed(key.store),
            date(key.day),
            dim_cell(key.dim),
            key.hour_us,
            Id64(key.key),
        );
        let found = self.first::<_, RollupCells>(&self.reads.rollup, "rollups", asked)?;
        Ok(read(found, "rollups", |cells| cells.read())?)
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        let key = (id.to_bytes().to_vec(),);
        let found = self.first::<_, EventIdCells>(&self.reads.event_id, "event_ids", key)?;
        Ok(read(found, "event_ids", |cells| cells.read())?)
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(self.quarantined(key)?.is_some())
    }

    fn moved_after(
        &self,
        store: StoreId,
        _: &[(SkuId, MoveKey)],
        _: u64,
    ) -> Result<Vec<i128>, RowsError> {
        without_facts(store)
    }
}
