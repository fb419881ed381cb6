//! Records of the journal as events, read with the wire's view alone.

use till_core::{Outcome, Record, RecordKind, Verdict};
use till_protocol::codec::Frame;
use till_protocol::family::stock::v1::kind;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use crate::workload::{Act, Truth, sku};

/// What became of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    Applied,
    Duplicate,
    Refused,
    Quarantined,
}

/// An event as it lies in a record.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) at: i64,
    lines: Vec<(u64, i64, i64)>,
    kind: u8,
    operator: u32,
}

impl Read {
    /// Whether it says what its till said.
    pub(super) fn is(&self, truth: &Truth) -> bool {
        match &truth.act {
            Act::Sale(receipt) => {
                let reported = receipt.lines.iter();
                let reported =
                    reported.map(|line| (sku(line.all_skus), line.quantity, line.amount));
                self.operator == receipt.operator && reported.eq(self.lines.iter().copied())
            }
            Act::Moved(all_skus, quantity) => {
                self.is_one(&[kind::RECEIVED, kind::WASTE], *all_skus, *quantity)
            }
            Act::Counted(all_skus, quantity) => self.is_one(&[kind::COUNTED], *all_skus, *quantity),
            Act::Reserved(all_skus, quantity) => {
                self.is_one(&[kind::RESERVED, kind::RELEASED], *all_skus, *quantity)
            }
            Act::Garbage => false,
        }
    }

    fn is_one(&self, kinds: &[u8], all_skus: u64, quantity: i64) -> bool {
        kinds.contains(&self.kind) && self.lines == [(sku(all_skus), quantity, 0)]
    }
}

/// The events of a record by index; `None` for one that is not about events.
pub(super) fn read(record: &Record) -> Option<Result<Vec<(u32, Read)>, String>> {
    match record.head.kind {
        RecordKind::Batch => Some(of_batch(record)),
        RecordKind::Tombstones | RecordKind::Duplicates => Some(Ok(Vec::new())),
        RecordKind::StoreRegistered
        | RecordKind::Retry
        | RecordKind::SkuAlias
        | RecordKind::BaseRow => None,
    }
}

/// Terminal, epoch and number of each event that a record decides.
pub(super) fn places_of(record: &Record) -> impl Iterator<Item = (u64, u32, u64)> + use<> {
    let head = record.head;
    let has_events = matches!(
        head.kind,
        RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates
    );
    let events = if has_events {
        head.skip..head.count
    } else {
        0..0
    };
    events.map(move |index| (head.terminal, head.epoch, head.first_seq + u64::from(index)))
}

/// The events of a record, decided or not, as far as they can be read.
pub(super) fn reported(record: &Record) -> Vec<(u32, Read)> {
    match record.head.kind {
        RecordKind::Batch => of_batch(record).unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn of_batch(record: &Record) -> Result<Vec<(u32, Read)>, String> {
    let head = &record.head;
    let payload = record.payload.clone();
    let frame = Frame::new(
        head.family,
        head.version,
        head.count,
        head.first_seq,
        payload,
    );
    let frame = frame.map_err(|error| error.to_string())?;
    let batch = Verified::from_journal(frame).map_err(|error| error.error.to_string())?;
    let mut events = Vec::new();
    match batch.view() {
        View::Sale(sales) => {
            for (index, sale) in (0..).zip(sales.events()) {
                let lines = sale.lines.iter().map(|line| {
                    let (quantity, amount) = (line.quantity.to_native(), line.amount.to_native());
                    (line.sku.to_native(), quantity, amount)
                });
                let read = Read {
                    at: sale.sale.at.to_native(),
                    lines: lines.collect(),
                    kind: 0,
                    operator: sale.sale.operator.to_native(),
                };
                events.push((index, read));
            }
        }
        View::Stock(moves) => {
            for (index, event) in (0..).zip(moves.events()) {
                let quantity = event.record.quantity.to_native();
                let sign = match event.record.kind {
                    kind::WASTE | kind::RELEASED => -1,
                    _ => 1,
                };
                let read = Read {
                    at: event.record.at.to_native(),
                    lines: vec![(event.record.sku.to_native(), sign * quantity, 0)],
                    kind: event.record.kind,
                    operator: 0,
                };
                events.push((index, read));
            }
        }
        View::Sensor(_) | View::Device(_) => return Err("of a family that nobody sends".to_owned()),
    }
    Ok(events)
}

/// What a record says of an event: the verdict on it, else the one on all, else that it took effect.
pub(super) fn outcome_of(record: &Record, index: u32) -> Fate {
    let of = |wanted: u32| record.verdicts.iter().find(|one| one.index == wanted);
    let outcome = match of(index).or_else(|| of(Verdict::ALL)) {
        Some(verdict) => verdict.outcome,
        None => Outcome::Applied,
    };
    match outcome {
        Outcome::Applied => Fate::Applied,
        Outcome::Duplicate => Fate::Duplicate,
        Outcome::Refused => Fate::Refused,
        Outcome::Quarantined => Fate::Quarantined,
    }
}
