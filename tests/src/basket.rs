//! Events that a test writes down in a line or two.

use anyhow::{Context as _, Result};
use till_client::Event;
use till_protocol::builder::{SaleParts, TextView};
use till_protocol::family::sale::v1::{
    self as sale, Adjustment, Line, Sale, Tax, Tender, TenderExtra,
};
use till_protocol::family::stock::v1::Move;
use till_protocol::family::{Reference, WHOLE_EVENT, device, stock, text};
use till_protocol::id::SkuId;
use till_protocol::quantity::unit;

use crate::Till;

/// One unit of a quantity.
pub const ONE: i64 = 100_000;

/// An RFC 3339 time in us.
///
/// # Errors
/// When it is not one.
pub fn us(at: &str) -> Result<i64> {
    let at: jiff::Timestamp = at.parse().with_context(|| at.to_owned())?;
    Ok(at.as_microsecond())
}

/// A completed transaction. Public parts are for what the methods do not say.
#[derive(Clone, Debug, Default)]
pub struct Basket {
    /// Its header.
    pub sale: Sale,
    /// Its lines.
    pub lines: Vec<Line>,
    /// What was paid.
    pub tenders: Vec<Tender>,
    /// Taxes.
    pub taxes: Vec<Tax>,
    /// Discounts, charges and rounding.
    pub adjustments: Vec<Adjustment>,
    /// Tips, change and cashback.
    pub extras: Vec<TenderExtra>,
    /// References.
    pub refs: Vec<Reference>,
    /// Item, kind and text.
    pub texts: Vec<(u16, u8, String)>,
}

impl Basket {
    /// A sale without lines.
    ///
    /// # Errors
    /// When `at` is no time.
    pub fn at(at: &str) -> Result<Self> {
        let sale = Sale {
            at: us(at)?,
            kind: sale::kind::SALE,
            ..Sale::default()
        };
        Ok(Self {
            sale,
            ..Self::default()
        })
    }

    /// Another kind of transaction.
    #[must_use]
    pub const fn kind(mut self, kind: u8) -> Self {
        self.sale.kind = kind;
        self
    }

    /// Rung up while somebody learnt.
    #[must_use]
    pub const fn training(mut self) -> Self {
        self.sale.flags |= sale::flag::TRAINING;
        self
    }

    /// A line that was sold: pieces and minor units.
    #[must_use]
    pub fn line(self, code: &str, pieces: i64, amount: i64) -> Self {
        self.entry(sale::line_kind::SALE, code, pieces, amount)
    }

    /// A line of any kind.
    #[must_use]
    pub fn entry(mut self, kind: u8, code: &str, pieces: i64, amount: i64) -> Self {
        let number = u16::try_from(self.lines.len()).unwrap_or(WHOLE_EVENT);
        self.lines.push(Line {
            sku: SkuId::of_code(code).get(),
            quantity: pieces * ONE,
            amount,
            kind,
            unit: unit::EACH,
            ..Line::default()
        });
        self.texts.push((number, text::SKU_CODE, code.to_owned()));
        self
    }

    /// A tax on top: of a line, or of the whole.
    #[must_use]
    pub fn tax(mut self, line: Option<u16>, amount: i64) -> Self {
        self.taxes.push(Tax {
            amount,
            line: line.unwrap_or(WHOLE_EVENT),
            ..Tax::default()
        });
        self
    }

    /// A discount, which is positive here: of a line, whose amount has it in already, or of the whole.
    #[must_use]
    pub fn off(mut self, line: Option<u16>, amount: i64) -> Self {
        self.adjustments.push(Adjustment {
            amount: -amount,
            line: line.unwrap_or(WHOLE_EVENT),
            kind: sale::adjustment::DISCOUNT,
            ..Adjustment::default()
        });
        self
    }

    /// What was handed off.
    #[must_use]
    pub fn paid(mut self, kind: u8, amount: i64) -> Self {
        self.tenders.push(Tender {
            amount,
            kind,
            flags: 0,
        });
        self
    }

    /// A part of the last tender: tip, change or cashback.
    #[must_use]
    pub fn of_it(mut self, kind: u8, amount: i64) -> Self {
        let tender = u8::try_from(self.tenders.len().saturating_sub(1)).unwrap_or(u8::MAX);
        self.extras.push(TenderExtra {
            tender,
            kind,
            amount,
            ..TenderExtra::default()
        });
        self
    }

    /// A text of the whole event.
    #[must_use]
    pub fn text(self, kind: u8, words: &str) -> Self {
        self.item_text(WHOLE_EVENT, kind, words)
    }

    /// A text of one of its items.
    #[must_use]
    pub fn item_text(mut self, item: u16, kind: u8, words: &str) -> Self {
        self.texts.push((item, kind, words.to_owned()));
        self
    }

    /// A reference.
    #[must_use]
    pub fn reference(mut self, kind: u8, value: [u8; 16]) -> Self {
        self.refs.push(reference(kind, value));
        self
    }

    /// Hands it to a till.
    ///
    /// # Errors
    /// When its outbox does not take it.
    pub fn send(&self, till: &Till<'_>) -> Result<()> {
        let texts = views(&self.texts);
        till.send(Event::Sale(SaleParts {
            sale: self.sale,
            lines: &self.lines,
            tenders: &self.tenders,
            taxes: &self.taxes,
            adjustments: &self.adjustments,
            extras: &self.extras,
            prices: &[],
            refs: &self.refs,
            texts: &texts,
        }))
    }
}

/// A reference of an event.
pub const fn reference(kind: u8, value: [u8; 16]) -> Reference {
    Reference {
        event: 0,
        kind,
        reserved: 0,
        value,
    }
}

/// Texts as a builder takes them.
pub fn views(texts: &[(u16, u8, String)]) -> Vec<TextView<'_>> {
    texts
        .iter()
        .map(|(item, kind, text)| TextView {
            item: *item,
            kind: *kind,
            text,
        })
        .collect()
}

/// Sends a movement, count or reservation of whole pieces.
///
/// # Errors
/// When the outbox does not take it.
pub fn stock(till: &Till<'_>, at: &str, kind: u8, code: &str, pieces: i64) -> Result<()> {
    stock_flagged(till, at, kind, code, pieces, 0)
}

/// As [`stock()`], with flags.
///
/// # Errors
/// See there.
pub fn stock_flagged(
    till: &Till<'_>,
    at: &str,
    kind: u8,
    code: &str,
    pieces: i64,
    flags: u16,
) -> Result<()> {
    let record = Move {
        at: us(at)?,
        sku: SkuId::of_code(code).get(),
        quantity: pieces * ONE,
        kind,
        unit: unit::EACH,
        flags,
        ..Move::default()
    };
    let named = [TextView {
        item: WHOLE_EVENT,
        kind: text::SKU_CODE,
        text: code,
    }];
    till.send(Event::Stock(record, &[], &named))
}

/// The kinds of stock events.
pub use stock::v1::kind as moved;

/// Sends so many bytes of notes that the journal begins new segments.
///
/// # Errors
/// When the outbox does not take them.
pub fn pad(till: &Till<'_>, at: &str, bytes: usize) -> Result<()> {
    let note = "n".repeat(64);
    let notes = vec![(WHOLE_EVENT, text::NOTE, note); 1_000];
    let notes = views(&notes);
    let sign = device::v1::Sign {
        at: us(at)?,
        kind: device::v1::kind::HEARTBEAT,
        ..device::v1::Sign::default()
    };
    for _ in 0..bytes.div_ceil(70_000) {
        till.send(Event::Device(sign, &[], &notes))?;
    }
    Ok(())
}
