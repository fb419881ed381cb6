//! Records of the journal as events, read with the wire's view alone.

use till_core::{Outcome, Record, RecordKind, Verdict};
use till_protocol::codec::Frame;
use till_protocol::family::Family;
use till_protocol::family::device::v1::ArchivedSign;
use till_protocol::family::sale::v1::flag as sale_flag;
use till_protocol::family::sensor::v1::ArchivedReading;
use till_protocol::family::stock::v1::{ArchivedMove, flag, kind};
use till_protocol::verified::Verified;
use till_protocol::view::{SaleEvent, View};

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
    family: Family,
    lines: Vec<(u64, i64, i64)>,
    kind: u8,
    /// Whose it is: an operator, a sensor, a code of the maker's.
    whose: u32,
    is_training: bool,
}

impl Read {
    /// Whether it says what its till said.
    pub(super) fn is(&self, truth: &Truth) -> bool {
        match &truth.act {
            Act::Sale(receipt) => {
                let reported = receipt.lines.iter();
                let reported =
                    reported.map(|line| (sku(line.all_skus), line.quantity, line.amount));
                self.family == Family::Sale
                    && self.whose == receipt.operator
                    && (self.kind, self.is_training) == (receipt.kind(), receipt.is_training)
                    && reported.eq(self.lines.iter().copied())
            }
            Act::Moved(all_skus, quantity) => {
                !self.is_training
                    && self.is_one(&[kind::RECEIVED, kind::WASTE], *all_skus, *quantity)
            }
            Act::Practised(all_skus, quantity) => {
                self.is_training
                    && self.is_one(&[kind::RECEIVED, kind::WASTE], *all_skus, *quantity)
            }
            Act::Read(reading) => {
                self.family == Family::Sensor
                    && (self.kind, self.whose) == (reading.kind, reading.sensor)
                    && self.lines == [(sku(reading.sku), reading.value, 0)]
            }
            Act::Told(telling) => {
                self.family == Family::Device
                    && (self.kind, self.whose) == (telling.kind, telling.code)
                    && self.lines == [(telling.backlog, 0, 0)]
            }
            Act::Counted(all_skus, quantity) => self.is_one(&[kind::COUNTED], *all_skus, *quantity),
            Act::Reserved(all_skus, quantity) => {
                self.is_one(&[kind::RESERVED, kind::RELEASED], *all_skus, *quantity)
            }
            Act::Garbage => false,
        }
    }

    fn is_one(&self, kinds: &[u8], all_skus: u64, quantity: i64) -> bool {
        self.family == Family::Stock
            && kinds.contains(&self.kind)
            && self.lines == [(sku(all_skus), quantity, 0)]
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
    let events: Vec<Read> = match batch.view() {
        View::Sale(sales) => sales.events().map(|event| of_sale(&event)).collect(),
        View::Stock(moves) => moves.events().map(|event| of_move(event.record)).collect(),
        View::Sensor(readings) => {
            let records = readings.events().map(|event| event.record);
            records.map(of_reading).collect()
        }
        View::Device(signs) => signs.events().map(|event| of_sign(event.record)).collect(),
    };
    Ok((0..).zip(events).collect())
}

fn of_sale(event: &SaleEvent<'_>) -> Read {
    let lines = event.lines.iter().map(|line| {
        let (quantity, amount) = (line.quantity.to_native(), line.amount.to_native());
        (line.sku.to_native(), quantity, amount)
    });
    Read {
        at: event.sale.at.to_native(),
        family: Family::Sale,
        lines: lines.collect(),
        kind: event.sale.kind,
        whose: event.sale.operator.to_native(),
        is_training: event.sale.flags.to_native() & sale_flag::TRAINING != 0,
    }
}

fn of_move(record: &ArchivedMove) -> Read {
    let sign = match record.kind {
        kind::WASTE | kind::RELEASED => -1,
        _ => 1,
    };
    let quantity = sign * record.quantity.to_native();
    Read {
        at: record.at.to_native(),
        family: Family::Stock,
        lines: vec![(record.sku.to_native(), quantity, 0)],
        kind: record.kind,
        whose: 0,
        is_training: record.flags.to_native() & flag::TRAINING != 0,
    }
}

fn of_reading(record: &ArchivedReading) -> Read {
    Read {
        at: record.at.to_native(),
        family: Family::Sensor,
        lines: vec![(record.sku.to_native(), record.value.to_native(), 0)],
        kind: record.kind,
        whose: record.sensor.to_native(),
        is_training: false,
    }
}

fn of_sign(record: &ArchivedSign) -> Read {
    Read {
        at: record.at.to_native(),
        family: Family::Device,
        lines: vec![(record.backlog.to_native(), 0, 0)],
        kind: record.kind,
        whose: record.code.to_native(),
        is_training: false,
    }
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
