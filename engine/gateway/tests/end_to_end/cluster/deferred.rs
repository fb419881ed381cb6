//! Frames that need rows of a store that does not answer.

use bytes::Bytes;
use till_protocol::builder::{StockBuilder, TextView};
use till_protocol::family::stock::v1::Move;
use till_protocol::id::SkuId;
use till_storage::cluster::SharedStore as _;

use super::*;
use crate::device::frame;

/// A frame in which one piece of these goods comes in with each event.
pub(super) fn goods(code: &str, first: u64, count: u64) -> Bytes {
    let mut builder = StockBuilder::new();
    for number in first..first + count {
        let named = TextView {
            item: till_protocol::family::WHOLE_EVENT,
            kind: till_protocol::family::text::SKU_CODE,
            text: code,
        };
        let movement = Move {
            sku: SkuId::of_code(code).get(),
            ..tea(number, 1)
        };
        builder.push(&movement, &[], &[named]).unwrap();
    }
    builder.finish(seq(first)).unwrap()
}

/// An engine that has committed ten pieces of tea, and has lost its store; forty pieces more, and more goods, are journalled.
async fn deferring(dir: &Path, store: &Arc<MemoryCluster>) -> (Arc<Handle>, Device, Connection) {
    let engine = alone(dir, store).await;
    let (mut device, _, connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    store.set_away(true);
    // In an order in which what could be decided comes behind what cannot.
    for frame in [
        goods("milk", 11, 10),
        teas(21, 10),
        goods("bread", 31, 10),
        goods("milk", 41, 10),
    ] {
        device.send(frame).await;
    }
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed.is_none_or(|seq| seq.get() <= 10), "{ack:?}");
                if ack.journalled == Some(seq(50)) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    (engine, device, connection)
}

async fn levels(engine: &Arc<Handle>) -> [String; 3] {
    let of_one = |code| level_of(engine, 3, code);
    [
        of_one("tea").await,
        of_one("milk").await,
        of_one("bread").await,
    ]
}

async fn come_to(engine: &Arc<Handle>, wanted: [&str; 3]) {
    let began = Instant::now();
    while levels(engine).await != wanted {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            levels(engine).await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_need_rows_are_taken_in_while_the_shared_store_is_away() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, mut device, _connection) = deferring(dir.path(), &store).await;
    // A gap is a gap also now, and what is known is known.
    device.send(teas(61, 10)).await;
    assert!(matches!(device.next().await, Some(Message::Nack(nack)) if nack.expected == seq(51)));
    device.send(teas(41, 20)).await;
    while !matches!(device.next().await, Some(Message::Ack(ack)) if ack.journalled == Some(seq(60)))
    {
    }
    store.set_away(false);
    assert!(device.acked(60).await.is_empty());
    assert_eq!(levels(&engine).await, ["30", "20", "10"]);
    // From here on frames are decided as they come.
    device.send(goods("bread", 61, 10)).await;
    assert!(device.acked(70).await.is_empty());
    assert_eq!(levels(&engine).await, ["30", "20", "20"]);
    engine.drain().await.unwrap();
}

fn undecided(engine: &Handle) -> till_runtime::Check {
    let mut checks = engine.health().checks.into_iter();
    checks.find(|check| check.name == "undecided").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_defers_says_so_and_how_old_the_oldest_of_it_is() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, mut device, _connection) = deferring(dir.path(), &store).await;
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let waited = began.elapsed();
    assert_eq!(engine.frames_undecided(), 4);
    let told = undecided(&engine);
    // What makes it not ready is that the store is away, not what waits for it.
    assert!(told.ok && !engine.health().is_ready(), "{told:?}");
    assert!(
        told.reason.contains("4 frames were journalled undecided"),
        "{told:?}"
    );
    // Flushes that go on meanwhile do not make them younger. Ages are counted in steps.
    let behind = Duration::from_micros(engine.metrics().flush.behind_us);
    assert!(behind * 2 >= waited, "{behind:?} after {waited:?}");

    store.set_away(false);
    assert!(device.acked(50).await.is_empty());
    let began = Instant::now();
    while engine.frames_undecided() > 0 || engine.metrics().flush.behind_us > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            undecided(&engine)
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(
        undecided(&engine).reason.starts_with("every frame"),
        "{:?}",
        undecided(&engine)
    );
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_nobody_could_decide_count_once_after_a_crash() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, device, connection) = deferring(dir.path(), &store).await;
    drop((device, connection));
    engine.kill().await.unwrap();
    drop(engine);
    store.set_away(false);
    let again = alone(dir.path(), &store).await;
    come_to(&again, ["20", "20", "10"]).await;
    // Not once more with the next commits.
    send(std::slice::from_ref(&again), 3, 0, 5).await;
    assert_eq!(levels(&again).await, ["25", "20", "10"]);
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_not_decided_go_with_their_slots() {
    let (one, other) = (folder(), folder());
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, device, connection) = deferring(one.path(), &store).await;
    drop((device, connection));
    store.set_away(false);
    // The slots may leave before anything is decided: half of them do, and all with the drain.
    let second = node(other.path(), &store).await;
    engine.drain().await.unwrap();
    // What was not decided by then waits in the store, and is not said to be in the rows.
    let left = engine.left_over();
    let is_told = left.handed_over > 0 || left.in_journal;
    assert!(is_told || engine.frames_undecided() == 0, "{left:?}");
    drop(engine);
    share(std::slice::from_ref(&second)).await;
    come_to(&second, ["20", "20", "10"]).await;
    second.drain().await.unwrap();
}

