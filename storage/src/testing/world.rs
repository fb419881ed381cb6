//! A small engine for tests: one shard, facts in a list, rows in memory.
#![expect(
    clippy::unwrap_used,
    reason = "tests stop where their world is not as they made it"
)]
#![cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the tests of this crate use more of it than the suite"
    )
)]

mod workload;

use std::sync::Arc;

use till_core::{
    Handled, Origin, QuarantineKey, Record, RecordKind, SessionKey, Shard, ShardConfig,
};
use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder, TextView};
use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::family::stock::v1::Move;
use till_protocol::family::{WHOLE_EVENT, text};
use till_protocol::id::{Epoch, Seq, SkuId, StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use crate::cluster::Commit;
use crate::facts::Fact;
use crate::journal::Lsn;
use crate::memory::MemoryViews;
use crate::names::NameBook;
use crate::query::{FactReader, Sources, VisitFact};
use crate::rebuild::FactRows;
use crate::views::{FlushBatch, StoreError, WriteViews as _};

pub(crate) use workload::Workload;

/// 2026-11-21 00:00 UTC.
pub(crate) const MIDNIGHT_US: i64 = 20_778 * 86_400_000_000;
pub(crate) const MINUTE_US: i64 = 60_000_000;

/// Records in a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorldLog(pub(crate) Vec<Fact>);

impl FactReader for WorldLog {
    fn end(&self) -> u64 {
        self.0.last().map_or(0, |fact| fact.lsn.get() + 1)
    }

    fn start(&self) -> u64 {
        0
    }

    fn of_hours(
        &self,
        store: StoreId,
        _: i64,
        _: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        let of_store = |fact: &&Fact| fact.record.head.terminal >> 32 == u64::from(store.get());
        self.0.iter().filter(of_store).try_for_each(visit)
    }

    fn of_receipt(&self, _: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(visit)
    }

    fn of_run(
        &self,
        _: TerminalId,
        _: u32,
        _: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        self.0.iter().try_for_each(visit)
    }
}

pub(crate) fn store(number: u32) -> StoreId {
    StoreId::new(number).unwrap()
}

pub(crate) fn till(store_number: u32, number: u32) -> TerminalId {
    TerminalId::new(store(store_number), TillId::new(number).unwrap())
}

pub(crate) struct World {
    pub(crate) shard: Shard,
    pub(crate) views: Arc<MemoryViews>,
    pub(crate) log: WorldLog,
    pub(crate) now_us: i64,
    pub(crate) names: NameBook,
    /// What was flushed, as commits of one slot.
    pub(crate) commits: Vec<Commit>,
    seqs: std::collections::BTreeMap<u64, u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(MemoryViews::new())
    }

    /// An engine that starts on these rows.
    pub(crate) fn over(views: MemoryViews) -> Self {
        let views = Arc::new(views);
        Self {
            shard: Shard::new(ShardConfig::default()),
            names: NameBook::new(Arc::<MemoryViews>::clone(&views)),
            views,
            commits: Vec::new(),
            log: WorldLog::default(),
            now_us: MIDNIGHT_US + 86_400_000_000,
            seqs: std::collections::BTreeMap::new(),
        }
    }

    pub(crate) fn register(&mut self, number: u32, currency: u16, zone: &str) {
        let rows = FactRows::new(self.views.as_ref(), &self.log);
        let now = Timestamp::from_us(self.now_us);
        let record = self
            .shard
            .register_store(now, store(number), currency, zone, &rows);
        if let Some(record) = record.unwrap() {
            self.journal(record);
        }
    }

    pub(crate) fn journal(&mut self, record: Record) -> Lsn {
        let index = self.log.0.len() - self.flushed();
        let position = Commit::position(self.next_flush(), u32::try_from(index).unwrap());
        let lsn = Lsn::new(position);
        self.log.0.push(Fact::new(lsn, record));
        lsn
    }

    fn next_flush(&self) -> u64 {
        u64::try_from(self.commits.len()).unwrap() + 1
    }

    fn flushed(&self) -> usize {
        self.commits.iter().map(|commit| commit.records.len()).sum()
    }

    /// Decides a quarantined event again.
    pub(crate) fn retry(&mut self, original: &Record, seq: u64) {
        let key = QuarantineKey {
            terminal: original.head.terminal,
            epoch: original.head.epoch,
            seq,
            line: WHOLE_EVENT,
        };
        let rows = FactRows::new(self.views.as_ref(), &self.log);
        let now = Timestamp::from_us(self.now_us);
        let record = self.shard.retry(now, key, original, &rows, &self.names);
        self.journal(record.unwrap());
    }

    pub(crate) fn next_seq(&self, terminal: TerminalId) -> u64 {
        self.seqs.get(&terminal.to_u64()).copied().unwrap_or(1)
    }

    pub(crate) fn send(&mut self, terminal: TerminalId, frame: Frame) -> Option<Record> {
        let batch = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
        let session = SessionKey {
            terminal,
            epoch: Epoch::FIRST,
            clock_suspect: false,
        };
        let rows = FactRows::new(self.views.as_ref(), &self.log);
        let now = Timestamp::from_us(self.now_us);
        let handled = self
            .shard
            .handle(Origin::batch(now, session, &batch), &rows, &self.names);
        let Handled::Journal { record, upto, .. } = handled.unwrap() else {
            return None;
        };
        self.seqs.insert(terminal.to_u64(), upto.get() + 1);
        self.journal(record.clone());
        Some(record)
    }

    /// Sends the frame of a record again, with its own sequence numbers. Gives what would be journalled.
    pub(crate) fn resend(&mut self, record: &Record) -> Option<Record> {
        let head = &record.head;
        if head.kind != RecordKind::Batch {
            return None;
        }
        let payload = record.payload.clone();
        let frame = Frame::new(
            head.family,
            head.version,
            head.count,
            head.first_seq,
            payload,
        );
        self.send(TerminalId::from_u64(head.terminal).unwrap(), frame.unwrap())
    }

    pub(crate) fn sell(&mut self, terminal: TerminalId, parts: &SaleParts<'_>) -> Option<Record> {
        let mut builder = SaleBuilder::new();
        builder.push(parts).unwrap();
        let seq = Seq::new(self.next_seq(terminal)).unwrap();
        self.send(terminal, builder.finish_frame(seq).unwrap())
    }

    pub(crate) fn stock(
        &mut self,
        terminal: TerminalId,
        record: &Move,
        code: &str,
    ) -> Option<Record> {
        let mut builder = StockBuilder::new();
        let name = TextView {
            item: WHOLE_EVENT,
            kind: text::SKU_CODE,
            text: code,
        };
        builder.push(record, &[], &[name]).unwrap();
        let seq = Seq::new(self.next_seq(terminal)).unwrap();
        self.send(terminal, builder.finish_frame(seq).unwrap())
    }

    pub(crate) fn flush(&mut self) {
        let mut dirty = self.shard.take_dirty();
        let last = self.log.0.last().map_or(0, |fact| fact.lsn.get());
        dirty.set_applied(last);
        let generation = dirty.generation;
        let mut flush = FlushBatch::from(dirty);
        let records = self.log.0.iter().skip(self.flushed());
        self.commits.push(Commit {
            slot: 0,
            flush: self.next_flush(),
            epoch: 1,
            records: records.map(|fact| fact.record.clone()).collect(),
            rows: flush.clone(),
        });
        flush.checkpoint = Some(self.log.end());
        self.views.write(&flush).unwrap();
        self.shard.flushed(generation);
    }

    pub(crate) fn sources(&self) -> Sources<'_> {
        Sources {
            views: self.views.as_ref(),
            facts: &self.log,
            now_us: self.now_us,
        }
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Fact> {
        let facts = self.log.0.iter();
        facts.filter(|fact| fact.record.head.kind == RecordKind::Batch)
    }
}

pub(crate) fn line(code: &str, quantity: i64, amount: i64) -> Line {
    Line {
        sku: SkuId::of_code(code).get(),
        quantity,
        amount,
        kind: if quantity < 0 {
            line_kind::RETURN
        } else {
            line_kind::SALE
        },
        unit: 1,
        ..Line::default()
    }
}

pub(crate) fn named(line: u16, code: &str) -> TextView<'_> {
    TextView {
        item: line,
        kind: text::SKU_CODE,
        text: code,
    }
}

pub(crate) fn sale_at(at: i64) -> Sale {
    Sale {
        at,
        kind: kind::SALE,
        ..Sale::default()
    }
}

pub(crate) fn cash(amount: i64) -> Tender {
    Tender {
        amount,
        kind: tender::CASH,
        ..Tender::default()
    }
}

pub(crate) fn card(amount: i64) -> Tender {
    Tender {
        amount,
        kind: tender::CARD,
        ..Tender::default()
    }
}
