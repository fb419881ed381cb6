//! Sums of days, and which of them are due.

use scylla::DeserializeRow;
use scylla::value::{CqlDate, CqlVarint};
use till_core::{Dim, RollupKey, RollupRow, Totals};
use till_protocol::id::StoreId;
use till_protocol::time::Day;
use till_storage::cluster::DueDay;

use super::cell::Wide;
use super::{Id64, RollupCells, date, day_of_date, gone, signed, table};

table! {
    /// The sums of a day of a store, but for those of SKUs.
    ChainDayCells = "chain_days" by (day, dim) {
        day: CqlDate,
        dim: i8,
        store: i32,
        key: Id64,
        currency_code: String,
        transactions: i64,
        lines: i64,
        quantity_e5: CqlVarint,
        net_minor: CqlVarint,
        discount_minor: CqlVarint,
        tax_minor: CqlVarint,
        returns_net_minor: CqlVarint,
        moved_e5: CqlVarint,
    }
}

table! {
    /// The sums of a day of a SKU in a store.
    SkuDayCells = "sku_days" by (sku, year) {
        sku: Id64,
        year: i32,
        day: CqlDate,
        store: i32,
        currency_code: String,
        transactions: i64,
        lines: i64,
        quantity_e5: CqlVarint,
        net_minor: CqlVarint,
        discount_minor: CqlVarint,
        tax_minor: CqlVarint,
        returns_net_minor: CqlVarint,
        moved_e5: CqlVarint,
    }
}

table! {
    /// A day whose sums are to be made.
    #[derive(DeserializeRow)]
    DueCells = "days_due" by (slot) {
        slot: i32,
        store: i32,
        day: CqlDate,
        flush: i64,
    }
}

gone! {
    /// A day whose sums are made.
    DueGone = "days_due" by (slot) {
        slot: i32,
        store: i32,
        day: CqlDate,
    }
}

impl DueGone {
    pub(crate) fn new(slot: u32, due: &DueDay) -> Self {
        Self {
            slot: signed(slot),
            store: signed(due.store.get()),
            day: date(due.day),
        }
    }
}

impl DueCells {
    pub(crate) fn new(slot: u32, (store, day): (u32, u16), flush: u64) -> Self {
        Self {
            slot: signed(slot),
            store: signed(store),
            day: date(day),
            flush: flush.cast_signed(),
        }
    }

    pub(crate) fn read(&self) -> Option<DueDay> {
        Some(DueDay {
            store: StoreId::new(self.store.cast_unsigned()).ok()?,
            day: day_of_date(self.day)?,
            flush: self.flush.cast_unsigned(),
        })
    }
}

/// The row of the sums of a day: one of a SKU stands in a table of its own.
pub(crate) enum DayCells {
    Chain(ChainDayCells),
    Sku(SkuDayCells),
}

impl DayCells {
    /// The row of hours that were added up; the hour of the key means nothing.
    pub(crate) fn new(key: &RollupKey, row: &RollupRow, currency_code: &str) -> Self {
        let sum = RollupCells::new(key, row);
        let currency_code = currency_code.to_owned();
        if key.dim != Dim::Sku {
            return Self::Chain(ChainDayCells {
                day: sum.day,
                dim: sum.dim,
                store: sum.store,
                key: sum.key,
                currency_code,
                transactions: sum.transactions,
                lines: sum.lines,
                quantity_e5: sum.quantity_e5,
                net_minor: sum.net_minor,
                discount_minor: sum.discount_minor,
                tax_minor: sum.tax_minor,
                returns_net_minor: sum.returns_net_minor,
                moved_e5: sum.moved_e5,
            });
        }
        let (year, ..) = Day::new(key.day).civil();
        Self::Sku(SkuDayCells {
            sku: sum.key,
            year: i32::try_from(year).unwrap_or(0),
            day: sum.day,
            store: sum.store,
            currency_code,
            transactions: sum.transactions,
            lines: sum.lines,
            quantity_e5: sum.quantity_e5,
            net_minor: sum.net_minor,
            discount_minor: sum.discount_minor,
            tax_minor: sum.tax_minor,
            returns_net_minor: sum.returns_net_minor,
            moved_e5: sum.moved_e5,
        })
    }
}

