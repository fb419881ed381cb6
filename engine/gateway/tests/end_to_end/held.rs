//! What the engine holds up is nobody's slowness.

use std::sync::Arc;
use std::time::Duration;

use quinn::Connection;
use till_protocol::code::Reason;
use till_protocol::reply::Message;
use till_runtime::{Config, Handle, Parts};
use till_storage::disk::SimDisk;
use till_storage::journal::State;
use till_storage::memory::MemoryViews;

use crate::device::{Device, connect, hello, teas, terminal};
use crate::folder;
use crate::until;

/// Events of a frame that a window of 128 KiB takes several of.
const EVENTS: u64 = 500;

/// An engine with narrow windows and little room for frames, that gives a sender little time: far more than an honest one needs on
/// a busy machine.
async fn engine(disk: &SimDisk, dir: &std::path::Path) -> Arc<Handle> {
    let mut config = Config::dev(dir);
    config.shards = 1;
    config.segment_bytes = 1 << 20;
    config.reserve_bytes = 0;
    config.permits_frames = 16;
    config.network.wide_connections = 0;
    config.network.frame_timeout = Duration::from_secs(6);
    config.network.hello_timeout = Duration::from_secs(6);
    config.drain_timeout = Duration::from_secs(1);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        views: Some(Arc::new(MemoryViews::new())),
        ..Parts::default()
    };
    Arc::new(till_gateway::start_with(config, parts).await.unwrap())
}

/// A device on a connection of its own that is really slow: when it is ended, more time than a sender has is over.
async fn a_timeout_is_over(connection: &Connection, till: u64) {
    let (mut slow, _) = Device::open(connection, 9, till, 0).await;
    slow.send(teas(1, 10).slice(..100)).await;
    assert_eq!(slow.bye().await.reason, Reason::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_idle_while_the_engine_holds_its_connection_up() {
    let dir = folder();
    let disk = SimDisk::new(11);
    let engine = engine(&disk, dir.path()).await;
    let (held, other) = (connect(&engine).await, connect(&engine).await);
    let (mut victim, _) = Device::open(&held, 7, 1, 0).await;
    let (mut greedy, _) = Device::open(&held, 7, 2, 0).await;
    let mut slow = Vec::new();
    for till in 1..=2 {
        // Accepted while there is a disk: handshakes wait for the journal.
        let (device, _) = Device::open(&other, 9, till, 0).await;
        slow.push(device);
    }
    // Half a frame is here when the engine stops reading: one that may not have its rest.
    let frame = teas(1, EVENTS);
    let half = frame.len() / 2;
    victim.send(frame.slice(..half)).await;
    disk.limit_bytes(Some(disk.used_bytes()));
    // The other one sends far more than the journal, the room for frames and the window of their connection take.
    let stuffing = tokio::spawn(async move {
        for number in 0..96 {
            greedy.send(teas(1 + number * EVENTS, EVENTS)).await;
        }
        greedy.acked(96 * EVENTS).await;
    });
    until("frames wait for room", || {
        let metrics = engine.metrics();
        metrics.commit.state == State::Full && metrics.shards[0].permits_waited > 0
    })
    .await;
    // Nothing but the window holds these back; a hello as well as the rest of a frame.
    let mut silent = Device::raw(&held).await;
    let rest = frame.slice(half..);
    let sending = tokio::spawn(async move {
        victim.send(rest).await;
        silent.send(hello(terminal(7, 3), 0).encode()).await;
        (victim, silent)
    });
    for mut device in slow {
        device.send(teas(1, 10).slice(..100)).await;
        assert_eq!(device.bye().await.reason, Reason::Idle);
    }
    disk.limit_bytes(None);
    let (mut victim, mut silent) = sending.await.unwrap();
    assert!(victim.acked(EVENTS).await.is_empty());
    // Accepted, or told to come again where it waited too long for room; never called idle.
    let established = silent.next().await;
    let is_right = match &established {
        Some(Message::Welcome(_)) => true,
        Some(Message::Bye(bye)) => bye.reason == Reason::Busy,
        _ => false,
    };
    assert!(is_right, "{established:?}");
    stuffing.await.unwrap();
    a_timeout_is_over(&held, 7).await;
    engine.drain().await.unwrap();
}
