//! Sums of days: made of those of hours when a day is over, and read where they are not older than the hours.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use scylla::value::CqlDate;
use till_core::{Dim, ReadSet, RollupKey, RollupRow};
use till_protocol::id::{SkuId, StoreId};
use till_protocol::time::Day;
use till_storage::cluster::{DueDay, slot_of};
use till_storage::query::currency_code;
use till_storage::views::{StoreError, VisitPart};

use super::Tables;
use super::read::damaged;
use crate::rows::{
    ChainDayRow, DayCells, DueCells, DueGone, Id64, Packer, RollupCells, RollupDayRow, SkuDayRow,
    date, day_of_date, dim_cell, signed,
};

/// A day of a store.
type DayKey = (StoreId, u16);

/// Days that are asked for one by one, whether they have sums or not: of more it is asked first which have.
const DAYS_ASKED: usize = 1_100;

/// Days of stores whose hours of a SKU are read together: some fifty thousand rows.
const SKU_DAYS: usize = 4_096;

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
        let asked = asked.collect();
        self.each_row(&self.reads.days_due, "days_due", asked, &mut |_, cells| {
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
        let asked = vec![(signed(due.store.get()), date(due.day))];
        self.each_row(
            &self.reads.rollups_day,
            "rollups",
            asked,
            &mut |_, cells| {
                let cells: RollupCells = cells;
                let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
                sums.entry(RollupKey { hour_us: 0, ..key })
                    .or_default()
                    .add(&row);
                Ok(())
            },
        )?;
        Ok(sums)
    }

    /// Sums of stores over days: days that are not due from the sums of days, the others from their hours. Which days are due is
    /// read before sums: a day whose hours change meanwhile is as it was before, or due.
    pub(super) fn parts_of_days(
        &self,
        stores: &[StoreId],
        dim: Dim,
        days: &RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        // Sums of days by SKU lie by SKU: all of them are more partitions than there are stores and days. And of one store the
        // hours of a day are one partition, as a day of the chain is.
        if dim == Dim::Sku || stores.len() < 2 {
            return self.hours_of(&self.days_of(stores, dim, days)?, dim, visit);
        }
        let summed: BTreeSet<u16> = match days.len() <= DAYS_ASKED {
            true => days.clone().collect(),
            false => {
                let traded = self.days_of(stores, dim, days)?;
                traded.into_iter().map(|(_, day)| day).collect()
            }
        };
        let whole = self.whole_of(stores, days)?;
        let asked = summed.into_iter().map(|day| (date(day), dim_cell(dim)));
        let asked = asked.collect();
        let mut last = (None, false);
        self.each_row(
            &self.reads.chain_days,
            "chain_days",
            asked,
            &mut |(date, _), cells| {
                let cells: ChainDayRow = cells;
                let of = day_key(cells.store, *date).ok_or_else(|| damaged("chain_days"))?;
                // The rows of one store follow each other.
                if last.0 != Some(of) {
                    last = (Some(of), whole.has(of));
                }
                if last.1 {
                    visit(&key_of(dim, of, cells.key.0), &cells.totals());
                }
                Ok(())
            },
        )?;
        self.hours_of(&whole.due, dim, visit)
    }

    /// Sums of a SKU in stores over days, as [`Self::parts_of_days`] has those of others.
    pub(super) fn parts_of_sku(
        &self,
        stores: &[StoreId],
        sku: SkuId,
        days: &RangeInclusive<u16>,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        if days.is_empty() {
            return Ok(());
        }
        let whole = self.whole_of(stores, days)?;
        let (first, last) = (*days.start(), *days.end());
        let years = year_of(first)..=year_of(last);
        let asked = years.map(|year| (Id64(sku.get()), year, date(first), date(last)));
        let asked = asked.collect();
        self.each_row(&self.reads.sku_days, "sku_days", asked, &mut |_, cells| {
            let cells: SkuDayRow = cells;
            let of = day_key(cells.store, cells.day).ok_or_else(|| damaged("sku_days"))?;
            if whole.has(of) {
                visit(&key_of(Dim::Sku, of, sku.get()), &cells.totals());
            }
            Ok(())
        })?;
        let due: Vec<DayKey> = whole.due.into_iter().collect();
        self.hours_of_sku(&due, sku, visit)
    }

    /// Sums of a SKU in hours of days.
    pub(super) fn hours_of_sku(
        &self,
        days: &[DayKey],
        sku: SkuId,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        for some in days.chunks(SKU_DAYS) {
            // The hours in which the store sold anything; of one SKU each is a single row.
            let mut wanted = ReadSet::default();
            self.hours_of(some, Dim::Store, &mut |key, _| {
                wanted.rollups.push(RollupKey {
                    dim: Dim::Sku,
                    key: sku.get(),
                    ..*key
                });
            })?;
            for (key, row) in self.rows_of(&wanted)?.rollups {
                if let Some(row) = row {
                    visit(&key, &row.totals);
                }
            }
        }
        Ok(())
    }

    // Sums of the hours of days.
    fn hours_of<'a>(
        &self,
        days: impl IntoIterator<Item = &'a DayKey>,
        dim: Dim,
        visit: VisitPart<'_>,
    ) -> Result<(), StoreError> {
        let asked = days.into_iter();
        let asked = asked.map(|(store, day)| (signed(store.get()), date(*day), dim_cell(dim)));
        let asked = asked.collect();
        self.each_row(&self.reads.rollups, "rollups", asked, &mut |_, cells| {
            let cells: RollupCells = cells;
            let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
            visit(&key, &row.totals);
            Ok(())
        })
    }

    fn whole_of(
        &self,
        stores: &[StoreId],
        days: &RangeInclusive<u16>,
    ) -> Result<Whole, StoreError> {
        let stores: BTreeSet<StoreId> = stores.iter().copied().collect();
        let slots: BTreeSet<u32> = stores.iter().map(|one| slot_of(*one, self.slots)).collect();
        let mut due = BTreeSet::new();
        self.each_due(slots, &mut |one| {
            if stores.contains(&one.store) && days.contains(&one.day) {
                due.insert((one.store, one.day));
            }
        })?;
        Ok(Whole { stores, due })
    }

    /// The days on which stores have sums.
    pub(super) fn days_of(
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
        let asked = asked.collect();
        self.each_row(
            &self.reads.rollup_days,
            "rollup_days",
            asked,
            &mut |_, row| {
                let row: RollupDayRow = row;
                let of = day_key(row.store, row.day);
                found.insert(of.ok_or_else(|| damaged("rollup_days"))?);
                Ok(())
            },
        )?;
        Ok(found)
    }
}

/// Which sums of days are those of stores that were asked for, and not older than their hours.
struct Whole {
    stores: BTreeSet<StoreId>,
    /// Days of these stores that are due, of those that were asked for.
    due: BTreeSet<DayKey>,
}

impl Whole {
    fn has(&self, of: DayKey) -> bool {
        self.stores.contains(&of.0) && !self.due.contains(&of)
    }
}

fn day_key(store: i32, date: CqlDate) -> Option<DayKey> {
    let store = StoreId::new(store.cast_unsigned()).ok()?;
    Some((store, day_of_date(date)?))
}

// The key of a sum of a day.
const fn key_of(dim: Dim, (store, day): DayKey, key: u64) -> RollupKey {
    RollupKey {
        store: store.get(),
        dim,
        day,
        hour_us: 0,
        key,
    }
}

fn year_of(day: u16) -> i32 {
    let (year, ..) = Day::new(day).civil();
    i32::try_from(year).unwrap_or(0)
}
