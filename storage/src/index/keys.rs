//! What of a record the index holds.

use till_core::{Record, RecordKind};
use till_protocol::codec::Frame;
use till_protocol::family::text;
use till_protocol::header::FrameHeader;
use till_protocol::verified::Verified;
use till_protocol::view::{SaleEvent, View};

use super::{hour_of, receipt_hash};
use crate::num::narrow;

/// Times and receipts of the events of a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Keys {
    /// Hours of the events, as [`hour_of`] counts them. The hour of an event of the same hour as the one before is left out: most
    /// records have one.
    pub(crate) hours: Vec<i32>,
    /// The earliest event time in us.
    pub(crate) first_at_us: i64,
    /// The latest event time in us.
    pub(crate) last_at_us: i64,
    /// Hashes of receipts.
    pub(crate) receipts: Vec<u32>,
}

impl Keys {
    const fn new() -> Self {
        Self {
            hours: Vec::new(),
            first_at_us: i64::MAX,
            last_at_us: i64::MIN,
            receipts: Vec::new(),
        }
    }

    fn add_time(&mut self, at_us: i64) {
        self.first_at_us = self.first_at_us.min(at_us);
        self.last_at_us = self.last_at_us.max(at_us);
        let hour = hour_of(at_us);
        if self.hours.last() != Some(&hour) {
            self.hours.push(hour);
        }
    }
}

/// The events of a record, checked once more; `None` when it has none. An error says that this software does not
/// understand what it once took, so it is older than the one that wrote it.
pub(crate) fn verified_of(record: &Record) -> Option<Result<Verified, String>> {
    let head = &record.head;
    if !matches!(head.kind, RecordKind::Batch | RecordKind::Retry) {
        return None;
    }
    let frame = Frame {
        header: FrameHeader {
            family: head.family,
            version: head.version,
            length: narrow(record.payload.len()),
            count: head.count,
            first_seq: head.first_seq,
            // The entry's own checksum has been compared already.
            crc: 0,
        },
        payload: record.payload.clone(),
    };
    Some(Verified::from_journal(frame).map_err(|unreadable| unreadable.error.to_string()))
}

/// Reads the keys of a record's events. Records without events have none, nor have retries: they are few, and what they are
/// found by is kept in memory.
pub(crate) fn keys_of(record: &Record) -> Result<Keys, String> {
    let mut keys = Keys::new();
    if record.head.kind != RecordKind::Batch {
        return Ok(keys);
    }
    let Some(verified) = verified_of(record).transpose()? else {
        return Ok(keys);
    };
    match verified.view() {
        View::Sale(view) => {
            for event in view.events() {
                keys.add_time(event.sale.at.to_native());
                let hash = with_receipt(&event, |receipt| receipt_hash(receipt.as_bytes()));
                keys.receipts.extend(hash);
            }
        }
        View::Stock(view) => {
            for record in view.records() {
                keys.add_time(record.at.to_native());
            }
        }
        View::Sensor(view) => {
            for record in view.records() {
                keys.add_time(record.at.to_native());
            }
        }
        View::Device(view) => {
            for record in view.records() {
                keys.add_time(record.at.to_native());
            }
        }
    }
    Ok(keys)
}

/// Shows the receipt of a sale: its text, else its number in decimal. `None` for a sale without one.
pub(crate) fn with_receipt<R>(event: &SaleEvent<'_>, show: impl FnOnce(&str) -> R) -> Option<R> {
    if let Some(receipt) = event.texts.find(text::RECEIPT) {
        return Some(show(receipt));
    }
    match event.sale.receipt.to_native() {
        0 => None,
        number => Some(show(itoa::Buffer::new().format(number))),
    }
}
