//! What was retried out of the quarantine counts once: live, in a rebuild, and after segments were dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use till_core::{Outcome, QuarantineKey, Record, RecordKind, Space};
use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder};
use till_protocol::codec::Frame;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{Seq, SkuId};
use till_protocol::time::Timestamp;

use super::{FactRows, Registrations, rebuild, replay};
use crate::base::retain;
use crate::base::tests::everything;
use crate::disk::SimDisk;
use crate::facts::{Facts, FactsConfig};
use crate::journal::Journal;
use crate::journal::testing::{all, append_each, open};
use crate::memory::MemoryViews;
use crate::names::NameBook;
use crate::query::{Bound, FactReader, SalesQuery, Sources, TransactionQuery, sales, transactions};
use crate::testing::world::{
    MIDNIGHT_US, MINUTE_US, World, cash, line, named, sale_at, store, till,
};
use crate::views::{FlushBatch, Views, WriteViews as _};

const CODE: &str = "MILK";
const TEN_US: i64 = MIDNIGHT_US + 10 * 60 * MINUTE_US;
const ONE: i64 = 100_000;

/// A live run, with what it answered after each record.
struct Run {
    world: World,
    answers: Vec<BTreeMap<String, String>>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new();
        name(&mut world, "BREAD");
        world.register(1, 840, "UTC");
        world.register(2, 840, "UTC");
        let mut run = Self {
            world,
            answers: Vec::new(),
        };
        run.workload();
        run
    }

    fn workload(&mut self) {
        self.keep();
        // The second of two sales names an id that has another name.
        let quarantined = self.world.send(till(1, 1), two_sales()).unwrap();
        assert_eq!(quarantined.outcome(1).unwrap().0, Outcome::Quarantined);
        self.keep();
        self.stock(kind::RECEIVED, 10, TEN_US + 2 * MINUTE_US);
        self.stock(kind::COUNTED, 7, TEN_US - MINUTE_US);
        assert_eq!(self.level(), 17);
        name(&mut self.world, CODE);
        self.retry(&quarantined, 2);
        assert_eq!(self.level(), 15);
        self.stock(kind::COUNTED, 5, TEN_US - MINUTE_US / 2);
        assert_eq!(self.level(), 13);
    }

    fn stock(&mut self, kind: u8, quantity: i64, at: i64) {
        let record = Move {
            at,
            sku: SkuId::of_code(CODE).get(),
            quantity: quantity * ONE,
            kind,
            unit: 1,
            ..Move::default()
        };
        let mut builder = StockBuilder::new();
        builder.push(&record, &[], &[]).unwrap();
        let terminal = till(1, 2);
        let seq = Seq::new(self.world.next_seq(terminal)).unwrap();
        let sent = self
            .world
            .send(terminal, builder.finish_frame(seq).unwrap());
        assert!(sent.is_some());
        self.keep();
    }

    fn retry(&mut self, original: &Record, seq: u64) {
        let world = &mut self.world;
        let rows = FactRows::new(world.views.as_ref(), &world.log);
        let key = QuarantineKey {
            terminal: till(1, 1).to_u64(),
            epoch: 1,
            seq,
            line: u16::MAX,
        };
        let now = Timestamp::from_us(world.now_us);
        let retried = world.shard.retry(now, key, original, &rows, &world.names);
        world.journal(retried.unwrap());
        self.keep();
    }

    // What is answered now; then a frame of another store that fills a segment, so that each record lies in one of its own.
    fn keep(&mut self) {
        self.world.flush();
        let filler = till(2, 1);
        let mut builder = StockBuilder::new();
        for number in 0..150 {
            let record = Move {
                at: TEN_US,
                sku: 1 + number,
                quantity: ONE,
                kind: kind::RECEIVED,
                unit: 1,
                ..Move::default()
            };
            builder.push(&record, &[], &[]).unwrap();
        }
        let seq = Seq::new(self.world.next_seq(filler)).unwrap();
        self.world.now_us += MINUTE_US;
        self.world.send(filler, builder.finish_frame(seq).unwrap());
        self.world.now_us += MINUTE_US;
        self.world.flush();
        self.answers
            .push(answers(self.world.views.as_ref(), &self.world.log));
    }

    fn level(&self) -> i64 {
        let row = self.world.views.as_ref();
        let row = till_core::Rows::sku(row, store(1), SkuId::of_code(CODE));
        let row = row.unwrap().unwrap();
        (row.counted.map_or(0, |(_, quantity)| quantity) + row.moved) / ONE
    }

    fn records(&self) -> Vec<Record> {
        let facts = self.world.log.0.iter();
        facts.map(|fact| fact.record.clone()).collect()
    }
}

// Gives the id of the code a name, as if the registry had been repaired.
fn name(world: &mut World, name: &str) {
    let row = (Space::Sku, SkuId::of_code(CODE).get(), name.to_owned());
    let names = FlushBatch {
        names: vec![row],
        ..FlushBatch::default()
    };
    world.views.write(&names).unwrap();
    world.names = NameBook::new(Arc::<MemoryViews>::clone(&world.views));
}

fn two_sales() -> Frame {
    let mut builder = SaleBuilder::new();
    for (code, receipt) in [("TEA", 1), (CODE, 2)] {
        let mut sale = sale_at(TEN_US);
        sale.receipt = receipt;
        builder
            .push(&SaleParts {
                sale,
                lines: &[line(code, 2 * ONE, 500)],
                tenders: &[cash(500)],
                texts: &[named(0, code)],
                ..SaleParts::default()
            })
            .unwrap();
    }
    builder.finish_frame(Seq::FIRST).unwrap()
}

