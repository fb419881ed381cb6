//! Single transactions, as they lie in the journal.

use jiff::tz::TimeZone;
use serde::Serialize;
use till_core::contribution::{Contributor, day_of};
use till_core::event::Event;
use till_core::zone::Zone;
use till_core::{Outcome, StoreRow, flag};
use till_protocol::code::Reason;
use till_protocol::family::sale::v1::{adjustment, extra, kind, line_kind};
use till_protocol::family::{WHOLE_EVENT, reference, text as text_kind};
use till_protocol::id::{StoreId, TerminalId, TillId};
use till_protocol::quantity::unit;
use till_protocol::time::Day;
use till_protocol::view::SaleEvent;

use super::reader::each_event;
use super::state::Sums;
use super::{QueryAnswer, Sources, text};
use crate::facts::{Fact, Fate};
use crate::views::{StoreError, Views};

/// Which transactions to show: those with this receipt.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TransactionQuery {
    /// The receipt: its text, or its number in decimal digits.
    pub receipt: String,
    /// Of one store; `None` for all.
    pub store: Option<StoreId>,
    /// Of one till; `None` for all.
    pub terminal: Option<TillId>,
    /// Of one business day; `None` for all.
    pub day: Option<Day>,
}

/// A transaction.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TransactionState {
    /// The store.
    pub store: u32,
    /// The till.
    pub terminal: u32,
    /// The terminal's epoch.
    pub epoch: u32,
    /// Sequence number in it.
    pub seq: u64,
    /// Journal position of its record.
    pub position: u64,
    /// The receipt.
    pub receipt: String,
    /// `sale`, `return`, `exchange` or `void`.
    pub kind: &'static str,
    /// What became of it: `applied`, `duplicate`, `refused` or `quarantined`.
    pub outcome: &'static str,
    /// Why it was not applied; absent where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is odd about it.
    pub flags: Vec<&'static str>,
    /// Event time, RFC 3339 in the store's offset.
    pub occurred_at: String,
    /// When it was received, RFC 3339 in UTC.
    pub received_at: String,
    /// Business day.
    pub day: String,
    /// The operator's opaque reference; absent where not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<u32>,
    /// The customer's opaque reference in hexadecimal; absent where not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// ISO 4217 code.
    pub currency: String,
    /// Its sums.
    pub totals: Sums,
    /// Its lines.
    pub lines: Vec<LineState>,
    /// Its tenders.
    pub tenders: Vec<TenderState>,
    /// Its taxes.
    pub taxes: Vec<TaxState>,
    /// Its discounts, charges and roundings.
    pub adjustments: Vec<AdjustmentState>,
}

impl TransactionState {
    fn key(&self) -> (u32, u32, u32, u64) {
        (self.store, self.terminal, self.epoch, self.seq)
    }

    // Whether a later record decided the same event again; its outcome is then taken over.
    fn is_retried_as(&mut self, later: &mut Self) -> bool {
        let is_retry = self.key() == later.key() && self.outcome == "quarantined";
        if is_retry {
            self.outcome = later.outcome;
            self.reason = later.reason.take();
            self.flags = std::mem::take(&mut later.flags);
        }
        is_retry
    }
}

/// A line.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct LineState {
    /// The SKU's code; `#` and its id where it has none.
    pub sku: String,
    /// `sale`, `return` or `void`.
    pub kind: &'static str,
    /// Quantity in units.
    pub quantity: String,
    /// Unit of measure; empty where none was stated.
    pub unit: &'static str,
    /// Extended amount in minor units.
    pub amount_minor: i64,
    /// Category; 0 where none was stated.
    pub category: u32,
}

/// A tender.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TenderState {
    /// The means of payment.
    pub tender: String,
    /// What was paid in minor units, with tip, change and cashback.
    pub amount_minor: i64,
    /// Tip in minor units.
    pub tip_minor: i128,
    /// Change in minor units.
    pub change_minor: i128,
    /// Cashback in minor units.
    pub cashback_minor: i128,
}

/// A tax.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TaxState {
    /// Index of the line; absent where it is on the whole sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u16>,
    /// Minor units.
    pub amount_minor: i64,
    /// Rate in 1e-7; 0 where not stated.
    pub rate_e7: i64,
    /// The chain's code; 0 where not stated.
    pub code: u16,
    /// Whether the line's amount has it in.
    pub inclusive: bool,
}

