//! What an engine that shares a store shows of it.

use std::sync::Arc;

use till_storage::testing::MemoryCluster;

use super::cluster::{SLOTS, pair, send};
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_shows_its_slots_its_commits_and_the_engines_beside_it() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engines = pair(&dirs, &store).await;
    for number in 1..=12 {
        send(&engines, number, 0, 5).await;
    }
    for engine in &engines {
        // A question flushes what is not committed yet.
        assert_eq!(level(engine, 1).await, "5");
        assert_eq!((engine.slots(), engine.wanted_slots()), (SLOTS, SLOTS / 2));
        until("both engines are seen with their slots", || {
            let seen = engine.sight().unwrap().engines;
            seen.len() == 2 && seen.iter().all(|one| one.slots == u64::from(SLOTS / 2))
        })
        .await;
        let sight = engine.sight().unwrap();
        assert!(
            sight.commit.count > 0 && sight.commit.sum_us > 0,
            "{sight:?}"
        );
        assert_eq!((sight.handoffs_waiting, sight.slots_free), (0, 0));
        let addresses: Vec<&str> = sight.engines.iter().map(|one| &*one.address).collect();
        assert!(addresses.contains(&engine.quic_addr().to_string().as_str()));
        let health = engine.health();
        let slots = health
            .checks
            .iter()
            .find(|check| check.name == "slots")
            .unwrap();
        assert_eq!(slots.reason, "8 of 16 slots are served here, 8 should be");
    }
    // Devices asked both, and were sent on by the one that did not have their store.
    let sent_on: u64 = engines.iter().map(|engine| engine.redirects()).sum();
    assert!(sent_on > 0);
    for engine in &engines {
        engine.drain().await.unwrap();
    }
    let alone = start(folder().path()).await;
    assert!(alone.sight().is_none());
    assert_eq!((alone.slots(), alone.wanted_slots()), (0, 0));
}
