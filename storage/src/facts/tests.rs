//! Facts are found where a walk through the whole journal finds them.

mod fresh;
mod watched;

use proptest::prelude::*;
use till_core::{Outcome, Record, RecordHead, RecordKind, Verdict};
use till_protocol::builder::{SaleBuilder, SaleParts, StockBuilder};
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::family::stock::v1::{Move, kind as move_kind};
use till_protocol::family::{WHOLE_EVENT, text};
use till_protocol::id::Seq;
use till_protocol::view::TextView;

use super::{Facts, FactsConfig};
use crate::disk::{Disk as _, SimDisk};
use crate::index::hour_of;
use crate::index::keys::{keys_of, verified_of, with_receipt};
use crate::journal::testing::{all, append_each, dir, open};
use crate::journal::{Journal, Lsn, range_of};

const HOUR: i64 = 3_600_000_000;

fn journalled(frame: Frame, terminal: u64) -> Record {
    let header = frame.header;
    Record {
        head: RecordHead {
            kind: RecordKind::Batch,
            family: header.family,
            version: header.version,
            terminal,
            epoch: 1,
            first_seq: header.first_seq,
            count: header.count,
            skip: 0,
            received_at_us: 77,
            digest: 1,
        },
        payload: frame.payload,
        verdicts: Vec::new(),
    }
}

fn sales(terminal: u64, first: u64, sold: &[(i64, u64)]) -> Record {
    let mut builder = SaleBuilder::new();
    for (hour, receipt) in sold {
        let named = format!("R-{receipt}");
        let texts = [TextView {
            item: WHOLE_EVENT,
            kind: text::RECEIPT,
            text: &named,
        }];
        let line = Line {
            sku: 5,
            quantity: 100_000,
            amount: 250,
            kind: line_kind::SALE,
            ..Line::default()
        };
        let paid = Tender {
            amount: 250,
            kind: tender::CASH,
            flags: 0,
        };
        // Every third receipt has words instead of a number.
        let in_words = receipt % 3 == 0;
        builder
            .push(&SaleParts {
                sale: Sale {
                    at: hour * HOUR + 5,
                    receipt: if in_words { 0 } else { *receipt },
                    kind: kind::SALE,
                    ..Sale::default()
                },
                lines: &[line],
                tenders: &[paid],
                texts: if in_words { &texts } else { &[] },
                ..SaleParts::default()
            })
            .unwrap();
    }
    let frame = builder.finish_frame(Seq::new(first).unwrap()).unwrap();
    journalled(frame, terminal)
}

fn moves(terminal: u64, first: u64, hours: &[i64]) -> Record {
    let mut builder = StockBuilder::new();
    for hour in hours {
        let moved = Move {
            at: hour * HOUR + 9,
            sku: 5,
            quantity: 100_000,
            kind: move_kind::RECEIVED,
            ..Move::default()
        };
        builder.push(&moved, &[], &[]).unwrap();
    }
    let frame = builder.finish_frame(Seq::new(first).unwrap()).unwrap();
    journalled(frame, terminal)
}

fn facts(journal: Journal) -> Facts {
    let config = FactsConfig {
        cache_bytes: 0,
        filter_bytes: 64,
        terminal_bytes: 4_096,
    };
    Facts::new(journal, config)
}

#[derive(Clone, Debug)]
struct Batch {
    store: u64,
    till: u64,
    sold: Vec<(i64, u64)>,
    stock: bool,
}

fn batch() -> impl Strategy<Value = Batch> {
    let sold = prop::collection::vec((400_000_i64..400_006, 1_u64..40), 1..12);
    (1_u64..4, 1_u64..3, sold, any::<bool>()).prop_map(|(store, till, sold, stock)| Batch {
        store,
        till,
        sold,
        stock,
    })
}

fn records(batches: &[Batch]) -> Vec<Record> {
    let mut next = std::collections::BTreeMap::new();
    let mut records = Vec::new();
    for batch in batches {
        let terminal = batch.store << 32 | batch.till;
        let seq = next.entry(terminal).or_insert(1_u64);
        let hours: Vec<i64> = batch.sold.iter().map(|(hour, _)| *hour).collect();
        records.push(if batch.stock {
            moves(terminal, *seq, &hours)
        } else {
            sales(terminal, *seq, &batch.sold)
        });
        *seq += u64::try_from(batch.sold.len()).unwrap();
    }
    records
}

