//! Rows as they stand in the tables: one type a table, with the columns as fields.

mod cell; // numbers as CQL has them
mod commit; // the rows of a commit
mod day; // sums of days
mod derived; // derived tables
mod event; // the rows of one event
mod fact; // fact tables
mod kept; // where a log begins, and what is deleted before that
mod pack; // rows into batches

use std::cmp::Ordering;

use scylla::serialize::row::SerializeRow;
use scylla::value::MaybeUnset;

pub(crate) use cell::{Id64, Part, date, day_of_date, varint, wide};
pub(crate) use commit::{RUN_BITS, Traits, facts_of};
pub(crate) use day::{
    ChainDayCells, ChainDayRow, DayCells, DueCells, DueGone, SkuDayCells, SkuDayRow,
};
pub(crate) use derived::{
    EventIdCells, LevelRow, NameRow, OUT_OF_RANGE, QuarantineCells, QuarantineGone, RECEIPT_PARTS,
    RollupCells, RollupDayRow, SKU_BUCKETS, STORE_PARTS, StoreCells, TerminalCells, bucket_of_sku,
    derived_of, dim_cell, part_of_store, signed, space_cell, space_of,
};
pub(crate) use fact::{
    AuditRow, HourIndexRow, HourRow, LineRow, MoveRow, ReceiptIndexRow, RunIndexRow, TelemetryRow,
    TransactionRow,
};
pub(crate) use kept::{
    AuditGone, BaseGone, BaseRow, HourGone, HourIndexGone, LinesGone, LogGone, MovesGone,
    ReceiptGone, RunGone, StartBase, StartCleared, StartDropped, TransactionsGone,
};
pub(crate) use pack::{BYTES_MAX, Chunk, Packed, Packer, ROWS_MAX};

/// A cell that is left alone where there is no value.
pub(crate) fn set<T>(value: Option<T>) -> MaybeUnset<T> {
    value.map_or(MaybeUnset::Unset, MaybeUnset::Set)
}

/// A table that rows are written to.
pub(crate) trait WideTable: SerializeRow {
    /// Its name.
    const NAME: &'static str;
    /// Its columns, those of the primary key first.
    const COLUMNS: &'static [&'static str];

    /// Compares the partitions of two rows.
    fn partition(&self, other: &Self) -> Ordering;

    /// Whether the timestamp comes before the columns in [`Self::write_statement`].
    const STAMP_FIRST: bool = false;

    /// The statement that writes a row.
    fn write_statement(table: &str) -> String {
        let digests = vec!["?"; Self::COLUMNS.len()].join(", ");
        let columns = Self::COLUMNS.join(", ");
        format!("INSERT INTO {table} ({columns}) VALUES ({digests}) USING TIMESTAMP ?")
    }
}

/// A row with its timestamp: us since 1970 for facts, the number of the flush for derived rows.
pub(crate) type Stamped<T> = (i64, T);

/// Declares the type of a table's rows: its name, the columns that make its partition, and all columns in the order of the
/// primary key.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident = $table:literal by ($($key:ident),+) { $($column:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, scylla::SerializeRow)]
        pub(crate) struct $name {
            $(pub(crate) $column: $type,)+
        }

        impl crate::rows::WideTable for $name {
            const NAME: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];

            fn partition(&self, other: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal$(.then_with(|| crate::rows::Part::order(&self.$key, &other.$key)))+
            }
        }
    };
}
pub(crate) use table;

/// Declares the deletion of a table's rows: its name, the columns that make its partition, and those of its primary key. Its stamp is
/// that of the rows that it covers.
macro_rules! gone {
    ($(#[$meta:meta])* $name:ident = $table:literal by ($($key:ident),+) { $($column:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, scylla::SerializeRow)]
        pub(crate) struct $name {
            $(pub(crate) $column: $type,)+
        }

        impl crate::rows::WideTable for $name {
            const NAME: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($column)),+];
            const STAMP_FIRST: bool = true;

            fn write_statement(table: &str) -> String {
                let key = Self::COLUMNS.join(" = ? AND ");
                format!("DELETE FROM {table} USING TIMESTAMP ? WHERE {key} = ?")
            }

            fn partition(&self, other: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal$(.then_with(|| crate::rows::Part::order(&self.$key, &other.$key)))+
            }
        }
    };
}
pub(crate) use gone;
