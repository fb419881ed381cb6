//! An engine that shares the stores of its chain with others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use till_protocol::reply::Ack;
use till_runtime::{Commits, Config, Location, Parts, Placement};

use super::*;

/// Stores that are elsewhere; all others are here.
#[derive(Clone, Default)]
struct Away(Arc<Mutex<BTreeMap<u32, Location>>>);

impl Away {
    fn put(&self, store: u32, place: Location) {
        self.0.lock().unwrap().insert(store, place);
    }

    fn back(&self, store: u32) {
        self.0.lock().unwrap().remove(&store);
    }
}

impl Placement for Away {
    fn locate(&self, store: StoreId) -> Location {
        let away = self.0.lock().unwrap();
        away.get(&store.get()).cloned().unwrap_or(Location::Here)
    }
}

fn there() -> Location {
    Location::There("10.1.2.3:7880".to_owned())
}

async fn sharing(dir: &Path, commits: Commits) -> (Arc<Handle>, Away) {
    let away = Away::default();
    let mut config = Config::dev(dir);
    config.shards = 2;
    config.drain_timeout = Duration::from_secs(10);
    let parts = Parts {
        placement: Arc::new(away.clone()),
        commits,
        ..Parts::default()
    };
    let engine = till_gateway::start_with(config, parts).await.unwrap();
    (Arc::new(engine), away)
}

/// Flushes, and says that all of some stores is committed.
async fn commit(engine: &Arc<Handle>, store: u32) {
    let engine = Arc::clone(engine);
    let committed = tokio::task::spawn_blocking(move || {
        let upto = engine.flush_now().unwrap();
        engine.committed(&|other| other.get() == store, upto);
    });
    committed.await.unwrap();
}

/// The next ack that tells something new of a commit, or the first one of all.
async fn next_ack(device: &mut Device) -> (u64, u64) {
    match device.next().await {
        Some(Message::Ack(Ack {
            journalled,
            committed,
            ..
        })) => (
            journalled.map_or(0, |seq| seq.get()),
            committed.map_or(0, |seq| seq.get()),
        ),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn committed_follows_journalled_when_somebody_says_so() {
    let dir = folder();
    let (engine, _) = sharing(dir.path(), Commits::Apart).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let (mut other, _) = Device::open(&connection, 8, 1, 0).await;
    device.send(teas(1, 10)).await;
    assert_eq!(next_ack(&mut device).await, (10, 0));
    other.send(teas(1, 3)).await;
    assert_eq!(next_ack(&mut other).await, (3, 0));
    commit(&engine, 7).await;
    assert_eq!(next_ack(&mut device).await, (10, 10));
    // The other store is not committed by that, and its next session hears of it for what it says again.
    drop(other);
    let (mut again, welcome) = Device::open(&connection, 8, 1, 1).await;
    assert_eq!(welcome.next_seq, seq(4));
    again.send(teas(1, 3)).await;
    assert_eq!(next_ack(&mut again).await, (3, 0));
    commit(&engine, 8).await;
    assert_eq!(next_ack(&mut again).await, (3, 3));
    assert_eq!(level(&engine, 8).await, "3");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_the_last_commit_and_not_for_ever() {
    let dir = folder();
    let (engine, _) = sharing(dir.path(), Commits::Apart).await;
    let connection = connect(&engine).await;
    let (mut told, _) = Device::open(&connection, 7, 1, 0).await;
    let (mut pending_refusals, _) = Device::open(&connection, 8, 1, 0).await;
    told.send(teas(1, 5)).await;
    assert_eq!(next_ack(&mut told).await, (5, 0));
    pending_refusals.send(teas(1, 5)).await;
    assert_eq!(next_ack(&mut pending_refusals).await, (5, 0));
    let draining = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { engine.drain().await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    commit(&engine, 7).await;
    assert_eq!(next_ack(&mut told).await, (5, 5));
    assert_eq!(told.bye().await.reason, Reason::Draining);
    assert_eq!(pending_refusals.bye().await.reason, Reason::Draining);
    draining.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_of_a_store_that_is_elsewhere_is_sent_there() {
    let dir = folder();
    let (engine, away) = sharing(dir.path(), Commits::WithJournal).await;
    away.put(7, there());
    away.put(8, Location::Nobody);
    let connection = connect(&engine).await;
    let mut device = Device::raw(&connection).await;
    device.send(hello(terminal(7, 1), 0).encode()).await;
    match device.next().await {
        Some(Message::Redirect(to)) => assert_eq!(to.address, "10.1.2.3:7880"),
        other => panic!("{other:?}"),
    }
    assert_eq!(device.next().await, None);
    let mut device = Device::raw(&connection).await;
    device.send(hello(terminal(8, 1), 0).encode()).await;
    assert_eq!(device.bye().await.reason, Reason::Moved);
    // Others are served, and these are once they are here.
    let (mut device, _) = Device::open(&connection, 9, 1, 0).await;
    device.send(teas(1, 1)).await;
    device.acked(1).await;
    away.back(8);
    let (_device, welcome) = Device::open(&connection, 8, 1, 0).await;
    assert_eq!(welcome.next_seq, seq(1));
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_store_that_leaves_are_sent_after_it_and_others_stay() {
    let dir = folder();
    let (engine, away) = sharing(dir.path(), Commits::WithJournal).await;
    let connection = connect(&engine).await;
    let (mut leaves, _) = Device::open(&connection, 7, 1, 0).await;
    let (mut nowhere, _) = Device::open(&connection, 8, 1, 0).await;
    let (mut stays, _) = Device::open(&connection, 9, 1, 0).await;
    leaves.send(teas(1, 5)).await;
    leaves.acked(5).await;
    away.put(7, there());
    away.put(8, Location::Nobody);
    engine.evict(|store| store.get() < 9);
    match leaves.next().await {
        Some(Message::Redirect(to)) => assert_eq!(to.address, "10.1.2.3:7880"),
        other => panic!("{other:?}"),
    }
    assert_eq!(nowhere.bye().await.reason, Reason::Moved);
    stays.send(teas(1, 2)).await;
    stays.acked(2).await;
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_a_store_that_has_left_is_answered_and_not_applied() {
    let dir = folder();
    let (engine, away) = sharing(dir.path(), Commits::WithJournal).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 5)).await;
    device.acked(5).await;
    // Nobody has told its session yet.
    away.put(7, there());
    device.send(teas(6, 5)).await;
    match device.next().await {
        Some(Message::Redirect(to)) => assert_eq!(to.address, "10.1.2.3:7880"),
        other => panic!("{other:?}"),
    }
    assert_eq!(level(&engine, 7).await, "5");
    engine.release(|store| store.get() == 7).await;
    let events = engine.metrics().events;
    assert_eq!((events.received, events.applied), (5, 5));
    // It comes back, and goes on from its rows.
    away.back(7);
    let (mut device, welcome) = Device::open(&connection, 7, 1, 1).await;
    assert_eq!(welcome.next_seq, seq(6));
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    assert_eq!(level(&engine, 7).await, "10");
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_sent_away_hears_of_its_last_commit_first() {
    let dir = folder();
    let (engine, away) = sharing(dir.path(), Commits::Apart).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 5)).await;
    assert_eq!(next_ack(&mut device).await, (5, 0));
    away.put(7, there());
    engine.evict(|_| true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    commit(&engine, 7).await;
    assert_eq!(next_ack(&mut device).await, (5, 5));
    assert!(matches!(device.next().await, Some(Message::Redirect(_))));
    engine.drain().await.unwrap();
}
