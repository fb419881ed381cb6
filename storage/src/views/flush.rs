//! A flush: rows that belong together.

use till_core::{
    EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, SkuRow, Space, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

/// Absolute rows that one call of [`WriteViews::write`](super::WriteViews::write) puts in place, whole.
///
/// Where a key comes twice, the later row stands. The row of each store that has other rows here is among `stores`,
/// with the journal position up to which they hold every record of that store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FlushBatch {
    /// Stores, with `applied`.
    pub stores: Vec<(StoreId, StoreRow)>,
    /// Terminals.
    pub terminals: Vec<(TerminalId, TerminalRow)>,
    /// Stock by store and SKU.
    pub skus: Vec<((StoreId, SkuId), SkuRow)>,
    /// Sums.
    pub rollups: Vec<(RollupKey, RollupRow)>,
    /// Event ids.
    pub event_ids: Vec<(EventId, EventIdRow)>,
    /// Quarantine: a row, or `None` where the event was applied after all and the row goes.
    pub quarantine: Vec<(QuarantineKey, Option<QuarantineRow>)>,
    /// Names of ids.
    pub names: Vec<(Space, u64, String)>,
    /// Journal position up to which, with this flush, every record of every store is in the rows; `None` leaves the
    /// one before. It never goes back.
    pub checkpoint: Option<u64>,
}

impl FlushBatch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0 && self.checkpoint.is_none()
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.stores.len()
            + self.terminals.len()
            + self.skus.len()
            + self.rollups.len()
            + self.event_ids.len()
            + self.quarantine.len()
            + self.names.len()
    }

    /// Takes in the rows of a later flush; they win where a key comes in both.
    pub fn append(&mut self, later: Self) {
        self.stores.extend(later.stores);
        self.terminals.extend(later.terminals);
        self.skus.extend(later.skus);
        self.rollups.extend(later.rollups);
        self.event_ids.extend(later.event_ids);
        self.quarantine.extend(later.quarantine);
        self.names.extend(later.names);
        self.checkpoint = self.checkpoint.max(later.checkpoint);
    }
}
