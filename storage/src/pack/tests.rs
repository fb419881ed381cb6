use till_core::{Dim, RollupKey, RollupRow, SkuRow, StoreRow, TerminalRow, Totals};

use super::{Key as _, Row};
use crate::testing::conformance::sample;

fn round_trip<R: Row + PartialEq + std::fmt::Debug>(row: &R) {
    let bytes = row.to_row();
    assert_eq!(R::unpack(&bytes).as_ref(), Some(row));
    for cut in 0..bytes.len() {
        assert_ne!(R::unpack(&bytes[..cut]).as_ref(), Some(row), "cut at {cut}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(R::unpack(&longer), None, "a byte too many");
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(R::unpack(&newer), None, "a newer schema");
}

#[test]
fn rows_read_back_and_nothing_shorter_or_newer_is_taken_for_one() {
    let all = sample(7).unwrap();
    round_trip(&all.stores[0].1);
    round_trip(&all.terminals[0].1);
    round_trip(&all.skus[0].1);
    round_trip(&all.rollups[0].1);
    round_trip(&all.event_ids[0].1);
    round_trip(all.quarantine[0].1.as_ref().unwrap());
    round_trip(&all.names[0].2);
    round_trip(&TerminalRow::default());
    round_trip(&SkuRow::default());
    round_trip(&String::new());
}

#[test]
fn extreme_sums_read_back() {
    for number in [i128::MIN, -1, 0, 1, i128::MAX] {
        round_trip(&RollupRow {
            totals: Totals {
                transactions: u64::MAX,
                net: number,
                ..Totals::default()
            },
            returns_net: number,
            moved: number,
        });
    }
}

#[test]
fn an_hour_of_one_sku_takes_a_few_dozen_bytes() {
    let row = RollupRow {
        totals: Totals {
            transactions: 12,
            lines: 14,
            quantity: 1_500_000,
            net: 18_235,
            discount: 120,
            tax: 2_911,
        },
        returns_net: 0,
        moved: -1_500_000,
    };
    assert!(row.to_row().len() <= 24, "{} bytes", row.to_row().len());
}

#[test]
fn keys_sort_as_their_bytes() {
    let mut keys = Vec::new();
    for store in [1, 255, 256, 70_000] {
        for dim in [Dim::Store, Dim::Operator] {
            for hour_us in [i64::MIN, -1, 0, 1, i64::MAX] {
                for key in [0, 255, 256, u64::MAX] {
                    keys.push(RollupKey {
                        store,
                        dim,
                        day: 300,
                        hour_us,
                        key,
                    });
                }
            }
        }
    }
    let mut by_bytes = keys.clone();
    keys.sort();
    by_bytes.sort_by_key(|key| key.to_key());
    assert_eq!(keys, by_bytes);
    for key in keys {
        assert_eq!(RollupKey::from_key(&key.to_key()), Some(key));
    }
}

#[test]
fn the_bytes_of_a_row_are_frozen() {
    let row = StoreRow {
        currency: 978,
        zone: "UTC".to_owned(),
        registered_at_us: -1,
        applied: 300,
        training: Totals::default(),
    };
    assert_eq!(
        row.to_row(),
        [
            1, 0xd2, 0x07, 3, b'U', b'T', b'C', 1, 0xac, 0x02, 0, 0, 0, 0, 0, 0
        ]
    );
}
