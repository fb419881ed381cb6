//! Fact tables: what was received.

use scylla::value::{CqlDate, CqlVarint, MaybeUnset};

use super::{Id64, table};

/// A column that an event may lack. Left alone where it was never written; written empty where a retry takes it away.
pub(crate) type Maybe<T> = MaybeUnset<Option<T>>;

/// A tender: its name, what was given, tip, change and cashback, in minor units.
pub(crate) type TenderCell = (String, i64, CqlVarint, CqlVarint, CqlVarint);

table! {
    /// An hour in which a store has records.
    HourRow = "hours" by (store) {
        store: i32,
        hour: i32,
    }
}

table! {
    /// Where the records of a quarter of an hour lie in the log: flush, its epoch, and their numbers as u32, little-endian.
    HourIndexRow = "hour_index" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
        flush: i64,
        epoch: i64,
        numbers: Vec<u8>,
    }
}

table! {
    /// Where the sequence numbers of a terminal lie.
    RunIndexRow = "run_index" by (terminal, epoch, bucket) {
        terminal: i64,
        epoch: i32,
        bucket: i64,
        first_seq: i64,
        position: i64,
        last_seq: i64,
        log_epoch: i64,
    }
}

table! {
    /// Where a receipt lies.
    ReceiptIndexRow = "receipt_index" by (receipt, part) {
        receipt: String,
        part: i32,
        store: i32,
        hour: i32,
        position: i64,
        log_epoch: i64,
    }
}

table! {
    /// A transaction.
    TransactionRow = "transactions" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        till: i32,
        kind: &'static str,
        outcome: &'static str,
        reason: Maybe<i32>,
        flags: i64,
        receipt: MaybeUnset<String>,
        day: CqlDate,
        operator: MaybeUnset<i64>,
        customer: MaybeUnset<String>,
        currency: String,
        lines: i32,
        quantity_e5: CqlVarint,
        net_minor: CqlVarint,
        discount_minor: CqlVarint,
        tax_minor: CqlVarint,
        tenders: Vec<TenderCell>,
        received_at_us: i64,
        position: i64,
        counts: bool,
    }
}

table! {
    /// A line of a transaction.
    LineRow = "lines" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        line: i32,
        sku: Id64,
        kind: &'static str,
        quantity_e5: i64,
        unit: &'static str,
        net_minor: i64,
        category: i64,
        day: CqlDate,
        counts: bool,
    }
}

table! {
    /// A stock event.
    MoveRow = "stock_moves" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        sku: Id64,
        kind: &'static str,
        quantity_e5: i64,
        unit: &'static str,
        outcome: &'static str,
        reason: Maybe<i32>,
        flags: i64,
    }
}

table! {
    /// A reading or a heartbeat.
    TelemetryRow = "telemetry" by (terminal, day) {
        terminal: i64,
        day: CqlDate,
        at_us: i64,
        epoch: i32,
        seq: i64,
        kind: &'static str,
        sensor: MaybeUnset<i64>,
        value_e3: MaybeUnset<i64>,
        unit: MaybeUnset<&'static str>,
        sku: MaybeUnset<Id64>,
        backlog: MaybeUnset<i64>,
        uptime_ms: MaybeUnset<i64>,
        code: MaybeUnset<i64>,
    }
}

table! {
    /// What did not take effect, what took effect later, and what was registered; by the time of receipt.
    AuditRow = "audit" by (store, day) {
        store: i32,
        day: CqlDate,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        what: &'static str,
        reason: MaybeUnset<i32>,
        detail: MaybeUnset<String>,
    }
}
