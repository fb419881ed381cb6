//! The rows of one event.

use till_core::contribution::day_of;
use till_core::event::Event;
use till_core::{Contributor, Outcome, RecordKind, Zone, ledger};
use till_protocol::family::device::v1 as device;
use till_protocol::family::sale::v1::{extra, line_kind, tender};
use till_protocol::family::sensor::v1 as sensor;
use till_protocol::family::stock::v1 as stock;
use till_protocol::id::TerminalId;
use till_protocol::quantity::unit;
use till_protocol::view::{DeviceEvent, SaleEvent, SensorEvent, StockEvent};
use till_storage::facts::{Fact, Fate, hour_of};
use till_storage::query::{
    customer_of, extra_of, kind_name, line_kind_name, outcome_name, stated_tender,
};

use super::cell::date_of_us;
use super::commit::{Facts, stated_receipt, took_effect, words};
use super::derived::{part_of_receipt, quarter_of, signed};
use super::fact::{
    AuditRow, LineRow, Maybe, MoveRow, ReceiptIndexRow, TelemetryRow, TenderCell, TransactionRow,
};
use super::{Id64, date, set, varint};
use scylla::value::MaybeUnset;

/// Writes the events of one record down.
pub(crate) struct Scribe<'a> {
    pub(crate) out: &'a mut Facts,
    pub(crate) contributor: &'a mut Contributor,
    pub(crate) fact: &'a Fact,
    /// The epoch of the log that the record is in.
    pub(crate) log_epoch: i64,
    pub(crate) terminal: TerminalId,
    pub(crate) currency: String,
    pub(crate) zone: Zone,
}

/// What all rows of an event have.
#[derive(Clone, Copy)]
struct EventKey {
    store: i32,
    hour: i32,
    quarter: i8,
    at_us: i64,
    terminal: i64,
    epoch: i32,
    seq: i64,
    stamp: i64,
}

