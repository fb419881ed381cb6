//! Event ids of a frame, asked for together: one by one, each would be a way to the shared store and back.

use std::collections::HashMap;

use till_core::event::{Event, for_each};
use till_core::{
    EventIdRow, MoveKey, QuarantineKey, RollupKey, RollupRow, Rows, RowsError, SkuRow, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_protocol::verified::Verified;
use till_storage::rebuild::FactRows;

use super::Cluster;

/// What the shared store says of some event ids.
pub(crate) type Known = HashMap<[u8; 16], Option<EventIdRow>>;

impl Cluster {
    /// What the shared store says of the event ids of a frame; empty for frames without any.
    ///
    /// # Errors
    /// [`RowsError`] when the store does not answer.
    pub(crate) fn known_ids(&self, store: StoreId, batch: &Verified) -> Result<Known, RowsError> {
        let mut ids: Vec<EventId> = Vec::new();
        let walked: Result<(), std::convert::Infallible> =
            for_each(&batch.view(), |_, event: Event<'_>| {
                ids.extend(event.event_id().map(|id| id.in_store(store)));
                Ok(())
            });
        if let Err(never) = walked {
            match never {}
        }
        if ids.is_empty() {
            return Ok(Known::new());
        }
        let found = self.store.event_ids(&ids)?;
        Ok(ids.iter().map(|id| id.to_bytes()).zip(found).collect())
    }
}

/// Rows, with event ids that were asked for before.
pub(crate) struct Expected<'a> {
    pub(crate) rows: FactRows<'a>,
    pub(crate) known: Known,
}

impl Rows for Expected<'_> {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        self.rows.store(store)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        self.rows.terminal(terminal)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        self.rows.sku(store, sku)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        self.rows.rollup(key)
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        match self.known.get(&id.to_bytes()) {
            Some(known) => Ok(*known),
            None => self.rows.event_id(id),
        }
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        self.rows.is_quarantined(key)
    }

    fn moved_after(
        &self,
        store: StoreId,
        sku: SkuId,
        after: MoveKey,
        before: u64,
    ) -> Result<i128, RowsError> {
        self.rows.moved_after(store, sku, after, before)
    }
}
