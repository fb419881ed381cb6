use std::sync::Arc;
use std::time::Duration;

use till_storage::query::StoresQuery;

use super::*;
use crate::fall::FALLS_MAX;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to this: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_fails_starts_again_and_one_that_fails_and_fails_is_parked() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::dev(dir.path());
    config.shards = 2;
    let engine = Arc::new(Runtime::start(config).await.unwrap());
    assert!(engine.health().is_ready());
    for fall in 1..=FALLS_MAX {
        assert!(!engine.metrics().shards[1].is_parked);
        engine.engine.slots[1].strike();
        until("the failure is told", || {
            engine.metrics().problems.len() == fall
        })
        .await;
        until("the shard runs again, or never", || {
            engine.metrics().shards[1].is_parked || engine.health().is_ready()
        })
        .await;
    }
    assert!(engine.metrics().shards[1].is_parked);
    let health = engine.health();
    let shards = health
        .checks
        .iter()
        .find(|check| check.name == "shards")
        .unwrap();
    assert!(!shards.ok && shards.reason.contains("[1]"), "{shards:?}");
    // The other shard goes on, and questions are answered.
    assert!(engine.metrics().shards[0].is_running);
    let asked = Arc::clone(&engine);
    let reply = tokio::task::spawn_blocking(move || {
        asked.query(&Query::Stores(StoresQuery { store: None }))
    });
    assert!(reply.await.unwrap().is_ok());
    engine.kill().await.unwrap();
}