/// A discount, charge or rounding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AdjustmentState {
    /// Index of the line; absent where it is of the whole sale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u16>,
    /// What it is.
    pub kind: &'static str,
    /// Minor units; negative lowers the price.
    pub amount_minor: i64,
}

/// Every transaction with a receipt, by store, till, epoch and sequence number. One that was quarantined and decided again
/// stands in the place of its first record, with its last outcome.
///
/// # Errors
/// [`StoreError`] when rows or facts cannot be read.
pub fn transactions(
    sources: &Sources<'_>,
    query: &TransactionQuery,
) -> Result<QueryAnswer<TransactionState>, StoreError> {
    let freshness = sources.freshness()?;
    let mut rows = Vec::new();
    sources.facts.of_receipt(&query.receipt, &mut |fact| {
        let Ok(terminal) = TerminalId::from_u64(fact.record.head.terminal) else {
            return Ok(());
        };
        let other_store = query.store.is_some_and(|store| store != terminal.store());
        let other_till = query.terminal.is_some_and(|till| till != terminal.till());
        if other_store || other_till {
            return Ok(());
        }
        let rows_of_facts = Teller::new(sources.views, terminal)?;
        each_event(fact, |event, fate, index| {
            let Event::Sale(sale) = event else {
                return Ok(());
            };
            if receipt_of(&sale) != query.receipt {
                return Ok(());
            }
            let day = rows_of_facts.day(&sale)?;
            if query.day.is_none_or(|wanted| wanted == day) {
                rows.push(rows_of_facts.row_of(fact, &sale, fate, index, day)?);
            }
            Ok(())
        })
    })?;
    rows.sort_by_key(|row| (row.store, row.terminal, row.epoch, row.seq, row.position));
    rows.dedup_by(|retried, row| row.is_retried_as(retried));
    Ok(QueryAnswer { rows, freshness })
}

/// The receipt of a sale: its text, else its number in decimal digits; empty where it has none.
pub fn receipt_of(sale: &SaleEvent<'_>) -> String {
    let text = sale.texts.find(text_kind::RECEIPT);
    let number = sale.sale.receipt.to_native();
    match text {
        Some(text) => text.to_owned(),
        None if number == 0 => String::new(),
        None => number.to_string(),
    }
}

/// The customer's opaque reference in hexadecimal, where one is stated.
pub fn customer_of(sale: &SaleEvent<'_>) -> Option<String> {
    let customer = sale.refs.iter().find(|one| one.kind == reference::CUSTOMER);
    customer.map(|one| one.value.iter().map(|b| format!("{b:02x}")).collect())
}

/// The name that a sale itself gives one of its tenders, where it does.
pub fn stated_tender<'a>(sale: &SaleEvent<'a>, tender: u8) -> Option<&'a str> {
    let item = u16::from(tender);
    sale.texts.find_of(text_kind::TENDER_NAME, item)
}

/// Tips, change or cashback of a tender, by kind of `extra`, in minor units.
pub fn extra_of(sale: &SaleEvent<'_>, tender: u8, kind: u8) -> i128 {
    let extras = sale.extras.iter();
    extras
        .filter(|one| one.tender == tender && one.kind == kind)
        .map(|one| i128::from(one.amount.to_native()))
        .sum()
}

// Tells the transactions of one terminal in words.
struct Teller<'a> {
    views: &'a dyn Views,
    terminal: TerminalId,
    store: StoreRow,
    zone: TimeZone,
}

impl<'a> Teller<'a> {
    fn new(views: &'a dyn Views, terminal: TerminalId) -> Result<Self, StoreError> {
        let store = views.store(terminal.store())?.unwrap_or_else(|| StoreRow {
            currency: 0,
            zone: "UTC".to_owned(),
            registered_at_us: 0,
            applied: 0,
            training: till_core::Totals::default(),
        });
        Ok(Self {
            views,
            terminal,
            zone: text::zone(&store.zone),
            store,
        })
    }

    fn day(&self, sale: &SaleEvent<'_>) -> Result<Day, StoreError> {
        let zone = Zone::new(&self.store.zone).map_err(|error| StoreError::Damaged {
            table: "stores",
            cause: error.to_string(),
        });
        let local = zone?.local(sale.sale.at.to_native());
        Ok(Day::new(day_of(sale, local)))
    }

