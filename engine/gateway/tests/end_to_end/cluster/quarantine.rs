//! What is quarantined: in the shared store, for whoever serves its stores when an operator has it decided again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use till_core::{QuarantineKey, Space};
use till_protocol::builder::StockBuilder;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{SkuId, TerminalId};
use till_runtime::Retried;
use till_storage::cluster::{Commit, SharedStore as _};
use till_storage::query::QuarantineQuery;
use till_storage::testing::Trouble;
use till_storage::views::{FlushBatch, Views};

use super::intake::skus;
use super::*;

/// Half of what a level may be, and more: two of these do not go together.
const HUGE: i64 = 9_000_000_000_000_000_000;
/// The same in pieces, as people read it.
const PIECES: &str = "90000000000000";
/// Everything but commits goes well.
const UNCOMMITTED: Trouble = Trouble {
    fails: 0,
    answers_lost: 0,
    delay: Duration::ZERO,
    damaged: None,
    refuses_names: false,
    refuses_commits: true,
};

/// Three movements of tea, of which the second is out of range, so that the third waits with it.
fn huge(first: u64) -> Bytes {
    let mut builder = StockBuilder::new();
    for (number, quantity) in (first..).zip([HUGE, HUGE, -HUGE]) {
        let movement = Move {
            quantity,
            kind: kind::ADJUSTED,
            ..tea(number, 1)
        };
        builder.push(&movement, &[], &[]).unwrap();
    }
    builder.finish(seq(first)).unwrap()
}

/// Store, sequence number, and the line that waits.
type Quarantined = (u64, u64, Option<u16>);

/// What rows have in quarantine.
fn in_rows(views: &dyn Views) -> BTreeSet<Quarantined> {
    let mut found = BTreeSet::new();
    let mut add = |key: QuarantineKey, _| {
        let store = TerminalId::from_u64(key.terminal).unwrap().store();
        let line = (key.line != u16::MAX).then_some(key.line);
        found.insert((u64::from(store.get()), key.seq, line));
        ControlFlow::Continue(())
    };
    views.quarantine(&mut add).unwrap();
    found
}

/// What an operator is shown.
async fn listed(engine: &Arc<Handle>) -> BTreeSet<Quarantined> {
    let engine = Arc::clone(engine);
    let query = Query::Quarantine(QuarantineQuery::default());
    let reply = tokio::task::spawn_blocking(move || engine.query(&query).unwrap());
    let Reply::Quarantine(answer) = reply.await.unwrap() else {
        panic!("another answer");
    };
    // The event itself is found as well.
    assert!(answer.rows.iter().all(|row| row.occurred_at.is_some()));
    let of = answer.rows.iter();
    of.map(|row| (u64::from(row.store), row.seq, row.line))
        .collect()
}

/// Applied, and still quarantined.
async fn retry(engine: &Arc<Handle>) -> (u64, u64) {
    let engine = Arc::clone(engine);
    let retried = tokio::task::spawn_blocking(move || engine.retry_quarantine().unwrap());
    let Retried {
        applied,
        quarantined,
    } = retried.await.unwrap();
    (applied, quarantined)
}

/// The rows say that the id of milk is that of something else.
fn collide(store: &MemoryCluster) {
    let id = SkuId::of_code("milk").get();
    let other = [(Space::Sku, id, "bread".to_owned())];
    store.write_names(&other).unwrap();
}

/// Somebody has put the names right.
fn mend(store: &MemoryCluster) {
    let id = SkuId::of_code("milk").get();
    let right = Commit {
        slot: SLOTS,
        flush: 1,
        rows: FlushBatch {
            names: vec![(Space::Sku, id, "milk".to_owned())],
            ..FlushBatch::default()
        },
        ..Commit::default()
    };
    store.project(&[Arc::new(right)]).unwrap();
}

/// An event that is quarantined as a whole, and two whose movements wait.
async fn quarantined(engines: &[Arc<Handle>], store: u64) {
    let (mut device, _, _connection) = at_home(engines, store, 0).await;
    device.send(skus("milk", 1, 1)).await;
    device.send(huge(2)).await;
    assert!(device.acked(4).await.is_empty());
}

fn quarantined_in(stores: impl Iterator<Item = u64>) -> BTreeSet<Quarantined> {
    let each = |store| [(store, 1, None), (store, 3, Some(0)), (store, 4, Some(0))];
    stores.flat_map(each).collect()
}

