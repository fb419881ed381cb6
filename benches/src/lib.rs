//! What the benches share: the reference mix, and rows that are all in memory.
//!
//! The mix is that of the design: 40 % sales of three lines, 60 % stock movements. Benches measure; nothing here asserts
//! on time.

use till_core::{
    Claim, EventIdRow, MoveKey, Names, RollupKey, RollupRow, Rows, RowsError, SessionKey, Shard,
    ShardConfig, SkuRow, Space, StoreRow, TerminalRow,
};
use till_protocol::builder::{BuildError, SaleBuilder, SaleParts, StockBuilder};
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender};
use till_protocol::family::stock::v1::Move;
use till_protocol::id::{Epoch, EventId, Seq, SkuId, StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;

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
    fn moved_after(&self, _: StoreId, _: SkuId, _: MoveKey, _: u64) -> Result<i128, RowsError> {
        Ok(0)
    }
}

impl Names for InMemory {
    fn claim(&self, _: Space, _: u64, _: &str) -> Result<Claim, RowsError> {
        Ok(Claim::Known)
    }
    fn known(&self, _: Space, _: u64) -> Result<bool, RowsError> {
        Ok(true)
    }
}

/// A small generator: the same numbers in every run.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `sides`.
    pub const fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A frame of [`EVENTS`] three-line sales.
///
/// # Errors
/// [`BuildError`], for sequence numbers out of range.
pub fn sales(dice: &mut Dice, skus: u64, first: Seq) -> Result<Frame, BuildError> {
    let mut sales = SaleBuilder::new();
    for number in 0..EVENTS {
        let mut line = || Line {
            sku: dice.roll(skus),
            quantity: 100_000,
            amount: 250,
            kind: 1,
            unit: 1,
            category: 7,
            flags: 0,
        };
        let lines = [line(), line(), line()];
        let at = NOW_US + i64::try_from(number).unwrap_or(0);
        let sale = Sale {
            at,
            kind: 1,
            operator: 3,
            ..Sale::default()
        };
        let tenders = [Tender {
            amount: 750,
            kind: 1,
            flags: 0,
        }];
        let parts = SaleParts {
            sale,
            lines: &lines,
            tenders: &tenders,
            ..SaleParts::default()
        };
        sales.push(&parts)?;
    }
    sales.finish_frame(first)
}

/// A frame of [`EVENTS`] stock movements.
///
/// # Errors
/// As [`sales`].
pub fn movements(dice: &mut Dice, skus: u64, first: Seq) -> Result<Frame, BuildError> {
    let mut moves = StockBuilder::new();
    for number in 0..EVENTS {
        let record = Move {
            at: NOW_US + i64::try_from(number).unwrap_or(0),
            sku: dice.roll(skus),
            quantity: 100_000,
            kind: 1,
            unit: 1,
            ..Move::default()
        };
        moves.push(&record, &[], &[])?;
    }
    moves.finish_frame(first)
}

/// `count` frames of the mix, one after another from sequence number 1.
///
/// # Errors
/// As [`sales`].
pub fn mix(skus: u64, count: u64) -> Result<Vec<Frame>, BuildError> {
    let mut dice = Dice(7);
    (0..count)
        .map(|number| {
            let first = Seq::FIRST.plus(number * EVENTS);
            if number % 5 < 2 {
                sales(&mut dice, skus, first)
            } else {
                movements(&mut dice, skus, first)
            }
        })
        .collect()
}

/// The terminal that every frame comes from.
///
/// # Errors
/// Never, for these numbers.
pub fn session() -> Result<SessionKey, Box<dyn std::error::Error>> {
    let store = StoreId::new(1)?;
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
pub fn shard() -> Result<Shard, Box<dyn std::error::Error>> {
    let mut shard = Shard::new(ShardConfig::default());
    let now = Timestamp::from_us(NOW_US);
    let store = StoreId::new(1)?;
    let _record = shard.register_store(now, store, 840, "America/New_York", &InMemory)?;
    Ok(shard)
}
