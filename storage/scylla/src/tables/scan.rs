//! Scans in the order of keys.
//!
//! A partition streams page by page. Where the order of keys goes across partitions, a page of each is held in memory, and all
//! stores. All names and all event ids are held whole: their scans are for tests and repairs.

use std::ops::RangeInclusive;

use scylla::value::CqlDate;
use till_core::{
    Dim, EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, SkuRow, Space, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::views::{StoreError, Views, Visit, VisitPart};

use super::Tables;
use super::read::{Streams, WINDOW, damaged};
use crate::rows::{
    EventIdCells, Id64, LevelRow, NameRow, QuarantineCells, RollupCells, RollupDayRow, SKU_BUCKETS,
    STORE_PARTS, StoreCells, TerminalCells, date, dim_cell, signed, space_of,
};

impl Tables {
    fn stores_in_order(&self) -> Result<Vec<(StoreId, StoreRow)>, StoreError> {
        let parts = (0..STORE_PARTS).map(|part| (part,));
        let cells = Streams::new(self, &self.reads.stores, "stores", parts).all()?;
        let rows = cells
            .into_iter()
            .map(|cells: StoreCells| cells.read().ok_or_else(|| damaged("stores")));
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        rows.sort_by_key(|(store, _)| *store);
        Ok(rows)
    }

    fn days_with_sums(
        &self,
        store: StoreId,
        dim: Dim,
        days: &RangeInclusive<u16>,
    ) -> Result<Vec<CqlDate>, StoreError> {
        let store = signed(store.get());
        let (first, last) = (date(*days.start()), date(*days.end()));
        let asked = [(store, dim_cell(dim), first, last)];
        let found = Streams::new(self, &self.reads.rollup_days, "rollup_days", asked).all()?;
        Ok(found.into_iter().map(|row: RollupDayRow| row.day).collect())
    }
}

impl Views for Tables {
    fn checkpoint(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    fn stores(&self, visit: Visit<'_, StoreId, StoreRow>) -> Result<(), StoreError> {
        for (store, row) in self.stores_in_order()? {
            if visit(store, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn terminals(
        &self,
        store: StoreId,
        visit: Visit<'_, TerminalId, TerminalRow>,
    ) -> Result<(), StoreError> {
        let asked = [(signed(store.get()),)];
        let mut rows = Streams::new(self, &self.reads.terminals, "terminals", asked);
        while let Some(cells) = rows.next_of(0)? {
            let cells: TerminalCells = cells;
            let (terminal, row) = cells.read().ok_or_else(|| damaged("terminals"))?;
            if visit(terminal, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn skus(
        &self,
        store: StoreId,
        from: SkuId,
        visit: Visit<'_, SkuId, SkuRow>,
    ) -> Result<(), StoreError> {
        let store = signed(store.get());
        let buckets = (0..SKU_BUCKETS).map(|bucket| (store, bucket, Id64(from.get())));
        let mut streams = Streams::new(self, &self.reads.levels, "levels", buckets);
        let all = 0..usize::try_from(SKU_BUCKETS).unwrap_or(0);
        while let Some(cells) = streams.next_by(all.clone(), |cells: &LevelRow| cells.sku)? {
            let (sku, row) = cells.read().ok_or_else(|| damaged("levels"))?;
            if visit(sku, row).is_break() {
                break;
            }
        }
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
        let days = self.days_with_sums(store, dim, &days)?;
        let store = signed(store.get());
        for days in days.chunks(WINDOW) {
            let asked = days.iter().map(|day| (store, *day, dim_cell(dim)));
            let mut rows = Streams::new(self, &self.reads.rollups, "rollups", asked);
            for number in 0..days.len() {
                while let Some(cells) = rows.next_of(number)? {
                    let cells: RollupCells = cells;
                    let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
                    if visit(key, row).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn day_parts(
        &self,
        stores: &[StoreId],
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        self.parts_of_days(stores, dim, &days, visit)
    }

    fn sku_parts(
        &self,
        stores: &[StoreId],
        sku: SkuId,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        self.parts_of_sku(stores, sku, &days, visit)
    }

    fn sku_hours(
        &self,
        store: StoreId,
        sku: SkuId,
        days: RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        let days: Vec<_> = self
            .days_of(&[store], Dim::Store, &days)?
            .into_iter()
            .collect();
        self.hours_of_sku(&days, sku, visit)
    }

    fn quarantine(&self, visit: Visit<'_, QuarantineKey, QuarantineRow>) -> Result<(), StoreError> {
        let stores = self.stores_in_order()?;
        for stores in stores.chunks(WINDOW) {
            let asked = stores.iter().map(|(store, _)| (signed(store.get()),));
            let mut rows = Streams::new(self, &self.reads.quarantine, "quarantine", asked);
            for number in 0..stores.len() {
                while let Some(cells) = rows.next_of(number)? {
                    let cells: QuarantineCells = cells;
                    let (key, row) = cells.read().ok_or_else(|| damaged("quarantine"))?;
                    if visit(key, row).is_break() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError> {
        self.find_name(space, id)
    }

    fn names(&self, visit: Visit<'_, (Space, u64), String>) -> Result<(), StoreError> {
        let rows = Streams::new(self, &self.reads.names, "names", [()]).all()?;
        let named = rows.into_iter().map(|row: NameRow| {
            let space = space_of(row.space).ok_or_else(|| damaged("names"))?;
            Ok(((space, row.id.0), row.name))
        });
        let mut named: Vec<_> = named.collect::<Result<_, StoreError>>()?;
        named.sort_unstable();
        // Of two names of one id the smaller one counts.
        named.dedup_by_key(|(key, _)| *key);
        for (key, name) in named {
            if visit(key, name).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn event_ids(&self, visit: Visit<'_, EventId, EventIdRow>) -> Result<(), StoreError> {
        let rows = Streams::new(self, &self.reads.event_ids, "event_ids", [()]).all()?;
        let rows = rows
            .into_iter()
            .map(|cells: EventIdCells| cells.read().ok_or_else(|| damaged("event_ids")));
        let mut rows: Vec<_> = rows.collect::<Result<_, _>>()?;
        rows.sort_unstable_by_key(|(id, _)| id.to_bytes());
        for (id, row) in rows {
            if visit(id, row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn quarantined(&self, key: &QuarantineKey) -> Result<Option<QuarantineRow>, StoreError> {
        self.find_quarantined(key)
    }
}
