//! Batches of sales.

use std::fmt;

use super::events::{Sides, Texts, take, take_event};
use crate::family::sale::v1::{
    ArchivedAdjustment, ArchivedBatch, ArchivedLine, ArchivedSale, ArchivedTax, ArchivedTender,
    ArchivedTenderExtra, ArchivedUnitPrice, tender,
};
use crate::family::{ArchivedReference, text};
use crate::id::{EventId, first_u64_of_sha256};

/// A batch of completed transactions.
#[derive(Clone, Copy)]
pub struct SaleView<'a> {
    pub(crate) batch: &'a ArchivedBatch,
}

impl fmt::Debug for SaleView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaleView")
            .field("events", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'a> SaleView<'a> {
    /// Number of events.
    pub fn len(&self) -> usize {
        self.batch.sales.len()
    }

    /// Whether there are no events; a frame always has one.
    pub fn is_empty(&self) -> bool {
        self.batch.sales.is_empty()
    }

    /// The archive itself, for work on whole columns.
    pub const fn batch(&self) -> &'a ArchivedBatch {
        self.batch
    }

    /// All events in order.
    pub fn events(&self) -> SaleEvents<'a> {
        let batch = self.batch;
        SaleEvents {
            sales: &batch.sales,
            index: 0,
            lines: &batch.lines,
            tenders: &batch.tenders,
            taxes: &batch.taxes,
            adjustments: &batch.adjustments,
            extras: &batch.extras,
            prices: &batch.prices,
            sides: Sides {
                refs: &batch.refs,
                texts: &batch.texts,
                text: &batch.text,
            },
        }
    }
}

/// Events of a [`SaleView`], in order.
#[derive(Clone)]
pub struct SaleEvents<'a> {
    sales: &'a [ArchivedSale],
    index: u16,
    lines: &'a [ArchivedLine],
    tenders: &'a [ArchivedTender],
    taxes: &'a [ArchivedTax],
    adjustments: &'a [ArchivedAdjustment],
    extras: &'a [ArchivedTenderExtra],
    prices: &'a [ArchivedUnitPrice],
    sides: Sides<'a>,
}

impl fmt::Debug for SaleEvents<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaleEvents")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<'a> Iterator for SaleEvents<'a> {
    type Item = SaleEvent<'a>;

    #[inline]
    fn next(&mut self) -> Option<SaleEvent<'a>> {
        let sale = self.sales.get(usize::from(self.index))?;
        let index = self.index;
        let (refs, texts) = self.sides.take(index);
        let event = SaleEvent {
            index: u32::from(index),
            sale,
            lines: take(&mut self.lines, usize::from(sale.lines.to_native())),
            tenders: take(&mut self.tenders, usize::from(sale.tenders)),
            taxes: take(&mut self.taxes, usize::from(sale.taxes.to_native())),
            adjustments: take(
                &mut self.adjustments,
                usize::from(sale.adjustments.to_native()),
            ),
            extras: take_event(&mut self.extras, index, |entry| entry.event.to_native()),
            prices: take_event(&mut self.prices, index, |entry| entry.event.to_native()),
            refs,
            texts,
        };
        self.index += 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.sales.len().saturating_sub(usize::from(self.index));
        (left, Some(left))
    }
}

/// One completed transaction with all that belongs to it.
#[derive(Clone, Copy)]
pub struct SaleEvent<'a> {
    /// Place in the frame: its sequence number is the frame's first plus this.
    pub index: u32,
    /// The header of the transaction.
    pub sale: &'a ArchivedSale,
    /// Its lines.
    pub lines: &'a [ArchivedLine],
    /// Its tenders.
    pub tenders: &'a [ArchivedTender],
    /// Its taxes.
    pub taxes: &'a [ArchivedTax],
    /// Its adjustments.
    pub adjustments: &'a [ArchivedAdjustment],
    /// Tips, change and cashback of its tenders.
    pub extras: &'a [ArchivedTenderExtra],
    /// Unit prices of its lines.
    pub prices: &'a [ArchivedUnitPrice],
    /// Its references.
    pub refs: &'a [ArchivedReference],
    /// Its texts.
    pub texts: Texts<'a>,
}

impl fmt::Debug for SaleEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaleEvent")
            .field("index", &self.index)
            .field("lines", &self.lines.len())
            .field("tenders", &self.tenders.len())
            .finish_non_exhaustive()
    }
}

impl SaleEvent<'_> {
    /// The source's own id of the event.
    pub fn event_id(&self) -> Option<EventId> {
        super::event_id(self.refs)
    }

    /// The stable key of a tender: its kind, or for a named one the hash of its name (see [`named_tender_key`]). A named
    /// tender without a name counts as kind 0.
    pub fn tender_key(&self, index: u16) -> u64 {
        let kind = self
            .tenders
            .get(usize::from(index))
            .map_or(tender::UNSPECIFIED, |t| t.kind);
        if kind != tender::NAMED {
            return u64::from(kind);
        }
        self.texts
            .find_of(text::TENDER_NAME, index)
            .map_or(0, named_tender_key)
    }

    /// What of a tender paid for goods: its amount less tip, change and cashback.
    pub fn tender_net(&self, index: u16) -> i128 {
        let amount = self
            .tenders
            .get(usize::from(index))
            .map_or(0, |t| t.amount.to_native());
        let extras: i128 = self
            .extras
            .iter()
            .filter(|extra| u16::from(extra.tender) == index)
            .map(|extra| i128::from(extra.amount.to_native()))
            .sum();
        i128::from(amount) - extras
    }
}

/// The stable key of a tender by name: the hash of "tender" and the name, with the top bit set.
pub fn named_tender_key(name: &str) -> u64 {
    first_u64_of_sha256(&[b"tender", name.as_bytes()]) | 1 << 63
}
