//! Rows that are rebuilt from the records of commits, beside those that engines wrote.
//!
//! A commit brings records and the rows after them. What its records make of the rows before must be these rows: nothing
//! else may come into them, from an engine's memory or from an earlier owner, and nothing may stay out. What differs for good
//! reasons is left out:
//!
//! * how far a store's rows are: they say the place of the last record of their commit, which may be another store's;
//! * rows of a commit that are as they were: an engine may write one again;
//! * names that no record brings: they are written before the commit that uses them, which may then be another's, or nobody's
//!   where an engine is lost with its disk and a device with what it had.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use till_core::{RecordKind, Replayed, Rows as _, RowsError, Shard, ShardConfig, StoreRow};
use till_storage::cluster::{self, Commit, RetainRequest, SharedStore as _, slot_of};
use till_storage::memory::MemoryViews;
use till_storage::query::{FactReader, each_event};
use till_storage::rebuild::{FactRows, store_of};
use till_storage::testing::MemoryCluster;
use till_storage::views::{FlushBatch, StoreError, Views, WriteViews, each_batch};

/// Why rows are not those that their records make.
type Unlike = String;

/// Rows as the records of all commits make them, in a shard that has never been anywhere else: what an owner reads from the
/// rows when a slot comes to it, this one still knows.
#[derive(Debug)]
pub(super) struct Rebuild {
    rows: MemoryViews,
    shard: Mutex<Shard>,
}

impl Rebuild {
    pub(super) fn new() -> Self {
        Self {
            rows: MemoryViews::new(),
            shard: Mutex::new(Shard::new(ShardConfig::default())),
        }
    }

    /// Takes in the records of commits whose rows were written for the first time just now, and compares what changes.
    pub(super) fn take_in(
        &self,
        commits: &[Arc<Commit>],
        facts: &dyn FactReader,
        written: &dyn Views,
    ) -> Result<(), Unlike> {
        let made = self.apply(commits, facts)?;
        let mut first = First::default();
        let all = commits.iter().map(|commit| &commit.rows);
        for rows in std::iter::once(&made).chain(all) {
            self.compare(rows, written, &mut first)
                .map_err(|error| error.to_string())?;
        }
        let mut marks = BTreeMap::new();
        for commit in commits {
            let last = commit.records.len().saturating_sub(1);
            let last = Commit::position(commit.flush, u32::try_from(last).unwrap_or(u32::MAX));
            marks.extend(commit.rows.stores.iter().map(|(key, _)| (*key, last)));
        }
        for (key, last) in marks {
            let row = written.store(key).map_err(|error| error.to_string())?;
            first.note("marks", &key, [row.map(|row| row.applied), Some(last)]);
        }
        first.0.map_or(Ok(()), Err)
    }

    // Gives the rows that change.
    fn apply(&self, commits: &[Arc<Commit>], facts: &dyn FactReader) -> Result<FlushBatch, Unlike> {
        let mut shard = self.shard.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = FactRows::new(&self.rows, facts);
        let records = commits.iter().flat_map(|commit| {
            let positions = (0..).map(|index| Commit::position(commit.flush, index));
            positions.zip(&commit.records)
        });
        for (position, record) in records {
            match shard.replay(position, record, &rows) {
                Ok(Replayed::Held) => {}
                Ok(Replayed::Nowhere) => return Err(format!("{:?} fits nowhere", record.head)),
                Err(error) => return Err(format!("no rows from records: {error}")),
            }
        }
        if let Some((id, _)) = shard.violations().iter().next() {
            return Err(format!("its records break {}", id.id()));
        }
        let dirty = shard.take_dirty();
        let generation = dirty.generation;
        let made = FlushBatch::from(dirty);
        self.rows.write(&made).map_err(|error| error.to_string())?;
        shard.flushed(generation);
        Ok(made)
    }

