//! Rows in memory that make the engine fail where a test wants it: a panic in the middle of a frame, a Hello or a replay,
//! and writes that are refused.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use till_core::{
    Dim, EventIdRow, MoveKey, QuarantineKey, QuarantineRow, RollupKey, RollupRow, Rows, RowsError,
    SkuRow, Space, StoreRow, TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::memory::MemoryViews;
use till_storage::views::{FlushBatch, StoreError, Views, Visit, WriteViews};

/// A SKU whose name makes a frame fail, while the snare is set.
pub(crate) const SNARED: &str = "snare";

/// The rows, and where they give way.
#[derive(Debug, Default)]
pub(crate) struct Snare {
    rows: MemoryViews,
    /// A frame that names [`SNARED`] panics.
    pub(crate) frames: AtomicBool,
    /// Whoever asks for this store panics.
    pub(crate) store: AtomicU32,
    /// Whoever asks for this terminal panics.
    pub(crate) terminal: AtomicU64,
    /// The next write fails.
    pub(crate) write: AtomicBool,
    /// Whoever is caught, a panic or a failed write, waits before.
    pub(crate) held: AtomicBool,
    /// How many were caught.
    pub(crate) caught: AtomicU32,
}

impl Snare {
    pub(crate) fn views(self: &Arc<Self>) -> Arc<dyn WriteViews> {
        Arc::<Self>::clone(self)
    }

    fn catch(&self) {
        self.caught.fetch_add(1, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Rows for Snare {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        if self.store.load(Ordering::SeqCst) == store.get() {
            self.catch();
            panic!("store {store} is a snare");
        }
        Rows::store(&self.rows, store)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        if self.terminal.load(Ordering::SeqCst) == terminal.to_u64() {
            self.catch();
            panic!("terminal {terminal} is a snare");
        }
        self.rows.terminal(terminal)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        self.rows.sku(store, sku)
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        self.rows.is_quarantined(key)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        self.rows.rollup(key)
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        self.rows.event_id(id)
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

impl WriteViews for Snare {
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        if self.write.swap(false, Ordering::SeqCst) {
            self.catch();
            return Err(StoreError::Failed {
                table: "stores",
                cause: "the write is a snare".to_owned(),
            });
        }
        self.rows.write(flush)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.rows.sync()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.rows.reopen()
    }
}

impl Views for Snare {
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
        if self.frames.load(Ordering::SeqCst) && id == SkuId::of_code(SNARED).get() {
            self.catch();
            panic!("SKU {SNARED} is a snare");
        }
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
