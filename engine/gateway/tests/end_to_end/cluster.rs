//! Several engines on one store that they share.

mod handoff;
mod ids;
mod intake;
mod names;
mod quarantine;
mod slow;
mod trouble;
mod unread;

use std::sync::Arc;

use quinn::Connection;
use till_protocol::reply::Welcome;
use till_runtime::{Config, FlushState, Parts, SharedConfig};
use till_storage::cluster::SharedStore as _;
use till_storage::testing::MemoryCluster;

use super::*;

pub(crate) const SLOTS: u32 = 16;
/// The stores that are traded in.
const STORES: std::ops::RangeInclusive<u64> = 1..=12;
/// Far longer than a busy machine keeps an engine from telling that it is alive; each test of a dead one waits for it.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

pub(crate) async fn node(dir: &Path, store: &Arc<MemoryCluster>) -> Arc<Handle> {
    node_with(dir, store, LEASE).await
}

async fn node_with(dir: &Path, store: &Arc<MemoryCluster>, lease: Duration) -> Arc<Handle> {
    Arc::new(started(dir, store, lease).await.unwrap())
}

pub(crate) async fn started(
    dir: &Path,
    store: &Arc<MemoryCluster>,
    lease: Duration,
) -> Result<Handle, till_gateway::StartError> {
    let mut config = Config::dev(dir);
    config.shards = 2;
    config.segment_bytes = 1 << 20;
    config.drain_timeout = Duration::from_secs(5);
    config.shared = Some(SharedConfig {
        lease,
        ..SharedConfig::default()
    });
    let shared: Arc<dyn till_storage::cluster::SharedStore> = Arc::<MemoryCluster>::clone(store);
    let parts = Parts {
        shared: Some(shared),
        ..Parts::default()
    };
    till_gateway::start_with(config, parts).await
}

/// A device of a store, at whichever engine serves it. The epoch that it had, or 0.
pub(crate) async fn at_home(
    engines: &[Arc<Handle>],
    store: u64,
    epoch: u32,
) -> (Device, u64, Connection) {
    let (device, welcome, connection) = established(engines, store, epoch).await;
    (device, welcome.next_seq.get(), connection)
}

