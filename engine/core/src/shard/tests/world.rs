//! One shard with its journal, and short words for what tills send.

use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder, event_id, sku_code};
use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::family::Reference;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind as sale_kind, line_kind, tender};
use till_protocol::family::stock::v1::Move;
use till_protocol::id::{Epoch, EventId, Seq, SkuId, StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::memory::{Memory, MemoryNames};
use crate::{Dirty, Handled, Origin, Record, SessionKey, Shard, ShardConfig};

/// 2026-03-02 10:00 UTC, a Monday.
pub(super) const NOW: i64 = 1_772_445_600_000_000;
pub(super) const MINUTE: i64 = 60_000_000;
pub(super) const HOUR: i64 = 60 * MINUTE;
pub(super) const ONE: i64 = 100_000;

pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) rows: Memory,
    pub(super) names: MemoryNames,
    pub(super) journal: Vec<Record>,
    pub(super) now: i64,
    /// A flush that is under way: taken and not written yet.
    pub(super) under_way: Option<Dirty>,
}

impl World {
    /// Store 1 in New York, dollars.
    pub(super) fn new() -> Self {
        Self::with_budget(1 << 20)
    }

    pub(super) fn with_budget(actors_max: usize) -> Self {
        Self::with(ShardConfig {
            actors_max,
            ..ShardConfig::default()
        })
    }

    pub(super) fn with(config: ShardConfig) -> Self {
        let mut world = Self {
            shard: Shard::new(config),
            rows: Memory::default(),
            names: MemoryNames::default(),
            journal: Vec::new(),
            now: NOW,
            under_way: None,
        };
        let registered = world
            .shard
            .register_store(
                Timestamp::from_us(NOW),
                store(),
                840,
                "America/New_York",
                &world.rows,
            )
            .unwrap()
            .unwrap();
        world.journal.push(registered);
        world
    }

    /// A shard that applied a journal from the start.
    pub(super) fn replay(journal: &[Record]) -> Self {
        let mut world = Self::with_budget(1 << 20);
        world.shard = Shard::new(ShardConfig::default());
        world.journal.clear();
        for record in journal {
            world.journal.push(record.clone());
            let position = world.position();
            world.rows.learn(position, record);
            let replayed = world.shard.replay(position, record, &world.rows);
            assert_eq!(replayed.unwrap(), crate::shard::Replayed::Held);
        }
        assert!(world.shard.violations().is_empty());
        world
    }

    pub(super) fn position(&self) -> u64 {
        u64::try_from(self.journal.len()).unwrap() * 100
    }

    pub(super) fn send(&mut self, till: u32, epoch: u32, frame: Frame) -> Handled {
        let session = session(till, epoch);
        let batch = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
        let now = Timestamp::from_us(self.now);
        let handled = self
            .shard
            .handle(Origin::batch(now, session, &batch), &self.rows, &self.names)
            .unwrap();
        self.keep(&handled);
        handled
    }

    pub(super) fn keep(&mut self, handled: &Handled) {
        if let Handled::Journal { record, .. } = handled {
            self.keep_record(record.clone());
        }
    }

    pub(super) fn keep_record(&mut self, record: Record) {
        self.journal.push(record);
        let position = self.position();
        let record = self.journal.last().unwrap();
        self.rows.learn(position, record);
    }

    /// Another engine hands a record off.
    pub(super) fn hand_off(&mut self, record: &Record) -> Handled {
        let handled = self
            .shard
            .handle(Origin::Handoff(record), &self.rows, &self.names)
            .unwrap();
        self.keep(&handled);
        handled
    }

    /// The store leaves after a flush; what comes next brings it in again.
    pub(super) fn leave(&mut self) {
        self.flush();
        self.shard.release(&|_| true);
        assert_eq!((self.shard.actors(), self.shard.terminals()), (0, 0));
        assert_eq!(self.shard.dirty_rows(), 0);
    }

    /// Begins a flush; what is sent before [`Self::write`] finds neither rows nor a clean actor.
    pub(super) fn take(&mut self) {
        self.write();
        let mut dirty = self.shard.take_dirty();
        dirty.set_applied(self.position());
        self.under_way = Some(dirty);
        self.shard.passivate();
    }

    /// Ends the flush that is under way.
    pub(super) fn write(&mut self) {
        if let Some(dirty) = self.under_way.take() {
            let generation = dirty.generation;
            self.rows.write(dirty);
            self.shard.flushed(generation);
            self.shard.passivate();
        }
    }

    pub(super) fn flush(&mut self) {
        self.take();
        self.write();
    }

