//! The disk of an engine that never runs again.

use std::sync::Arc;

use till_runtime::{SubmitError, submit};
use till_storage::cluster::SharedStore as _;
use till_storage::testing::MemoryCluster;

use super::cluster::{LEASE, SLOTS, alone, at_home, node, send, started};
use super::*;

/// An engine that has taken events in which the store never heard of, killed; what it had committed before is there.
pub(crate) async fn dead(dir: &Path, store: &Arc<MemoryCluster>) {
    let engine = alone(dir, store).await;
    send(std::slice::from_ref(&engine), 3, 0, 10).await;
    // Nobody is accepted once the store has not heard the engine for a while.
    let (mut device, next, _connection) = at_home(std::slice::from_ref(&engine), 3, 1).await;
    assert_eq!(next, 11);
    store.set_away(true);
    device.send(teas(11, 25)).await;
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) if ack.journalled == Some(seq(35)) => break,
            Some(Message::Ack(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    engine.kill().await.unwrap();
    drop(engine);
    store.set_away(false);
}

pub(crate) fn submitted(store: &Arc<MemoryCluster>, dir: &Path) -> u64 {
    submit(store.as_ref(), dir).unwrap().records
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_engine_had_journalled_alone_counts_once_after_it_was_submitted() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dirs[0].path(), &store).await;
    let other = alone(dirs[1].path(), &store).await;
    assert_eq!(level(&other, 3).await, "10");
    // By the folder or by the journal in it, and twice before anybody had the time to take it in.
    assert!(submitted(&store, dirs[0].path()) > 0);
    assert!(submitted(&store, &dirs[0].path().join("journal")) > 0);
    let waiting = Arc::clone(&store);
    until("everything is taken in", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
    assert_eq!(level(&other, 3).await, "35");
    // And once more, when it is known.
    assert!(submitted(&store, dirs[0].path()) > 0);
    until("everything is replayed again", || {
        waiting.waiting().unwrap().is_empty()
    })
    .await;
    assert_eq!(level(&other, 3).await, "35");
    other.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_is_not_submitted_while_its_engine_runs_nor_to_another_chain() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = node(dirs[0].path(), &store).await;
    let error = submit(store.as_ref(), dirs[0].path()).unwrap_err();
    assert!(error.to_string().contains("stop it first"), "{error}");
    engine.kill().await.unwrap();
    drop(engine);
    let nobodys = MemoryCluster::new(SLOTS);
    let others = MemoryCluster::new(SLOTS);
    others.chain_key([7; 32]).unwrap();
    for other in [&nobodys, &others] {
        let error = submit(other, dirs[0].path()).unwrap_err();
        assert!(matches!(error, SubmitError::Other(_)), "{error}");
        assert_eq!(other.waiting().unwrap(), []);
    }
    let error = submit(store.as_ref(), dirs[1].path()).unwrap_err();
    assert!(matches!(error, SubmitError::NoJournal(_)), "{error}");
    // A folder of an engine that never shared anything does not say whose it is.
    std::fs::remove_file(dirs[0].path().join("chain")).unwrap();
    let error = submit(store.as_ref(), dirs[0].path()).unwrap_err();
    assert!(matches!(error, SubmitError::Unnamed(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_does_not_bring_the_events_of_one_chain_to_another() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    dead(dir.path(), &store).await;
    let other = Arc::new(MemoryCluster::new(SLOTS));
    other.chain_key([7; 32]).unwrap();
    let error = started(dir.path(), &other, LEASE).await.unwrap_err();
    assert!(error.to_string().contains("another chain"), "{error}");
    // At home they are handed off.
    let again = alone(dir.path(), &store).await;
    let known = Arc::clone(&store);
    until("what was left is committed", || {
        known.waiting().unwrap().is_empty()
    })
    .await;
    again.drain().await.unwrap();
}