async fn established(
    engines: &[Arc<Handle>],
    store: u64,
    epoch: u32,
) -> (Device, Welcome, Connection) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        for engine in engines {
            let connection = connect(engine).await;
            let mut device = Device::raw(&connection).await;
            device.send(hello(terminal(store, 1), epoch).encode()).await;
            match device.next().await {
                Some(Message::Welcome(welcome)) => return (device, welcome, connection),
                Some(Message::Redirect(_) | Message::Bye(_)) | None => {}
                other => panic!("{other:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody serves store {store}");
}

/// Gives the epoch that the device has, which depends on how often its slot has changed hands.
pub(crate) async fn send(engines: &[Arc<Handle>], store: u64, epoch: u32, upto: u64) -> u32 {
    let mut epoch = epoch;
    loop {
        let (mut device, welcome, _connection) = established(engines, store, epoch).await;
        let next = welcome.next_seq.get();
        epoch = welcome.epoch.get();
        if next > upto {
            return epoch;
        }
        // A session that is ended meanwhile is one of a slot that changes hands: the device comes again.
        let sent = device.send.write_all(&teas(next, upto + 1 - next)).await;
        if let Ok(refused) = device.acked_unless_ended(upto).await {
            assert!(sent.is_ok() && refused.is_empty(), "{refused:?}");
            return epoch;
        }
    }
}

fn held(engine: &Handle) -> usize {
    engine.open_slots().unwrap_or(0)
}

/// Two engines that share all stores.
pub(crate) async fn pair(
    dirs: &[tempfile::TempDir; 2],
    store: &Arc<MemoryCluster>,
) -> [Arc<Handle>; 2] {
    let [first, second] = dirs.each_ref().map(|dir| dir.path());
    let engines = [node(first, store).await, node(second, store).await];
    share(&engines).await;
    engines
}

/// An engine that serves all stores.
pub(crate) async fn alone(dir: &Path, store: &Arc<MemoryCluster>) -> Arc<Handle> {
    let engine = node(dir, store).await;
    share(std::slice::from_ref(&engine)).await;
    engine
}

pub(crate) async fn share(engines: &[Arc<Handle>]) {
    share_of(engines, SLOTS).await;
}

/// Waits until all engines have their rows written: rows follow what devices are told is committed, and an engine that is asked of
/// another one's stores answers from these.
pub(crate) async fn written(engines: &[Arc<Handle>]) {
    for engine in engines {
        until_it("rows are written", async || {
            let engine = Arc::clone(engine);
            let flushed = tokio::task::spawn_blocking(move || engine.flush_now());
            flushed.await.unwrap().is_ok()
        })
        .await;
    }
}

async fn share_of(engines: &[Arc<Handle>], slots: u32) {
    let slots = usize::try_from(slots).unwrap();
    until("every slot is served, by all alike", || {
        let each: Vec<usize> = engines.iter().map(|engine| held(engine)).collect();
        let most = slots.div_ceil(engines.len());
        each.iter().sum::<usize>() == slots && each.iter().all(|one| *one <= most)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_share_the_stores_and_answer_for_all_of_them() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let first = alone(dirs[0].path(), &store).await;
    let mut epochs = Vec::new();
    for number in STORES {
        epochs.push(send(std::slice::from_ref(&first), number, 0, 5).await);
    }
    let second = node(dirs[1].path(), &store).await;
    let engines = [first, second];
    share(&engines).await;
    for (number, epoch) in STORES.zip(epochs) {
        send(&engines, number, epoch, 9).await;
    }
    written(&engines).await;
    for engine in &engines {
        for number in 1..=12 {
            assert_eq!(level(engine, number).await, "9", "store {number}");
        }
    }
    let acked: Vec<u64> = engines.iter().map(|one| one.metrics().acked).collect();
    assert_eq!(acked.iter().sum::<u64>(), 12 * 9);
    assert!(acked.iter().all(|one| *one > 0), "{acked:?}");
    for engine in &engines {
        assert!(engine.health().is_ready(), "{:?}", engine.health());
        engine.drain().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_of_an_engine_that_dies_are_served_by_another() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engines = pair(&dirs, &store).await;
    let mut epochs = Vec::new();
    for number in STORES {
        epochs.push(send(&engines, number, 0, 7).await);
    }
    let [first, second] = engines;
    first.kill().await.unwrap();
    let left = [second];
    share(&left).await;
    for (number, epoch) in STORES.zip(epochs) {
        send(&left, number, epoch, 11).await;
    }
    for number in 1..=12 {
        assert_eq!(level(&left[0], number).await, "11", "store {number}");
    }
    left[0].drain().await.unwrap();
    // One that comes back finds its stores elsewhere, and takes its share again.
    let back = alone(dirs[0].path(), &store).await;
    for number in 1..=12 {
        assert_eq!(level(&back, number).await, "11", "store {number}");
    }
    back.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_commits_everything_and_gives_the_slots_up() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let first = alone(dirs[0].path(), &store).await;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&first), 3, 0).await;
    device.send(teas(1, 200)).await;
    device.acked(200).await;
    let gives_up = store.all_slots().unwrap()[0].owner;
    let second = node(dirs[1].path(), &store).await;
    first.drain().await.unwrap();
    // Nobody has to wait for a lease.
    let after = store.all_slots().unwrap();
    assert!(after.iter().all(|row| row.owner != gives_up), "{after:?}");
    share(std::slice::from_ref(&second)).await;
    assert_eq!(level(&second, 3).await, "200");
    second.drain().await.unwrap();
}

/// To the others, an engine that is alive and has no slots is one to give some to: they would lie for a lease.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_has_drained_has_said_in_its_row_that_it_leaves() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = node_with(dir.path(), &store, Duration::from_secs(600)).await;
    share(std::slice::from_ref(&engine)).await;
    engine.drain().await.unwrap();
    let nodes = store.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.is_leaving), "{nodes:?}");
    assert_eq!(nodes.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_taken_in_while_the_shared_store_is_away() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = alone(dir.path(), &store).await;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    store.set_away(true);
    device.send(teas(11, 10)).await;
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed.is_none_or(|seq| seq.get() <= 10));
                if ack.journalled == Some(seq(20)) {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let told = Arc::clone(&engine);
    until("the engine says that it is not ready", || {
        !told.health().is_ready()
    })
    .await;
    store.set_away(false);
    assert!(device.acked(20).await.is_empty());
    until("the engine is ready again", || told.health().is_ready()).await;
    assert_eq!(level(&engine, 3).await, "20");
    engine.drain().await.unwrap();
}

/// The lengths of the journal's segments on disk. One that is dropped while it is looked at is not there.
fn segments(dir: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(dir.join("journal")).unwrap();
    let is_segment = |name: &str| name.ends_with(".till") && !name.starts_with("base-");
    files
        .map(|file| file.unwrap())
        .filter(|file| is_segment(&file.file_name().into_string().unwrap()))
        .filter_map(|file| match file.metadata() {
            Ok(kept) => Some(kept.len()),
            Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => None,
            Err(unreadable) => panic!("{unreadable}"),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_keeps_what_is_not_committed_and_nothing_else() {
    // Several segments' worth; how many there are depends on how many groups take them.
    const FRAMES: u64 = 160;
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = alone(dir.path(), &store).await;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    store.set_away(true);
    let mut sent = 0;
    for frame in 0..FRAMES {
        let frame = teas(frame * 1_000 + 11, 1_000);
        sent += frame.len();
        device.send(frame).await;
    }
    let last = FRAMES * 1_000 + 10;
    while !matches!(device.next().await, Some(Message::Ack(ack)) if ack.journalled == Some(seq(last)))
    {
    }
    // Some looks of those who drop segments later all is there still.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let kept: u64 = segments(dir.path()).iter().sum();
    assert!(
        usize::try_from(kept).unwrap() >= sent,
        "{kept} of {sent} bytes are kept"
    );
    store.set_away(false);
    device.acked(last).await;
    until("what is committed has left the journal", || {
        segments(dir.path()).len() <= 2
    })
    .await;
    engine.drain().await.unwrap();
    drop(engine);
    let again = alone(dir.path(), &store).await;
    assert_eq!(level(&again, 3).await, last.to_string());
    again.drain().await.unwrap();
    drop(again);
    // What is left is no store: an engine with rows of its own would find next to nothing.
    let alone = till_gateway::start(Config::dev(dir.path())).await;
    let refused = alone.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("shares a store"), "{refused}");
}