fn walk(journal: &Journal, keep: impl Fn(&Record) -> bool) -> Vec<Lsn> {
    let kept = all(journal).into_iter().filter(|(_, record)| keep(record));
    kept.map(|(lsn, _)| lsn).collect()
}

fn compare(facts: &Facts) {
    let journal = facts.journal().clone();
    for store in 1..4_u32 {
        for (from, to) in [
            (400_000, 400_002),
            (400_003, 400_004),
            (0, 900_000),
            (400_005, 0),
        ] {
            let (from_us, to_us) = (from * HOUR, to * HOUR);
            let found = facts.by_store_hours(store, from_us, to_us).unwrap();
            let wanted = walk(&journal, |record| {
                let hours = keys_of(record).unwrap().hours;
                let inside = |hour: &i32| (hour_of(from_us)..hour_of(to_us)).contains(hour);
                record.head.terminal >> 32 == u64::from(store) && hours.iter().any(inside)
            });
            assert_eq!(found.lsns(), wanted, "store {store} {from} to {to}");
        }
    }
    for receipt in 1..41_u64 {
        let name = if receipt % 3 == 0 {
            format!("R-{receipt}")
        } else {
            receipt.to_string()
        };
        let found: Vec<(Lsn, u32)> = facts
            .by_receipt(&name)
            .unwrap()
            .iter()
            .map(|event| (event.fact.lsn, event.index))
            .collect();
        assert_eq!(found, receipts(&journal, &name), "receipt {name}");
    }
    for terminal in [1 << 32 | 1, 2 << 32 | 2, 3 << 32 | 1, 9 << 32 | 9] {
        for (first, last) in [(1, 5), (7, 7), (12, 90), (500, 600)] {
            let found = facts
                .by_terminal(terminal, 1, (first, last), Lsn::ZERO)
                .unwrap();
            let wanted = walk(&journal, |record| {
                let range = range_of(&record.head);
                record.head.terminal == terminal
                    && range.is_some_and(|(from, to)| from <= last && first <= to)
            });
            assert_eq!(
                found.lsns(),
                wanted,
                "terminal {terminal} {first} to {last}"
            );
        }
    }
}

fn receipts(journal: &Journal, name: &str) -> Vec<(Lsn, u32)> {
    let mut wanted = Vec::new();
    for (lsn, record) in all(journal) {
        let Some(Ok(verified)) = verified_of(&record) else {
            continue;
        };
        if let till_protocol::view::View::Sale(view) = verified.view() {
            for event in view.events() {
                if with_receipt(&event, |text| text == name) == Some(true) {
                    wanted.push((lsn, event.index));
                }
            }
        }
    }
    wanted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_index_finds_what_a_walk_through_the_journal_finds(
        batches in prop::collection::vec(batch(), 1..40),
    ) {
        let disk = SimDisk::new(0);
        let sent = records(&batches);
        append_each(open(&disk).unwrap(), &sent).1.unwrap();
        let one = facts(open(&disk).unwrap().journal);
        compare(&one);
        // Again from the files alone.
        let again = facts(open(&disk).unwrap().journal);
        prop_assert_eq!(again.catch_up().unwrap(), 0);
        compare(&again);
    }
}

/// What one of several engines could not commit before it lost a slot hides nothing of what it journals under the same numbers
/// once it has the slot again.
#[test]
fn an_older_branch_of_an_epoch_hides_nothing_of_a_younger_one() {
    let disk = SimDisk::new(0);
    let terminal = 1 << 32 | 1;
    let one = |first, hours: &[i64]| moves(terminal, first, hours);
    let hour = 400_000;
    let older = [one(1, &[hour; 4]), one(5, &[hour; 1])];
    let younger = [one(1, &[hour; 2]), one(3, &[hour; 2]), one(5, &[hour; 2])];
    let records = [older.as_slice(), &younger].concat();
    append_each(open(&disk).unwrap(), &records).1.unwrap();
    let facts = facts(open(&disk).unwrap().journal);
    let lsns: Vec<Lsn> = all(facts.journal())
        .iter()
        .map(|(at_lsn, _)| *at_lsn)
        .collect();
    for (run, wanted) in [
        ((1, 4), 2..4),
        ((3, 3), 3..4),
        ((5, 6), 4..5),
        ((1, 9), 2..5),
    ] {
        let found = facts.by_terminal(terminal, 1, run, lsns[2]).unwrap();
        assert_eq!(found.lsns(), &lsns[wanted], "{run:?}");
    }
}

