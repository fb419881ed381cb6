//! A shared store that takes long to answer.

use till_protocol::id::StoreId;
use till_storage::testing::Trouble;

use super::*;

/// Longer than it takes all devices to send a frame each.
const DELAY: Duration = Duration::from_millis(500);
/// Outlives statements that take that long.
const LONG: Duration = Duration::from_secs(20);

/// An engine that knows rows of so many stores from the shared store alone, and a device in each of them.
async fn sold_events(
    dirs: [&Path; 2],
    store: &Arc<MemoryCluster>,
    stores: u32,
) -> (Arc<Handle>, Vec<(u32, Device, Connection)>) {
    let before = node_with(dirs[0], store, LONG).await;
    let engines = std::slice::from_ref(&before);
    share(engines).await;
    for number in 1..=stores {
        assert_eq!(send(engines, number.into(), 0, 1).await, 1);
    }
    before.drain().await.unwrap();
    let engine = node_with(dirs[1], store, LONG).await;
    let engines = std::slice::from_ref(&engine);
    share(engines).await;
    let mut devices = Vec::new();
    for number in 1..=stores {
        let (device, next, connection) = at_home(engines, number.into(), 1).await;
        assert_eq!(next, 2);
        devices.push((number, device, connection));
    }
    // A shard that has just started hears everybody alone, until it has flushed once.
    written(std::slice::from_ref(&engine)).await;
    (engine, devices)
}

fn waits(engine: &Handle) -> u64 {
    engine.sight().unwrap().rows.count
}

/// Each frame needs rows that are not in memory. One by one they would take as many ways to the store as there are devices.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_is_asked_once_for_what_many_devices_say() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, mut devices) = sold_events([dirs[0].path(), dirs[1].path()], &store, 40).await;
    let before = waits(&engine);
    store.set_trouble(
        Trouble {
            delay: DELAY,
            ..Trouble::default()
        },
        0,
    );
    for (_, device, _) in &mut devices {
        device.send(teas(2, 2)).await;
    }
    for (_, device, _) in &mut devices {
        assert!(device.acked(3).await.is_empty());
    }
    let asked = waits(&engine) - before;
    store.set_trouble(Trouble::default(), 0);
    for (number, ..) in &devices {
        assert_eq!(level(&engine, *number).await, "3", "store {number}");
    }
    // Two shards ask for what comes first, and for what has come by then: four times, and more where a machine is slow.
    assert!(
        (2..=20).contains(&asked),
        "asked {asked} times for 40 devices"
    );
    engine.drain().await.unwrap();
}

/// What is asked for together is not answered where one row of it is damaged. The others do not suffer from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_fells_the_session_that_needs_it_and_no_other() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let (engine, mut devices) = sold_events([dirs[0].path(), dirs[1].path()], &store, 10).await;
    let damaged = StoreId::new(7).unwrap();
    store.set_trouble(
        Trouble {
            delay: DELAY / 5,
            damaged: Some(damaged),
            ..Trouble::default()
        },
        0,
    );
    for (_, device, _) in &mut devices {
        device.send(teas(2, 2)).await;
    }
    for (number, device, _) in &mut devices {
        if *number == damaged.get() {
            assert_eq!(device.bye().await.reason, Reason::Internal);
        } else {
            assert!(device.acked(3).await.is_empty());
        }
    }
    store.set_trouble(Trouble::default(), 0);
    let engines = std::slice::from_ref(&engine);
    assert_eq!(send(engines, 7, 1, 3).await, 1);
    for number in 1..=10 {
        assert_eq!(level(&engine, number).await, "3", "store {number}");
    }
    engine.drain().await.unwrap();
}
