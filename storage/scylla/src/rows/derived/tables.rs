//! Derived tables, column by column.

use scylla::DeserializeRow;
use scylla::value::{CqlDate, CqlVarint};

use crate::rows::{Id64, gone, table};

table! {
    /// A store.
    #[derive(DeserializeRow)]
    StoreCells = "stores" by (part) {
        part: i32,
        store: i32,
        currency: i32,
        currency_code: String,
        zone: String,
        registered_at_us: i64,
        applied: i64,
        training_transactions: i64,
        training_lines: i64,
        training_quantity_e5: CqlVarint,
        training_net_minor: CqlVarint,
        training_discount_minor: CqlVarint,
        training_tax_minor: CqlVarint,
    }
}

table! {
    /// A terminal.
    #[derive(DeserializeRow)]
    TerminalCells = "terminals" by (store) {
        store: i32,
        terminal: i64,
        till: i32,
        epochs: Vec<(i32, i64, i64)>,
        last_seen_us: i64,
        last_event_at_us: i64,
        transactions: i64,
        lines: i64,
        quantity_e5: CqlVarint,
        net_minor: CqlVarint,
        discount_minor: CqlVarint,
        tax_minor: CqlVarint,
        shift_day: CqlDate,
        shift_transactions: i64,
        shift_lines: i64,
        shift_quantity_e5: CqlVarint,
        shift_net_minor: CqlVarint,
        shift_discount_minor: CqlVarint,
        shift_tax_minor: CqlVarint,
        applied: i64,
        duplicates: i64,
        refused: i64,
        quarantined: i64,
        flags: i64,
    }
}

table! {
    /// The stock of a SKU in a store.
    #[derive(DeserializeRow)]
    LevelRow = "levels" by (store, bucket) {
        store: i32,
        bucket: i32,
        sku: Id64,
        quantity_e5: i64,
        is_counted: bool,
        counted_at_us: i64,
        counted_epoch: i32,
        counted_seq: i64,
        counted_terminal: i64,
        counted_line: i32,
        counted_e5: i64,
        moved_e5: i64,
        reserved_e5: i64,
        last_at_us: i64,
        last_epoch: i32,
        last_seq: i64,
        last_terminal: i64,
        last_line: i32,
        as_of_us: i64,
        flags: i64,
        unit: String,
    }
}

table! {
    /// The sums of an hour.
    #[derive(DeserializeRow)]
    RollupCells = "rollups" by (store, day) {
        store: i32,
        day: CqlDate,
        dim: i8,
        hour_us: i64,
        key: Id64,
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
    /// A day that has sums.
    #[derive(DeserializeRow)]
    RollupDayRow = "rollup_days" by (store) {
        store: i32,
        dim: i8,
        day: CqlDate,
    }
}

table! {
    /// The event behind an event id.
    #[derive(DeserializeRow)]
    EventIdCells = "event_ids" by (event_id) {
        event_id: Vec<u8>,
        terminal: i64,
        epoch: i32,
        seq: i64,
        content: i64,
    }
}

table! {
    /// An event, or a line of one, that waits.
    #[derive(DeserializeRow)]
    QuarantineCells = "quarantine" by (store) {
        store: i32,
        terminal: i64,
        epoch: i32,
        seq: i64,
        line: i32,
        reason: i32,
        received_at_us: i64,
        position: i64,
        sku: Id64,
        quantity_e5: i64,
    }
}

table! {
    /// A name of an id.
    #[derive(DeserializeRow)]
    NameRow = "names" by (space, id) {
        space: i8,
        id: Id64,
        name: String,
    }
}

gone! {
    /// A row that leaves the quarantine.
    QuarantineGone = "quarantine" by (store) {
        store: i32,
        terminal: i64,
        epoch: i32,
        seq: i64,
        line: i32,
    }
}