    /// All rows after a flush.
    pub(super) fn state(&mut self) -> Memory {
        self.flush();
        self.rows.comparable()
    }

    pub(super) fn level(&mut self, sku: u64) -> i64 {
        self.flush();
        let row = self.rows.skus[&(1, sku)];
        row.counted.map_or(0, |(_, quantity)| quantity) + row.moved
    }

    pub(super) fn check_replay(&mut self) {
        let replayed = Self::replay(&self.journal).state();
        assert_eq!(self.state(), replayed);
    }
}

pub(super) fn store() -> StoreId {
    StoreId::new(1).unwrap()
}

pub(super) fn terminal(till: u32) -> TerminalId {
    TerminalId::new(store(), TillId::new(till).unwrap())
}

pub(super) fn session(till: u32, epoch: u32) -> SessionKey {
    SessionKey {
        terminal: terminal(till),
        epoch: Epoch::new(epoch).unwrap(),
        clock_suspect: false,
    }
}

/// A sale as a test writes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Basket {
    pub(super) at: i64,
    pub(super) kind: u8,
    pub(super) flags: u16,
    pub(super) day: u16,
    pub(super) lines: Vec<Line>,
    pub(super) tenders: Vec<Tender>,
    pub(super) id: Option<u8>,
    /// Codes that name the SKUs of lines.
    pub(super) codes: Vec<(u16, &'static str)>,
}

/// A cash sale of lines of one piece each, paid exactly.
pub(super) fn basket(at: i64, skus: &[(u64, i64)]) -> Basket {
    let lines: Vec<Line> = skus
        .iter()
        .map(|&(sku, amount)| line(sku, ONE, amount))
        .collect();
    let due = skus.iter().map(|(_, amount)| amount).sum();
    let tenders = vec![Tender {
        amount: due,
        kind: tender::CASH,
        flags: 0,
    }];
    Basket {
        at,
        kind: sale_kind::SALE,
        lines,
        tenders,
        ..Basket::default()
    }
}

pub(super) fn line(sku: u64, quantity: i64, amount: i64) -> Line {
    let kind = if quantity < 0 {
        line_kind::RETURN
    } else {
        line_kind::SALE
    };
    Line {
        sku,
        quantity,
        amount,
        kind,
        unit: 1,
        category: u32::from(sku > 2),
        flags: 0,
    }
}

pub(super) fn sales(first_seq: u64, baskets: &[Basket]) -> Frame {
    let mut builder = SaleBuilder::new();
    for basket in baskets {
        let sale = Sale {
            at: basket.at,
            kind: basket.kind,
            flags: basket.flags,
            business_day: basket.day,
            operator: 5,
            ..Sale::default()
        };
        let refs: Vec<Reference> = basket.id.map(id_ref).into_iter().collect();
        let texts: Vec<_> = basket
            .codes
            .iter()
            .map(|(line, code)| sku_code(*line, code))
            .collect();
        let parts = SaleParts {
            sale,
            lines: &basket.lines,
            tenders: &basket.tenders,
            refs: &refs,
            texts: &texts,
            ..SaleParts::default()
        };
        builder.push(&parts).unwrap();
    }
    builder.finish_frame(Seq::new(first_seq).unwrap()).unwrap()
}

pub(super) fn id_ref(id: u8) -> Reference {
    event_id(EventId::from_bytes([id; 16]))
}

pub(super) fn movement(kind: u8, sku: u64, quantity: i64, at: i64) -> Move {
    Move {
        at,
        sku,
        quantity,
        kind,
        unit: 1,
        ..Move::default()
    }
}

pub(super) fn stock(first_seq: u64, moves: &[Move]) -> Frame {
    let mut builder = StockBuilder::new();
    for record in moves {
        builder.push(record, &[], &[]).unwrap();
    }
    builder.finish_frame(Seq::new(first_seq).unwrap()).unwrap()
}

pub(super) fn sku_of(code: &str) -> u64 {
    SkuId::of_code(code).get()
}

pub(super) fn record_of(handled: Handled) -> Record {
    match handled {
        Handled::Journal { record, .. } => record,
        other => panic!("nothing journalled: {other:?}"),
    }
}

/// A frame whose bytes make no sense, from number 1 on.
pub(super) fn unreadable(now: Timestamp, session: SessionKey, count: u32) -> Origin<'static> {
    Origin::Device {
        now,
        session,
        frame: crate::Frame::Unreadable {
            first_seq: Seq::FIRST,
            count,
            reason: Reason::Unreadable,
        },
    }
}