async fn levels(engine: &Arc<Handle>, store: u64) -> [String; 2] {
    let store = store.try_into().unwrap();
    [
        level_of(engine, store, "milk").await,
        level_of(engine, store, "tea").await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_is_in_the_shared_store_and_decided_once_by_whoever_serves_it() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    collide(&store);
    let first = alone(dirs[0].path(), &store).await;
    for number in STORES {
        quarantined(std::slice::from_ref(&first), number).await;
    }
    // What is said to be committed comes to be in the rows, whoever asks.
    let wanted = quarantined_in(STORES);
    until("rows of the quarantine", || {
        in_rows(store.views().as_ref()) == wanted
    })
    .await;
    let second = node(dirs[1].path(), &store).await;
    for engine in [&first, &second] {
        assert_eq!(listed(engine).await, quarantined_in(STORES));
    }
    first.kill().await.unwrap();
    drop(first);
    mend(&store);
    share(std::slice::from_ref(&second)).await;
    assert_eq!(retry(&second).await, (3 * 12, 0));
    until_it("nothing is listed any more", async || {
        listed(&second).await.is_empty()
    })
    .await;
    for number in STORES {
        assert_eq!(levels(&second, number).await, ["1", PIECES]);
    }
    assert_eq!(retry(&second).await, (0, 0));
    second.drain().await.unwrap();
    // Nor by the next one.
    let wanted = BTreeSet::new();
    until("rows of the quarantine", || {
        in_rows(store.views().as_ref()) == wanted
    })
    .await;
    let third = alone(dirs[0].path(), &store).await;
    assert_eq!(retry(&third).await, (0, 0));
    for number in STORES {
        let (mut device, next, _connection) =
            at_home(std::slice::from_ref(&third), number, 1).await;
        assert_eq!(next, 5);
        device.send(teas(5, 5)).await;
        assert!(device.acked(9).await.is_empty());
        assert_eq!(levels(&third, number).await, ["1", "90000000000005"]);
    }
    third.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_engine_decides_what_was_quarantined_in_the_stores_that_it_serves() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engines = pair(&dirs, &store).await;
    for number in STORES {
        let (mut device, _, _connection) = at_home(&engines, number, 0).await;
        device.send(huge(1)).await;
        assert!(device.acked(3).await.is_empty());
    }
    // What others serve stays, and keeps nothing from being decided.
    let (here, there) = retry(&engines[1]).await;
    assert!(here > 0 && there > 0, "{here} and {there}");
    assert_eq!(here + there, 2 * 12);
    assert_eq!(retry(&engines[1]).await, (0, there));
    assert_eq!(retry(&engines[0]).await, (there, 0));
    written(&engines).await;
    for engine in &engines {
        assert_eq!(listed(engine).await, BTreeSet::new());
    }
    for number in STORES {
        let store = number.try_into().unwrap();
        assert_eq!(level(&engines[0], store).await, PIECES, "store {number}");
    }
    for engine in &engines {
        engine.drain().await.unwrap();
    }
}

/// An engine whose operator had everything of store 3 decided again, which is journalled and in no commit; killed.
async fn retried_and_dead(dir: &Path, store: &Arc<MemoryCluster>) {
    collide(store);
    let engine = alone(dir, store).await;
    quarantined(std::slice::from_ref(&engine), 3).await;
    engine.drain().await.unwrap();
    drop(engine);
    mend(store);
    let engine = alone(dir, store).await;
    store.set_trouble(UNCOMMITTED, 0);
    assert_eq!(retry(&engine).await, (3, 0));
    engine.kill().await.unwrap();
    drop(engine);
    store.set_trouble(Trouble::default(), 0);
    let wanted = quarantined_in(3..=3);
    until("rows of the quarantine", || {
        in_rows(store.views().as_ref()) == wanted
    })
    .await;
}

async fn all_taken_in(store: &Arc<MemoryCluster>) {
    let waiting = Arc::clone(store);
    until("everything is taken in", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
}

async fn is_decided(engine: &Arc<Handle>) {
    assert_eq!(listed(engine).await, BTreeSet::new());
    assert_eq!(levels(engine, 3).await, ["1", PIECES]);
    assert_eq!(retry(engine).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_again_and_not_committed_counts_once_after_it_was_submitted() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    retried_and_dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    assert_eq!(listed(&other).await, quarantined_in(3..=3));
    // Once more, it is known.
    for _ in 0..2 {
        assert!(submit::submitted(&store, dirs[0].path()) > 0);
        all_taken_in(&store).await;
        is_decided(&other).await;
    }
    other.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_again_and_not_committed_counts_once_when_its_engine_is_back() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    retried_and_dead(dir.path(), &store).await;
    let again = alone(dir.path(), &store).await;
    until_it("it is decided again", async || {
        listed(&again).await.is_empty()
    })
    .await;
    is_decided(&again).await;
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_operators_had_decided_again_counts_once() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    retried_and_dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    assert_eq!(retry(&other).await, (3, 0));
    is_decided(&other).await;
    assert!(submit::submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    is_decided(&other).await;
    other.drain().await.unwrap();
}

// The facts may give a record of an older epoch besides, under the same numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_quarantined_in_one_epoch_is_not_taken_for_what_has_its_numbers_in_another() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = alone(dir.path(), &store).await;
    let engines = std::slice::from_ref(&engine);
    for epoch in [teas(1, 3), huge(1)] {
        let (mut device, next, _connection) = at_home(engines, 3, 0).await;
        assert_eq!(next, 1);
        device.send(epoch).await;
        assert!(device.acked(3).await.is_empty());
    }
    assert_eq!(retry(&engine).await, (2, 0));
    assert_eq!(listed(&engine).await, BTreeSet::new());
    assert_eq!(level(&engine, 3).await, "90000000000003");
    engine.drain().await.unwrap();
}
