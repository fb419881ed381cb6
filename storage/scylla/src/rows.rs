//! Rows as they stand in the tables: one type a table, with the columns as fields.

mod cell; // numbers as CQL has them
mod commit; // the rows of a commit
mod derived; // derived tables
mod event; // the rows of one event
mod fact; // fact tables
mod pack; // rows into batches

pub(crate) use cell::{date, day_of_date, varint, wide};
pub(crate) use commit::{Facts, facts_of};
pub(crate) use derived::{
    Derived, EventIdCells, LevelRow, NameRow, QuarantineCells, QuarantineGone, RollupCells,
    RollupDayRow, StoreCells, TerminalCells, bucket_of_rollup, bucket_of_sku, derived_of,
    part_of_store,
};
pub(crate) use fact::{
    AuditRow, LineRow, MoveRow, ReceiptRow, RecordHourRow, RecordRow, RunRow, TelemetryRow,
    TransactionRow,
};
pub(crate) use pack::{Chunk, Packer};

/// A table that rows are written to.
pub(crate) trait Table: scylla::serialize::row::SerializeRow {
    /// The statement that writes a row: an insert of every column with its timestamp last, but for the deletion of a row.
    fn statement(table: impl Fn(&str) -> String) -> String;
    /// The name of the statement, for errors and look-ups.
    const NAME: &'static str;
    /// Compares the partitions of two rows.
    fn partition(&self, other: &Self) -> std::cmp::Ordering;
    /// The row's timestamp, in us since 1970 for facts, the flush's number for derived rows.
    fn stamp(&self) -> i64;
}

/// Declares the type of a table's rows: its name, the columns that make its partition, and all columns in the order of the
/// primary key. `stamp` becomes the timestamp.
macro_rules! table {
    ($(#[$meta:meta])* $name:ident = $table:literal by ($($key:ident),+) { $($column:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, scylla::SerializeRow)]
        pub(crate) struct $name {
            $(pub(crate) $column: $type,)+
            #[scylla(rename = "[timestamp]")]
            pub(crate) stamp: i64,
        }

        impl crate::rows::Table for $name {
            const NAME: &'static str = $table;

            fn statement(table: impl Fn(&str) -> String) -> String {
                let columns = [$(stringify!($column)),+];
                let marks = vec!["?"; columns.len()].join(", ");
                format!(
                    "INSERT INTO {} ({}) VALUES ({marks}) USING TIMESTAMP ?",
                    table($table),
                    columns.join(", "),
                )
            }

            fn partition(&self, other: &Self) -> std::cmp::Ordering {
                std::cmp::Ordering::Equal$(.then_with(|| self.$key.cmp(&other.$key)))+
            }

            fn stamp(&self) -> i64 {
                self.stamp
            }
        }
    };
}
pub(crate) use table;
