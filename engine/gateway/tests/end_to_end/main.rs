//! The engine as devices and people meet it: over QUIC, and by its answers.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail the test"
)]

mod abuse;
mod cluster;
mod crashes;
mod device;
mod disk;
mod doors;
mod drain;
mod guard;
mod held;
mod hostile;
mod losses;
mod restart;
mod retention;
mod sessions;
mod sharing;
mod sights;
mod snare;
mod submit;
mod trust;

use std::path::Path;
use std::time::{Duration, Instant};

use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_protocol::reply::{Check, Message};
use till_runtime::{Handle, Query, Reply};
use till_storage::query::{StockQuery, TerminalQuery};

use device::{Device, connect, hello, seq, start, tea, teas, terminal};

/// The level of tea in a store, as a person would read it.
pub(crate) async fn level(handle: &std::sync::Arc<Handle>, store: u32) -> String {
    level_of(handle, store, "tea").await
}

/// The level of a SKU.
pub(crate) async fn level_of(handle: &std::sync::Arc<Handle>, store: u32, code: &str) -> String {
    let query = Query::Stock(StockQuery {
        store: StoreId::new(store).unwrap(),
        sku: Some(code.to_owned()),
    });
    let handle = std::sync::Arc::clone(handle);
    let reply = tokio::task::spawn_blocking(move || handle.query(&query).unwrap());
    match reply.await.unwrap() {
        Reply::Stock(answer) => answer
            .rows
            .first()
            .map_or_else(|| "none".to_owned(), |row| row.quantity.clone()),
        other => panic!("{other:?}"),
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// After so long a test gives up. Nothing here takes a tenth of it, but for a machine that others are busy on as well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is the case.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    until_it(what, async || holds()).await;
}

/// As [`until`], for what is asked of an engine.
pub(crate) async fn until_it(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < end, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Streams that were told that there is no room.
fn busy(engine: &Handle) -> u64 {
    let refusals = engine.metrics().refusals;
    let busy = refusals
        .iter()
        .filter(|(reason, _)| *reason == Reason::Busy);
    busy.map(|(_, count)| count).sum()
}

pub(crate) async fn engine(dir: &Path) -> std::sync::Arc<Handle> {
    std::sync::Arc::new(start(dir).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_in_the_answer() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, welcome) = Device::open(&connection, 7, 1, 0).await;
    assert_eq!((welcome.epoch.get(), welcome.next_seq.get()), (1, 1));
    device.send(teas(1, 256)).await;
    device.send(teas(257, 44)).await;
    assert!(device.acked(300).await.is_empty());
    assert_eq!(level(&engine, 7).await, "300");
    let metrics = engine.metrics();
    assert_eq!((metrics.acked, metrics.events.applied), (300, 300));
    assert_eq!(metrics.events.received, 300);
    assert_eq!(metrics.ack.count, 2);
    assert!(engine.health().is_ready(), "{:?}", engine.health());
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_again_takes_effect_once() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    // The whole frame again, and one that overlaps.
    device.send(teas(1, 10)).await;
    device.send(teas(6, 10)).await;
    device.acked(15).await;
    assert_eq!(level(&engine, 7).await, "15");
    let events = engine.metrics().events;
    assert_eq!(
        (events.applied, events.duplicate, events.received),
        (15, 15, 30)
    );
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_asked_for_and_later_frames_wait_for_it() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(11, 5)).await;
    device.send(teas(16, 5)).await;
    match device.next().await {
        Some(Message::Nack(nack)) => assert_eq!(nack.expected, seq(1)),
        other => panic!("{other:?}"),
    }
    device.send(teas(1, 20)).await;
    device.acked(20).await;
    assert_eq!(level(&engine, 7).await, "20");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_event_is_named_and_the_others_count() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let mut odd = tea(2, 1);
    odd.kind = 99;
    let moves = [tea(1, 1), odd, tea(3, 1)];
    device.send(hand_made(1, &moves)).await;
    let refused = device.acked(3).await;
    assert_eq!(refused, [(seq(2), Reason::UnknownKind)]);
    // Bytes that are no archive: every event of the frame is refused, and the stream goes on.
    device
        .send(till_protocol::codec::encode_frame(
            4,
            1,
            2,
            4,
            b"no archive at all",
        ))
        .await;
    let refused = device.acked(5).await;
    assert_eq!(
        refused,
        [(seq(4), Reason::Unreadable), (seq(5), Reason::Unreadable)]
    );
    device.send(teas(6, 1)).await;
    device.acked(6).await;
    assert_eq!(level(&engine, 7).await, "3");
    let events = engine.metrics().events;
    assert_eq!((events.applied, events.refused), (3, 3));
    engine.drain().await.unwrap();
}

// What no builder makes: a frame with an event that breaks a rule.
fn hand_made(first: u64, moves: &[till_protocol::family::stock::v1::Move]) -> bytes::Bytes {
    let mut builder = till_protocol::builder::StockBuilder::new();
    for one in moves {
        let mut plain = *one;
        plain.kind = 1;
        builder.push(&plain, &[], &[]).unwrap();
    }
    let frame = builder.finish_frame(seq(first)).unwrap();
    let mut payload = frame.payload.to_vec();
    for (index, one) in moves.iter().enumerate() {
        // Records stand first, 32 bytes each; the kind follows at, sku, quantity and offset.
        payload[index * 32 + 26] = one.kind;
    }
    till_protocol::codec::encode_frame(4, 1, u32::try_from(moves.len()).unwrap(), first, &payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_of_a_terminal_takes_the_place_of_the_older() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut first, welcome) = Device::open(&connection, 7, 1, 0).await;
    first.send(teas(1, 5)).await;
    first.acked(5).await;
    let (mut second, again) = Device::open(&connection, 7, 1, 1).await;
    assert_eq!(welcome.epoch, again.epoch);
    assert_eq!(again.next_seq, seq(6));
    assert_ne!(again.digest, 0);
    assert_eq!(first.bye().await.reason, Reason::Superseded);
    // What the older one still sends is not taken.
    let _stopped = first.send.write_all(&teas(6, 5)).await;
    second.send(teas(6, 1)).await;
    second.acked(6).await;
    assert_eq!(level(&engine, 7).await, "6");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_learns_which_of_its_events_are_here() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, welcome) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 4)).await;
    device.acked(4).await;
    let mut digests: Vec<u64> = (1..=4).map(|n| digest_of(&tea(n, 1))).collect();
    digests[2] ^= 1;
    let check = Check {
        epoch: welcome.epoch,
        first_seq: seq(1),
        digests,
    };
    device.send(check.encode()).await;
    match device.next().await {
        Some(Message::Checked(checked)) => {
            assert_eq!((checked.matched, checked.known), (2, 4));
        }
        other => panic!("{other:?}"),
    }
    // A new epoch closes the old one.
    let (mut next, welcome) = Device::open(&connection, 7, 1, 0).await;
    assert_eq!(welcome.epoch.get(), 2);
    next.send(teas(1, 1)).await;
    next.acked(1).await;
    let (_, old) = Device::open(&connection, 7, 1, 1).await;
    assert!(old.is_closed());
    engine.drain().await.unwrap();
}

