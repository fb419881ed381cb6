//! Fact tables: what was received.

use bytes::Bytes;
use scylla::value::{CqlDate, CqlVarint, MaybeUnset};

use super::table;

/// A column that an event may lack. Left alone where it was never written; written empty where a retry takes it away.
pub(crate) type Maybe<T> = MaybeUnset<Option<T>>;

/// A tender: its name, what was given, tip, change and cashback, in minor units.
pub(crate) type TenderCell = (String, i64, CqlVarint, CqlVarint, CqlVarint);

table! {
    /// A record as it was received, in every hour that one of its events has.
    RecordRow = "records" by (store, hour) {
        store: i32,
        hour: i32,
        position: i64,
        terminal: i64,
        epoch: i32,
        first_seq: i64,
        count: i32,
        kind: i8,
        head: Bytes,
        verdicts: Bytes,
        payload: Bytes,
    }
}

table! {
    /// An hour in which a store has records.
    RecordHourRow = "record_hours" by (store) {
        store: i32,
        hour: i32,
    }
}

table! {
    /// Where the sequence numbers of a terminal lie.
    RunRow = "runs" by (terminal, epoch, bucket) {
        terminal: i64,
        epoch: i32,
        bucket: i64,
        first_seq: i64,
        last_seq: i64,
        hour: i32,
        position: i64,
    }
}

table! {
    /// Where a receipt lies.
    ReceiptRow = "receipts" by (receipt) {
        receipt: String,
        store: i32,
        hour: i32,
        position: i64,
    }
}

table! {
    /// A transaction.
    TransactionRow = "transactions" by (store, hour) {
        store: i32,
        hour: i32,
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
    LineRow = "lines" by (store, hour) {
        store: i32,
        hour: i32,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        line: i32,
        sku: i64,
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
    MoveRow = "stock_moves" by (store, hour) {
        store: i32,
        hour: i32,
        at_us: i64,
        terminal: i64,
        epoch: i32,
        seq: i64,
        sku: i64,
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
        sku: MaybeUnset<i64>,
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
