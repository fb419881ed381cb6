//! Receipts become frames of sales.

use anyhow::Result;
use bytes::Bytes;
use hashbrown::HashSet;
use till_protocol::card::is_card_code;
use till_protocol::family::Family;
use till_protocol::family::sale::v1::{
    self as sale, Adjustment, Line, Sale, Tax, Tender, adjustment, kind, line_kind, tender,
};
use till_protocol::id::SkuId;
use till_protocol::limits::RECEIPT_MAX;
use till_protocol::quantity::unit;

use super::receipt::{Receipt, person};
use crate::oracle::Sums;
use crate::wire;
use crate::workload::SaleEvent;

/// A frame is full with so many events or about so many bytes.
const EVENTS_FULL: usize = 256;
const BYTES_FULL: usize = 192 * 1_024;
/// A frame is full with events that lie so far apart. A till sends as it goes; and a shared store keeps a record in each hour
/// that its events lie in, so that weeks of a till in one frame would be kept hundreds of times.
const SPAN_FULL_US: i64 = 2 * 3_600 * 1_000_000;

/// Sales of one terminal that wait for their frame.
#[derive(Debug, Default)]
pub struct Builder {
    batch: sale::Batch,
    named: HashSet<u64>,
}

impl Builder {
    /// Adds a receipt. `is_named` tells which SKUs the engine surely has a name for.
    ///
    /// A code that looks like a card number is named in every receipt that uses it, so that the engine replaces it.
    pub fn push(&mut self, receipt: &Receipt, is_named: impl Fn(u64) -> bool) -> Sums {
        let mut event = event(receipt);
        for (place, (line, written)) in event.lines.iter().zip(&receipt.lines).enumerate() {
            if is_named(line.sku) || self.named.contains(&line.sku) {
                continue;
            }
            let is_new = if is_card_code(&written.sku) {
                event.codes.iter().all(|(_, code)| *code != written.sku)
            } else {
                self.named.insert(line.sku)
            };
            if is_new {
                let place = u16::try_from(place).unwrap_or(0);
                event.codes.push((place, written.sku.clone()));
            }
        }
        event.push_to(&mut self.batch);
        Sums::of(&event)
    }

    /// Bytes that wait, about.
    pub(super) fn bytes(&self) -> usize {
        let batch = &self.batch;
        batch.sales.len() * 120
            + batch.lines.len() * 32
            + batch.taxes.len() * 22
            + batch.adjustments.len() * 14
            + batch.texts.len() * 6
            + batch.text.len()
    }

    /// Number of events that wait.
    pub(super) fn events(&self) -> usize {
        self.batch.sales.len()
    }

    /// Whether a frame should be made now.
    pub(super) fn is_full(&self) -> bool {
        self.events() >= EVENTS_FULL || self.bytes() >= BYTES_FULL || self.is_long()
    }

    // Whether the last event lies far from the first.
    fn is_long(&self) -> bool {
        let ends = self.batch.sales.first().zip(self.batch.sales.last());
        ends.is_some_and(|(first, last)| last.at.abs_diff(first.at) >= SPAN_FULL_US.unsigned_abs())
    }

    /// The frame of all that waits, and the SKUs that it names for good.
    ///
    /// # Errors
    /// Fails when the batch breaks a limit of the wire.
    pub fn seal(&mut self, first_seq: u64) -> Result<(Bytes, Vec<u64>)> {
        let batch = std::mem::take(&mut self.batch);
        let named = self.named.drain().collect();
        let payload = wire::sale_payload(&batch)?;
        let frame = wire::frame(Family::Sale, batch.sales.len(), first_seq, &payload)?;
        Ok((frame, named))
    }
}

/// A receipt as a sale. Whatever the order of its rows, the sale is the same.
pub(super) fn event(receipt: &Receipt) -> SaleEvent {
    let number = plain_number(&receipt.key.receipt);
    let mut event = SaleEvent {
        sale: Sale {
            at: receipt.at_us,
            receipt: number.unwrap_or(0),
            offset_min: receipt.offset_min,
            kind: kind_of(receipt),
            ..Sale::default()
        },
        receipt: number.is_none().then(|| receipt.key.receipt.clone()),
        event_id: Some(receipt.id),
        customer: (!receipt.customer.is_empty()).then(|| person(&receipt.customer)),
        ..SaleEvent::default()
    };
    for (place, line) in (0_u16..).zip(&receipt.lines) {
        event.lines.push(Line {
            sku: SkuId::of_code(&line.sku).get(),
            quantity: line.quantity,
            amount: line.amount,
            category: 0,
            kind: if line.quantity < 0 {
                line_kind::RETURN
            } else {
                line_kind::SALE
            },
            unit: unit::UNSTATED,
            flags: 0,
        });
        if line.discount != 0 {
            let amount = line.discount.checked_neg().unwrap_or(i64::MAX);
            let kind = adjustment::DISCOUNT;
            event.adjustments.push(Adjustment {
                amount,
                line: place,
                group: 0,
                kind,
                reserved: 0,
            });
        }
        if line.tax != 0 {
            event.taxes.push(Tax {
                amount: line.tax,
                line: place,
                ..Tax::default()
            });
        }
    }
    let tenders = receipt.tenders().unwrap_or_default();
    for (place, (name, amount)) in (0_u8..).zip(tenders) {
        // Verbatim: only a text that is exactly the name of a kind becomes that kind.
        let known = tender::NAMES.iter().position(|known| *known == name);
        let kind = known
            .and_then(|kind| u8::try_from(kind).ok())
            .unwrap_or(tender::NAMED);
        event.tenders.push(Tender {
            amount,
            kind,
            flags: 0,
        });
        if kind == tender::NAMED {
            event.tender_names.push((place, name.to_owned()));
        }
    }
    event
}

fn kind_of(receipt: &Receipt) -> u8 {
    let returns = receipt
        .lines
        .iter()
        .filter(|line| line.quantity < 0)
        .count();
    match returns {
        0 => kind::SALE,
        all if all == receipt.lines.len() => kind::RETURN,
        _ => kind::EXCHANGE,
    }
}

/// A receipt that is written as a plain number travels as one: digits without leading zeros, at most 12.
fn plain_number(text: &str) -> Option<u64> {
    let is_plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| is_plain && (1..=RECEIPT_MAX).contains(number))
}