impl Scribe<'_> {
    /// The rows of an event that the record says this of.
    pub(crate) fn event(&mut self, event: &Event<'_>, fate: Fate, index: u32) {
        let event_key = self.event_key(event.at_us(), index);
        match event {
            Event::Sale(sale) => {
                self.transaction(sale, fate, event_key);
                self.lines(sale, fate, event_key);
            }
            Event::Stock(one) => self.stock_move(one, fate, event_key),
            // These tables have no outcome: an event that came twice would stand there twice.
            Event::Sensor(one) if took_effect(fate.outcome) => self.reading(one, event_key),
            Event::Device(one) if took_effect(fate.outcome) => self.sign(one, event_key),
            Event::Sensor(_) | Event::Device(_) => {}
        }
        self.audit(fate, event_key);
    }

    fn is_retry(&self) -> bool {
        self.fact.record.head.kind == RecordKind::Retry
    }

    // A retry is written over the rows of the first record, whose receipt it never lies before: one more, as of two writes with one
    // stamp the store would choose.
    fn event_key(&self, at_us: i64, index: u32) -> EventKey {
        let head = &self.fact.record.head;
        let stamp = if self.is_retry() {
            head.received_at_us.saturating_add(1)
        } else {
            at_us.min(head.received_at_us)
        };
        EventKey {
            store: signed(self.terminal.store().get()),
            hour: hour_of(at_us),
            quarter: quarter_of(at_us),
            at_us,
            terminal: head.terminal.cast_signed(),
            epoch: signed(head.epoch),
            seq: self.fact.seq(index).cast_signed(),
            stamp,
        }
    }

    fn reason(&self, fate: Fate) -> Maybe<i32> {
        if fate.reason != 0 {
            return MaybeUnset::Set(Some(i32::from(fate.reason)));
        }
        // The reason of the first record must not stand.
        if self.is_retry() {
            MaybeUnset::Set(None)
        } else {
            MaybeUnset::Unset
        }
    }

    fn transaction(&mut self, sale: &SaleEvent<'_>, fate: Fate, event_key: EventKey) {
        let totals = self.contributor.totals_of(sale);
        let day = day_of(sale, self.zone.local(event_key.at_us));
        let operator = sale.sale.operator.to_native();
        let receipt = stated_receipt(sale);
        let head = &self.fact.record.head;
        let position = self.fact.lsn.get().cast_signed();
        if let Some(receipt) = &receipt {
            let row = ReceiptIndexRow {
                receipt: receipt.clone(),
                part: part_of_receipt(event_key.store),
                store: event_key.store,
                hour: event_key.hour,
                position,
                log_epoch: self.log_epoch,
            };
            self.out.receipts.push((event_key.stamp, row));
        }
        let row = TransactionRow {
            store: event_key.store,
            hour: event_key.hour,
            quarter: event_key.quarter,
            at_us: event_key.at_us,
            terminal: event_key.terminal,
            epoch: event_key.epoch,
            seq: event_key.seq,
            till: signed(self.terminal.till().get()),
            kind: kind_name(sale.sale.kind),
            outcome: outcome_name(fate.outcome),
            reason: self.reason(fate),
            flags: i64::from(fate.flags),
            receipt: set(receipt),
            day: date(day),
            operator: set((operator != 0).then_some(i64::from(operator))),
            customer: set(customer_of(sale)),
            currency: self.currency.clone(),
            lines: i32::try_from(totals.lines).unwrap_or(i32::MAX),
            quantity_e5: varint(totals.quantity),
            net_minor: varint(totals.net),
            discount_minor: varint(totals.discount),
            tax_minor: varint(totals.tax),
            tenders: tenders(sale),
            received_at_us: head.received_at_us,
            position,
            counts: took_effect(fate.outcome) && ledger::counts(sale),
        };
        self.out.transactions.push((event_key.stamp, row));
    }

    fn lines(&mut self, sale: &SaleEvent<'_>, fate: Fate, event_key: EventKey) {
        let counts = took_effect(fate.outcome) && ledger::counts(sale);
        let day = day_of(sale, self.zone.local(event_key.at_us));
        for (number, line) in (0_i32..).zip(sale.lines) {
            let row = LineRow {
                store: event_key.store,
                hour: event_key.hour,
                quarter: event_key.quarter,
                at_us: event_key.at_us,
                terminal: event_key.terminal,
                epoch: event_key.epoch,
                seq: event_key.seq,
                line: number,
                sku: Id64(line.sku.to_native()),
                kind: line_kind_name(line.kind),
                quantity_e5: line.quantity.to_native(),
                unit: unit::name(line.unit),
                net_minor: line.amount.to_native(),
                category: i64::from(line.category.to_native()),
                day: date(day),
                counts: counts && line.kind != line_kind::VOID,
            };
            self.out.lines.push((event_key.stamp, row));
        }
    }

    fn stock_move(&mut self, event: &StockEvent<'_>, fate: Fate, event_key: EventKey) {
        let record = event.record;
        let row = MoveRow {
            store: event_key.store,
            hour: event_key.hour,
            quarter: event_key.quarter,
            at_us: event_key.at_us,
            terminal: event_key.terminal,
            epoch: event_key.epoch,
            seq: event_key.seq,
            sku: Id64(record.sku.to_native()),
            kind: move_name(record.kind),
            quantity_e5: record.quantity.to_native(),
            unit: unit::name(record.unit),
            outcome: outcome_name(fate.outcome),
            reason: self.reason(fate),
            flags: i64::from(fate.flags),
        };
        self.out.moves.push((event_key.stamp, row));
    }

    fn reading(&mut self, event: &SensorEvent<'_>, event_key: EventKey) {
        let record = event.record;
        let sku = record.sku.to_native();
        let row = TelemetryRow {
            sensor: MaybeUnset::Set(i64::from(record.sensor.to_native())),
            value_e3: MaybeUnset::Set(record.value.to_native()),
            unit: MaybeUnset::Set(unit::name(record.unit)),
            sku: set((sku != 0).then_some(Id64(sku))),
            ..telemetry(event_key, reading_name(record.kind))
        };
        self.out.telemetry.push((event_key.stamp, row));
    }

    fn sign(&mut self, event: &DeviceEvent<'_>, event_key: EventKey) {
        let record = event.record;
        let row = TelemetryRow {
            backlog: MaybeUnset::Set(record.backlog.to_native().cast_signed()),
            uptime_ms: MaybeUnset::Set(record.uptime_ms.to_native().cast_signed()),
            code: MaybeUnset::Set(i64::from(record.code.to_native())),
            ..telemetry(event_key, sign_name(record.kind))
        };
        self.out.telemetry.push((event_key.stamp, row));
    }

    fn audit(&mut self, fate: Fate, event_key: EventKey) {
        let what = match fate.outcome {
            Outcome::Refused => "refused",
            Outcome::Quarantined => "quarantined",
            Outcome::Applied if self.is_retry() => "released",
            Outcome::Applied | Outcome::Duplicate => return,
        };
        let at_us = self.fact.record.head.received_at_us;
        let reason = (fate.reason != 0).then_some(fate.reason);
        let row = AuditRow {
            store: event_key.store,
            day: date_of_us(at_us),
            at_us,
            terminal: event_key.terminal,
            epoch: event_key.epoch,
            seq: event_key.seq,
            what,
            reason: set(reason.map(i32::from)),
            detail: set(reason.map(words)),
        };
        self.out.audit.push((at_us, row));
    }
}

