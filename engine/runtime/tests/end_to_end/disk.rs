//! A disk that is full or fails: nothing acknowledged is lost, and nothing is acknowledged that is not durable.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use till_protocol::reply::Message;
use till_runtime::{Config, Handle, Parts, Runtime};
use till_storage::disk::SimDisk;
use till_storage::journal::State;
use till_storage::memory::MemoryViews;

use crate::device::{Device, connect, teas};
use crate::{folder, level};

async fn engine(dir: &Path, disk: &SimDisk, poisoned: &Arc<AtomicBool>) -> Arc<Handle> {
    let mut config = Config::dev(dir);
    config.segment_bytes = 1 << 20;
    config.reserve_bytes = 0;
    config.drain_timeout = Duration::from_secs(1);
    let poisoned = Arc::clone(poisoned);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        views: Some(Arc::new(MemoryViews::new())),
        on_poison: Arc::new(move |_| poisoned.store(true, Ordering::SeqCst)),
    };
    Arc::new(Runtime::start_with(config, parts).await.unwrap())
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to this: {what}");
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
            let answer = tokio::time::timeout(Duration::from_millis(300), device.next()).await;
            match answer {
                Ok(Some(Message::Ack(ack))) => {
                    acked = ack.committed.map_or(0, |seq| seq.get());
                }
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
