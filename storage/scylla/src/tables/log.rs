//! The committed log of each slot: the records of every commit with its seal, and the rows of commits until they are projected.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use scylla::statement::Statement;
use till_storage::cluster::{FlushLog, FoundLog, Log, PART_STAMP, Seal, SlotRow};
use till_storage::views::StoreError;

use super::Tables;
use super::read::Streams;
use crate::error::CqlError;
use crate::rows::{Packer, Stamped, signed, table};

/// Flushes of one partition of the log, as a power of two. A flush of a slot in a busy chain has some hundred kilobytes.
const BUCKET_BITS: u32 = 6;
/// Where the seal of a flush lies among its records: under an epoch that no owner has.
const SEAL_EPOCH: i64 = 0;

/// Time for a table to be emptied by every node: servers give themselves a minute.
const TRUNCATE_TIMEOUT: Duration = Duration::from_secs(90);
/// Tables that are made from the log, names left out. The rows on their way come first: nobody takes them for all rows of
/// their flush after others are gone.
const MADE: [&str; 20] = [
    "slot_rows",
    "hours",
    "hour_index",
    "run_index",
    "receipt_index",
    "transactions",
    "lines",
    "stock_moves",
    "telemetry",
    "audit",
    "stores",
    "terminals",
    "levels",
    "rollups",
    "rollup_days",
    "event_ids",
    "quarantine",
    "chain_days",
    "sku_days",
    "days_due",
];

/// The partition of a flush.
pub(crate) const fn bucket_of(flush: u64) -> u64 {
    flush >> BUCKET_BITS
}

table! {
    /// A record of a commit, or its seal.
    LogRow = "slot_log" by (slot, bucket) {
        slot: i32,
        bucket: i64,
        flush: i64,
        epoch: i64,
        number: i32,
        body: Bytes,
    }
}

table! {
    /// A part of the rows of a commit.
    RowPartRow = "slot_rows" by (slot, flush) {
        slot: i32,
        flush: i64,
        epoch: i64,
        part: i32,
        body: Bytes,
    }
}

impl LogRow {
    fn new((slot, flush): (u32, u64), epoch: i64, number: i32, body: Bytes) -> Stamped<Self> {
        let row = Self {
            slot: signed(slot),
            bucket: bucket_of(flush).cast_signed(),
            flush: flush.cast_signed(),
            epoch,
            number,
            body,
        };
        (PART_STAMP, row)
    }
}

impl Tables {
    /// Writes the log of a flush, with the seal of the one before.
    pub(crate) fn write_log(
        &self,
        (slot, flush): (u32, u64),
        log: &Log,
        before: Option<&Seal>,
    ) -> Result<(), StoreError> {
        let epoch = log.seal.epoch.cast_signed();
        let records = (0..).zip(&log.records);
        let records =
            records.map(|(number, body)| LogRow::new((slot, flush), epoch, number, body.clone()));
        let mut rows: Vec<_> = records.collect();
        if let Some(before) = before {
            let seal = Bytes::copy_from_slice(&before.encode());
            let of = (slot, flush.saturating_sub(1));
            rows.push(LogRow::new(of, SEAL_EPOCH, 0, seal));
        }
        let parts = (0..).zip(&log.rows).map(|(part, body)| {
            let row = RowPartRow {
                slot: signed(slot),
                flush: flush.cast_signed(),
                epoch,
                part,
                body: body.clone(),
            };
            (PART_STAMP, row)
        });
        let mut packer = Packer::default();
        packer.add(&self.writes.log, rows)?;
        packer.add(&self.writes.row_parts, parts.collect())?;
        self.put(packer).map(drop)
    }

