//! Records, found by store and hour, by receipt, and by sequence number.

use std::collections::BTreeMap;

use bytes::Bytes;
use till_core::{Record, RecordHead, Verdict};
use till_protocol::id::{StoreId, TerminalId};
use till_storage::facts::{Fact, hour_of};
use till_storage::journal::Lsn;
use till_storage::query::{FactReader, VisitFact};
use till_storage::views::StoreError;

use super::Tables;
use super::read::{Streams, WINDOW};
use crate::rows::{RUN_BITS, signed, store_of};

/// A record: position, head, verdicts, payload.
type RecordCells = (i64, Bytes, Bytes, Bytes);

fn read((position, head, verdicts, payload): RecordCells) -> Result<Fact, StoreError> {
    let broken = |cause: String| StoreError::Damaged {
        table: "records",
        cause,
    };
    let head = RecordHead::decode(&head).map_err(|error| broken(error.to_string()))?;
    let (verdicts, rest) = verdicts.as_chunks::<{ Verdict::BYTES }>();
    if !rest.is_empty() {
        return Err(broken("verdicts are cut short".to_owned()));
    }
    let verdicts = verdicts.iter().map(Verdict::decode);
    let verdicts: Result<Vec<_>, _> = verdicts.collect();
    let record = Record {
        head,
        payload,
        verdicts: verdicts.map_err(|error| broken(error.to_string()))?,
    };
    Ok(Fact::new(Lsn::new(position.cast_unsigned()), record))
}

impl Tables {
    fn hours_between(&self, store: i32, from: i32, to: i32) -> Result<Vec<i32>, StoreError> {
        let asked = [(store, from, to)];
        let found = Streams::new(self, &self.reads.hours, "record_hours", asked).all()?;
        Ok(found.into_iter().map(|(hour,)| hour).collect())
    }

    // The records of one hour, as they come.
    fn of_hour(&self, store: i32, hour: i32, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let asked = [(store, hour)];
        let mut rows = Streams::new(self, &self.reads.records, "records", asked);
        while let Some(cells) = rows.next_of(0)? {
            visit(&read(cells)?)?;
        }
        Ok(())
    }

    // The records of several hours: one that lies in two of them comes once. Sixteen bytes of each are held in memory.
    fn of_many_hours(
        &self,
        store: i32,
        hours: &[i32],
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let mut positions: BTreeMap<i64, i32> = BTreeMap::new();
        for hours in hours.chunks(WINDOW) {
            let asked = hours.iter().map(|hour| (store, *hour));
            let mut rows = Streams::new(self, &self.reads.positions, "records", asked);
            for (number, hour) in hours.iter().enumerate() {
                while let Some((position,)) = rows.next_of(number)? {
                    positions.insert(position, *hour);
                }
            }
        }
        let positions = positions.into_iter().map(|(at, hour)| (store, hour, at));
        self.of_places(&positions.collect::<Vec<_>>(), visit)
    }

    // Single records, read side by side.
    fn of_places(
        &self,
        positions: &[(i32, i32, i64)],
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        for positions in positions.chunks(WINDOW) {
            let asked = positions.iter().copied();
            let found = self.many::<_, RecordCells>(&self.reads.record, "records", asked)?;
            // What points to a record is written with it, in no order.
            for cells in found.into_iter().flatten() {
                visit(&read(cells)?)?;
            }
        }
        Ok(())
    }
}

impl FactReader for Tables {
    /// 0: there is no journal that all stores share. Each store's row says how far it is.
    fn end(&self) -> u64 {
        0
    }

    fn start(&self) -> u64 {
        0
    }

    fn of_hours(
        &self,
        store: StoreId,
        from_us: i64,
        to_us: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        if from_us >= to_us {
            return Ok(());
        }
        let (from, to) = (hour_of(from_us), hour_of(to_us.saturating_sub(1)));
        let store = signed(store.get());
        match self.hours_between(store, from, to)?.as_slice() {
            [] => Ok(()),
            [hour] => self.of_hour(store, *hour, visit),
            hours => self.of_many_hours(store, hours, visit),
        }
    }

    fn of_receipt(&self, receipt: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let asked = [(receipt.to_owned(),)];
        let found = Streams::new(self, &self.reads.receipt, "receipts", asked).all()?;
        // A record is listed once for each hour; positions of two stores may be equal.
        let positions = found
            .into_iter()
            .map(|(store, hour, position): (i32, i32, i64)| ((position, store), hour));
        let positions: BTreeMap<_, _> = positions.collect();
        let positions = positions
            .into_iter()
            .map(|((position, store), hour)| (store, hour, position));
        self.of_places(&positions.collect::<Vec<_>>(), visit)
    }

    fn of_run(
        &self,
        terminal: TerminalId,
        epoch: u32,
        (first, last): (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let mut positions = self.reaching(terminal, epoch, first)?;
        if first < last {
            positions.extend(self.beginning(terminal, epoch, (first, last))?);
        }
        positions.sort_unstable_by_key(|(_, _, position)| *position);
        self.of_places(&positions, visit)
    }
}

/// Where a record lies: store, hour, position.
type RecordKey = (i32, i32, i64);

impl Tables {
    // Records that begin at or before a number and reach it.
    fn reaching(
        &self,
        terminal: TerminalId,
        epoch: u32,
        seq: u64,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let key = terminal.to_u64();
        let bucket = seq >> RUN_BITS;
        let mut positions = Vec::new();
        // A run may begin in the bucket before and reach into this one. Runs of an epoch lie side by side.
        for bucket in bucket.saturating_sub(1)..=bucket {
            let asked = (
                key.cast_signed(),
                signed(epoch),
                bucket.cast_signed(),
                seq.cast_signed(),
            );
            let found = self.few::<_, (i64, i32, i64)>(&self.reads.run, "runs", asked)?;
            let reaching = found
                .into_iter()
                .filter(|(last, _, _)| last.cast_unsigned() >= seq);
            positions.extend(reaching.map(|(_, hour, position)| (store_of(key), hour, position)));
        }
        Ok(positions)
    }

    // Records that begin behind a number, up to another.
    fn beginning(
        &self,
        terminal: TerminalId,
        epoch: u32,
        (after, last): (u64, u64),
    ) -> Result<Vec<RecordKey>, StoreError> {
        let key = terminal.to_u64();
        let buckets = (after >> RUN_BITS)..=(last >> RUN_BITS);
        let asked = buckets.map(|bucket| {
            (
                key.cast_signed(),
                signed(epoch),
                bucket.cast_signed(),
                after.cast_signed(),
                last.cast_signed(),
            )
        });
        let found = Streams::new(self, &self.reads.runs_between, "runs", asked).all()?;
        let found: Vec<(i32, i64)> = found.into_iter().collect();
        let positions = found
            .into_iter()
            .map(|(hour, position)| (store_of(key), hour, position));
        Ok(positions.collect())
    }
}
