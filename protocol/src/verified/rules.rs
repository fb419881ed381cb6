//! The rules of single events. A broken rule refuses that event alone.
//!
//! What is odd but can be understood breaks no rule: an unbalanced sale, a wrong clock, an unknown SKU. The builders hold
//! the same rules.

use crate::code::Reason;
use crate::family::sale::v1::{
    Adjustment, ArchivedBatch, Line, Sale, Tax, Tender, TenderExtra, UnitPrice, adjustment, extra,
    flag, kind, line_flag, line_kind, tender,
};
use crate::family::{Reference, Text, WHOLE_EVENT, device, reference, sensor, stock, text};
use crate::layout::Native;
use crate::limits::{
    ADJUSTMENTS_PER_SALE_MAX, LINES_PER_SALE_MAX, OFFSET_MIN_MAX, PRICE_SCALE_MAX, RECEIPT_MAX,
    REFS_PER_EVENT_MAX, TAXES_PER_SALE_MAX, TEXT_BYTES_MAX, TEXTS_PER_EVENT_MAX, TIME_US_MAX,
};
use crate::quantity::unit;
use crate::view::{EventsView, SaleEvent, SaleView, Texts, View, take};

/// A rule's answer: the reason for which the event is refused.
pub(crate) type Rule = Result<(), Reason>;

/// A core record that is a whole event, with the rule of its own fields.
pub trait Record: crate::layout::Layout {
    /// The family that it belongs to.
    const FAMILY: crate::family::Family;

    /// Checks the record's own fields.
    ///
    /// # Errors
    /// The reason to refuse the event for.
    fn check(&self) -> Result<(), Reason>;
}

/// All events that break a rule, by rising index.
pub(super) fn refusals(view: &View<'_>) -> Vec<(u32, Reason)> {
    match view {
        View::Sale(view) if plain_sales_are_right(view) => Vec::new(),
        View::Sale(view) => {
            let events = view.events().map(|event| (event.index, check_sale(&event)));
            events
                .filter_map(|(index, rule)| Some((index, rule.err()?)))
                .collect()
        }
        View::Stock(view) => flat_refusals(view),
        View::Sensor(view) => flat_refusals(view),
        View::Device(view) => flat_refusals(view),
    }
}

// Whether a batch of sales without rare fields breaks no rule: column by column, a few ns an event. `check_sale` says which
// event breaks which rule.
fn plain_sales_are_right(view: &SaleView<'_>) -> bool {
    let batch = view.batch();
    let plain = batch.extras.is_empty()
        && batch.prices.is_empty()
        && batch.refs.is_empty()
        && batch.texts.is_empty();
    plain
        && batch
            .lines
            .iter()
            .all(|entry| line(&entry.native()).is_ok())
        && batch
            .tenders
            .iter()
            .all(|entry| tender_rule(&entry.native()).is_ok())
        && sales_and_their_indexes_are_right(batch)
}

fn sales_and_their_indexes_are_right(batch: &ArchivedBatch) -> bool {
    let (mut taxes, mut adjustments) = (&batch.taxes[..], &batch.adjustments[..]);
    batch.sales.iter().all(|entry| {
        let record = entry.native();
        sale(&record).is_ok()
            && take(&mut taxes, usize::from(record.taxes))
                .iter()
                .all(|entry| tax(&entry.native(), record.lines).is_ok())
            && take(&mut adjustments, usize::from(record.adjustments))
                .iter()
                .all(|entry| adjustment_rule(&entry.native(), record.lines).is_ok())
    })
}

