//! A shard that fails: what was acknowledged stays, what was queued comes again, and everyone else goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use till_core::Counters;
use till_gateway::StartError;
use till_protocol::builder::{StockBuilder, TextView};
use till_protocol::code::Reason;
use till_protocol::family::{WHOLE_EVENT, text};
use till_protocol::id::{SkuId, TerminalId};
use till_protocol::reply::Message;
use till_runtime::{Config, FlushError, Handle, Parts};

use crate::device::{Device, connect, hello, seq, tea, teas, terminal};
use crate::snare::{SNARED, Snare};
use crate::{folder, level, until};

// Where stores live when there are two shards. Each test sees it in the figures of the shards.
const HERE: u64 = 7;
const ALSO_HERE: u64 = 10;
const CROSS_EPOCH: u64 = 8;
/// Falls within a minute at which a shard is parked.
const CRASHES_MAX: u32 = 8;

async fn start(dir: &Path, snare: &Arc<Snare>) -> Result<Arc<Handle>, StartError> {
    start_with(dir, snare, |_| {}).await
}

async fn start_with(
    dir: &Path,
    snare: &Arc<Snare>,
    change: impl FnOnce(&mut Config),
) -> Result<Arc<Handle>, StartError> {
    let mut config = Config::dev(dir);
    config.shards = 2;
    // Rows are written when a test asks for it.
    config.flush_interval = Duration::from_secs(60);
    config.drain_timeout = Duration::from_secs(1);
    change(&mut config);
    let parts = Parts {
        views: Some(snare.views()),
        ..Parts::default()
    };
    Ok(Arc::new(till_gateway::start_with(config, parts).await?))
}

/// A frame of one event that crashes its shard while the snare is set.
fn snared(number: u64) -> Bytes {
    let mut builder = StockBuilder::new();
    let mut one = tea(number, 1);
    one.sku = SkuId::of_code(SNARED).get();
    let named = TextView {
        item: WHOLE_EVENT,
        kind: text::SKU_CODE,
        text: SNARED,
    };
    builder.push(&one, &[], &[named]).unwrap();
    builder.finish(seq(number)).unwrap()
}

/// Fells the first shard `times` times by as many terminals, each of which comes once.
async fn crashed(engine: &Handle, snare: &Snare, times: u32) {
    let connection = connect(engine).await;
    let before = snare.caught.load(SeqCst);
    snare.store.store(u32::try_from(ALSO_HERE).unwrap(), SeqCst);
    for till in 1.. {
        until("the shard runs", || engine.metrics().shards[0].is_running).await;
        let mut device = Device::raw(&connection).await;
        device
            .send(hello(terminal(ALSO_HERE, till), 1).encode())
            .await;
        // One that comes just after a fall is told the same and fells nothing.
        assert_eq!(device.bye().await.reason, Reason::Internal);
        if snare.caught.load(SeqCst) - before >= times {
            break;
        }
    }
    snare.store.store(0, SeqCst);
}

async fn flushed(engine: &Arc<Handle>) -> tokio::task::JoinHandle<Result<u64, FlushError>> {
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || engine.flush_now())
}

fn add_up(events: &Counters) {
    let outcomes = events.applied + events.duplicate + events.refused + events.quarantined;
    assert_eq!(events.received, outcomes);
}