async fn waits(engine: &Arc<Handle>) {
    let told = Arc::clone(engine);
    until("it is said that records wait", || {
        let problems = told.metrics().problems;
        let mut words = problems.iter().map(|one| &one.text);
        words.any(|text| text.contains("is not registered"))
    })
    .await;
}

// What a device sends whose frames cannot be decided, and comes to be decided all the same.
async fn decides_again(engine: &Arc<Handle>, way: &MemoryCluster) {
    let (mut device, _, _connection) = at_home(std::slice::from_ref(engine), 4, 1).await;
    way.set_away(true);
    device.send(goods("bread", 1, 10)).await;
    while !matches!(device.next().await, Some(Message::Ack(ack)) if ack.journalled == Some(seq(10)))
    {
    }
    way.set_away(false);
    assert!(device.acked(10).await.is_empty());
    device.send(goods("milk", 11, 10)).await;
    assert!(device.acked(20).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_engine_left_before_and_nobody_can_take_in_keeps_no_frame_undecided() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let lost = Arc::new(MemoryCluster::new(SLOTS));
    submit::dead(dirs[0].path(), &lost).await;
    assert!(submit::submitted(&lost, dirs[0].path()) > 0);
    let engine = alone(dirs[1].path(), &store).await;
    // Events of a store that nobody has registered here.
    for (slot, from, number) in lost.waiting().unwrap() {
        let mut piece = lost.handed_over(slot, from, number).unwrap().unwrap();
        let is_of_events =
            |record: &till_core::Record| record.head.kind == till_core::RecordKind::Batch;
        piece.records.retain(is_of_events);
        store.hand_over(&piece).unwrap();
    }
    waits(&engine).await;
    decides_again(&engine, &store).await;
    assert!(!store.waiting().unwrap().is_empty());
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_frame_without_a_place_in_its_life_counts_and_is_never_said_to_be_committed() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    submit::dead(dirs[0].path(), &store).await;
    let way = Arc::new(store.another_way());
    let engine = node(dirs[1].path(), &way).await;
    share(std::slice::from_ref(&engine)).await;
    // An image of the device has other events under the numbers that the dead engine has.
    let (mut device, next, _connection) = at_home(std::slice::from_ref(&engine), 3, 1).await;
    assert_eq!(next, 11);
    way.set_away(true);
    device.send(frame(11, 10, 7)).await;
    while !matches!(device.next().await, Some(Message::Ack(ack)) if ack.journalled == Some(seq(20)))
    {
    }
    assert!(submit::submitted(&store, dirs[0].path()) > 0);
    way.set_away(false);
    // It hears that it has to come again, and of no commit.
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed.is_none_or(|upto| upto.get() <= 10), "{ack:?}");
            }
            Some(Message::Bye(_)) | None => break,
            Some(_) => {}
        }
    }
    let waiting = Arc::clone(&store);
    until("everything is taken in", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
    assert_eq!(level_of(&engine, 3, "tea").await, "105");
    decides_again(&engine, &way).await;
    // It says them again in a life of its own.
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    device.send(renumbered::renumbered(11, 10, 7)).await;
    assert!(device.acked(10).await.is_empty());
    assert_eq!(level_of(&engine, 3, "tea").await, "105");
    engine.drain().await.unwrap();
}