fn digest_of(one: &till_protocol::family::stock::v1::Move) -> u64 {
    till_protocol::digest::stock_digest(one)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_keeps_the_zone_that_it_was_registered_with() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let mut first = hello(terminal(9, 1), 0);
    first.zone = "Europe/Vienna".to_owned();
    let mut device = Device::raw(&connection).await;
    device.send(first.encode()).await;
    assert!(matches!(device.next().await, Some(Message::Welcome(_))));
    let mut second = hello(terminal(9, 2), 0);
    second.zone = "Asia/Tokyo".to_owned();
    let mut device = Device::raw(&connection).await;
    device.send(second.encode()).await;
    assert_eq!(device.bye().await.reason, Reason::ZoneMismatch);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_finishes_what_was_sent_and_says_goodbye() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 100)).await;
    device.acked(100).await;
    let draining = tokio::spawn({
        let engine = std::sync::Arc::clone(&engine);
        async move { engine.drain().await }
    });
    assert_eq!(device.bye().await.reason, Reason::Draining);
    draining.await.unwrap().unwrap();
    // A second one has nothing to do.
    engine.drain().await.unwrap();
    drop(engine);
    let again = start(dir.path()).await;
    let report = again.report();
    assert!(report.closed_cleanly && report.cut.is_none() && report.rebuilt.is_none());
    assert_eq!(report.replayed, 0);
    again.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_tell_how_far_they_have_come() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 3, 0).await;
    device.send(teas(1, 12)).await;
    device.acked(12).await;
    let asked = std::sync::Arc::clone(&engine);
    let reply = tokio::task::spawn_blocking(move || {
        let query = TerminalQuery {
            store: StoreId::new(7).unwrap(),
            terminal: None,
        };
        asked.query(&Query::Terminal(query)).unwrap()
    });
    let Reply::Terminal(answer) = reply.await.unwrap() else {
        panic!("another answer");
    };
    assert_eq!(answer.rows.len(), 1);
    assert_eq!(answer.rows[0].epochs[0].next_seq, 13);
    engine.drain().await.unwrap();
}
