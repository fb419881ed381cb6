//! A disk that is full or fails: nothing acknowledged is lost, and nothing is acknowledged that is not durable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use till_protocol::builder::StockBuilder;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::reply::Message;
use till_runtime::{Config, Handle, Parts};
use till_storage::disk::SimDisk;
use till_storage::journal::State;
use till_storage::memory::MemoryViews;

use crate::device::{Device, connect, hello, seq, tea, teas, terminal};
use crate::{PATIENCE, busy, folder, level, until};

async fn engine(dir: &Path, disk: &SimDisk, poisoned: &Arc<AtomicBool>) -> Arc<Handle> {
    engine_with(dir, disk, poisoned, |_| {}).await
}

async fn engine_with(
    dir: &Path,
    disk: &SimDisk,
    poisoned: &Arc<AtomicBool>,
    change: impl FnOnce(&mut Config),
) -> Arc<Handle> {
    let mut config = Config::dev(dir);
    config.segment_bytes = 1 << 20;
    config.reserve_bytes = 0;
    config.drain_timeout = Duration::from_secs(1);
    change(&mut config);
    let poisoned = Arc::clone(poisoned);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        views: Some(Arc::new(MemoryViews::new())),
        on_poison: Arc::new(move |_| poisoned.store(true, Ordering::SeqCst)),
        ..Parts::default()
    };
    Arc::new(till_gateway::start_with(config, parts).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_acks_and_room_brings_them_back() {
    let dir = folder();
    let disk = SimDisk::new(7);
    let poisoned = Arc::new(AtomicBool::new(false));
    let running = engine(dir.path(), &disk, &poisoned).await;
    let connection = connect(&running).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 1_000)).await;
    device.acked(1_000).await;
    disk.limit_bytes(Some(disk.used_bytes()));
    for frame in 1..60 {
        device.send(teas(frame * 1_000 + 1, 1_000)).await;
    }
    until("the journal says that the disk is full", || {
        running.metrics().commit.state == State::Full
    })
    .await;
    let health = running.health();
    assert!(!health.is_ready());
    let full = health
        .checks
        .iter()
        .find(|check| check.name == "journal")
        .unwrap();
    assert!(full.reason.contains("disk is full") && !full.hint.is_empty());
    // What a loss of power leaves now has every event that was acknowledged.
    let mut acked = 1_000;
    let crashed = disk.crash();
    crashed.limit_bytes(None);
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(200), device.next()).await {
        if let Some(Message::Ack(ack)) = message {
            acked = acked.max(ack.committed.map_or(0, |seq| seq.get()));
        }
    }
    assert!(acked < 60_000);
    disk.limit_bytes(None);
    device.acked(60_000).await;
    assert_eq!(level(&running, 7).await, "60000");
    until("ready again", || running.health().is_ready()).await;
    running.drain().await.unwrap();
    let again = engine(dir.path(), &crashed, &poisoned).await;
    let found: u64 = level(&again, 7).await.parse().unwrap();
    assert!(
        acked <= found,
        "{acked} were acknowledged, {found} are there"
    );
    again.drain().await.unwrap();
    assert!(!poisoned.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let dir = folder();
    let disk = SimDisk::new(3);
    let poisoned = Arc::new(AtomicBool::new(false));
    let running = engine(dir.path(), &disk, &poisoned).await;
    let connection = connect(&running).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    disk.fail_sync(disk.syncs() + 1);
    device.send(teas(11, 10)).await;
    until("the journal has failed", || poisoned.load(Ordering::SeqCst)).await;
    let silent = tokio::time::timeout(Duration::from_millis(200), device.next()).await;
    assert!(
        !matches!(silent, Ok(Some(Message::Ack(_)))),
        "an ack after a failed sync: {silent:?}"
    );
    assert_eq!(running.metrics().commit.state, State::Poisoned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_power_at_any_sync_keeps_every_acknowledged_event() {
    for seed in 1..=6_u64 {
        println!("seed {seed}");
        let dir = folder();
        let disk = SimDisk::new(seed);
        let poisoned = Arc::new(AtomicBool::new(false));
        let running = engine(dir.path(), &disk, &poisoned).await;
        let connection = connect(&running).await;
        let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
        disk.freeze_at_sync(disk.syncs() + 1 + seed * 3);
        let mut acked = 0;
        for frame in 0..200 {
            device.send(teas(frame * 10 + 1, 10)).await;
            match answer_before_freeze(&disk, &mut device).await {
                Some(Message::Ack(ack)) => acked = ack.committed.map_or(0, |seq| seq.get()),
                _ => break,
            }
        }
        assert!(disk.is_frozen());
        drop(running);
        let again = engine(dir.path(), &disk.crash(), &poisoned).await;
        let found = level(&again, 7).await.parse::<u64>().unwrap_or(0);
        assert!(
            acked <= found,
            "{acked} were acknowledged, {found} are there"
        );
        again.drain().await.unwrap();
    }
}

/// The next message, unless the disk froze and nothing came for a while.
async fn answer_before_freeze(disk: &SimDisk, device: &mut Device) -> Option<Message> {
    loop {
        let was_frozen = disk.is_frozen();
        let answer = tokio::time::timeout(Duration::from_millis(300), device.next()).await;
        match answer {
            Ok(message) => return message,
            Err(_) if was_frozen => return None,
            Err(_) => {}
        }
    }
}

/// Every handshake and every goodbye takes a place in the journal's queue: at a full disk nothing leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn devices_that_come_again_and_again_do_not_fill_the_queue_of_a_full_disk() {
    let dir = folder();
    let disk = SimDisk::new(7);
    let poisoned = Arc::new(AtomicBool::new(false));
    let running = engine_with(dir.path(), &disk, &poisoned, |config| {
        config.shards = 1;
        config.permits_frames = 16;
        config.network.hello_timeout = Duration::from_secs(1);
    })
    .await;
    let connection = connect(&running).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 1_000)).await;
    device.acked(1_000).await;
    fill(&running, &disk, &mut device, 1_001).await;
    let mut comers = Vec::new();
    for till in 100..180 {
        let mut comer = Device::raw(&connection).await;
        comer.send(hello(terminal(7, till), 0).encode()).await;
        comers.push(comer);
    }
    let told = u64::try_from(comers.len()).unwrap() - 16;
    until("those without a permit are told", || busy(&running) >= told).await;
    // The queue has room for every permit twice, and for what needs none.
    let waiting = running.metrics().journal_waiting;
    assert!(waiting <= 2 * 16 + 8, "{waiting}");
    disk.limit_bytes(None);
    until("every permit is back", || {
        running.metrics().shards[0].permits_used == 0
    })
    .await;
    let (mut late, _) = Device::open(&connection, 7, 200, 0).await;
    late.send(teas(1, 5)).await;
    late.acked(5).await;
    running.drain().await.unwrap();
}

