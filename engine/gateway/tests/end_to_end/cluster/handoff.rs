//! What an engine had journalled and not committed is handed off: it is a resend.

use bytes::Bytes;
use till_core::{Record, RecordHead};
use till_protocol::builder::{StockBuilder, TextView, event_id};
use till_protocol::id::EventId;
use till_storage::cluster::{Handoff, SharedStore as _};

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
async fn a_session_is_ended_that_has_not_sent_what_is_replayed_under_its_numbers() {
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
    // What it might have made since then would pass for what was replayed.
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

/// An engine where the terminal of the dead one has four events under its first numbers, and the chunk of what the dead engine
/// had, which it was not given.
async fn others_here(dirs: [&Path; 2], store: &Arc<MemoryCluster>) -> (Arc<Handle>, Handoff) {
    let lost = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0], &lost).await;
    assert!(submitted(&lost, dirs[0]) > 0);
    let other = alone(dirs[1], store).await;
    send(std::slice::from_ref(&other), 3, 1, 4).await;
    let waiting = lost.waiting().unwrap();
    let [(slot, from, number)] = waiting[..] else {
        panic!("{waiting:?}")
    };
    let chunk = lost.handed_off(slot, from, number).unwrap().unwrap();
    (other, chunk)
}

/// A record with two events of a frame, from a number of an epoch on.
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
    until("so many records are stranded", || {
        told.stranded() == records
    })
    .await;
}

/// The device sends what lies before the gap's end. What waits behind it may be taken in before the ack is on its way, and ends
/// the session: the device has to come again.
async fn fill(engine: &Arc<Handle>) {
    let (mut device, next, _connection) = at_home(std::slice::from_ref(engine), 3, 1).await;
    assert_eq!(next, 5);
    device.send(teas(5, 6)).await;
    match device.next().await {
        Some(Message::Ack(ack)) => assert_eq!(ack.refusals, []),
        Some(Message::Bye(bye)) => assert_eq!(bye.reason, Reason::Moved),
        other => panic!("{other:?}"),
    }
}

/// What was journalled before them comes from its device.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_gap_wait_until_it_fills() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut chunk) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    chunk.records.retain(|record| record.head.first_seq > 10);
    store.hand_off(&chunk).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        (level(&other, 3).await.as_str(), other.stranded()),
        ("4", 0)
    );
    fill(&other).await;
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "35");
    other.drain().await.unwrap();
}

/// What was journalled before them does not come for long.
#[tokio::test(flavor = "multi_thread")]
async fn events_behind_a_gap_that_does_not_fill_are_stranded_and_resolve_themselves() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, mut chunk) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    chunk.records.retain(|record| record.head.first_seq > 10);
    let records = u64::try_from(chunk.records.len()).unwrap();
    store.hand_off(&chunk).unwrap();
    stranded(&other, records).await;
    assert_eq!(level(&other, 3).await, "4");
    fill(&other).await;
    stranded(&other, 0).await;
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "35");
    other.drain().await.unwrap();
}

async fn listed(engine: &Arc<Handle>) -> Vec<till_runtime::Stranded> {
    let asked = Arc::clone(engine);
    let listed = tokio::task::spawn_blocking(move || asked.list_stranded());
    listed.await.unwrap().unwrap()
}

async fn release(engine: &Arc<Handle>, record: &str) -> Result<u32, String> {
    let (asked, record) = (Arc::clone(engine), record.parse().unwrap());
    let released = tokio::task::spawn_blocking(move || asked.release_stranded(&record));
    released.await.unwrap().map_err(|error| error.to_string())
}

