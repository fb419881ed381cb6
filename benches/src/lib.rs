//! What the benches share: the reference mix, and rows that are all in memory.
//!
//! The mix is that of the design: 40 % sales of three lines, 60 % stock movements. Benches measure; nothing here asserts
//! on time.

mod mix;

use till_core::{
    Claim, EventIdRow, MoveKey, Names, QuarantineKey, RollupKey, RollupRow, Rows, RowsError,
    SessionKey, Shard, ShardConfig, SkuRow, Space, StoreRow, TerminalRow,
};
use till_protocol::id::{Epoch, EventId, SkuId, StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;

pub use mix::{Dice, mix, movements, sales};

/// Events of a frame.
pub const EVENTS: u64 = 256;

/// When the events happen: 2 March 2026, 10:00 UTC, in us.
pub const NOW_US: i64 = 1_772_445_600_000_000;

/// Rows and names that know nothing and lose nothing: every actor stays in memory.
#[derive(Clone, Copy, Debug)]
pub struct InMemory;

impl Rows for InMemory {
    fn store(&self, _: StoreId) -> Result<Option<StoreRow>, RowsError> {
        Ok(None)
    }
    fn terminal(&self, _: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        Ok(None)
    }
    fn sku(&self, _: StoreId, _: SkuId) -> Result<Option<SkuRow>, RowsError> {
        Ok(None)
    }
    fn rollup(&self, _: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        Ok(None)
    }
    fn event_id(&self, _: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        Ok(None)
    }
    fn is_quarantined(&self, _: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(false)
    }
    fn moved_after(
        &self,
        _: StoreId,
        counts: &[(SkuId, MoveKey)],
        _: u64,
    ) -> Result<Vec<i128>, RowsError> {
        Ok(vec![0; counts.len()])
    }
}

impl Names for InMemory {
    fn look_up(&self, _: Space, _: u64, _: &str) -> Result<Claim, RowsError> {
        Ok(Claim::Known)
    }
    fn claim(&self, _: Space, _: u64, _: &str) -> bool {
        true
    }
    fn known(&self, _: Space, _: u64) -> Result<bool, RowsError> {
        Ok(true)
    }
}

/// The terminal that every frame of a store comes from.
///
/// # Errors
/// For 0, which is no store.
pub fn session(store: u32) -> Result<SessionKey, Box<dyn std::error::Error>> {
    let store = StoreId::new(store)?;
    Ok(SessionKey {
        terminal: TerminalId::new(store, TillId::new(1)?),
        epoch: Epoch::FIRST,
        clock_suspect: false,
    })
}

/// A shard with one registered store.
///
/// # Errors
/// When the store cannot be registered.
pub fn shard(store: u32) -> Result<Shard, Box<dyn std::error::Error>> {
    shard_with(store, ShardConfig::default())
}

/// A shard with settings of its own.
///
/// # Errors
/// As [`shard`].
pub fn shard_with(store: u32, config: ShardConfig) -> Result<Shard, Box<dyn std::error::Error>> {
    let mut shard = Shard::new(config);
    let now = Timestamp::from_us(NOW_US);
    let store = StoreId::new(store)?;
    let _record = shard.register_store(now, store, 840, "America/New_York", &InMemory)?;
    Ok(shard)
}
