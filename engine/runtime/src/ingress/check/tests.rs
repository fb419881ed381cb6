use till_core::{Record, RecordHead, Verdict};
use till_protocol::builder::StockBuilder;
use till_protocol::family::Family;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{Epoch, StoreId, TillId};
use till_storage::journal::Lsn;
use till_storage::query::VisitFact;

use super::*;

/// Gives all that it has, whatever it is asked for.
struct Everything(Vec<Fact>);

impl FactReader for Everything {
    fn end(&self) -> u64 {
        0
    }

    fn start(&self) -> u64 {
        0
    }

    fn of_hours(&self, _: StoreId, _: i64, _: i64, visit: VisitFact<'_>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(visit)
    }

    fn of_receipt(&self, _: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(visit)
    }

    fn of_run(
        &self,
        _: TerminalId,
        _: u32,
        _: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        self.0.iter().try_for_each(visit)
    }
}

fn terminal() -> TerminalId {
    TerminalId::new(StoreId::new(1).unwrap(), TillId::new(1).unwrap())
}

fn event(number: i64) -> Move {
    Move {
        at: number,
        sku: 7,
        quantity: 100_000,
        kind: kind::RECEIVED,
        unit: 1,
        ..Move::default()
    }
}

fn digest(number: i64) -> u64 {
    till_protocol::digest::stock_digest(&event(number))
}

/// The record of events that say these numbers, from 1 on in an epoch.
fn fact(lsn: u64, epoch: u32, first: u64, numbers: &[i64]) -> Fact {
    let mut builder = StockBuilder::new();
    for number in numbers {
        builder.push(&event(*number), &[], &[]).unwrap();
    }
    let frame = builder.finish_frame(Seq::new(first).unwrap()).unwrap();
    let head = RecordHead {
        kind: RecordKind::Batch,
        family: Family::Stock.number(),
        version: 1,
        terminal: terminal().to_u64(),
        epoch,
        first_seq: first,
        count: u32::try_from(numbers.len()).unwrap(),
        skip: 0,
        received_at_us: 0,
        digest: digest(numbers[numbers.len() - 1]),
    };
    let record = Record {
        head,
        payload: frame.payload,
        verdicts: Vec::new(),
    };
    Fact::new(Lsn::new(lsn), record)
}

fn ask(facts: Vec<Fact>, digests: Vec<u64>) -> Option<(u16, u16)> {
    let check = Check {
        epoch: Epoch::new(2).unwrap(),
        first_seq: Seq::FIRST,
        digests,
    };
    let (checked, _) = answer(&Everything(facts), terminal(), &check).unwrap()?;
    Some((checked.matched, checked.known))
}

const OWN: u64 = 1 << 63;

#[test]
fn other_epochs_say_nothing_of_this_one() {
    let facts = vec![
        fact(1, 2, 1, &[10, 11]),
        fact(2, 3, 1, &[20, 21]),
        fact(3, 1, 1, &[30, 31]),
    ];
    assert_eq!(ask(facts, vec![digest(10), digest(11)]).unwrap(), (2, 2));
}

#[test]
fn a_device_is_told_of_nothing_that_one_disk_alone_has() {
    let facts = || vec![fact(1, 2, 1, &[10]), fact(OWN | 5, 2, 2, &[11])];
    let digests = vec![digest(10), digest(11)];
    assert_eq!(ask(facts(), digests.clone()), None);
    // What would leave its outbox is committed.
    assert_eq!(ask(facts(), vec![digest(10)]).unwrap(), (1, 1));
    assert_eq!(ask(facts(), vec![digest(10), digest(99)]).unwrap(), (1, 2));
    let committed = vec![fact(1, 2, 1, &[10]), fact(2, 2, 2, &[11])];
    assert_eq!(ask(committed, digests).unwrap(), (2, 2));
}

#[test]
fn a_retry_leaves_what_its_event_is_known_by() {
    let mut retried = fact(2, 2, 1, &[10, 11]);
    retried.record.head.kind = RecordKind::Retry;
    retried.record.verdicts = vec![Verdict {
        index: 0,
        outcome: Outcome::Applied,
        reason: 0,
        flags: 0,
    }];
    let facts = vec![fact(1, 2, 1, &[10, 11]), retried];
    assert_eq!(ask(facts, vec![digest(10), digest(11)]).unwrap(), (2, 2));
}