    // The rows of these keys.
    fn compare(
        &self,
        of: &FlushBatch,
        written: &dyn Views,
        unlike: &mut First,
    ) -> Result<(), RowsError> {
        for (key, _) in &of.stores {
            let [reported, rebuilt_views] = [written.store(*key)?, self.rows.store(*key)?];
            let unmarked = |row: StoreRow| StoreRow { applied: 0, ..row };
            unlike.note(
                "stores",
                key,
                [reported, rebuilt_views].map(|row| row.map(unmarked)),
            );
        }
        for (key, _) in &of.terminals {
            let rebuilt_views = self.rows.terminal(*key)?;
            unlike.note("terminals", key, [written.terminal(*key)?, rebuilt_views]);
        }
        for (key, _) in &of.skus {
            let rebuilt_views = self.rows.sku(key.0, key.1)?;
            unlike.note("skus", key, [written.sku(key.0, key.1)?, rebuilt_views]);
        }
        for (key, _) in &of.rollups {
            let rebuilt_views = self.rows.rollup(key)?;
            unlike.note("sums", key, [written.rollup(key)?, rebuilt_views]);
        }
        for (key, _) in &of.event_ids {
            let rebuilt_views = self.rows.event_id(key)?;
            unlike.note("event ids", key, [written.event_id(key)?, rebuilt_views]);
        }
        for (key, _) in &of.quarantine {
            let rebuilt_views = self.rows.quarantined(key)?;
            unlike.note(
                "quarantine",
                key,
                [written.quarantined(key)?, rebuilt_views],
            );
        }
        for (space, id, name) in &of.names {
            let reported = written.name(*space, *id)?;
            unlike.note("names", &(*space, *id), [reported, Some(name.clone())]);
        }
        Ok(())
    }
}

/// The first difference.
#[derive(Default)]
struct First(Option<Unlike>);

impl First {
    fn note<R: Debug + PartialEq>(
        &mut self,
        table: &str,
        key: &impl Debug,
        [reported, rebuilt_views]: [Option<R>; 2],
    ) {
        if reported != rebuilt_views && self.0.is_none() {
            let what =
                format!("{table}: {key:?} is {reported:?}, and its records make {rebuilt_views:?}");
            self.0 = Some(what);
        }
    }
}

/// Rebuilds all rows of a chain from its log, as the command does. Gives the rows as they were before.
pub(super) fn rebuilt(store: &MemoryCluster) -> Result<MemoryViews, Unlike> {
    let before = MemoryViews::new();
    each_batch(store.views().as_ref(), 1_000, &mut |rows| {
        before.write(&rows)
    })
    .map_err(|error| error.to_string())?;
    let mut scratch =
        |_| -> Result<Box<dyn WriteViews>, StoreError> { Ok(Box::new(MemoryViews::new())) };
    if let Some(before_us) = old_before(store)? {
        let request = RetainRequest {
            before_us,
            run: [1; 16],
        };
        let dropped = cluster::retain(store, request, &mut scratch, &mut |_| {});
        dropped.map_err(|error| format!("nothing is dropped of the log: {error}"))?;
    }
    let made = cluster::rebuild(store, &mut scratch, &mut |_| {});
    let made = made.map_err(|error| format!("no rows from the log: {error}"))?;
    match (made.unapplied.as_slice(), made.left_out.is_empty()) {
        ([], true) => Ok(before),
        (unapplied, _) => Err(format!(
            "{unapplied:?} fit nowhere, {:?} wait",
            made.left_out
        )),
    }
}

// In every second world the older half of the records is dropped first: what a base stands in for is made of it. Retention is
// longer than anything comes late, and than clocks of devices are wrong: what is behind the bases is of a later time than all that
// goes. Nor is anything behind them decided again: a level that left its range is counted again from its count on, and movements in the
// hour of that count may be among what goes.
fn old_before(store: &MemoryCluster) -> Result<Option<i64>, Unlike> {
    let mut events = Vec::new();
    let all = store.facts().of_receipt("", &mut |fact| {
        let Some(of) = store_of(&fact.record.head) else {
            return Ok(());
        };
        let row = store.slot(slot_of(of, store.slots()))?;
        let is_in_base = Commit::flush_of(fact.lsn.get()) <= row.applied;
        if !is_in_base && fact.record.head.kind == RecordKind::Retry {
            events.push((i64::MIN, i64::MIN, false));
        }
        each_event(fact, |event, _, _| {
            events.push((fact.record.head.received_at_us, event.at_us(), is_in_base));
            Ok(())
        })
    });
    all.map_err(|error| error.to_string())?;
    events.sort_unstable();
    if events.len() % 2 == 0 {
        return Ok(None);
    }
    let behind = events.iter().filter(|(_, _, is_in_base)| !is_in_base);
    let earliest = behind.map(|(_, at_us, _)| *at_us).min();
    let earliest = earliest.unwrap_or(i64::MAX);
    // As far as no event is of a later time than one behind the bases.
    let half = events.iter().take(events.len() / 2);
    let old = half.take_while(|(received_at_us, at_us, _)| *received_at_us.max(at_us) < earliest);
    Ok(old.last().map(|(received_at_us, ..)| *received_at_us))
}