    fn row_of(
        &self,
        fact: &Fact,
        sale: &SaleEvent<'_>,
        fate: Fate,
        index: u32,
        day: Day,
    ) -> Result<TransactionState, StoreError> {
        let head = &fact.record.head;
        let operator = sale.sale.operator.to_native();
        Ok(TransactionState {
            store: self.terminal.store().get(),
            terminal: self.terminal.till().get(),
            epoch: head.epoch,
            seq: fact.seq(index),
            position: fact.lsn.get(),
            receipt: receipt_of(sale),
            kind: kind_name(sale.sale.kind),
            outcome: outcome_name(fate.outcome),
            reason: (fate.reason != 0).then(|| Reason::from_code(fate.reason).to_string()),
            flags: flag::names(fate.flags).collect(),
            occurred_at: text::instant(&self.zone, sale.sale.at.to_native()),
            received_at: text::utc(head.received_at_us),
            day: day.to_string(),
            operator: (operator != 0).then_some(operator),
            customer: customer_of(sale),
            currency: text::currency(self.store.currency),
            totals: Sums::from(&Contributor::default().totals_of(sale)),
            lines: self.lines(sale)?,
            tenders: self.tenders(sale)?,
            taxes: taxes(sale),
            adjustments: adjustments(sale),
        })
    }

    fn lines(&self, sale: &SaleEvent<'_>) -> Result<Vec<LineState>, StoreError> {
        let lines = sale.lines.iter().map(|line| {
            Ok(LineState {
                sku: text::sku(self.views, line.sku.to_native())?,
                kind: line_kind_name(line.kind),
                quantity: text::quantity(i128::from(line.quantity.to_native())),
                unit: unit::name(line.unit),
                amount_minor: line.amount.to_native(),
                category: line.category.to_native(),
            })
        });
        lines.collect()
    }

    fn tenders(&self, sale: &SaleEvent<'_>) -> Result<Vec<TenderState>, StoreError> {
        let tenders = (0_u8..).zip(sale.tenders).map(|(number, tender)| {
            let tender_name = match stated_tender(sale, number) {
                Some(name) => name.to_owned(),
                None => text::tender(self.views, sale.tender_key(u16::from(number)))?,
            };
            let sum = |kind| extra_of(sale, number, kind);
            Ok(TenderState {
                tender: tender_name,
                amount_minor: tender.amount.to_native(),
                tip_minor: sum(extra::TIP),
                change_minor: sum(extra::CHANGE),
                cashback_minor: sum(extra::CASHBACK),
            })
        });
        tenders.collect()
    }
}

fn line_of(line: u16) -> Option<u16> {
    (line != WHOLE_EVENT).then_some(line)
}

fn taxes(sale: &SaleEvent<'_>) -> Vec<TaxState> {
    let taxes = sale.taxes.iter().map(|tax| TaxState {
        line: line_of(tax.line.to_native()),
        amount_minor: tax.amount.to_native(),
        rate_e7: tax.rate.to_native(),
        code: tax.code.to_native(),
        inclusive: tax.inclusive != 0,
    });
    taxes.collect()
}

fn adjustments(sale: &SaleEvent<'_>) -> Vec<AdjustmentState> {
    let adjustments = sale.adjustments.iter().map(|one| AdjustmentState {
        line: line_of(one.line.to_native()),
        kind: adjustment_name(one.kind),
        amount_minor: one.amount.to_native(),
    });
    adjustments.collect()
}

/// The name of a kind of sale.
pub const fn kind_name(number: u8) -> &'static str {
    match number {
        kind::RETURN => "return",
        kind::EXCHANGE => "exchange",
        kind::VOID => "void",
        _ => "sale",
    }
}

/// The name of a kind of line.
pub const fn line_kind_name(number: u8) -> &'static str {
    match number {
        line_kind::RETURN => "return",
        line_kind::VOID => "void",
        _ => "sale",
    }
}

/// The name of what became of an event.
pub const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Duplicate => "duplicate",
        Outcome::Refused => "refused",
        Outcome::Quarantined => "quarantined",
    }
}

const fn adjustment_name(number: u8) -> &'static str {
    match number {
        adjustment::PROMOTION => "promotion",
        adjustment::COUPON => "coupon",
        adjustment::LOYALTY => "loyalty",
        adjustment::COMP => "comp",
        adjustment::SERVICE_CHARGE => "service_charge",
        adjustment::AUTO_GRATUITY => "auto_gratuity",
        adjustment::FEE => "fee",
        adjustment::ROUNDING => "rounding",
        _ => "discount",
    }
}
