//! Frames that need rows of a store that does not answer.

use bytes::Bytes;
use till_protocol::builder::{StockBuilder, TextView};
use till_protocol::family::stock::v1::Move;
use till_protocol::id::SkuId;

use super::*;

/// A frame in which one piece of these goods comes in with each event.
pub(super) fn skus(code: &str, first: u64, count: u64) -> Bytes {
    let mut builder = StockBuilder::new();
    for number in first..first + count {
        let named = TextView {
            item: till_protocol::family::WHOLE_EVENT,
            kind: till_protocol::family::text::SKU_CODE,
            text: code,
        };
        let movement = Move {
            sku: SkuId::of_code(code).get(),
            ..tea(number, 1)
        };
        builder.push(&movement, &[], &[named]).unwrap();
    }
    builder.finish(seq(first)).unwrap()
}

fn intake(engine: &Handle) -> till_runtime::Check {
    let mut checks = engine.health().checks.into_iter();
    checks.find(|check| check.name == "intake").unwrap()
}

// What was acknowledged before the session ended; the highest number that was journalled.
async fn sent_away(device: &mut Device) -> u64 {
    let mut journalled = 0;
    loop {
        match device.next().await {
            Some(Message::Ack(ack)) => {
                assert!(ack.committed.is_none_or(|seq| seq.get() <= 10), "{ack:?}");
                journalled = ack.journalled.map_or(journalled, |seq| seq.get());
            }
            Some(Message::Bye(bye)) => {
                assert_eq!(bye.reason, Reason::Busy);
                return journalled;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_need_rows_are_not_taken_while_the_shared_store_is_away() {
    let dir = folder();
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let engine = alone(dir.path(), &store).await;
    let (mut device, _, _connection) = at_home(std::slice::from_ref(&engine), 3, 0).await;
    assert!(intake(&engine).ok);
    device.send(teas(1, 10)).await;
    device.acked(10).await;
    store.set_away(true);
    let end = engine.metrics().journal.durable;
    device.send(skus("milk", 11, 10)).await;
    assert_eq!(sent_away(&mut device).await, 0);
    assert_eq!(
        engine.metrics().journal.durable,
        end,
        "nothing is journalled as deferred"
    );
    let told = intake(&engine);
    assert!(!told.ok && !engine.health().is_ready(), "{told:?}");
    assert!(told.reason.contains("devices keep them"), "{told:?}");
    // It goes on by itself.
    store.set_away(false);
    let watched = Arc::clone(&engine);
    until("intake goes on", || watched.health().is_ready()).await;
    let (mut device, next, _connection) = at_home(std::slice::from_ref(&engine), 3, 1).await;
    assert_eq!(next, 11);
    device.send(skus("milk", 11, 10)).await;
    assert!(device.acked(20).await.is_empty());
    assert_eq!(level_of(&engine, 3, "tea").await, "10");
    assert_eq!(level_of(&engine, 3, "milk").await, "10");
    engine.drain().await.unwrap();
}
