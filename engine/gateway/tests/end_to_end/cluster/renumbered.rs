//! A device that was put back from an image sends events under new numbers, while their first ones lie at an engine that is
//! down.

use bytes::Bytes;
use till_core::{Record, RecordHead};
use till_protocol::builder::{StockBuilder, TextView};
use till_storage::cluster::{Handover, SharedStore as _};

use super::*;
use crate::device::frame;
use crate::submit::{dead, submitted};

/// What was event `from` and those behind it, under numbers from 1 on.
pub(super) fn renumbered(from: u64, count: u64, quantity: i64) -> Bytes {
    let mut builder = StockBuilder::new();
    for number in from..from + count {
        let named = TextView {
            item: till_protocol::family::WHOLE_EVENT,
            kind: till_protocol::family::text::SKU_CODE,
            text: "tea",
        };
        builder.push(&tea(number, quantity), &[], &[named]).unwrap();
    }
    builder.finish(seq(1)).unwrap()
}

/// The device as it was before event 16 left its outbox; since then it has made five more.
async fn restored(engines: &[Arc<Handle>]) {
    let (mut device, next, _connection) = at_home(engines, 3, 0).await;
    assert_eq!(next, 1);
    device.send(renumbered(16, 25, 1)).await;
    assert!(device.acked(25).await.is_empty());
}

async fn all_taken_in(store: &Arc<MemoryCluster>) {
    let waiting = Arc::clone(store);
    until("everything is taken in", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_have_new_numbers_by_then_count_once_when_the_engine_of_the_old_ones_is_back() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    restored(std::slice::from_ref(&other)).await;
    assert_eq!(level(&other, 3).await, "35");
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "40");
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "40");
    other.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_taken_in_count_once_when_their_device_sends_them_under_new_numbers() {
    let dirs = [folder(), folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "35");
    // Whoever serves the store next has rows alone.
    other.drain().await.unwrap();
    let last = alone(dirs[2].path(), &store).await;
    restored(std::slice::from_ref(&last)).await;
    assert_eq!(level(&last, 3).await, "40");
    last.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_ended_that_has_not_sent_what_is_taken_in_under_its_numbers() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = node(dirs[1].path(), &store).await;
    let engines = std::slice::from_ref(&other);
    share(engines).await;
    let (mut device, next, _connection) = at_home(engines, 3, 1).await;
    assert_eq!(next, 11);
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    // What it might have made since then would pass for what was taken in.
    assert_eq!(device.bye().await.reason, Reason::Moved);
    let (mut device, next, _connection) = at_home(engines, 3, 1).await;
    assert_eq!(next, 36);
    // Whoever goes on behind that is let go on.
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    device.send(teas(36, 1)).await;
    assert!(device.acked(36).await.is_empty());
    assert_eq!(level(&other, 3).await, "36");
    other.drain().await.unwrap();
}

/// Two devices, or two branches of one, under one life: none of their events are taken for the others'.
#[tokio::test(flavor = "multi_thread")]
async fn different_events_under_the_same_numbers_all_count_once() {
    let dirs = [folder(), folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = node(dirs[1].path(), &store).await;
    let engines = std::slice::from_ref(&other);
    share(engines).await;
    // Another device goes on where the store knows the terminal to be.
    let (mut device, next, _connection) = at_home(engines, 3, 1).await;
    assert_eq!(next, 11);
    device.send(frame(11, 2, 7)).await;
    device.acked(12).await;
    for _ in 0..2 {
        assert!(submitted(&store, dirs[0].path()) > 0);
        all_taken_in(&store).await;
        assert_eq!(level(&other, 3).await, "49");
    }
    other.drain().await.unwrap();
    // Whoever does not remember what it has done with them does the same.
    let last = node(dirs[2].path(), &store).await;
    let engines = std::slice::from_ref(&last);
    share(engines).await;
    assert!(submitted(&store, dirs[0].path()) > 0);
    all_taken_in(&store).await;
    assert_eq!(level(&last, 3).await, "49");
    // The device of the dead engine is back, finds others under its numbers, and has five more.
    restored(engines).await;
    assert_eq!(level(&last, 3).await, "54");
    last.drain().await.unwrap();
}

/// An engine where the terminal of the dead one has four events under its first numbers, and the piece of what the dead engine
/// had, which it was not given.
async fn others_here(dirs: [&Path; 2], store: &Arc<MemoryCluster>) -> (Arc<Handle>, Handover) {
    let lost = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0], &lost).await;
    assert!(submitted(&lost, dirs[0]) > 0);
    let other = alone(dirs[1], store).await;
    send(std::slice::from_ref(&other), 3, 1, 4).await;
    let waiting = lost.waiting().unwrap();
    let [(slot, from, number)] = waiting[..] else {
        panic!("{waiting:?}")
    };
    let piece = lost.handed_over(slot, from, number).unwrap().unwrap();
    (other, piece)
}

/// A record with two events of a frame, from a number of a life on.
fn record(like: &Record, (epoch, first_seq): (u32, u64), events: &Bytes) -> Record {
    Record {
        head: RecordHead {
            epoch,
            first_seq,
            count: 2,
            skip: 0,
            ..like.head
        },
        payload: events.slice(32..),
        verdicts: Vec::new(),
    }
}

/// What was journalled before them is gone for good.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_others_that_never_come_are_taken_in_after_a_while() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut piece) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    piece.records.retain(|record| record.head.first_seq > 10);
    store.hand_over(&piece).unwrap();
    let told = Arc::clone(&other);
    until("it is said that records wait", || {
        let problems = told.metrics().problems;
        problems.iter().any(|one| one.text.contains("are missing"))
    })
    .await;
    assert_eq!(level(&other, 3).await, "4");
    let began = Instant::now();
    while !store.waiting().unwrap().is_empty() {
        assert!(began.elapsed() < Duration::from_secs(120));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(level(&other, 3).await, "29");
    other.drain().await.unwrap();
}

/// What a device sent in its next life, which the engine that takes in what it sent before may take for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_follows_in_the_same_piece_is_not_taken_for_the_one_aside() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut piece) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    let like = piece.records.last().unwrap().clone();
    piece.records = vec![
        record(&like, (1, 1), &frame(101, 2, 10)),
        record(&like, (2, 1), &frame(201, 2, 100)),
    ];
    store.hand_over(&piece).unwrap();
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "224");
    other.drain().await.unwrap();
}

/// Two pieces that came in within the tick of a coarse clock say the same, in two frames of one life.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_branch_that_say_the_same_all_count() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut piece) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    let like = piece.records.last().unwrap().clone();
    piece.records = vec![
        record(&like, (1, 1), &frame(101, 2, 10)),
        record(&like, (1, 3), &frame(102, 2, 10)),
    ];
    store.hand_over(&piece).unwrap();
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "44");
    other.drain().await.unwrap();
}
