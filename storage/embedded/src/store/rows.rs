//! Single rows, for the core.

use till_core::{
    EventIdRow, MoveKey, QuarantineKey, RollupKey, RollupRow, Rows, RowsError, SkuRow, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::views::{Views as _, without_facts};

use super::EmbeddedViews;

impl Rows for EmbeddedViews {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        Ok(self.get(&store)?)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        Ok(self.get(&terminal)?)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        Ok(self.get(&(store, sku))?)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        Ok(self.get(key)?)
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        Ok(self.get(id)?)
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(self.quarantined(key)?.is_some())
    }

    fn moved_after(
        &self,
        store: StoreId,
        _: &[(SkuId, MoveKey)],
        _: u64,
    ) -> Result<Vec<i128>, RowsError> {
        without_facts(store)
    }
}
