//! Flushes and scans.

use std::ops::RangeInclusive;

use till_core::{
    Dim, EventIdRow, QuarantineKey, QuarantineRow, RollupKey, RollupRow, SkuRow, Space, StoreRow,
    TerminalRow,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_storage::pack::Key;
use till_storage::views::{FlushBatch, StoreError, Views, Visit, WriteViews};

use super::{AFTER, EmbeddedViews, checkpoint};

impl WriteViews for EmbeddedViews {
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        self.write_flush(flush)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.sync_all()
    }

    fn reopen(&self) -> Result<(), StoreError> {
        self.reopen_in_place()
    }
}

impl Views for EmbeddedViews {
    fn checkpoint(&self) -> Result<u64, StoreError> {
        self.with(checkpoint)
    }

    fn stores(&self, visit: Visit<'_, StoreId, StoreRow>) -> Result<(), StoreError> {
        self.scan(&[], &AFTER, visit)
    }

    fn terminals(
        &self,
        store: StoreId,
        visit: Visit<'_, TerminalId, TerminalRow>,
    ) -> Result<(), StoreError> {
        let first = store.to_key();
        self.scan(&first, &[&first[..], &AFTER].concat(), visit)
    }

    fn skus(
        &self,
        store: StoreId,
        from: SkuId,
        visit: Visit<'_, SkuId, SkuRow>,
    ) -> Result<(), StoreError> {
        let last = (store, SkuId::from_u64(u64::MAX)).to_key();
        let mut visit = |(_, sku): (StoreId, SkuId), row| visit(sku, row);
        self.scan(&(store, from).to_key(), &last, &mut visit)
    }

    fn rollups(
        &self,
        store: StoreId,
        dim: Dim,
        days: RangeInclusive<u16>,
        visit: Visit<'_, RollupKey, RollupRow>,
    ) -> Result<(), StoreError> {
        if days.is_empty() {
            return Ok(());
        }
        let key = |day, hour_us, key| RollupKey {
            store: store.get(),
            dim,
            day,
            hour_us,
            key,
        };
        let first = key(*days.start(), i64::MIN, 0).to_key();
        let last = key(*days.end(), i64::MAX, u64::MAX).to_key();
        self.scan(&first, &last, visit)
    }

    fn quarantine(&self, visit: Visit<'_, QuarantineKey, QuarantineRow>) -> Result<(), StoreError> {
        self.scan(&[], &AFTER, visit)
    }

    fn name(&self, space: Space, id: u64) -> Result<Option<String>, StoreError> {
        self.get(&(space, id))
    }

    fn names(&self, visit: Visit<'_, (Space, u64), String>) -> Result<(), StoreError> {
        self.scan(&[], &AFTER, visit)
    }

    fn event_ids(&self, visit: Visit<'_, EventId, EventIdRow>) -> Result<(), StoreError> {
        self.scan(&[], &AFTER, visit)
    }

    fn quarantined(&self, key: &QuarantineKey) -> Result<Option<QuarantineRow>, StoreError> {
        self.get(key)
    }
}
