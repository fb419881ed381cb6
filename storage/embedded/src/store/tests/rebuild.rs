//! Rows rebuilt into fjall, rows rebuilt into memory, and the rows of the live run are the same.

use std::sync::Arc;

use till_core::{Handled, Origin, Record, SessionKey, Shard, ShardConfig};

use till_protocol::builder::{SaleBuilder, SaleParts, sku_code};
use till_protocol::card::ScreenKey;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::id::{Epoch, Seq, SkuId, StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_storage::disk::StdDisk;
use till_storage::facts::{Facts, FactsConfig};
use till_storage::journal::{
    Durable, Journal, JournalConfig, Lsn, Prepared, Sink, SyncConfig, SyncError, Syncer,
};
use till_storage::memory::MemoryViews;
use till_storage::names::NameBook;
use till_storage::rebuild::{FactRows, Registrations, rebuild, replay};
use till_storage::testing::conformance::filled;
use till_storage::views::{FlushBatch, Views, WriteViews as _};

use crate::{EmbeddedConfig, EmbeddedViews};

const NOW_US: i64 = 1_795_219_200_000_000;
const CODES: [&str; 5] = ["milk", "bread", "eggs", "tea", "rice"];

struct Silent;

impl Sink<()> for Silent {
    fn durable(&mut self, _: &Durable, _: &mut Vec<(Lsn, ())>) {}

    fn poisoned(&mut self, error: &SyncError) {
        panic!("{error}");
    }
}

fn frame(number: u64, seq: u64) -> Verified {
    let mut builder = SaleBuilder::new();
    for index in 0..20 {
        let code = CODES[usize::try_from((number + index) % 5).unwrap()];
        let amount = i64::try_from(100 + number * 7 + index).unwrap();
        let line = Line {
            sku: SkuId::of_code(code).get(),
            quantity: 100_000,
            amount,
            kind: line_kind::SALE,
            unit: 1,
            ..Line::default()
        };
        let tender = Tender {
            amount,
            kind: tender::CASH,
            ..Tender::default()
        };
        let at = NOW_US - i64::try_from((number * 31 + index) % 5_000).unwrap() * 60_000_000;
        let parts = SaleParts {
            sale: Sale {
                at,
                kind: kind::SALE,
                ..Sale::default()
            },
            lines: &[line],
            tenders: &[tender],
            texts: &[sku_code(0, code)],
            ..SaleParts::default()
        };
        builder.push(&parts).unwrap();
    }
    let frame = builder.finish_frame(Seq::new(seq).unwrap()).unwrap();
    Verified::check(frame, &ScreenKey::new([1; 32])).unwrap()
}

/// A live run of 200 frames into rows in memory; gives the rows and the records.
fn live(facts: &Facts) -> (Arc<MemoryViews>, Vec<Record>) {
    let views = Arc::new(MemoryViews::new());
    let names = NameBook::new(Arc::<MemoryViews>::clone(&views));
    let rows = FactRows::new(views.as_ref(), facts);
    let mut shard = Shard::new(ShardConfig::default());
    let mut records = Vec::new();
    let now = Timestamp::from_us(NOW_US);
    for number in 1..=4 {
        let store = StoreId::new(number).unwrap();
        let record = shard.register_store(now, store, 978, "Europe/Berlin", &rows);
        records.extend(record.unwrap());
    }
    for number in 0..200_u64 {
        let store = StoreId::new(u32::try_from(1 + number % 4).unwrap()).unwrap();
        let session = SessionKey {
            terminal: TerminalId::new(store, TillId::new(1).unwrap()),
            epoch: Epoch::FIRST,
            clock_suspect: false,
        };
        let batch = frame(number, 1 + number / 4 * 20);
        match shard
            .handle(Origin::batch(now, session, &batch), &rows, &names)
            .unwrap()
        {
            Handled::Journal { record, .. } => records.push(record),
            other => panic!("{other:?}"),
        }
    }
    views.write(&FlushBatch::from(shard.take_dirty())).unwrap();
    (views, records)
}

/// All rows, without the positions that only a journal gives.
fn rows(views: &dyn Views) -> FlushBatch {
    let mut rows = filled(views).unwrap().rows;
    rows.checkpoint = None;
    for (_, store) in &mut rows.stores {
        store.applied = 0;
    }
    rows
}

#[test]
fn rebuilt_rows_are_equal_in_every_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let opened = Journal::open(Arc::new(StdDisk), &path, JournalConfig::default()).unwrap();
    let journal = opened.journal.clone();
    let facts = Facts::new(journal.clone(), FactsConfig::default());
    let (views, records) = live(&facts);
    let syncer = Syncer::start(opened.writer, SyncConfig::default(), Silent).unwrap();
    for record in &records {
        let prepared = Prepared::new(record).unwrap();
        syncer.appender().append(prepared, ()).unwrap();
    }
    syncer.close().unwrap();

    let memory = MemoryViews::new();
    let none = Registrations::new(journal.clone(), []);
    rebuild(&journal, &facts, &memory, (&none, replay), &mut |_| {}).unwrap();
    let embedded = EmbeddedViews::open(EmbeddedConfig::new(dir.path().join("views"))).unwrap();
    rebuild(&journal, &facts, &embedded, (&none, replay), &mut |_| {}).unwrap();
    assert_eq!(rows(&memory), rows(views.as_ref()));
    assert_eq!(filled(&embedded).unwrap(), filled(&memory).unwrap());

    // Where a row lies does not matter to what a shard makes of it.
    let shard_on = |views: &dyn Views| {
        let rows = FactRows::new(views, &facts);
        let mut shard = Shard::new(ShardConfig::default());
        for item in journal.records(Lsn::ZERO) {
            let (lsn, record) = item.unwrap();
            let placed = shard.replay(lsn.get(), &record, &rows).unwrap();
            assert_eq!(placed, till_core::Replayed::Held);
        }
        shard.take_dirty().rows()
    };
    assert_eq!((shard_on(&memory), shard_on(&embedded)), (0, 0));
}
