//! One event of the trade, in the shapes of the wire.

use till_protocol::family::device::v1::Sign;
use till_protocol::family::sale::v1::{self as sale, Adjustment, Line, Sale, Tax, Tender};
use till_protocol::family::sensor::v1::Reading;
use till_protocol::family::stock::v1::Move;
use till_protocol::family::{
    Family, Reference, Text, WHOLE_EVENT, device, reference, sensor, stock, text,
};

/// A completed transaction.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SaleEvent {
    /// Its header; the counts are filled in from the lists.
    pub sale: Sale,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Its tenders.
    pub tenders: Vec<Tender>,
    /// Its taxes.
    pub taxes: Vec<Tax>,
    /// Its discounts, charges and roundings.
    pub adjustments: Vec<Adjustment>,
    /// Parts of tenders that pay for no goods: (tender, kind, amount).
    pub extras: Vec<(u8, u8, i64)>,
    /// Names of tenders that have no kind of their own: (tender, name).
    pub tender_names: Vec<(u8, String)>,
    /// The receipt in words, where it is no plain number.
    pub receipt: Option<String>,
    /// The customer, as an opaque reference.
    pub customer: Option<[u8; 16]>,
    /// The source's own id of the event.
    pub event_id: Option<[u8; 16]>,
    /// Codes of SKUs that are used for the first time: (line, code).
    pub codes: Vec<(u16, String)>,
}

/// An event, as a device says it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A transaction.
    Sale(Box<SaleEvent>),
    /// A movement or count of stock, with the code of its SKU where it is used for the first time.
    Move(Move, Option<String>),
    /// What a sensor read.
    Reading(Reading),
    /// A heartbeat.
    Sign(Sign),
}

impl Event {
    /// The family that carries it.
    pub const fn family(&self) -> Family {
        match self {
            Self::Sale(_) => Family::Sale,
            Self::Move(..) => Family::Stock,
            Self::Reading(_) => Family::Sensor,
            Self::Sign(_) => Family::Device,
        }
    }

    /// Its time by the device's clock, in us since 1970-01-01 UTC.
    pub const fn at_us(&self) -> i64 {
        match self {
            Self::Sale(event) => event.sale.at,
            Self::Move(movement, _) => movement.at,
            Self::Reading(reading) => reading.at,
            Self::Sign(sign) => sign.at,
        }
    }
}

fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

fn push_text(
    texts: &mut Vec<Text>,
    bytes: &mut Vec<u8>,
    (event, item, kind): (u16, u16, u8),
    text: &str,
) {
    let len = u8::try_from(text.len()).unwrap_or(u8::MAX);
    texts.push(Text {
        event,
        item,
        kind,
        len,
    });
    bytes.extend_from_slice(text.as_bytes());
}

impl SaleEvent {
    /// Appends the transaction to a frame's worth of them.
    pub fn push_to(&self, batch: &mut sale::Batch) {
        let event = short(batch.sales.len());
        batch.sales.push(Sale {
            lines: short(self.lines.len()),
            taxes: short(self.taxes.len()),
            adjustments: short(self.adjustments.len()),
            tenders: u8::try_from(self.tenders.len()).unwrap_or(u8::MAX),
            ..self.sale
        });
        batch.lines.extend_from_slice(&self.lines);
        batch.tenders.extend_from_slice(&self.tenders);
        batch.taxes.extend_from_slice(&self.taxes);
        batch.adjustments.extend_from_slice(&self.adjustments);
        batch.extras.extend(
            self.extras
                .iter()
                .map(|(tender, kind, amount)| sale::TenderExtra {
                    event,
                    tender: *tender,
                    kind: *kind,
                    amount: *amount,
                }),
        );
        for (kind, value) in [
            (reference::EVENT_ID, self.event_id),
            (reference::CUSTOMER, self.customer),
        ] {
            batch.refs.extend(value.map(|value| Reference {
                event,
                kind,
                reserved: 0,
                value,
            }));
        }
        let (texts, bytes) = (&mut batch.texts, &mut batch.text);
        if let Some(receipt) = &self.receipt {
            push_text(texts, bytes, (event, WHOLE_EVENT, text::RECEIPT), receipt);
        }
        for (line, code) in &self.codes {
            push_text(texts, bytes, (event, *line, text::SKU_CODE), code);
        }
        for (tender, name) in &self.tender_names {
            push_text(
                texts,
                bytes,
                (event, u16::from(*tender), text::TENDER_NAME),
                name,
            );
        }
    }
}

/// Appends a movement to a frame's worth of them.
pub fn push_move(movement: &Move, code: Option<&str>, batch: &mut stock::v1::Batch) {
    let event = short(batch.moves.len());
    batch.moves.push(*movement);
    if let Some(code) = code {
        push_text(
            &mut batch.texts,
            &mut batch.text,
            (event, WHOLE_EVENT, text::SKU_CODE),
            code,
        );
    }
}

/// Appends a reading to a frame's worth of them.
pub fn push_reading(reading: &Reading, batch: &mut sensor::v1::Batch) {
    batch.readings.push(*reading);
}

/// Appends a heartbeat to a frame's worth of them.
pub fn push_sign(sign: &Sign, batch: &mut device::v1::Batch) {
    batch.signs.push(*sign);
}
