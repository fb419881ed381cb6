//! Sums of days: made of those of hours when a day is over, and read where they are not older than the hours.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use scylla::statement::prepared::PreparedStatement;
use till_core::{Dim, RollupKey, RollupRow};
use till_protocol::id::StoreId;
use till_storage::cluster::{DueDay, slot_of};
use till_storage::query::currency_code;
use till_storage::views::{StoreError, VisitPart};

use super::Tables;
use super::read::{Asked, Cells, Streams, WINDOW, damaged};
use crate::rows::{
    ChainDayRow, DayCells, DueCells, DueGone, Packer, RollupCells, RollupDayRow, date, day_of_date,
    dim_cell, signed,
};

/// A day of a store.
type DayKey = (StoreId, u16);

impl Tables {
    /// The days of a slot that are due, in order.
    pub(crate) fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError> {
        let mut found = Vec::new();
        self.each_due([slot], &mut |due| found.push(due))?;
        Ok(found)
    }

    fn each_due(
        &self,
        slots: impl IntoIterator<Item = u32>,
        each: &mut dyn FnMut(DueDay),
    ) -> Result<(), StoreError> {
        let asked = slots.into_iter().map(|slot| (signed(slot),));
        let asked: Vec<_> = asked.collect();
        self.each_row(&self.reads.days_due, "days_due", &asked, &mut |cells| {
            let cells: DueCells = cells;
            each(cells.read().ok_or_else(|| damaged("days_due"))?);
            Ok(())
        })
    }

    /// Makes the sums of a day. See [`SharedStore::sum_day`](till_storage::cluster::SharedStore::sum_day).
    pub(crate) fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError> {
        let currency = currency_code(self.traits(&[], due.store)?.currency);
        let stamp = applied.cast_signed();
        let (mut chain, mut skus) = (Vec::new(), Vec::new());
        for (key, row) in self.hours_added_up(due)? {
            match DayCells::new(&key, &row, &currency) {
                DayCells::Chain(cells) => chain.push((stamp, cells)),
                DayCells::Sku(cells) => skus.push((stamp, cells)),
            }
        }
        let mut packer = Packer::default();
        packer.add(&self.writes.chain_days, chain)?;
        packer.add(&self.writes.sku_days, skus)?;
        self.put(packer)?;
        // Behind the sums: a day that is not due has all of them.
        let mut packer = Packer::default();
        let gone = vec![(stamp, DueGone::new(slot, due))];
        packer.add(&self.writes.due_gone, gone)?;
        self.put(packer).map(drop)
    }

    fn hours_added_up(&self, due: &DueDay) -> Result<BTreeMap<RollupKey, RollupRow>, StoreError> {
        let mut sums: BTreeMap<RollupKey, RollupRow> = BTreeMap::new();
        let asked = [(signed(due.store.get()), date(due.day))];
        self.each_row(&self.reads.rollups_day, "rollups", &asked, &mut |cells| {
            let cells: RollupCells = cells;
            let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
            sums.entry(RollupKey { hour_us: 0, ..key })
                .or_default()
                .add(&row);
            Ok(())
        })?;
        Ok(sums)
    }

    /// Sums of stores over days: days that are not due from the sums of days, the others from their hours. Which days there
    /// are is read first, then which are due, then sums: a day whose hours change meanwhile is as it was before, or due.
    pub(super) fn parts_of_days(
        &self,
        stores: &[StoreId],
        dim: Dim,
        days: &RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        let mut left = self.days_of(stores, dim, days)?;
        // Sums of days by SKU lie by SKU: all of them are more partitions than there are stores and days. And of one store the
        // hours of a day are one partition, as a day of the chain is.
        if dim != Dim::Sku && stores.len() > 1 {
            let mut due = BTreeSet::new();
            let slots: BTreeSet<u32> = stores.iter().map(|one| slot_of(*one, self.slots)).collect();
            self.each_due(slots, &mut |one| {
                due.insert((one.store, one.day));
            })?;
            let (hours, whole) = left.into_iter().partition(|one| due.contains(one));
            left = hours;
            self.whole_days(&whole, dim, visit)?;
        }
        let asked = left.iter();
        let asked = asked.map(|(store, day)| (signed(store.get()), date(*day), dim_cell(dim)));
        let asked: Vec<_> = asked.collect();
        self.each_row(&self.reads.rollups, "rollups", &asked, &mut |cells| {
            let cells: RollupCells = cells;
            let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
            visit(&key, &row);
            Ok(())
        })
    }

    fn days_of(
        &self,
        stores: &[StoreId],
        dim: Dim,
        days: &RangeInclusive<u16>,
    ) -> Result<BTreeSet<DayKey>, StoreError> {
        let mut found = BTreeSet::new();
        if days.is_empty() {
            return Ok(found);
        }
        let (first, last) = (date(*days.start()), date(*days.end()));
        let asked = stores.iter();
        let asked = asked.map(|store| (signed(store.get()), dim_cell(dim), first, last));
        let asked: Vec<_> = asked.collect();
        self.each_row(&self.reads.rollup_days, "rollup_days", &asked, &mut |row| {
            let row: RollupDayRow = row;
            let store = StoreId::new(row.store.cast_unsigned()).ok();
            let day = store.zip(day_of_date(row.day));
            found.insert(day.ok_or_else(|| damaged("rollup_days"))?);
            Ok(())
        })?;
        Ok(found)
    }

    fn whole_days(
        &self,
        whole: &BTreeSet<DayKey>,
        dim: Dim,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        let days: BTreeSet<u16> = whole.iter().map(|(_, day)| *day).collect();
        let asked = days.iter().map(|day| (date(*day), dim_cell(dim)));
        let asked: Vec<_> = asked.collect();
        let mut last = ((0, 0), false);
        self.each_row(&self.reads.chain_days, "chain_days", &asked, &mut |cells| {
            let cells: ChainDayRow = cells;
            let (key, row) = cells.read().ok_or_else(|| damaged("chain_days"))?;
            // The rows of one store follow each other.
            if last.0 != (key.store, key.day) {
                let store = StoreId::new(key.store).map_err(|_| damaged("chain_days"))?;
                last = ((key.store, key.day), whole.contains(&(store, key.day)));
            }
            if last.1 {
                visit(&key, &row);
            }
            Ok(())
        })
    }

    // Every row of many partitions, a window of them side by side.
    pub(super) fn each_row<V: Asked, R: Cells>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        asked: &[V],
        each: &mut dyn FnMut(R) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for some in asked.chunks(WINDOW) {
            Streams::new(self, statement, what, some.iter().cloned()).each(each)?;
        }
        Ok(())
    }
}
