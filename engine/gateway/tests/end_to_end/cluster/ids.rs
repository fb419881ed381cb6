//! Ids that sources give their events: known to whoever serves a store next.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use till_protocol::builder::{SaleBuilder, SaleParts, event_id};
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::id::{EventId, SkuId};
use till_protocol::quantity::unit;
use till_storage::cluster::SharedStore as _;
use till_storage::query::TransactionQuery;

use super::*;
use crate::device::NOON_US;

/// The id that its source gives a sale: the same in each store.
const ID: EventId = EventId::from_bytes([9; 16]);
const RECEIPT: u64 = 4_711;

/// A sale of one piece at this price, as event `number`.
fn sale(number: u64, amount: i64) -> Bytes {
    let line = Line {
        sku: SkuId::of_code("tea").get(),
        quantity: 100_000,
        amount,
        kind: line_kind::SALE,
        unit: unit::EACH,
        ..Line::default()
    };
    let paid = Tender {
        amount,
        kind: tender::CASH,
        ..Tender::default()
    };
    let parts = SaleParts {
        sale: Sale {
            at: NOON_US,
            kind: kind::SALE,
            receipt: RECEIPT,
            ..Sale::default()
        },
        lines: &[line],
        tenders: &[paid],
        refs: &[event_id(ID)],
        ..SaleParts::default()
    };
    let mut builder = SaleBuilder::new();
    builder.push(&parts).unwrap();
    builder.finish(seq(number)).unwrap()
}

/// Ids that rows have, with the terminal and the number of their event.
fn ids_in(store: &MemoryCluster) -> BTreeMap<[u8; 16], (u64, u64)> {
    let mut found = BTreeMap::new();
    let mut add = |id: EventId, row: till_core::EventIdRow| {
        found.insert(id.to_bytes(), (row.terminal, row.seq));
        ControlFlow::Continue(())
    };
    store.views().event_ids(&mut add).unwrap();
    found
}

/// What became of each event with the receipt in a store.
async fn with_receipt(engine: &Arc<Handle>, store: u64) -> Vec<(u32, String)> {
    let query = Query::Transaction(TransactionQuery {
        receipt: RECEIPT.to_string(),
        store: Some(StoreId::new(store.try_into().unwrap()).unwrap()),
        terminal: None,
        day: None,
    });
    let engine = Arc::clone(engine);
    let reply = tokio::task::spawn_blocking(move || engine.query(&query).unwrap());
    let Reply::Transaction(answer) = reply.await.unwrap() else {
        panic!("another answer");
    };
    let rows = answer.rows.into_iter();
    rows.map(|row| (row.terminal, row.outcome.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_id_is_known_to_whoever_serves_its_store_next() {
    let dirs = [folder(), folder()];
    let store = Arc::new(MemoryCluster::new(SLOTS));
    let first = alone(dirs[0].path(), &store).await;
    for number in STORES {
        let (mut device, _, _connection) = at_home(std::slice::from_ref(&first), number, 0).await;
        device.send(sale(1, 250)).await;
        assert!(device.acked(1).await.is_empty());
    }
    let of_store = |number: u64| {
        let id = ID.in_store(StoreId::new(number.try_into().unwrap()).unwrap());
        (id.to_bytes(), (terminal(number, 1).to_u64(), 1))
    };
    // What is said to be committed comes to be in the rows, for each store by itself.
    let wanted: BTreeMap<_, _> = STORES.map(of_store).collect();
    until("the ids are in the rows", || ids_in(&store) == wanted).await;
    let second = node(dirs[1].path(), &store).await;
    first.kill().await.unwrap();
    drop(first);
    share(std::slice::from_ref(&second)).await;
    let connection = connect(&second).await;
    for number in STORES {
        // Another till brings the same event, and then one that has its id alone.
        let (mut device, _) = Device::open(&connection, number, 2, 0).await;
        device.send(sale(1, 250)).await;
        device.send(sale(2, 300)).await;
        assert!(device.acked(2).await.is_empty());
        let wanted = [(1, "applied".to_owned()), (2, "quarantined".to_owned())];
        assert_eq!(with_receipt(&second, number).await, wanted);
        let level = level(&second, number.try_into().unwrap()).await;
        assert_eq!(level, "-1", "store {number}");
    }
    let events = second.metrics().events;
    assert_eq!(
        (events.applied, events.duplicate, events.quarantined),
        (0, 12, 12)
    );
    second.drain().await.unwrap();
}
