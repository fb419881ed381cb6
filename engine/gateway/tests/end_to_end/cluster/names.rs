//! Names of SKUs and tenders, which whoever serves a store next has from the shared store alone.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use till_core::Space;
use till_protocol::builder::{SaleBuilder, SaleParts, TextView, sku_code};
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::family::text;
use till_protocol::id::SkuId;
use till_protocol::quantity::unit;
use till_storage::cluster::SharedStore as _;
use till_storage::testing::Trouble;
use till_storage::views::Views;

use super::*;
use crate::device::NOON_US;

/// Only names go wrong.
const NAMELESS: Trouble = Trouble {
    fails: 0,
    answers_lost: 0,
    delay: Duration::ZERO,
    damaged: None,
    refuses_names: true,
    refuses_commits: false,
};

/// A sale of one piece, paid by a means that has a name. Of the SKUs the code is said, or their id alone.
fn sale(number: u64, code: &str, says_code: bool, paid: &str) -> Bytes {
    let line = Line {
        sku: SkuId::of_code(code).get(),
        quantity: 100_000,
        amount: 250,
        kind: line_kind::SALE,
        unit: unit::EACH,
        ..Line::default()
    };
    let by = Tender {
        amount: 250,
        kind: tender::NAMED,
        ..Tender::default()
    };
    let mut texts = vec![TextView {
        item: 0,
        kind: text::TENDER_NAME,
        text: paid,
    }];
    if says_code {
        texts.push(sku_code(0, code));
    }
    let parts = SaleParts {
        sale: Sale {
            at: NOON_US + i64::try_from(number).unwrap() * 1_000_000,
            kind: kind::SALE,
            ..Sale::default()
        },
        lines: &[line],
        tenders: &[by],
        texts: &texts,
        ..SaleParts::default()
    };
    let mut builder = SaleBuilder::new();
    builder.push(&parts).unwrap();
    builder.finish(seq(number)).unwrap()
}

fn skus_of(store: u64) -> String {
    format!("goods-{store}")
}

fn paid_in(store: u64) -> String {
    format!("tokens-{store}")
}

/// All names that rows have.
fn names_in(views: &dyn Views) -> BTreeSet<(Space, String)> {
    let mut names = BTreeSet::new();
    let mut add = |(space, _), name| {
        names.insert((space, name));
        ControlFlow::Continue(())
    };
    views.names(&mut add).unwrap();
    names
}

fn names_of(stores: impl Iterator<Item = u64>) -> BTreeSet<(Space, String)> {
    let both = |store| {
        [
            (Space::Sku, skus_of(store)),
            (Space::Tender, paid_in(store)),
        ]
    };
    stores.flat_map(both).collect()
}

/// What is shown of the SKUs of a store: name, level and what is odd about them.
async fn shown(engine: &Arc<Handle>, store: u64) -> (String, String, Vec<&'static str>) {
    let query = Query::Stock(StockQuery {
        store: StoreId::new(store.try_into().unwrap()).unwrap(),
        sku: None,
    });
    let engine = Arc::clone(engine);
    let reply = tokio::task::spawn_blocking(move || engine.query(&query).unwrap());
    let Reply::Stock(answer) = reply.await.unwrap() else {
        panic!("another answer");
    };
    let [row] = &answer.rows[..] else {
        panic!("{:?}", answer.rows);
    };
    let mut flags = row.flags.clone();
    flags.retain(|flag| *flag != "negative");
    (row.sku.clone(), row.quantity.clone(), flags)
}

async fn sells(engines: &[Arc<Handle>], store: u64, (epoch, number): (u32, u64), says_code: bool) {
    let (mut device, _, _connection) = at_home(engines, store, epoch).await;
    let frame = sale(number, &skus_of(store), says_code, &paid_in(store));
    device.send(frame).await;
    assert!(device.acked(number).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_in_the_shared_store_for_whoever_serves_next_and_are_written_once() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engines = pair(&dirs, &store).await;
    for number in STORES {
        sells(&engines, number, (0, 1), true).await;
    }
    // What is said to be committed has its names in the rows, whoever asks.
    written(&engines).await;
    for engine in &engines {
        assert_eq!(names_in(engine.views()), names_of(STORES));
        for number in STORES {
            let wanted = (skus_of(number), "-1".to_owned(), Vec::new());
            assert_eq!(shown(engine, number).await, wanted);
        }
    }
    // No name could be written now, and nobody has one to write who has written it.
    store.set_trouble(NAMELESS, 0);
    for number in STORES {
        sells(&engines, number, (1, 2), true).await;
    }
    store.set_trouble(Trouble::default(), 0);
    let [first, second] = engines;
    first.kill().await.unwrap();
    drop(first);
    let left = [second];
    share(&left).await;
    for number in STORES {
        let (_, welcome, _connection) = established(&left, number, 1).await;
        let epoch = welcome.epoch.get();
        let next = welcome.next_seq.get();
        sells(&left, number, (epoch, next), false).await;
        sells(&left, number, (epoch, next + 1), true).await;
        let wanted = (skus_of(number), "-4".to_owned(), Vec::new());
        assert_eq!(shown(&left[0], number).await, wanted);
    }
    assert_eq!(names_in(left[0].views()), names_of(STORES));
    // What is committed may be forgotten: a book that kept all names would ask the store under its lock for each other one.
    assert_eq!(left[0].names_unwritten(), 0);
    left[0].drain().await.unwrap();
}

/// An engine that has journalled a sale and could not write its names; killed.
async fn nameless(dir: &Path, store: &Arc<MemoryCluster>) {
    let engine = alone(dir, store).await;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    store.set_trouble(NAMELESS, 0);
    device.send(sale(1, &skus_of(3), true, &paid_in(3))).await;
    // It is not committed before its names are written.
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert_eq!(ack.committed, None);
                if ack.journalled == Some(seq(1)) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    engine.kill().await.unwrap();
    drop(engine);
    assert!(names_in(store.views().as_ref()).is_empty());
    store.set_trouble(Trouble::default(), 0);
}

async fn has_names(engine: &Arc<Handle>) {
    let wanted = (skus_of(3), "-1".to_owned(), Vec::new());
    until("names are written", || !names_in(engine.views()).is_empty()).await;
    assert_eq!(names_in(engine.views()), names_of(3..=3));
    assert_eq!(shown(engine, 3).await, wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_were_not_written_are_when_their_engine_is_back() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    nameless(dir.path(), &store).await;
    let again = alone(dir.path(), &store).await;
    has_names(&again).await;
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_were_not_written_are_by_whoever_takes_their_events_in() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    nameless(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    assert!(submit::submitted(&store, dirs[0].path()) > 0);
    has_names(&other).await;
    other.drain().await.unwrap();
}
