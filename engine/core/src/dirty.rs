//! The rows that have changed since they were last taken: what a flush writes.

use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::row::{
    EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, SkuRow, Space, StoreRow,
    TerminalRow,
};

/// Rows to write, each once and whole, sorted by key.
///
/// `stores` has every store of which a record was applied since the last take, so that its `applied` can be moved on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dirty {
    /// Names this take; give it back to [`Shard::flushed`](crate::Shard::flushed) when the rows are written.
    pub generation: u32,
    /// Stores.
    pub stores: Vec<(StoreId, StoreRow)>,
    /// Terminals.
    pub terminals: Vec<(TerminalId, TerminalRow)>,
    /// Stock.
    pub skus: Vec<((StoreId, SkuId), SkuRow)>,
    /// Sums.
    pub rollups: Vec<(RollupKey, RollupRow)>,
    /// Event ids.
    pub event_ids: Vec<(EventId, EventIdRow)>,
    /// Names of SKUs and tenders. Some may have been written before; they are the same.
    pub names: Vec<(Space, u64, String)>,
    /// Quarantine; `None` deletes the row.
    pub quarantine: Vec<(QuarantineKey, Option<QuarantineRow>)>,
}

impl Dirty {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.stores.len()
            + self.terminals.len()
            + self.skus.len()
            + self.rollups.len()
            + self.event_ids.len()
            + self.names.len()
            + self.quarantine.len()
    }

    /// Says how far the journal is in these rows: the position of the last record of this shard that was handled before
    /// the take. A shard does not know where its records come to lie; the shell does, once they are written.
    pub fn set_applied(&mut self, position: u64) {
        for (_, store) in &mut self.stores {
            store.applied = store.applied.max(position);
        }
    }
}
