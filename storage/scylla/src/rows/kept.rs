//! Where a slot's log begins, the rows that stand in for what is dropped of it, and what is deleted then.

use bytes::Bytes;
use scylla::value::CqlDate;

use super::{HourIndexRow, ReceiptIndexRow, RunIndexRow, gone, table};

table! {
    /// A record of a base.
    BaseRow = "slot_base" by (slot, id, bucket) {
        slot: i32,
        id: Vec<u8>,
        bucket: i32,
        number: i32,
        body: Bytes,
    }
}

table! {
    /// The base of a slot.
    StartBase = "log_start" by (slot) {
        slot: i32,
        base: Vec<u8>,
    }
}

table! {
    /// Up to where a log is dropped.
    StartDropped = "log_start" by (slot) {
        slot: i32,
        dropped: i64,
        before_us: i64,
    }
}

table! {
    /// Up to where it is deleted.
    StartCleared = "log_start" by (slot) {
        slot: i32,
        cleared: i64,
    }
}

gone! {
    /// Records of a base.
    BaseGone = "slot_base" by (slot, id, bucket) {
        slot: i32,
        id: Vec<u8>,
        bucket: i32,
    }
}

gone! {
    /// The log of a flush.
    LogGone = "slot_log" by (slot, bucket) {
        slot: i32,
        bucket: i64,
        flush: i64,
    }
}

gone! {
    /// An hour in which a store has no record any more.
    HourGone = "hours" by (store) {
        store: i32,
        hour: i32,
    }
}

gone! {
    /// Where records of a flush lie.
    HourIndexGone = "hour_index" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
        flush: i64,
    }
}

gone! {
    /// Where sequence numbers lie.
    RunGone = "run_index" by (terminal, epoch, bucket) {
        terminal: i64,
        epoch: i32,
        bucket: i64,
        first_seq: i64,
        position: i64,
    }
}

gone! {
    /// Where a receipt lies.
    ReceiptGone = "receipt_index" by (receipt, part) {
        receipt: String,
        part: i32,
        store: i32,
        hour: i32,
        position: i64,
    }
}

gone! {
    /// The transactions of a quarter of an hour.
    TransactionsGone = "transactions" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
    }
}

gone! {
    /// Their lines.
    LinesGone = "lines" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
    }
}

gone! {
    /// The stock events of a quarter of an hour.
    MovesGone = "stock_moves" by (store, hour, quarter) {
        store: i32,
        hour: i32,
        quarter: i8,
    }
}

gone! {
    /// What did not take effect on a day.
    AuditGone = "audit" by (store, day) {
        store: i32,
        day: CqlDate,
    }
}

impl HourIndexGone {
    pub(crate) fn new(row: &HourIndexRow) -> Self {
        Self {
            store: row.store,
            hour: row.hour,
            quarter: row.quarter,
            flush: row.flush,
        }
    }
}

impl RunGone {
    pub(crate) fn new(row: &RunIndexRow) -> Self {
        Self {
            terminal: row.terminal,
            epoch: row.epoch,
            bucket: row.bucket,
            first_seq: row.first_seq,
            position: row.position,
        }
    }
}

impl ReceiptGone {
    pub(crate) fn new(row: &ReceiptIndexRow) -> Self {
        Self {
            receipt: row.receipt.clone(),
            part: row.part,
            store: row.store,
            hour: row.hour,
            position: row.position,
        }
    }
}

/// A quarter of an hour of a store: store, hour and quarter.
pub(crate) type QuarterKey = (i32, i32, i8);

impl TransactionsGone {
    pub(crate) const fn new((store, hour, quarter): QuarterKey) -> Self {
        Self {
            store,
            hour,
            quarter,
        }
    }
}

impl LinesGone {
    pub(crate) const fn new((store, hour, quarter): QuarterKey) -> Self {
        Self {
            store,
            hour,
            quarter,
        }
    }
}

impl MovesGone {
    pub(crate) const fn new((store, hour, quarter): QuarterKey) -> Self {
        Self {
            store,
            hour,
            quarter,
        }
    }
}

impl AuditGone {
    pub(crate) const fn new((store, day): (i32, u32)) -> Self {
        Self {
            store,
            day: CqlDate(day),
        }
    }
}
