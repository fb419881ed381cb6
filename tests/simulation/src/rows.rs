//! Rows that lose their newest calls when the power fails, and that sometimes cannot be written.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use till_core::{
    Dim, EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow, Rows, RowsError,
    SkuRow, Space, StoreRow, TerminalRow, Totals,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::memory::MemoryViews;
use till_storage::views::{FlushBatch, StoreError, Views, Visit, WriteViews};

use crate::mistake::is_planted;
use crate::rng::Rng;

/// Hours that a store takes for old that makes a mistake.
const OLD_US: i64 = 48 * 3_600_000_000;

/// A flush as stores write it that make a mistake.
fn mistaken(flush: &FlushBatch) -> Cow<'_, FlushBatch> {
    let mut flush = Cow::Borrowed(flush);
    if is_planted("training-unwritten") {
        let stores = flush.to_mut().stores.iter_mut();
        stores.for_each(|(_, row)| row.training = Totals::default());
    }
    if is_planted("returns-unwritten") {
        let rollups = flush.to_mut().rollups.iter_mut();
        rollups.for_each(|(_, row)| row.returns_net = 0);
    }
    if is_planted("old-hours-unwritten") {
        let newest = flush.rollups.iter().map(|(key, _)| key.hour_us).max();
        let from = newest.unwrap_or(0) - OLD_US;
        flush
            .to_mut()
            .rollups
            .retain(|(key, _)| key.hour_us >= from);
    }
    flush
}

/// How often the rows fail, in a million calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowFaults {
    /// A call is not made.
    pub(crate) write_fails: u64,
    /// A call is made, and its answer is lost.
    pub(crate) answer_lost: u64,
    /// A row cannot be read.
    pub(crate) read_fails: u64,
}

impl RowFaults {
    /// Whether a call may fail at all.
    pub(crate) const fn fail(&self) -> bool {
        self.write_fails + self.answer_lost + self.read_fails > 0
    }
}

/// What became of calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowCounts {
    pub(crate) writes: u64,
    pub(crate) failed: u64,
    pub(crate) answers_lost: u64,
    pub(crate) reads_failed: u64,
    pub(crate) calls_lost: u64,
}

/// The rows of one engine.
#[derive(Debug)]
pub(crate) struct WorldRows {
    rows: MemoryViews,
    state: Mutex<RowsState>,
}

#[derive(Debug)]
struct RowsState {
    /// Every call since the rows were empty.
    calls: Vec<FlushBatch>,
    /// Of these, those that survive a loss of power.
    synced: usize,
    rng: Rng,
    faults: RowFaults,
    counts: RowCounts,
}

