//! Where the log of a slot begins, and what is deleted when it begins later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use scylla::statement::prepared::PreparedStatement;
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Commit, LogNote, LogStart, PART_DELETE_STAMP, PART_STAMP, SlotBase, slot_of,
};
use till_storage::views::StoreError;

use super::statements::PAGE_RECORDS;
use super::{Tables, bucket_of};
use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::rows::{
    AuditGone, BaseGone, BaseRow, HourGone, HourIndexGone, LinesGone, LogGone, MovesGone, Packer,
    ReceiptGone, RunGone, Stamped, StartBase, StartCleared, StartDropped, TransactionsGone,
    WideTable, facts_of, signed,
};

/// Records of a base in one partition, as a power of two: four megabytes.
const BASE_BITS: u32 = 6;
/// Quarters of an hour.
const QUARTERS: i8 = 4;

/// Statements that engines have no use for, prepared when one of them is needed.
#[derive(Debug)]
struct Statements {
    base: PreparedStatement,
    base_gone: PreparedStatement,
    base_records: PreparedStatement,
    start_base: PreparedStatement,
    start_dropped: PreparedStatement,
    start_cleared: PreparedStatement,
    log: PreparedStatement,
    hours: PreparedStatement,
    hour_index: PreparedStatement,
    runs: PreparedStatement,
    receipts: PreparedStatement,
    transactions: PreparedStatement,
    lines: PreparedStatement,
    moves: PreparedStatement,
    audit: PreparedStatement,
}

/// Those statements, once they are prepared.
#[derive(Debug, Default)]
pub(super) struct Retention(OnceLock<Statements>);

async fn write<T: WideTable>(client: &Client) -> Result<PreparedStatement, CqlError> {
    let statement = T::write_statement(&client.table(T::NAME));
    client.prepare(Purpose::Ingest, T::NAME, &statement).await
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let records = format!(
            "SELECT number, body FROM {} WHERE slot = ? AND id = ? AND bucket = ? AND number >= ? AND number < ?",
            client.table(BaseRow::NAME)
        );
        let mut base_records = client
            .prepare(Purpose::Read, BaseRow::NAME, &records)
            .await?;
        base_records.set_page_size(PAGE_RECORDS);
        Ok(Self {
            base: write::<BaseRow>(client).await?,
            base_gone: write::<BaseGone>(client).await?,
            base_records,
            start_base: write::<StartBase>(client).await?,
            start_dropped: write::<StartDropped>(client).await?,
            start_cleared: write::<StartCleared>(client).await?,
            log: write::<LogGone>(client).await?,
            hours: write::<HourGone>(client).await?,
            hour_index: write::<HourIndexGone>(client).await?,
            runs: write::<RunGone>(client).await?,
            receipts: write::<ReceiptGone>(client).await?,
            transactions: write::<TransactionsGone>(client).await?,
            lines: write::<LinesGone>(client).await?,
            moves: write::<MovesGone>(client).await?,
            audit: write::<AuditGone>(client).await?,
        })
    }
}

impl Tables {
    fn retention(&self) -> Result<&Statements, StoreError> {
        if let Some(statements) = self.retention.0.get() {
            return Ok(statements);
        }
        let client = Arc::clone(self.cql.client());
        let statements = self
            .cql
            .wait(async move { Statements::prepare(&client).await })?;
        Ok(self.retention.0.get_or_init(|| statements))
    }

    fn put_rows<T: WideTable>(
        &self,
        statement: &PreparedStatement,
        rows: Vec<Stamped<T>>,
    ) -> Result<(), StoreError> {
        let mut packer = Packer::default();
        packer.add(statement, rows)?;
        self.put(packer).map(drop)
    }

    /// Where the log of a slot begins.
    pub(crate) fn log_start(&self, slot: u32) -> Result<LogStart, StoreError> {
        type Cells = (Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>);
        let asked = (signed(slot),);
        let found = self.first::<_, Cells>(&self.reads.log_start, "log_start", asked)?;
        let Some((dropped, before_us, cleared, base)) = found else {
            return Ok(LogStart::default());
        };
        let base = base.map(|bytes| {
            SlotBase::decode(&bytes).ok_or_else(|| StoreError::Damaged {
                table: "log_start",
                cause: format!("the base of slot {slot} is of a newer version, or damaged"),
            })
        });
        Ok(LogStart {
            dropped: dropped.unwrap_or(0).cast_unsigned(),
            before_us: before_us.unwrap_or(i64::MIN),
            cleared: cleared.unwrap_or(0).cast_unsigned(),
            base: base.transpose()?,
        })
    }

    /// Whether all records of a store are there that were received since then.
    pub(super) fn has_all_since(&self, store: StoreId, since_us: i64) -> Result<bool, StoreError> {
        let start = self.log_start(slot_of(store, self.slots))?;
        Ok(start.dropped == 0 || since_us >= start.before_us)
    }

    /// Says where it begins. The flush is the stamp: what says less loses.
    pub(crate) fn note_start(&self, slot: u32, note: &LogNote) -> Result<(), StoreError> {
        let (to, slot) = (self.retention()?, signed(slot));
        match note {
            LogNote::Base(base) => {
                let row = StartBase {
                    slot,
                    base: base.encode().to_vec(),
                };
                self.put_rows(&to.start_base, vec![(base.flush.cast_signed(), row)])
            }
            LogNote::Dropped(flush, before_us) => {
                let dropped = flush.cast_signed();
                let row = StartDropped {
                    slot,
                    dropped,
                    before_us: *before_us,
                };
                self.put_rows(&to.start_dropped, vec![(dropped, row)])
            }
            LogNote::Cleared(flush) => {
                let cleared = flush.cast_signed();
                let row = StartCleared { slot, cleared };
                self.put_rows(&to.start_cleared, vec![(cleared, row)])
            }
        }
    }