/// The rows of every query; also of one that ends in the middle of the hour, and of single transactions.
fn answers(views: &dyn Views, facts: &dyn FactReader) -> BTreeMap<String, String> {
    let mut out = everything(views, facts);
    let sources = Sources {
        views,
        facts,
        now_us: 0,
    };
    let half = SalesQuery {
        to: Some(Bound::Instant(TEN_US + 30 * MINUTE_US)),
        ..SalesQuery::default()
    };
    let half = sales(&sources, &half).unwrap();
    out.insert("half".to_owned(), format!("{:?}", half.rows));
    let query = TransactionQuery {
        receipt: "2".to_owned(),
        store: None,
        terminal: None,
        day: None,
    };
    let found = transactions(&sources, &query).unwrap().rows;
    let found: Vec<_> = found.iter().map(|row| (row.seq, row.outcome)).collect();
    out.insert("receipt".to_owned(), format!("{found:?}"));
    out
}

#[test]
fn a_retried_event_counts_once_in_late_counts_and_in_every_rebuild() {
    let run = Run::new();
    let records = run.records();
    // Two registrations, then each record with a filler behind it.
    for (step, expected) in run.answers.iter().enumerate() {
        let disk = SimDisk::new(1);
        let upto = 3 + 2 * step;
        let (_, closed) = append_each(open(&disk).unwrap(), &records[..upto]);
        closed.unwrap();
        let journal = open(&disk).unwrap().journal;
        let facts = Facts::new(journal.clone(), FactsConfig::default());
        let views = MemoryViews::new();
        // Names that were repaired by hand are in no journal.
        let none = Registrations::new(journal.clone(), []);
        rebuild(&journal, &facts, &views, (&none, replay), &mut |_| {}).unwrap();
        let mut found = answers(&views, &facts);
        let mut expected = expected.clone();
        if step < 4 {
            for answers in [&mut found, &mut expected] {
                answers.remove("sku");
                answers.remove("stock 1");
            }
        }
        assert_eq!(found, expected, "after step {step}");
    }
}

/// A journal of a run whose first segments were dropped, and its rows rebuilt.
struct Kept {
    journal: Journal,
    facts: Facts,
    views: MemoryViews,
}

impl Kept {
    fn without_first(records: &[Record], segments: usize) -> Self {
        let disk = SimDisk::new(1);
        let (_, closed) = append_each(open(&disk).unwrap(), records);
        closed.unwrap();
        let journal = open(&disk).unwrap().journal;
        let facts = Facts::new(journal.clone(), FactsConfig::default());
        let sealed = facts.received().unwrap();
        let (_, start, newest_us) = sealed[segments - 1];
        let (scratch, upto) = (MemoryViews::new(), journal.end());
        let dropped = retain(&journal, &facts, &scratch, newest_us + 1, upto, &mut |_| {});
        assert_eq!(dropped.unwrap(), Some(start));
        let views = MemoryViews::new();
        let none = Registrations::new(journal.clone(), []);
        rebuild(&journal, &facts, &views, (&none, replay), &mut |_| {}).unwrap();
        Self {
            journal,
            facts,
            views,
        }
    }

    fn has(&self, wanted: impl Fn(&Record) -> bool) -> bool {
        all(&self.journal).iter().any(|(_, record)| wanted(record))
    }
}

fn is_retry(record: &Record) -> bool {
    record.head.kind == RecordKind::Retry
}

fn is_of(till_number: u32, seq: u64) -> impl Fn(&Record) -> bool {
    move |record| {
        let head = &record.head;
        !is_retry(record) && (head.terminal, head.first_seq) == (till(1, till_number).to_u64(), seq)
    }
}

#[test]
fn a_retried_event_counts_once_whatever_retention_has_dropped() {
    let run = Run::new();
    let records = run.records();
    let expected = everything(run.world.views.as_ref(), &run.world.log);
    let mut alone = 0;
    for gone in 1..=5 {
        let kept = Kept::without_first(&records, gone);
        assert_eq!(everything(&kept.views, &kept.facts), expected);
        // The transaction is found as long as the record is there with which it took effect.
        let found = &answers(&kept.views, &kept.facts)["receipt"];
        let has = (kept.has(is_of(1, 1)), kept.has(is_retry));
        let applied = if has.1 { "[(2, \"applied\")]" } else { "[]" };
        assert_eq!(found, applied, "{gone} segments gone");
        alone += u32::from(has == (false, true));
    }
    assert!(0 < alone, "the retry never stayed without what it retried");
}

#[test]
fn a_late_count_stays_right_when_the_movements_that_it_saw_are_dropped() {
    let run = Run::new();
    // All but the last count, so that the one before it makes the level.
    let records = run.records();
    let records = &records[..records.len() - 2];
    let mut alone = 0;
    for gone in 1..=7 {
        let kept = Kept::without_first(records, gone);
        let row = till_core::Rows::sku(&kept.views, store(1), SkuId::of_code(CODE));
        let row = row.unwrap().unwrap();
        let (_, counted) = row.counted.unwrap();
        assert_eq!((counted + row.moved) / ONE, 15, "{gone} segments gone");
        alone += u32::from(!kept.has(is_of(2, 1)) && kept.has(is_of(2, 2)));
    }
    assert!(0 < alone, "the count never stayed without the movement");
}