/// A late count asks the journal for what came before it: at a full disk its shard waits, and the thread with it.
#[tokio::test(flavor = "multi_thread")]
async fn shards_that_wait_for_a_full_disk_do_not_hold_up_the_end() {
    let dir = folder();
    let disk = SimDisk::new(7);
    let poisoned = Arc::new(AtomicBool::new(false));
    let running = engine_with(dir.path(), &disk, &poisoned, |config| {
        config.shards = 2;
        config.flush_interval = Duration::from_secs(60);
    })
    .await;
    let connection = connect(&running).await;
    let mut devices = Vec::new();
    for store in [7, 8] {
        let (mut device, _) = Device::open(&connection, store, 1, 0).await;
        device.send(teas(1, 1_000)).await;
        device.acked(1_000).await;
        devices.push(device);
    }
    let (mut filling, _) = Device::open(&connection, 7, 2, 0).await;
    fill(&running, &disk, &mut filling, 1).await;
    for device in &mut devices {
        let count = Move {
            kind: kind::COUNTED,
            ..tea(50, 1_000)
        };
        let mut builder = StockBuilder::new();
        builder.push(&count, &[], &[]).unwrap();
        device.send(builder.finish(seq(1_001)).unwrap()).await;
    }
    until("both shards wait", || {
        let metrics = running.metrics();
        // The group that found no room is out of the queue: what is in it are the two that wait.
        metrics.journal_waiting >= 2 && metrics.shards.iter().all(|shard| shard.permits_used > 0)
    })
    .await;
    let ended = tokio::time::timeout(PATIENCE, running.kill()).await;
    assert!(
        ended.is_ok(),
        "the engine never ends while its shards wait for the disk"
    );
    drop(running);
    disk.limit_bytes(None);
    let again = engine(dir.path(), &disk, &poisoned).await;
    for store in [7, 8] {
        let found: u64 = level(&again, store).await.parse().unwrap();
        assert!(found >= 1_000, "store {store}: {found}");
    }
    again.drain().await.unwrap();
}

// Sends until the journal says that the disk is full.
async fn fill(running: &Handle, disk: &SimDisk, device: &mut Device, mut next: u64) {
    disk.limit_bytes(Some(disk.used_bytes()));
    while running.metrics().commit.state != State::Full {
        device.send(teas(next, 1_000)).await;
        next += 1_000;
        assert!(next < 200_000, "the disk is never full");
        until("the frame is written, or there is no room", || {
            let metrics = running.metrics();
            let held: u32 = metrics.shards.iter().map(|s| s.permits_used).sum();
            metrics.commit.state == State::Full || (held == 0 && metrics.frames > 0)
        })
        .await;
    }
}
