use till_core::{RollupKey, RollupRow, Space, StoreRow, Totals};
use till_protocol::id::StoreId;
use till_storage::views::FlushBatch;

use crate::publish::batches::split;

fn store(number: u32, rows: u64) -> FlushBatch {
    let row = StoreRow {
        currency: 840,
        zone: "UTC".to_owned(),
        registered_at_us: 0,
        applied: 7,
        training: Totals::default(),
    };
    let rollups = (0..rows).map(|key| {
        let key = RollupKey {
            store: number,
            dim: till_core::Dim::Sku,
            day: 1,
            hour_us: 0,
            key,
        };
        (key, RollupRow::default())
    });
    FlushBatch {
        stores: vec![(StoreId::new(number).unwrap(), row)],
        rollups: rollups.collect(),
        names: vec![(Space::Sku, u64::from(number), "tea".to_owned())],
        ..FlushBatch::default()
    }
}

#[test]
fn a_store_is_never_cut_in_two_and_the_last_call_moves_the_checkpoint() {
    let mut batch = FlushBatch::default();
    for (number, rows) in [(1, 9_000), (2, 9_000), (3, 40_000), (4, 10)] {
        batch.append(store(number, rows));
    }
    let rows = batch.rows();
    let calls = split(vec![batch], Some(99));
    assert_eq!(calls.iter().map(FlushBatch::rows).sum::<usize>(), rows);
    assert!(calls.len() >= 3);
    for (at, call) in calls.iter().enumerate() {
        for (store, _) in &call.stores {
            let mine = call
                .rollups
                .iter()
                .filter(|(key, _)| key.store == store.get());
            let number = usize::try_from(store.get()).unwrap();
            let all = [0, 9_000, 9_000, 40_000, 10][number];
            assert_eq!(mine.count(), all, "store {store}");
        }
        let last = at + 1 == calls.len();
        assert_eq!(call.checkpoint, last.then_some(99));
    }
    // Names come before the rows that use them.
    assert_eq!(calls[0].names.len(), 4);
}
