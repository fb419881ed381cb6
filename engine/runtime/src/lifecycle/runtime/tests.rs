use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use till_protocol::builder::StockBuilder;
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{Seq, SkuId, StoreId, TerminalId, TillId};
use till_protocol::reply::{Hello, Message};
use till_protocol::time::DeviceTime;
use till_storage::disk::SimDisk;
use till_storage::memory::MemoryViews;
use till_storage::query::StoresQuery;

use super::*;
use crate::ingress::inlet::{FrameBatch, Inlet};
use crate::lifecycle::runtime::assembly::size;
use crate::shard::crash::CRASHES_MAX;
use crate::shard::handle::{ShardHandle, shard_of};
use crate::shard::message::ShardMessage;

// An engine into which nothing brings devices but the test.
async fn start(config: Config) -> Handle {
    let address = config.listen;
    let runtime = Runtime::prepare(config, Parts::default()).await.unwrap();
    runtime.start(address).await.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..20_000 {
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
    let engine = Arc::new(start(config).await);
    assert!(engine.health().is_ready());
    for crash in 1..=CRASHES_MAX {
        assert!(!engine.metrics().shards[1].is_parked);
        strike(&engine, 1);
        until("the failure is told", || {
            engine.metrics().problems.len() == crash
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

// The shard panics at once.
fn strike(engine: &Handle, shard: usize) {
    let (hold, until) = mpsc::channel();
    drop(hold);
    let sent = engine.engine.slots[shard].send(ShardMessage::Strike(until));
    assert!(sent.is_ok());
}

/// One stream of a terminal, without its bytes.
struct Till {
    slot: Arc<ShardHandle>,
    inlet: Inlet,
    said: FrameDecoder,
}

impl Till {
    // Says Hello; epoch 0 asks for a new epoch.
    fn hello(engine: &Handle, store: StoreId, epoch: u32) -> Self {
        let terminal = TerminalId::new(store, TillId::new(1).unwrap());
        let hello = Hello {
            versions: vec![(4, 1)],
            terminal,
            epoch: till_protocol::id::Epoch::new(epoch).ok(),
            clock: DeviceTime::from_us(now().us()),
            currency: None,
            zone: String::new(),
        };
        let knocking = engine.intake().open(Box::new(hello)).unwrap();
        Self {
            slot: Arc::clone(engine.engine.slot(store).unwrap()),
            inlet: knocking.try_enter().unwrap(),
            said: FrameDecoder::new(),
        }
    }

    async fn next(&mut self) -> Message {
        let said = async {
            loop {
                if let Some(frame) = self.said.next().unwrap() {
                    return Message::decode(&frame).unwrap();
                }
                let messages = self.inlet.session().messages().await;
                self.said.push(messages.bytes);
            }
        };
        let said = tokio::time::timeout(Duration::from_secs(120), said).await;
        said.expect("the session is told nothing")
    }

    async fn welcome(&mut self) -> u64 {
        match self.next().await {
            Message::Welcome(welcome) => welcome.next_seq.get(),
            other => panic!("no welcome: {other:?}"),
        }
    }

    async fn acked(&mut self, upto: u64) {
        loop {
            match self.next().await {
                Message::Ack(ack) if ack.committed.is_some_and(|seq| seq.get() >= upto) => return,
                Message::Ack(_) => {}
                other => panic!("no ack up to {upto}: {other:?}"),
            }
        }
    }

    async fn ended(&mut self) -> Reason {
        loop {
            match self.next().await {
                Message::Bye(bye) => return bye.reason,
                Message::Ack(_) => {}
                other => panic!("no end: {other:?}"),
            }
        }
    }

    // Frames of one movement each, from `first` to `last`, admitted and handed to the shard as the gateway does.
    fn send(&self, first: u64, last: u64) {
        for seq in first..=last {
            let mut builder = StockBuilder::new();
            let movement = Move {
                at: 1_772_452_800_000_000,
                sku: SkuId::of_code("tea").get(),
                quantity: 100_000,
                kind: kind::RECEIVED,
                ..Move::default()
            };
            builder.push(&movement, &[], &[]).unwrap();
            let frame = builder.finish(Seq::new(seq).unwrap()).unwrap();
            let frame = Frame::decode(frame).unwrap();
            let sent = self.inlet.try_submit(FrameBatch::from(vec![frame]));
            sent.expect("no room").unwrap();
        }
    }
}

/// A panic finds frames in each state: acknowledged, given to a journal that waits for room, and queued behind it.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_gives_all_room_back_tells_its_sessions_and_loses_no_count() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(5);
    let mut config = Config::dev(dir.path());
    config.shards = 2;
    config.segment_bytes = 32 << 10;
    config.reserve_bytes = 0;
    // No flush counts for the shard.
    config.flush_interval = Duration::from_secs(600);
    let room = size(config.permits_bytes);
    let parts = Parts {
        disk: Arc::new(disk.clone()),
        views: Some(Arc::new(MemoryViews::new())),
        ..Parts::default()
    };
    let address = config.listen;
    let runtime = Runtime::prepare(config, parts).await.unwrap();
    let engine = Arc::new(runtime.start(address).await.unwrap());
    let mut stores = (1..100).map(|store| StoreId::new(store).unwrap());
    let struck = stores.clone().find(|store| shard_of(*store, 2) == 0);
    let other = stores.find(|store| shard_of(*store, 2) == 1);
    let mut till = Till::hello(&engine, struck.unwrap(), 0);
    let mut neighbour = Till::hello(&engine, other.unwrap(), 0);
    assert_eq!((till.welcome().await, neighbour.welcome().await), (1, 1));
    till.send(1, 3);
    till.acked(3).await;

    // 4 to 203 are decided and cannot become durable: more than the disk has room for.
    disk.limit_bytes(Some(disk.used_bytes()));
    for frame in 0..4 {
        till.send(4 + frame * 50, 53 + frame * 50);
    }
    let (hold, strike) = mpsc::channel();
    assert!(till.slot.send(ShardMessage::Strike(strike)).is_ok());
    // 204 to 208 and a handshake are queued behind the panic.
    till.send(204, 208);
    let mut late = Till::hello(&engine, struck.unwrap(), 1);
    let held = till.slot.gate.in_use();
    assert!(5 <= held, "{held} frames are held");
    drop(hold);
    assert_eq!(till.ended().await, Reason::Internal);
    assert_eq!(late.ended().await, Reason::Internal);
    disk.limit_bytes(None);
    // The other shard goes on.
    neighbour.send(1, 4);
    neighbour.acked(4).await;
    until_room(&engine, room).await;

    // What was given to the journal is durable, what was queued is not there: the device sends it again.
    until("the shard runs again", || engine.health().is_ready()).await;
    let mut again = Till::hello(&engine, struck.unwrap(), 1);
    assert_eq!(again.welcome().await, 204);
    again.send(204, 208);
    again.acked(208).await;
    until_room(&engine, room).await;
    // Counters are told with the flush.
    let flushed = Arc::clone(&engine);
    let flushed = tokio::task::spawn_blocking(move || flushed.flush_now());
    assert!(flushed.await.unwrap().is_ok());
    let metrics = engine.metrics();
    let events = metrics.events;
    assert!(events.adds_up(), "{events:?}");
    assert_eq!((events.received, events.applied), (212, 212), "{events:?}");
    assert_eq!(metrics.acked, 212);
    engine.kill().await.unwrap();
}

async fn until_room(engine: &Handle, bytes: usize) {
    until("all room is given back", || {
        let metrics = engine.metrics();
        let frames: u32 = metrics.shards.iter().map(|s| s.permits_used).sum();
        let free = size(engine.engine.slots[0].gate.free().bytes);
        assert!(free <= bytes, "more room came back than was taken");
        frames == 0 && free == bytes
    })
    .await;
}