impl WorldRows {
    pub(crate) fn new(rng: Rng, faults: RowFaults) -> Arc<Self> {
        Arc::new(Self {
            rows: MemoryViews::new(),
            state: Mutex::new(RowsState {
                calls: Vec::new(),
                synced: 0,
                rng,
                faults,
                counts: RowCounts::default(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, RowsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> RowCounts {
        self.lock().counts
    }

    pub(crate) fn calm(&self) {
        self.lock().faults = RowFaults::default();
    }

    /// The rows as they are found after a loss of power: a run of calls from the first one on.
    pub(crate) fn after_power_failure(&self) -> Result<Arc<Self>, StoreError> {
        let mut state = self.lock();
        let loose = state.calls.len().saturating_sub(state.synced);
        let lost = state.rng.index(loose + 1);
        let kept = state.calls.len() - lost;
        let calls: Vec<FlushBatch> = state.calls.drain(..).take(kept).collect();
        let mut counts = state.counts;
        counts.calls_lost += u64::try_from(lost).unwrap_or(0);
        let rng = state.rng.fork();
        Self::of(calls, rng, state.faults, counts)
    }

    /// No rows at all: they were lost, or moved aside.
    pub(crate) fn after_loss(&self) -> Result<Arc<Self>, StoreError> {
        let mut state = self.lock();
        let rng = state.rng.fork();
        Self::of(Vec::new(), rng, state.faults, state.counts)
    }

    fn of(
        calls: Vec<FlushBatch>,
        rng: Rng,
        faults: RowFaults,
        counts: RowCounts,
    ) -> Result<Arc<Self>, StoreError> {
        let rows = MemoryViews::new();
        for call in &calls {
            rows.write(call)?;
        }
        Ok(Arc::new(Self {
            rows,
            state: Mutex::new(RowsState {
                synced: calls.len(),
                calls,
                rng,
                faults,
                counts,
            }),
        }))
    }

    // Reads fail at random only where the plan says so.
    fn readable(&self) -> Result<(), RowsError> {
        let mut state = self.lock();
        let fails = state.faults.read_fails;
        if fails > 0 && state.rng.chance(fails) {
            state.counts.reads_failed += 1;
            return Err(RowsError {
                table: "rows",
                cause: "the disk did not answer".to_owned(),
            });
        }
        Ok(())
    }
}

fn failed(cause: &str) -> StoreError {
    StoreError::Failed {
        table: "rows",
        cause: cause.to_owned(),
    }
}

impl WriteViews for WorldRows {
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        let mut state = self.lock();
        let faults = state.faults;
        if state.rng.chance(faults.write_fails) {
            state.counts.failed += 1;
            return Err(failed("the call was not made"));
        }
        let flush = &mistaken(flush);
        state.calls.push(flush.clone().into_owned());
        state.counts.writes += 1;
        self.rows.write(flush)?;
        if state.rng.chance(faults.answer_lost) {
            state.counts.answers_lost += 1;
            return Err(failed("the answer was lost"));
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.synced = state.calls.len();
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Views for WorldRows {
    fn checkpoint(&self) -> Result<u64, StoreError> {
        self.rows.checkpoint()
    }

    fn stores(&self, visit: Visit<'_, StoreId, StoreRow>) -> Result<(), StoreError> {
        self.rows.stores(visit)
    }

    fn terminals(
        &self,
        store: StoreId,
        visit: Visit<'_, TerminalId, TerminalRow>,
    ) -> Result<(), StoreError> {
        self.rows.terminals(store, visit)
    }

    fn skus(
        &self,
        store: StoreId,
        from: SkuId,
        visit: Visit<'_, SkuId, SkuRow>,
    ) -> Result<(), StoreError> {
        self.rows.skus(store, from, visit)
    }

    fn rollups(
        &self,
        store: StoreId,
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: Visit<'_, RollupKey, RollupRow>,
    ) -> Result<(), StoreError> {
        self.rows.rollups(store, dim, days, visit)
    }

    fn quarantine(&self, visit: Visit<'_, QuarantineKey, QuarantineRow>) -> Result<(), StoreError> {
        self.rows.quarantine(visit)
    }

    fn name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError> {
        self.rows.name(space, id)
    }

    fn names(&self, visit: Visit<'_, (Space, u64), String>) -> Result<(), StoreError> {
        self.rows.names(visit)
    }

    fn event_ids(&self, visit: Visit<'_, EventId, EventIdRow>) -> Result<(), StoreError> {
        self.rows.event_ids(visit)
    }

    fn quarantined(&self, key: &QuarantineKey) -> Result<Option<QuarantineRow>, StoreError> {
        self.rows.quarantined(key)
    }
}

impl Rows for WorldRows {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        self.rows.store(store)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        self.readable()?;
        self.rows.terminal(terminal)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        self.readable()?;
        self.rows.sku(store, sku)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        self.readable()?;
        self.rows.rollup(key)
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        self.readable()?;
        self.rows.event_id(id)
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        self.rows.is_quarantined(key)
    }

    fn moved_after(
        &self,
        store: StoreId,
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, RowsError> {
        self.rows.moved_after(store, counts, before)
    }
}
