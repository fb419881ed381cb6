//! One shard that folds records of the past.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use till_core::{Record, RecordKind, Replayed, Rows as _, Shard, ShardConfig};
use till_protocol::id::{StoreId, TerminalId};

use super::{FactRows, Registrations, Unapplied, store_of};
use crate::base::FoldError;
use crate::journal::Lsn;
use crate::query::FactReader;
use crate::views::{FlushBatch, WriteViews};

/// Rows that wait in memory before a fold writes them.
const DIRTY_ROWS_MAX: usize = 500_000;
/// Records between two looks at the rows that wait.
const RECORDS_PER_LOOK: u32 = 256;

/// One shard that folds records into views.
pub struct Fold<'a> {
    shard: Shard,
    views: &'a dyn WriteViews,
    rows: FactRows<'a>,
    records: u32,
    dirty_rows_max: usize,
    registrations: Option<&'a Registrations>,
    registered: BTreeSet<StoreId>,
    left_out: BTreeMap<StoreId, u64>,
    waits: BTreeSet<StoreId>,
    unapplied: Vec<Unapplied>,
}

impl fmt::Debug for Fold<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fold")
            .field("left_out", &self.left_out)
            .finish_non_exhaustive()
    }
}

impl<'a> Fold<'a> {
    /// A fold that starts from what the views hold.
    pub fn new(views: &'a dyn WriteViews, facts: &'a dyn FactReader, config: ShardConfig) -> Self {
        Self {
            shard: Shard::new(config),
            views,
            rows: FactRows::new(views, facts),
            records: 0,
            dirty_rows_max: DIRTY_ROWS_MAX,
            registrations: None,
            registered: BTreeSet::new(),
            left_out: BTreeMap::new(),
            waits: BTreeSet::new(),
            unapplied: Vec::new(),
        }
    }

    /// Lets so many changed rows wait in memory before they are written.
    #[must_use]
    pub fn with_dirty_rows(mut self, most: usize) -> Self {
        self.dirty_rows_max = most;
        self
    }

    /// Where to look for the registration of a store whose records come without one.
    #[must_use]
    pub fn with_registrations(mut self, registrations: &'a Registrations) -> Self {
        self.registrations = Some(registrations);
        self
    }

    /// Leaves these stores alone, also where a registration of theirs comes: records of them lie before the place that the
    /// fold begins at and were not applied.
    #[must_use]
    pub fn without(mut self, stores: impl IntoIterator<Item = StoreId>) -> Self {
        self.waits.extend(stores);
        self
    }

    /// Applies a record; what the views hold already changes nothing. A record of a store whose registration is lost waits
    /// in the journal, see [`left_out`](Self::left_out).
    ///
    /// # Errors
    /// [`FoldError`] when rows cannot be read or written, or the record is none that this software writes.
    pub fn apply(&mut self, lsn: Lsn, record: &Record) -> Result<(), FoldError> {
        if !self.is_registered(record)? {
            return Ok(());
        }
        if apply(&mut self.shard, lsn, record, &self.rows)? == Replayed::Nowhere {
            Unapplied::note(&mut self.unapplied, lsn, &record.head);
        }
        self.records += 1;
        if self.records >= RECORDS_PER_LOOK {
            self.records = 0;
            if self.shard.dirty_rows() >= self.dirty_rows_max {
                self.flush(None)?;
            }
        }
        Ok(())
    }

    /// Records that were not applied, by store: salvage lost the store's registration, and nobody knows its currency and
    /// time zone. They count once it is registered again and the rows are rebuilt.
    pub const fn left_out(&self) -> &BTreeMap<StoreId, u64> {
        &self.left_out
    }

    /// Records that fit nowhere and were not applied, in the order of the journal.
    pub fn unapplied(&self) -> &[Unapplied] {
        &self.unapplied
    }

    /// Writes what is left; the views then hold every record that ends at or before `end`.
    ///
    /// # Errors
    /// [`FoldError::Store`].
    pub fn finish(mut self, end: Lsn) -> Result<(), FoldError> {
        self.flush(Some(end.get()))?;
        self.views.sync()?;
        Ok(())
    }

    /// Writes what is left where the fold had the records of some stores only: the views' checkpoint stays.
    ///
    /// # Errors
    /// [`FoldError::Store`].
    pub fn finish_part(mut self) -> Result<(), FoldError> {
        self.flush(None)
    }

    /// The shard, with all that the views lack as rows to flush.
    pub fn into_shard(self) -> Shard {
        self.shard
    }

    fn is_registered(&mut self, record: &Record) -> Result<bool, FoldError> {
        if record.head.kind == RecordKind::BaseRow {
            return Ok(true);
        }
        let Some(store) = store_of(&record.head) else {
            return Ok(true);
        };
        if self.registered.contains(&store) {
            return Ok(true);
        }
        let known = !self.waits.contains(&store)
            && (record.head.kind == RecordKind::StoreRegistered
                || self.rows.store(store)?.is_some()
                || self.register(store)?);
        if known {
            self.registered.insert(store);
        } else {
            *self.left_out.entry(store).or_default() += 1;
        }
        Ok(known)
    }

    fn register(&mut self, store: StoreId) -> Result<bool, FoldError> {
        // Asked once: what is not there is not looked for again.
        if self.left_out.contains_key(&store) {
            return Ok(false);
        }
        let found = match self.registrations {
            Some(registrations) => registrations.find(store)?,
            None => None,
        };
        let Some(record) = found else {
            tracing::error!(
                %store,
                "the journal has lost the store's registration; its records wait until it is registered again and the rows are rebuilt"
            );
            return Ok(false);
        };
        // In front of every record.
        let _held = self.shard.replay(0, &record, &self.rows)?;
        Ok(true)
    }

    fn flush(&mut self, checkpoint: Option<u64>) -> Result<(), FoldError> {
        let dirty = self.shard.take_dirty();
        let generation = dirty.generation;
        let mut flush = FlushBatch::from(dirty);
        flush.checkpoint = checkpoint;
        self.views.write(&flush)?;
        self.shard.flushed(generation);
        self.shard.passivate();
        Ok(())
    }
}

/// Applies one record of the journal to a shard.
///
/// # Errors
/// [`FoldError::Apply`] leaves the shard as it was; after [`FoldError::Panicked`] it is of no use.
fn apply(
    shard: &mut Shard,
    lsn: Lsn,
    record: &Record,
    rows: &FactRows<'_>,
) -> Result<Replayed, FoldError> {
    let applied = catch_unwind(AssertUnwindSafe(|| shard.replay(lsn.get(), record, rows)));
    let head = &record.head;
    applied
        .map_err(|panic| FoldError::Panicked {
            at: lsn,
            terminal: TerminalId::from_u64(head.terminal)
                .map_or_else(|_| head.terminal.to_string(), |id| id.to_string()),
            epoch: head.epoch,
            first: head.first_seq,
            last: head.first_seq + u64::from(head.count.saturating_sub(1)),
            cause: panic_text(panic.as_ref()),
        })?
        .map_err(FoldError::from)
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
