//! Frames of sales.

use std::fmt;

use bytes::Bytes;

use super::{BuildError, TailBuilder, assemble, check_room, check_tail, frame_of, tail_bytes};
use crate::code::Reason;
use crate::codec::Frame;
use crate::family::sale::v1::{Adjustment, Line, Sale, Tax, Tender, TenderExtra, UnitPrice};
use crate::family::{Family, Reference, Text};
use crate::id::Seq;
use crate::layout::{Layout, VECTOR_BYTES};
use crate::verified::rules;
use crate::view::TextView;

const VECTORS: usize = 10;

/// All of one transaction, borrowed. Counts and `event` fields are filled in by the builder.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaleParts<'a> {
    /// The header; its counts don't matter.
    pub sale: Sale,
    /// Lines.
    pub lines: &'a [Line],
    /// Tenders.
    pub tenders: &'a [Tender],
    /// Taxes.
    pub taxes: &'a [Tax],
    /// Adjustments.
    pub adjustments: &'a [Adjustment],
    /// Tips, change and cashback.
    pub extras: &'a [TenderExtra],
    /// Unit prices.
    pub prices: &'a [UnitPrice],
    /// References.
    pub refs: &'a [Reference],
    /// Texts.
    pub texts: &'a [TextView<'a>],
}

impl SaleParts<'_> {
    /// The header with its counts filled in.
    ///
    /// # Errors
    /// [`Reason::TooMany`] when a count does not fit its field.
    pub fn header(&self) -> Result<Sale, Reason> {
        let count = |entries: usize| u16::try_from(entries).map_err(|_| Reason::TooMany);
        Ok(Sale {
            lines: count(self.lines.len())?,
            taxes: count(self.taxes.len())?,
            adjustments: count(self.adjustments.len())?,
            tenders: u8::try_from(self.tenders.len()).map_err(|_| Reason::TooMany)?,
            ..self.sale
        })
    }

    /// The digest of the event (see [`digest::digest`](crate::digest::digest)).
    ///
    /// # Errors
    /// [`Reason::TooMany`] when a count does not fit its field.
    pub fn digest(&self) -> Result<u64, Reason> {
        let lines = self.lines.iter().map(|line| i128::from(line.amount)).sum();
        let tenders = self
            .tenders
            .iter()
            .map(|tender| i128::from(tender.amount))
            .sum();
        Ok(crate::digest::sale_digest_of(
            &self.header()?,
            lines,
            tenders,
        ))
    }

    fn check(&self) -> Result<Sale, Reason> {
        let sale = self.header()?;
        rules::sale(&sale)?;
        self.lines.iter().try_for_each(rules::line)?;
        self.tenders.iter().try_for_each(rules::tender_rule)?;
        self.taxes
            .iter()
            .try_for_each(|entry| rules::tax(entry, sale.lines))?;
        self.adjustments
            .iter()
            .try_for_each(|entry| rules::adjustment_rule(entry, sale.lines))?;
        self.extras
            .iter()
            .try_for_each(|entry| rules::extra_rule(entry, sale.tenders))?;
        self.prices
            .iter()
            .try_for_each(|entry| rules::price(entry, sale.lines))?;
        check_tail(self.refs, self.texts, sale.lines, sale.tenders)?;
        Ok(sale)
    }

    fn bytes(&self) -> usize {
        Sale::BYTES
            + self.lines.len() * Line::BYTES
            + self.tenders.len() * Tender::BYTES
            + self.taxes.len() * Tax::BYTES
            + self.adjustments.len() * Adjustment::BYTES
            + self.extras.len() * TenderExtra::BYTES
            + self.prices.len() * UnitPrice::BYTES
            + tail_bytes(self.refs, self.texts)
    }
}

/// Makes frames of sales.
#[derive(Clone, Default)]
pub struct SaleBuilder {
    count: u32,
    sales: Vec<u8>,
    lines: Vec<u8>,
    tenders: Vec<u8>,
    taxes: Vec<u8>,
    adjustments: Vec<u8>,
    extras: Vec<u8>,
    prices: Vec<u8>,
    tail: TailBuilder,
}

impl fmt::Debug for SaleBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaleBuilder")
            .field("events", &self.count)
            .finish_non_exhaustive()
    }
}

impl SaleBuilder {
    /// An empty frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a transaction and gives its index.
    ///
    /// # Errors
    /// [`BuildError`]; the builder is as it was before.
    pub fn push(&mut self, parts: &SaleParts<'_>) -> Result<u32, BuildError> {
        let sale = parts.check().map_err(BuildError::Refused)?;
        check_room(self.count, self.held(), parts.bytes(), VECTORS)?;
        let index = self.count;
        let event = u16::try_from(index).unwrap_or(u16::MAX);
        sale.put(&mut self.sales);
        parts
            .lines
            .iter()
            .for_each(|entry| entry.put(&mut self.lines));
        parts
            .tenders
            .iter()
            .for_each(|entry| entry.put(&mut self.tenders));
        parts
            .taxes
            .iter()
            .for_each(|entry| entry.put(&mut self.taxes));
        parts
            .adjustments
            .iter()
            .for_each(|entry| entry.put(&mut self.adjustments));
        for entry in parts.extras {
            TenderExtra { event, ..*entry }.put(&mut self.extras);
        }
        for entry in parts.prices {
            UnitPrice { event, ..*entry }.put(&mut self.prices);
        }
        self.tail.put(event, parts.refs, parts.texts);
        self.count += 1;
        Ok(index)
    }

    /// Number of events.
    pub const fn len(&self) -> u32 {
        self.count
    }

    /// Whether there are no events.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the payload so far.
    pub fn payload_bytes(&self) -> usize {
        self.held() + VECTORS * VECTOR_BYTES
    }

    fn held(&self) -> usize {
        self.sales.len()
            + self.lines.len()
            + self.tenders.len()
            + self.taxes.len()
            + self.adjustments.len()
            + self.extras.len()
            + self.prices.len()
            + self.tail.bytes()
    }

    /// Drops all events and keeps the buffers.
    pub fn clear(&mut self) {
        self.count = 0;
        self.sales.clear();
        self.lines.clear();
        self.tenders.clear();
        self.taxes.clear();
        self.adjustments.clear();
        self.extras.clear();
        self.prices.clear();
        self.tail.clear();
    }

    /// The frame as bytes, ready to be sent; the builder is empty afterwards.
    ///
    /// # Errors
    /// [`BuildError::Empty`] and [`BuildError::SeqRange`]; the builder is as it was before.
    pub fn finish(&mut self, first_seq: Seq) -> Result<Bytes, BuildError> {
        let vectors: [(&[u8], usize); VECTORS] = [
            (&self.sales, Sale::BYTES),
            (&self.lines, Line::BYTES),
            (&self.tenders, Tender::BYTES),
            (&self.taxes, Tax::BYTES),
            (&self.adjustments, Adjustment::BYTES),
            (&self.extras, TenderExtra::BYTES),
            (&self.prices, UnitPrice::BYTES),
            (&self.tail.refs, Reference::BYTES),
            (&self.tail.texts, Text::BYTES),
            (&self.tail.text, 1),
        ];
        let frame = assemble(Family::Sale, self.count, first_seq, &vectors)?;
        self.clear();
        Ok(frame)
    }

    /// The frame in its parts; the builder is empty afterwards.
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub fn finish_frame(&mut self, first_seq: Seq) -> Result<Frame, BuildError> {
        self.finish(first_seq).and_then(frame_of)
    }
}