/// What is read of the sums of a day of the chain: a question about a year reads millions.
#[derive(Clone, Copy, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub(crate) struct ChainDayRow {
    pub(crate) store: i32,
    pub(crate) key: Id64,
    transactions: i64,
    lines: i64,
    quantity_e5: Wide,
    net_minor: Wide,
    discount_minor: Wide,
    tax_minor: Wide,
}

/// What is read of the sums of a year of a SKU.
#[derive(Clone, Copy, Debug, DeserializeRow)]
#[scylla(flavor = "enforce_order")]
pub(crate) struct SkuDayRow {
    pub(crate) store: i32,
    pub(crate) day: CqlDate,
    transactions: i64,
    lines: i64,
    quantity_e5: Wide,
    net_minor: Wide,
    discount_minor: Wide,
    tax_minor: Wide,
}

impl ChainDayRow {
    /// Its columns.
    pub(crate) const COLUMNS: &'static str =
        "store, key, transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor";

    /// The sums of sales.
    pub(crate) fn totals(&self) -> Totals {
        totals(
            [self.transactions, self.lines],
            [
                self.quantity_e5,
                self.net_minor,
                self.discount_minor,
                self.tax_minor,
            ],
        )
    }
}

impl SkuDayRow {
    /// Its columns.
    pub(crate) const COLUMNS: &'static str =
        "store, day, transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor";

    /// The sums of sales.
    pub(crate) fn totals(&self) -> Totals {
        totals(
            [self.transactions, self.lines],
            [
                self.quantity_e5,
                self.net_minor,
                self.discount_minor,
                self.tax_minor,
            ],
        )
    }
}

fn totals(counts: [i64; 2], sums: [Wide; 4]) -> Totals {
    let [transactions, lines] = counts.map(i64::cast_unsigned);
    let [quantity, net, discount, tax] = sums.map(|sum| sum.0);
    Totals {
        transactions,
        lines,
        quantity,
        net,
        discount,
        tax,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::wide;

    fn key(dim: Dim) -> RollupKey {
        let day = Day::from_civil(2026, 12, 31).unwrap();
        RollupKey {
            store: 17,
            dim,
            day: day.get(),
            hour_us: 0,
            key: u64::MAX,
        }
    }

    fn sums() -> RollupRow {
        RollupRow {
            totals: Totals {
                transactions: 1,
                lines: 2,
                quantity: -3,
                net: i128::MAX,
                discount: 4,
                tax: -5,
            },
            returns_net: i128::MIN,
            moved: 6,
        }
    }

    #[test]
    fn all_but_skus_have_a_row_in_the_table_of_the_chain() {
        for dim in [Dim::Store, Dim::Category, Dim::Tender, Dim::Operator] {
            let DayCells::Chain(cells) = DayCells::new(&key(dim), &sums(), "EUR") else {
                panic!("{dim:?} has no table of its own");
            };
            assert_eq!(cells.currency_code, "EUR");
            assert_eq!((cells.store, cells.key.0), (17, u64::MAX));
            assert_eq!(wide(&cells.net_minor), Some(i128::MAX));
        }
    }

    #[test]
    fn a_sku_has_a_partition_for_each_year() {
        let DayCells::Sku(cells) = DayCells::new(&key(Dim::Sku), &sums(), "EUR") else {
            panic!("SKUs have a table of their own");
        };
        assert_eq!((cells.sku.0, cells.year), (u64::MAX, 2026));
        assert_eq!((cells.lines, cells.store), (2, 17));
    }

    #[test]
    fn a_day_that_is_due_comes_back_as_it_was() {
        let due = DueDay {
            store: StoreId::new(u32::MAX / 2).unwrap(),
            day: u16::MAX,
            flush: 7,
        };
        let cells = DueCells::new(3, (due.store.get(), due.day), due.flush);
        assert_eq!(cells.read(), Some(due));
        let gone = DueGone::new(3, &due);
        assert_eq!(
            (gone.slot, gone.store, gone.day),
            (cells.slot, cells.store, cells.day)
        );
    }
}