// The part that readings and heartbeats have in common.
fn telemetry(event_key: EventKey, kind: &'static str) -> TelemetryRow {
    TelemetryRow {
        terminal: event_key.terminal,
        day: date_of_us(event_key.at_us),
        at_us: event_key.at_us,
        epoch: event_key.epoch,
        seq: event_key.seq,
        kind,
        sensor: MaybeUnset::Unset,
        value_e3: MaybeUnset::Unset,
        unit: MaybeUnset::Unset,
        sku: MaybeUnset::Unset,
        backlog: MaybeUnset::Unset,
        uptime_ms: MaybeUnset::Unset,
        code: MaybeUnset::Unset,
    }
}

fn tenders(sale: &SaleEvent<'_>) -> Vec<TenderCell> {
    let tenders = (0_u8..).zip(sale.tenders).map(|(number, one)| {
        let of_kind = || tender::NAMES.get(usize::from(one.kind)).copied();
        let name = stated_tender(sale, number).or_else(of_kind);
        let sum = |kind| varint(extra_of(sale, number, kind));
        (
            name.unwrap_or("").to_owned(),
            one.amount.to_native(),
            sum(extra::TIP),
            sum(extra::CHANGE),
            sum(extra::CASHBACK),
        )
    });
    tenders.collect()
}

const fn move_name(kind: u8) -> &'static str {
    match kind {
        stock::kind::RECEIVED => "received",
        stock::kind::ADJUSTED => "adjusted",
        stock::kind::COUNTED => "counted",
        stock::kind::TRANSFER_OUT => "transfer_out",
        stock::kind::TRANSFER_IN => "transfer_in",
        stock::kind::WASTE => "waste",
        stock::kind::RESERVED => "reserved",
        stock::kind::RELEASED => "released",
        _ => "",
    }
}

const fn reading_name(kind: u8) -> &'static str {
    match kind {
        sensor::kind::MASS => "mass",
        sensor::kind::COUNT => "count",
        sensor::kind::TEMPERATURE => "temperature",
        sensor::kind::DOOR => "door",
        sensor::kind::BATTERY => "battery",
        _ => "",
    }
}

const fn sign_name(kind: u8) -> &'static str {
    match kind {
        device::kind::STARTED => "started",
        device::kind::HEARTBEAT => "heartbeat",
        device::kind::STOPPED => "stopped",
        device::kind::FAULT => "fault",
        _ => "",
    }
}