fn some_batches() -> Vec<Record> {
    let batches: Vec<Batch> = (0..120_u64)
        .map(|n| Batch {
            store: n % 3 + 1,
            till: n % 2 + 1,
            sold: (0..6).map(|i| (400_000 + i, n % 40 + 1)).collect(),
            stock: n % 4 == 0,
        })
        .collect();
    records(&batches)
}

#[test]
fn an_index_that_was_lost_or_damaged_is_built_again() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &some_batches())
        .1
        .unwrap();
    let built = facts(open(&disk).unwrap().journal).catch_up().unwrap();
    assert!(built > 1);
    let name = disk.list(&dir()).unwrap();
    let index = dir().join(name.iter().find(|name| name.ends_with(".idx")).unwrap());
    let bytes = disk.bytes(&index).unwrap();
    for byte in (0..bytes.len()).step_by(3) {
        disk.put(&index, &bytes);
        disk.flip_bit(&index, byte * 8 + byte % 8);
        let again = facts(open(&disk).unwrap().journal);
        for receipt in ["R-3", "4"] {
            let found = again.by_receipt(receipt).unwrap().len();
            assert_eq!(
                found,
                receipts(again.journal(), receipt).len(),
                "byte {byte}"
            );
        }
        compare_hours(&again);
    }
    disk.remove(&index).unwrap();
    compare(&facts(open(&disk).unwrap().journal));
}

fn compare_hours(facts: &Facts) {
    let found = facts
        .by_store_hours(1, 400_001 * HOUR, 400_003 * HOUR)
        .unwrap();
    let wanted = walk(facts.journal(), |record| record.head.terminal >> 32 == 1);
    assert_eq!(found.lsns(), wanted);
}

// A batch of three sales whose last is quarantined, by its own verdict or by one on all that are new.
fn quarantined_and_retried(index: u32) -> (Record, Record) {
    let mut batch = sales(1 << 32 | 1, 1, &[(400_000, 1), (400_001, 2), (400_002, 3)]);
    batch.head.skip = 2;
    batch.verdicts = vec![Verdict {
        index,
        outcome: Outcome::Quarantined,
        reason: 9,
        flags: 0,
    }];
    let retry = Record {
        head: RecordHead {
            kind: RecordKind::Retry,
            skip: 0,
            ..batch.head
        },
        verdicts: vec![Verdict {
            index: 2,
            outcome: Outcome::Applied,
            reason: 0,
            flags: 4,
        }],
        ..batch.clone()
    };
    (batch, retry)
}

#[test]
fn a_retried_event_is_found_once_as_applied_where_it_took_effect() {
    for index in [2, Verdict::ALL] {
        let disk = SimDisk::new(0);
        let (batch, retry) = quarantined_and_retried(index);
        let lsns = append_each(open(&disk).unwrap(), &[batch, retry]);
        lsns.1.unwrap();
        let facts = facts(open(&disk).unwrap().journal);
        let fates = |hour: i64| -> Vec<_> {
            let found = facts.by_store_hours(1, hour * HOUR, (hour + 1) * HOUR);
            let found = found.unwrap().map(|fact| {
                let fact = fact.unwrap();
                (0..3)
                    .map(|at| {
                        fact.fate(at)
                            .map(|fate| (fate.outcome, fate.reason, fate.flags))
                    })
                    .collect()
            });
            let found: Vec<Vec<_>> = found.collect();
            found
        };
        let known = Some((Outcome::Duplicate, 0, 0));
        let first = vec![known, known, Some((Outcome::Quarantined, 9, 0))];
        let again = vec![None, None, Some((Outcome::Applied, 0, 4))];
        assert_eq!(fates(400_002), [first.clone(), again], "verdict on {index}");
        assert_eq!(fates(400_001), [first], "verdict on {index}");
        let found = facts.by_receipt("R-3").unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.fact.record.head.kind, one.index))
            .collect();
        assert_eq!(found, [(RecordKind::Batch, 2), (RecordKind::Retry, 2)]);
    }
}
