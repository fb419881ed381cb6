//! A shared store that takes long to answer.

use till_storage::memory::Trouble;

use super::*;

/// Longer than it takes all devices to send a frame each.
const DELAY: Duration = Duration::from_millis(500);
/// Outlives statements that take that long.
const LONG: Duration = Duration::from_secs(20);

fn waits(engine: &Handle) -> u64 {
    engine.sight().unwrap().rows.count
}

/// Each frame needs rows that are not in memory. One by one they would take as many ways to the store as there are devices.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_is_asked_once_for_what_many_devices_say() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = node_with(dir.path(), &store, LONG).await;
    share(std::slice::from_ref(&engine)).await;
    let mut devices = Vec::new();
    for number in 1..=40_u32 {
        let (device, next, connection) =
            at_home(std::slice::from_ref(&engine), number.into(), 0).await;
        assert_eq!(next, 1);
        devices.push((number, device, connection));
    }
    let before = waits(&engine);
    store.set_trouble(
        Trouble {
            delay: DELAY,
            ..Trouble::default()
        },
        0,
    );
    for (_, device, _) in &mut devices {
        device.send(teas(1, 3)).await;
    }
    for (_, device, _) in &mut devices {
        assert!(device.acked(3).await.is_empty());
    }
    let asked = waits(&engine) - before;
    store.set_trouble(Trouble::default(), 0);
    for (number, ..) in &devices {
        assert_eq!(level(&engine, *number).await, "3", "store {number}");
    }
    // Two shards ask for what comes first, and for what has come by then: four times, and more where this machine is slow.
    assert!(
        (2..=20).contains(&asked),
        "asked {asked} times for 40 devices"
    );
    engine.drain().await.unwrap();
}
