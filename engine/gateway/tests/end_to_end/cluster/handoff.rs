//! What an engine had journalled and not committed is handed off: it is a resend.

use bytes::Bytes;
use till_core::{Record, RecordHead};
use till_protocol::builder::{StockBuilder, TextView};
use till_storage::cluster::{Handover, SharedStore as _};

use super::*;
use crate::device::frame;
use crate::submit::{dead, submitted};

async fn all_taken_in(store: &Arc<MemoryCluster>) {
    let waiting = Arc::clone(store);
    until("everything is taken in", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_handed_off_counts_once_however_often_and_whoever_sent_it_meanwhile() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    // Its device has sent some of it again.
    send(std::slice::from_ref(&other), 3, 1, 20).await;
    assert_eq!(level(&other, 3).await, "20");
    for _ in 0..2 {
        assert!(submitted(&store, dirs[0].path()) > 0);
        all_taken_in(&store).await;
        assert_eq!(level(&other, 3).await, "35");
    }
    assert_eq!(other.stranded(), 0);
    other.drain().await.unwrap();
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

async fn stranded(engine: &Arc<Handle>, records: u64) {
    let told = Arc::clone(engine);
    let began = Instant::now();
    while told.stranded() != records {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{}",
            told.stranded()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What was journalled before them comes from its device.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_gap_wait_until_it_fills() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut piece) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    piece.records.retain(|record| record.head.first_seq > 10);
    store.hand_over(&piece).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (level(&other, 3).await.as_str(), other.stranded()),
        ("4", 0)
    );
    send(std::slice::from_ref(&other), 3, 1, 10).await;
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "35");
    other.drain().await.unwrap();
}

/// What was journalled before them does not come for long.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_gap_that_does_not_fill_are_stranded_and_resolve_themselves() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut piece) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    piece.records.retain(|record| record.head.first_seq > 10);
    let records = u64::try_from(piece.records.len()).unwrap();
    store.hand_over(&piece).unwrap();
    stranded(&other, records).await;
    assert_eq!(level(&other, 3).await, "4");
    send(std::slice::from_ref(&other), 3, 1, 10).await;
    stranded(&other, 0).await;
    assert!(store.waiting().unwrap().is_empty());
    assert_eq!(level(&other, 3).await, "35");
    other.drain().await.unwrap();
}
