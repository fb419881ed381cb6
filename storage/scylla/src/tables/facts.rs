//! Records, found by store and hour, by receipt, and by sequence number. They are read where they lie: in the log of their slot.

use std::collections::BTreeMap;

use bytes::Bytes;
use till_protocol::id::{StoreId, TerminalId};
use till_storage::cluster::{Commit, entry_of, slot_of};
use till_storage::facts::{Fact, hour_of};
use till_storage::journal::Lsn;
use till_storage::query::{FactReader, VisitFact};
use till_storage::views::StoreError;

use super::read::{Streams, WINDOW};
use super::{Tables, bucket_of};
use crate::rows::{RECEIPT_PARTS, RUN_BITS, signed};

/// Records of one flush that one statement asks for. ScyllaDB takes a hundred keys.
const NUMBERS_MAX: usize = 64;
/// Partitions of an hour.
const QUARTERS: usize = 4;

/// Records of a commit: slot, flush and epoch.
type CommitKey = (u32, i64, i64);

/// Records that are to be read: by commit, their numbers.
#[derive(Debug, Default)]
struct RecordPlaces(BTreeMap<CommitKey, Vec<i32>>);

impl RecordPlaces {
    fn add(&mut self, slot: u32, position: i64, log_epoch: i64) {
        let position = position.cast_unsigned();
        let key = (slot, Commit::flush_of(position).cast_signed(), log_epoch);
        let number = i32::try_from(Commit::number_of(position)).unwrap_or(i32::MAX);
        self.0.entry(key).or_default().push(number);
    }

    /// The statements that read them, in order: each is of one commit.
    fn asks(self) -> Vec<(CommitKey, Vec<i32>)> {
        let mut asks = Vec::new();
        for (key, mut numbers) in self.0 {
            numbers.sort_unstable();
            numbers.dedup();
            asks.extend(numbers.chunks(NUMBERS_MAX).map(|some| (key, some.to_vec())));
        }
        asks
    }
}

fn read(flush: i64, number: i32, body: &Bytes) -> Result<Fact, StoreError> {
    let broken = |cause: String| StoreError::Damaged {
        table: "slot_log",
        cause,
    };
    let position = Commit::position(flush.cast_unsigned(), number.cast_unsigned());
    let (record, _) =
        entry_of(body).map_err(|what| broken(format!("{what} at {position} cannot be read")))?;
    Ok(Fact::new(Lsn::new(position), record))
}

impl Tables {
    fn slot_of(&self, store: StoreId) -> u32 {
        slot_of(store, self.slots)
    }

    fn hours_between(&self, store: i32, from: i32, to: i32) -> Result<Vec<i32>, StoreError> {
        let asked = [(store, from, to)];
        let found = Streams::new(self, &self.reads.hours, "hours", asked).all()?;
        Ok(found.into_iter().map(|(hour,)| hour).collect())
    }

    // Single records, read side by side, by slot and position.
    fn of_places(&self, places: RecordPlaces, visit: VisitFact<'_>) -> Result<(), StoreError> {
        for asks in places.asks().chunks(WINDOW) {
            let asked = asks.iter().map(|((slot, flush, epoch), numbers)| {
                let bucket = bucket_of(flush.cast_unsigned()).cast_signed();
                (signed(*slot), bucket, *flush, *epoch, numbers.clone())
            });
            let mut rows = Streams::new(self, &self.reads.records, "slot_log", asked);
            for (at, ((slot, flush, _), numbers)) in asks.iter().enumerate() {
                let mut left = numbers.len();
                while let Some((number, body)) = rows.next_of(at)? {
                    left = left.saturating_sub(1);
                    visit(&read(*flush, number, &body)?)?;
                }
                // What points to a record is written behind it, and the log is kept.
                if left > 0 {
                    return Err(StoreError::Damaged {
                        table: "slot_log",
                        cause: format!("{left} records of flush {flush} of slot {slot} are gone"),
                    });
                }
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

    fn is_whole(&self, store: StoreId, since_us: i64) -> Result<bool, StoreError> {
        self.has_all_since(store, since_us)
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
        let (slot, store) = (self.slot_of(store), signed(store.get()));
        let hours = self.hours_between(store, from, to)?;
        // A record lies in each hour of its events, and is read once. Four bytes of each are held in memory.
        let mut places = RecordPlaces::default();
        for hours in hours.chunks(WINDOW / QUARTERS) {
            let asked = hours.iter().flat_map(|hour| {
                (0..)
                    .take(QUARTERS)
                    .map(|quarter: i8| (store, *hour, quarter))
            });
            let mut rows = Streams::new(self, &self.reads.hour_index, "hour_index", asked);
            for at in 0..hours.len() * QUARTERS {
                while let Some((flush, epoch, numbers)) = rows.next_of(at)? {
                    let numbers: Bytes = numbers;
                    let (numbers, _) = numbers.as_chunks::<4>();
                    let numbers = numbers.iter().map(|bytes| i32::from_le_bytes(*bytes));
                    places
                        .0
                        .entry((slot, flush, epoch))
                        .or_default()
                        .extend(numbers);
                }
            }
        }
        self.of_places(places, visit)
    }

    fn of_receipt(&self, receipt: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let asked = (0..RECEIPT_PARTS).map(|part| (receipt.to_owned(), part));
        let found = Streams::new(self, &self.reads.receipt, "receipt_index", asked).all()?;
        let mut places = RecordPlaces::default();
        for (store, position, log_epoch) in found {
            let store: i32 = store;
            if let Ok(store) = StoreId::new(store.cast_unsigned()) {
                places.add(self.slot_of(store), position, log_epoch);
            }
        }
        self.of_places(places, visit)
    }

    fn of_run(
        &self,
        terminal: TerminalId,
        epoch: u32,
        (first, last): (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let mut found = self.reaching(terminal, epoch, first)?;
        if first < last {
            found.extend(self.beginning(terminal, epoch, (first, last))?);
        }
        let slot = self.slot_of(terminal.store());
        let mut places = RecordPlaces::default();
        for (position, log_epoch) in found {
            places.add(slot, position, log_epoch);
        }
        self.of_places(places, visit)
    }
}

/// Where a record of a terminal lies: its position, and the epoch of its log.
type RecordPlace = (i64, i64);

impl Tables {
    // Records that begin at or before a number and reach it.
    fn reaching(
        &self,
        terminal: TerminalId,
        epoch: u32,
        seq: u64,
    ) -> Result<Vec<RecordPlace>, StoreError> {
        let key = terminal.to_u64();
        let bucket = seq >> RUN_BITS;
        let mut places = Vec::new();
        // A run may begin in the bucket before and reach into this one. Runs of an epoch lie side by side.
        for bucket in bucket.saturating_sub(1)..=bucket {
            let asked = (
                key.cast_signed(),
                signed(epoch),
                bucket.cast_signed(),
                seq.cast_signed(),
            );
            let found = self.few::<_, (i64, i64, i64)>(&self.reads.run, "run_index", asked)?;
            let reaching = found
                .into_iter()
                .filter(|(last, _, _)| last.cast_unsigned() >= seq);
            places.extend(reaching.map(|(_, position, log_epoch)| (position, log_epoch)));
        }
        Ok(places)
    }

    // Records that begin behind a number, up to another.
    fn beginning(
        &self,
        terminal: TerminalId,
        epoch: u32,
        (after, last): (u64, u64),
    ) -> Result<Vec<RecordPlace>, StoreError> {
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
        Streams::new(self, &self.reads.runs_between, "run_index", asked).all()
    }
}