/// Two devices, or two branches of one, under one epoch: none of their events are taken for the others'.
#[tokio::test(flavor = "multi_thread")]
async fn other_events_under_the_same_numbers_are_stranded_and_released_once() {
    let dirs = [folder(), folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    let engines = std::slice::from_ref(&other);
    // Another device goes on where the store knows the terminal to be.
    let (mut device, next, _connection) = at_home(engines, 3, 1).await;
    assert_eq!(next, 11);
    device.send(frame(11, 2, 7)).await;
    device.acked(12).await;
    assert!(submitted(&store, dirs[0].path()) > 0);
    stranded(&other, 1).await;
    assert_eq!(level(&other, 3).await, "24");
    // It says what it collides with.
    let found = listed(&other).await;
    let [one] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((one.epoch, one.first_seq, one.last_seq), (1, 11, 35));
    assert_eq!(one.why, "another event is here under its number 11");
    let first = |events: &[till_runtime::Shown]| (events[0].seq, events[0].kind, events[0].amount);
    assert_eq!(first(&one.events), (11, "stock", 100_000));
    assert_eq!(first(&one.here), (11, "stock", 700_000));
    // Released, it counts once, whoever asks how often, and whoever asks after a takeover.
    let epoch = release(&other, &one.record).await.unwrap();
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "49");
    let again = release(&other, &one.record).await.unwrap_err();
    assert!(again.contains("taken in before"), "{again}");
    // No device is granted the epoch.
    let (_, welcome, _connection) = established(engines, 3, 0).await;
    assert!(welcome.epoch.get() > epoch, "{welcome:?}");
    other.drain().await.unwrap();
    let last = alone(dirs[2].path(), &store).await;
    assert_eq!(level(&last, 3).await, "49");
    assert_eq!(listed(&last).await, []);
    last.drain().await.unwrap();
}

/// The engine dies after the epoch of a release is fixed, and after what it released was applied.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_an_engine_does_not_live_to_finish_is_finished_by_the_next_one() {
    let dirs = [folder(), folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, chunk) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    let mut chunk = chunk;
    let like = chunk.records.last().unwrap().clone();
    chunk.records = vec![
        record(&like, (1, 1), &frame(101, 2, 10)),
        record(&like, (1, 5), &frame(105, 2, 100)),
    ];
    store.hand_off(&chunk).unwrap();
    // What lies behind it is of the same branch: it does not go on behind the other one.
    stranded(&other, 2).await;
    assert_eq!(level(&other, 3).await, "4");
    let found = listed(&other).await;
    let id: till_storage::cluster::InboxId = found[0].record.parse().unwrap();
    // The command's last word before it died, and one that comes again with another wish.
    assert_eq!(store.release(&id, Some(2)).unwrap(), Some(2));
    assert_eq!(store.release(&id, Some(9)).unwrap(), Some(2));
    other.kill().await.unwrap();
    drop(other);
    let last = alone(dirs[2].path(), &store).await;
    // Nothing collides any more, and what lay behind it has its place.
    all_taken_in(&store).await;
    assert_eq!(level(&last, 3).await, "224");
    // As if nobody had taken it away: everything of it is known.
    store.hand_off(&chunk).unwrap();
    all_taken_in(&store).await;
    assert_eq!(level(&last, 3).await, "224");
    last.drain().await.unwrap();
}

/// An ingress that has no outbox sends to another engine what it does not know to be journalled.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_with_an_id_counts_once_over_two_engines() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (other, chunk) = others_here([dirs[0].path(), dirs[1].path()], &store).await;
    let sent = with_id(1, 9);
    let like = chunk.records.last().unwrap().clone();
    let mut handed_off = record(&like, (1, 5), &with_id(5, 9));
    handed_off.head.count = 1;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&other), 3, 0).await;
    device.send(sent).await;
    assert!(device.acked(1).await.is_empty());
    assert_eq!(level(&other, 3).await, "13");
    let chunk = Handoff {
        records: vec![handed_off],
        ..chunk
    };
    store.hand_off(&chunk).unwrap();
    all_taken_in(&store).await;
    assert_eq!(level(&other, 3).await, "13");
    other.drain().await.unwrap();
}

/// Pieces of tea under an event id.
fn with_id(first: u64, quantity: i64) -> Bytes {
    let mut builder = StockBuilder::new();
    let named = TextView {
        item: till_protocol::family::WHOLE_EVENT,
        kind: till_protocol::family::text::SKU_CODE,
        text: "tea",
    };
    let id = event_id(EventId::from_bytes([7; 16]));
    builder.push(&tea(77, quantity), &[id], &[named]).unwrap();
    builder.finish(seq(first)).unwrap()
}