    /// Writes records of a base.
    pub(crate) fn put_base(
        &self,
        base: &SlotBase,
        from: u32,
        records: &[Bytes],
    ) -> Result<(), StoreError> {
        let rows = (from..).zip(records).map(|(number, body)| {
            let row = BaseRow {
                slot: signed(base.slot),
                id: base.id.to_vec(),
                bucket: signed(number >> BASE_BITS),
                number: signed(number),
                body: body.clone(),
            };
            (PART_STAMP, row)
        });
        self.put_rows(&self.retention()?.base, rows.collect())
    }

    /// Reads records of a base.
    pub(crate) fn base_records(
        &self,
        base: &SlotBase,
        from: u32,
        count: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let statement = &self.retention()?.base_records;
        let end = from.saturating_add(count);
        let mut found: BTreeMap<i32, Bytes> = BTreeMap::new();
        for bucket in (from >> BASE_BITS)..=(end.saturating_sub(1) >> BASE_BITS) {
            let (from, end) = (signed(from), signed(end));
            let asked = vec![(
                signed(base.slot),
                base.id.to_vec(),
                signed(bucket),
                from,
                end,
            )];
            self.each_row(statement, "slot_base", asked, &mut |_, (number, body)| {
                found.insert(number, body);
                Ok(())
            })?;
        }
        Ok(found.into_values().collect())
    }

    /// Deletes a base.
    pub(crate) fn forget_base(&self, base: &SlotBase) -> Result<(), StoreError> {
        let buckets = 0..=(base.records >> BASE_BITS);
        let rows = buckets.map(|bucket| {
            let row = BaseGone {
                slot: signed(base.slot),
                id: base.id.to_vec(),
                bucket: signed(bucket),
            };
            (PART_DELETE_STAMP, row)
        });
        self.put_rows(&self.retention()?.base_gone, rows.collect())
    }

    /// Deletes the log of flushes.
    pub(crate) fn forget_log(
        &self,
        slot: u32,
        (first, last): (u64, u64),
    ) -> Result<(), StoreError> {
        let rows = (first..=last).map(|flush| {
            let row = LogGone {
                slot: signed(slot),
                bucket: bucket_of(flush).cast_signed(),
                flush: flush.cast_signed(),
            };
            (PART_DELETE_STAMP, row)
        });
        self.put_rows(&self.retention()?.log, rows.collect())
    }

    /// Deletes what points to the records of commits, each with the stamp that it was written with, and the facts beside them
    /// by their quarter of an hour and their day, as far as they were received before a time.
    pub(crate) fn forget_facts(
        &self,
        commits: &[Arc<Commit>],
        before_us: i64,
    ) -> Result<(), StoreError> {
        let to = self.retention()?;
        let stamp = before_us.saturating_sub(1);
        let mut packer = Packer::default();
        let mut quarters = BTreeSet::new();
        let mut days = BTreeSet::new();
        for commit in commits {
            let facts = facts_of(commit, |store| self.traits(commits, store))?;
            let index = facts.hour_index.iter();
            quarters.extend(index.map(|(_, row)| (row.store, row.hour, row.quarter)));
            days.extend(facts.audit.iter().map(|(_, row)| (row.store, row.day.0)));
            packer.add(&to.hour_index, gone(&facts.hour_index, HourIndexGone::new))?;
            packer.add(&to.runs, gone(&facts.runs, RunGone::new))?;
            packer.add(&to.receipts, gone(&facts.receipts, ReceiptGone::new))?;
        }
        let of_quarters = quarters.iter().copied();
        let rows = of_quarters.clone().map(TransactionsGone::new);
        packer.add(&to.transactions, rows.map(|row| (stamp, row)).collect())?;
        let rows = of_quarters.clone().map(LinesGone::new);
        packer.add(&to.lines, rows.map(|row| (stamp, row)).collect())?;
        let rows = of_quarters.map(MovesGone::new);
        packer.add(&to.moves, rows.map(|row| (stamp, row)).collect())?;
        let rows = days.into_iter().map(AuditGone::new);
        packer.add(&to.audit, rows.map(|row| (stamp, row)).collect())?;
        self.put(packer)?;
        let hours = quarters.iter().map(|(store, hour, _)| (*store, *hour));
        self.forget_hours(&hours.collect(), stamp)
    }

    // Deletes hours to which no record is left. One that comes at the same moment writes its hour with a later stamp.
    fn forget_hours(&self, hours: &BTreeSet<(i32, i32)>, stamp: i64) -> Result<(), StoreError> {
        let quarters = |(store, hour): (i32, i32)| (0..QUARTERS).map(move |one| (store, hour, one));
        let asked = hours.iter().copied().flat_map(quarters);
        let first: Vec<Option<(i64, i64, Bytes)>> =
            self.many(&self.reads.hour_index, "hour_index", asked)?;
        let empty = hours
            .iter()
            .zip(first.chunks(QUARTERS.unsigned_abs().into()));
        let empty = empty.filter(|(_, quarters)| quarters.iter().all(Option::is_none));
        let rows = empty.map(|((store, hour), _)| {
            let (store, hour) = (*store, *hour);
            (stamp, HourGone { store, hour })
        });
        self.put_rows(&self.retention()?.hours, rows.collect())
    }
}

fn gone<R, G>(rows: &[Stamped<R>], of: fn(&R) -> G) -> Vec<Stamped<G>> {
    let rows = rows.iter();
    rows.map(|(stamp, row)| (*stamp, of(row))).collect()
}