/// Says Hello until the shard is there again and answers.
async fn again(
    engine: &Handle,
    connection: &quinn::Connection,
    store: u64,
    till: u64,
) -> (Device, u64) {
    loop {
        until("the shards run", || {
            engine.metrics().shards.iter().all(|shard| shard.is_running)
        })
        .await;
        let mut device = Device::raw(connection).await;
        device.send(hello(terminal(store, till), 1).encode()).await;
        match device.next().await {
            Some(Message::Welcome(welcome)) => return (device, welcome.next_seq.get()),
            Some(Message::Bye(bye)) if bye.reason == Reason::Internal => {}
            other => panic!("no welcome: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_crashes_its_shard_again_keeps_its_terminal_out_and_nobody_else() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut bad, _) = Device::open(&connection, HERE, 1, 0).await;
    let (mut neighbour, _) = Device::open(&connection, HERE, 2, 0).await;
    let (mut other, _) = Device::open(&connection, CROSS_EPOCH, 1, 0).await;
    let shards = engine.metrics().shards;
    assert_eq!([shards[0].sessions, shards[1].sessions], [2, 1]);
    for device in [&mut bad, &mut neighbour, &mut other] {
        device.send(teas(1, 5)).await;
        device.acked(5).await;
    }
    snare.frames.store(true, SeqCst);
    snare.held.store(true, SeqCst);
    bad.send(snared(6)).await;
    // Frames that wait behind it go down with the shard.
    for number in 7..=16 {
        bad.send(teas(number, 1)).await;
    }
    until("the frames are in the mailbox", || {
        engine.metrics().shards[0].permits_used == 11
    })
    .await;
    snare.held.store(false, SeqCst);
    assert_eq!(bad.bye().await.reason, Reason::Internal);
    assert_eq!(neighbour.bye().await.reason, Reason::Internal);
    until("every permit is back", || {
        engine.metrics().shards[0].permits_used == 0
    })
    .await;
    // Nothing is known of the frame, so that it comes again.
    let (mut bad, next) = again(&engine, &connection, HERE, 1).await;
    assert_eq!(next, 6);
    let (mut neighbour, next) = again(&engine, &connection, HERE, 2).await;
    assert_eq!(next, 6);
    neighbour.send(teas(6, 5)).await;
    neighbour.acked(10).await;
    bad.send(snared(6)).await;
    assert_eq!(bad.bye().await.reason, Reason::Internal);
    assert_eq!(neighbour.bye().await.reason, Reason::Internal);
    let (mut neighbour, next) = again(&engine, &connection, HERE, 2).await;
    assert_eq!(next, 11);
    // A third time it is not let in, whatever it would send.
    let mut bad = Device::raw(&connection).await;
    bad.send(hello(terminal(HERE, 1), 1).encode()).await;
    let bye = bad.bye().await;
    assert_eq!(bye.reason, Reason::TerminalParked, "{bye:?}");
    assert!(bye.text.contains("from event 6 on") && bye.text.contains("is a snare"));
    neighbour.send(teas(11, 5)).await;
    neighbour.acked(15).await;
    other.send(teas(6, 5)).await;
    other.acked(10).await;
    assert!(flushed(&engine).await.await.unwrap().is_ok());
    let metrics = engine.metrics();
    add_up(&metrics.events);
    assert_eq!((metrics.events.applied, metrics.acked), (30, 30));
    assert_eq!(metrics.shards[0].parked_terminals, [terminal(HERE, 1)]);
    is_told(&engine, terminal(HERE, 1));
    engine.drain().await.unwrap();
    // A start of the engine lets it in again, with everything that it kept.
    snare.frames.store(false, SeqCst);
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut bad, next) = again(&engine, &connection, HERE, 1).await;
    assert_eq!(next, 6);
    bad.send(snared(6)).await;
    bad.send(teas(7, 10)).await;
    bad.acked(16).await;
    assert_eq!(level(&engine, 7).await, "30");
    engine.drain().await.unwrap();
}

// Health and problems name a terminal that is kept out, and the engine stays ready.
fn is_told(engine: &Handle, kept_out: TerminalId) {
    let health = engine.health();
    assert!(health.is_ready(), "one till is no reason: {health:?}");
    let told = health.checks.iter().find(|check| check.name == "terminals");
    let name = kept_out.to_string();
    assert!(told.is_some_and(|check| check.reason.contains(&name) && !check.hint.is_empty()));
    let problems = engine.metrics().problems;
    assert!(problems.iter().any(|p| p.text.contains(&name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_goes_down_with_its_shard_is_answered() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut bad, _) = Device::open(&connection, HERE, 1, 0).await;
    snare.frames.store(true, SeqCst);
    snare.held.store(true, SeqCst);
    bad.send(snared(1)).await;
    // Streams are read in any order: a Hello before the frame would be answered.
    until("the shard is at the frame", || {
        snare.caught.load(SeqCst) > 0
    })
    .await;
    let mut late = Device::raw(&connection).await;
    late.send(hello(terminal(HERE, 2), 0).encode()).await;
    until("the Hello is in the mailbox", || {
        engine.metrics().shards[0].permits_used == 2
    })
    .await;
    snare.held.store(false, SeqCst);
    assert_eq!(late.bye().await.reason, Reason::Internal);
    let (_late, next) = again(&engine, &connection, HERE, 2).await;
    assert_eq!(next, 1);
    engine.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_parked_in_a_round_of_the_flush_does_not_stop_it() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut other, _) = Device::open(&connection, CROSS_EPOCH, 1, 0).await;
    other.send(teas(1, 5)).await;
    other.acked(5).await;
    crashed(&engine, &snare, CRASHES_MAX - 1).await;
    let (mut bad, _) = again(&engine, &connection, HERE, 1).await;
    snare.frames.store(true, SeqCst);
    snare.held.store(true, SeqCst);
    let caught = snare.caught.load(SeqCst);
    bad.send(snared(1)).await;
    until("the shard is at the frame", || {
        snare.caught.load(SeqCst) > caught
    })
    .await;
    // The round asks one shard after the other: when the second has told its figures, the first one's message waits.
    let round = flushed(&engine).await;
    until("the other shard takes part", || {
        engine.metrics().shards[1].events.applied == 5
    })
    .await;
    snare.held.store(false, SeqCst);
    assert_eq!(bad.bye().await.reason, Reason::Internal);
    until("the shard is parked", || {
        engine.metrics().shards[0].is_parked
    })
    .await;
    assert_eq!(round.await.unwrap(), Err(FlushError::Parked));
    other.send(teas(6, 5)).await;
    other.acked(10).await;
    assert_eq!(level(&engine, 8).await, "10");
    assert!(engine.metrics().shards[1].is_running && !engine.health().is_ready());
    engine.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_is_parked_while_devices_are_held_back_lets_them_go() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let started = start_with(dir.path(), &snare, |config| config.dirty_rows_max = 2);
    let engine = started.await.unwrap();
    let connection = connect(&engine).await;
    crashed(&engine, &snare, CRASHES_MAX - 1).await;
    let (mut waiting, _) = again(&engine, &connection, HERE, 1).await;
    // Its rows are more than may wait: what it sends next is held back.
    waiting.send(teas(1, 5)).await;
    waiting.acked(5).await;
    waiting.send(teas(6, 5)).await;
    until("the device waits", || {
        engine.metrics().shards[0].permits_waited == 1
    })
    .await;
    snare.store.store(u32::try_from(ALSO_HERE).unwrap(), SeqCst);
    let mut last = Device::raw(&connection).await;
    last.send(hello(terminal(ALSO_HERE, 99), 1).encode()).await;
    until("the shard is parked", || {
        engine.metrics().shards[0].is_parked
    })
    .await;
    assert_eq!(waiting.bye().await.reason, Reason::Internal);
    until("no stream is left", || engine.metrics().streams == 0).await;
    engine.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_drain_could_not_write_are_made_by_the_next_start() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, HERE, 1, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    // One write fails, after the drain has begun, and every later one goes well.
    snare.held.store(true, SeqCst);
    snare.write.store(true, SeqCst);
    let round = flushed(&engine).await;
    until("the rows are being written", || {
        snare.caught.load(SeqCst) == 1
    })
    .await;
    let draining = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.drain().await }
    });
    assert_eq!(device.bye().await.reason, Reason::Draining);
    snare.held.store(false, SeqCst);
    let cordoned = draining.await.unwrap();
    assert!(
        matches!(round.await.unwrap(), Err(FlushError::Rows(_))),
        "the round failed"
    );
    assert!(cordoned.is_err(), "rows are missing, and that is told");
    drop(engine);
    let engine = start(dir.path(), &snare).await.unwrap();
    assert_eq!(level(&engine, 7).await, "10");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_makes_the_engine_fail_is_named() {
    let (dir, snare) = (folder(), Arc::new(Snare::default()));
    let engine = start(dir.path(), &snare).await.unwrap();
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, HERE, 1, 0).await;
    device.send(teas(1, 5)).await;
    device.acked(5).await;
    assert!(flushed(&engine).await.await.unwrap().is_ok());
    device.send(teas(6, 5)).await;
    device.acked(10).await;
    // A shard that starts again applies the second frame, and fails over it.
    let bad = terminal(HERE, 1);
    snare.terminal.store(bad.to_u64(), SeqCst);
    crashed(&engine, &snare, 1).await;
    until("the shard is parked", || {
        engine.metrics().shards[0].is_parked
    })
    .await;
    let record = format!("(terminal {bad}, epoch 1, events 6 to 10)");
    let problems = engine.metrics().problems;
    assert!(
        problems.iter().any(|one| one.text.contains(&record)),
        "{problems:?}"
    );
    engine.kill().await.unwrap();
    drop(engine);
    // And so does the engine when it starts.
    let refused = start(dir.path(), &snare).await.unwrap_err().to_string();
    assert!(
        refused.contains(&record) && refused.contains("is a snare"),
        "{refused}"
    );
    snare.terminal.store(0, SeqCst);
    let engine = start(dir.path(), &snare).await.unwrap();
    assert_eq!(level(&engine, 7).await, "10");
    engine.drain().await.unwrap();
}
