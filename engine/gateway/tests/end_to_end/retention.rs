//! Segments leave while the engine runs.

use std::sync::Arc;

use till_runtime::Config;

use crate::device::{Device, connect, teas};
use crate::{folder, level};

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_retention_that_overlap_wait_for_each_other() {
    let dir = folder();
    let mut config = Config::dev(dir.path());
    config.segment_bytes = 1 << 20;
    let engine = Arc::new(till_gateway::start(config).await.unwrap());
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    for frame in 0..80 {
        device.send(teas(frame * 1_000 + 1, 1_000)).await;
    }
    device.acked(80_000).await;
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let asked = Arc::clone(&engine);
            tokio::task::spawn_blocking(move || asked.retain_before(i64::MAX))
        })
        .collect();
    let mut dropped = Vec::new();
    for run in runs {
        dropped.extend(run.await.unwrap().unwrap());
    }
    // The first one drops what there is, and the others find nothing.
    assert_eq!(dropped.len(), 1, "{dropped:?}");
    assert_eq!(level(&engine, 7).await, "80000");
    engine.drain().await.unwrap();
    drop((engine, device));
    let later = crate::engine(dir.path()).await;
    assert_eq!(level(&later, 7).await, "80000");
    later.drain().await.unwrap();
}