fn flat_refusals<R>(view: &EventsView<'_, R>) -> Vec<(u32, Reason)>
where
    R: Native<Record: Record>,
{
    view.events()
        .filter_map(|event| {
            let refs = event.refs.iter().map(Native::native);
            let rule = event
                .record
                .native()
                .check()
                .and_then(|()| references(refs))
                .and_then(|()| texts(&event.texts, 0, 0));
            Some((event.index, rule.err()?))
        })
        .collect()
}

fn check_sale(event: &SaleEvent<'_>) -> Rule {
    let record = event.sale.native();
    sale(&record)?;
    event
        .lines
        .iter()
        .try_for_each(|entry| line(&entry.native()))?;
    event
        .tenders
        .iter()
        .try_for_each(|entry| tender_rule(&entry.native()))?;
    event
        .taxes
        .iter()
        .try_for_each(|entry| tax(&entry.native(), record.lines))?;
    event
        .adjustments
        .iter()
        .try_for_each(|entry| adjustment_rule(&entry.native(), record.lines))?;
    event
        .extras
        .iter()
        .try_for_each(|entry| extra_rule(&entry.native(), record.tenders))?;
    event
        .prices
        .iter()
        .try_for_each(|entry| price(&entry.native(), record.lines))?;
    references(event.refs.iter().map(Native::native))?;
    texts(&event.texts, record.lines, record.tenders)
}

const fn hold(right: bool, reason: Reason) -> Rule {
    if right { Ok(()) } else { Err(reason) }
}

fn known(kind: u8, max: u8) -> Rule {
    hold((1..=max).contains(&kind), Reason::UnknownKind)
}

fn time(at: i64, offset_min: i16) -> Rule {
    let right =
        (0..=TIME_US_MAX).contains(&at) && (-OFFSET_MIN_MAX..=OFFSET_MIN_MAX).contains(&offset_min);
    hold(right, Reason::BadTime)
}

pub(crate) fn sale(record: &Sale) -> Rule {
    known(record.kind, kind::MAX)?;
    time(record.at, record.offset_min)?;
    hold(record.receipt <= RECEIPT_MAX, Reason::ReceiptNumber)?;
    hold(record.flags & !flag::ALL == 0, Reason::UnknownFlags)?;
    let few = record.lines <= LINES_PER_SALE_MAX
        && record.taxes <= TAXES_PER_SALE_MAX
        && record.adjustments <= ADJUSTMENTS_PER_SALE_MAX;
    hold(few, Reason::TooMany)
}

pub(crate) fn line(entry: &Line) -> Rule {
    known(entry.kind, line_kind::MAX)?;
    hold(entry.unit <= unit::MAX, Reason::UnknownUnit)?;
    hold(entry.flags & !line_flag::ALL == 0, Reason::UnknownFlags)
}

pub(crate) fn tender_rule(entry: &Tender) -> Rule {
    hold(
        entry.kind <= tender::MAX || entry.kind == tender::NAMED,
        Reason::UnknownKind,
    )?;
    hold(entry.flags == 0, Reason::UnknownFlags)
}

fn of_line(line: u16, lines: u16) -> Rule {
    hold(line == WHOLE_EVENT || line < lines, Reason::BadIndex)
}

pub(crate) fn tax(entry: &Tax, lines: u16) -> Rule {
    hold(entry.inclusive <= 1, Reason::UnknownFlags)?;
    hold(entry.reserved == 0, Reason::ReservedNotZero)?;
    of_line(entry.line, lines)
}

pub(crate) fn adjustment_rule(entry: &Adjustment, lines: u16) -> Rule {
    known(entry.kind, adjustment::MAX)?;
    hold(entry.reserved == 0, Reason::ReservedNotZero)?;
    of_line(entry.line, lines)
}

pub(crate) fn extra_rule(entry: &TenderExtra, tenders: u8) -> Rule {
    known(entry.kind, extra::MAX)?;
    hold(entry.tender < tenders, Reason::BadIndex)
}

pub(crate) fn price(entry: &UnitPrice, lines: u16) -> Rule {
    hold(entry.scale <= PRICE_SCALE_MAX, Reason::BadPrice)?;
    hold(entry.reserved == 0, Reason::ReservedNotZero)?;
    hold(entry.line < lines, Reason::BadIndex)
}

pub(crate) fn references(refs: impl Iterator<Item = Reference>) -> Rule {
    let (mut count, mut seen) = (0_u32, 0_u32);
    for entry in refs {
        count += 1;
        hold(count <= REFS_PER_EVENT_MAX, Reason::TooMany)?;
        hold(reference::ALL.contains(&entry.kind), Reason::BadReference)?;
        hold(entry.reserved == 0, Reason::ReservedNotZero)?;
        hold(seen & 1 << entry.kind == 0, Reason::BadReference)?;
        seen |= 1 << entry.kind;
    }
    Ok(())
}

fn texts(texts: &Texts<'_>, lines: u16, tenders: u8) -> Rule {
    if texts.is_empty() {
        return Ok(());
    }
    let few = u32::try_from(texts.len()).is_ok_and(|count| count <= TEXTS_PER_EVENT_MAX);
    hold(few, Reason::TooMany)?;
    let mut rest = texts.bytes();
    for entry in texts.entries() {
        text_rule(&entry.native(), lines, tenders)?;
        let (bytes, left) = rest
            .split_at_checked(usize::from(entry.len))
            .ok_or(Reason::BadText)?;
        hold(str::from_utf8(bytes).is_ok(), Reason::BadText)?;
        rest = left;
    }
    Ok(())
}

pub(crate) fn text_rule(entry: &Text, lines: u16, tenders: u8) -> Rule {
    let items = match entry.kind {
        text::TENDER_NAME | text::TENDER_REFERENCE => u16::from(tenders),
        _ => lines,
    };
    let right = text::ALL.contains(&entry.kind)
        && entry.len <= TEXT_BYTES_MAX
        && (entry.item == WHOLE_EVENT || entry.item < items);
    hold(right, Reason::BadText)
}

impl Record for stock::v1::Move {
    const FAMILY: crate::family::Family = crate::family::Family::Stock;

    fn check(&self) -> Result<(), Reason> {
        known(self.kind, stock::v1::kind::MAX)?;
        time(self.at, self.offset_min)?;
        hold(self.unit <= unit::MAX, Reason::UnknownUnit)?;
        hold(
            self.flags & !stock::v1::flag::ALL == 0,
            Reason::UnknownFlags,
        )
    }
}

impl Record for sensor::v1::Reading {
    const FAMILY: crate::family::Family = crate::family::Family::Sensor;

    fn check(&self) -> Result<(), Reason> {
        known(self.kind, sensor::v1::kind::MAX)?;
        time(self.at, self.offset_min)?;
        hold(self.unit <= unit::MAX, Reason::UnknownUnit)?;
        hold(self.flags == 0, Reason::UnknownFlags)
    }
}

impl Record for device::v1::Sign {
    const FAMILY: crate::family::Family = crate::family::Family::Device;

    fn check(&self) -> Result<(), Reason> {
        known(self.kind, device::v1::kind::MAX)?;
        time(self.at, self.offset_min)?;
        hold(self.flags == 0, Reason::UnknownFlags)
    }
}