    /// The logs of flushes.
    pub(crate) fn logs(
        &self,
        row: &SlotRow,
        flushes: (u64, u64),
    ) -> Result<Vec<FlushLog>, StoreError> {
        let seals = self.seals_of(row, flushes)?;
        let slot = signed(row.slot);
        // All of them at once: a round trip for each flush would be most of what a rebuild waits for.
        let records = seals.iter().map(|(flush, seal)| {
            let bucket = bucket_of(*flush).cast_signed();
            (slot, bucket, flush.cast_signed(), seal.epoch.cast_signed())
        });
        let mut records = Streams::new(self, &self.reads.log_of, "slot_log", records);
        let rows = seals.iter();
        let rows = rows.map(|(flush, seal)| (slot, flush.cast_signed(), seal.epoch.cast_signed()));
        let mut rows = Streams::new(self, &self.reads.row_parts, "slot_rows", rows);
        let mut found = Vec::with_capacity(seals.len());
        for (at, (flush, seal)) in seals.into_iter().enumerate() {
            let log = FoundLog {
                records: numbered(records.all_of(at)?),
                rows: numbered(rows.all_of(at)?),
            };
            found.push(FlushLog { flush, seal, log });
        }
        Ok(found)
    }

    // The last one's is in the row of its slot. Those that are not there are left out.
    fn seals_of(
        &self,
        row: &SlotRow,
        (first, last): (u64, u64),
    ) -> Result<Vec<(u64, Seal)>, StoreError> {
        let before = first..row.flush.min(last.saturating_add(1));
        let asked = before.clone().map(|flush| {
            let bucket = bucket_of(flush).cast_signed();
            (signed(row.slot), bucket, flush.cast_signed(), SEAL_EPOCH)
        });
        let asked: Vec<_> = asked.collect();
        let found = self.many::<_, (i32, Bytes)>(&self.reads.log_of, "slot_log", asked)?;
        let mut seals = Vec::new();
        for (flush, cells) in before.zip(found) {
            let Some((_, body)) = cells else { continue };
            let seal = Seal::decode(&body).ok_or_else(|| StoreError::Damaged {
                table: "slot_log",
                cause: format!("the seal of flush {flush} of slot {}", row.slot),
            })?;
            seals.push((flush, seal));
        }
        if (first..=last).contains(&row.flush) {
            seals.push((row.flush, row.seal));
        }
        Ok(seals)
    }

    /// Whether every node answers: none may miss that a table is emptied, so that servers refuse it else.
    pub(crate) fn may_clear(&self) -> Result<(), StoreError> {
        let state = self.cql.client().session().get_cluster_state();
        let away = state
            .get_nodes_info()
            .iter()
            .filter(|node| !node.is_connected());
        let away: Vec<String> = away.map(|node| node.address.to_string()).collect();
        match away.is_empty() {
            true => Ok(()),
            false => Err(StoreError::Failed {
                table: "cluster",
                cause: format!(
                    "tables can be emptied only while every node answers, and these do not: {}",
                    away.join(", ")
                ),
            }),
        }
    }

    /// Empties all tables that are made from the log.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        for table in MADE {
            let client = Arc::clone(self.cql.client());
            self.cql.wait(async move {
                let mut statement = Statement::new(format!("TRUNCATE {}", client.table(table)));
                statement.set_request_timeout(Some(TRUNCATE_TIMEOUT));
                let done = client.session().query_unpaged(statement, ()).await;
                done.map_err(|error| CqlError::statement(table, error))
            })?;
        }
        Ok(())
    }

    /// Deletes the rows of commits that are projected.
    pub(crate) fn forget_rows(
        &self,
        slot: u32,
        (first, last): (u64, u64),
    ) -> Result<(), StoreError> {
        let gone = (first..=last).map(|flush| (signed(slot), flush.cast_signed()));
        self.delete(&self.writes.row_parts_gone, "slot_rows", gone)
    }
}

fn numbered(rows: Vec<(i32, Bytes)>) -> Vec<(u32, Bytes)> {
    let rows = rows.into_iter();
    rows.map(|(number, body)| (number.cast_unsigned(), body))
        .collect()
}
