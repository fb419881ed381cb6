//! Rows of an answer about sales.

use serde::Serialize;
use till_core::Totals;
use till_protocol::time::Day;

use super::{GroupSums, SalesGroup, add};
use crate::query::{By, text};
use crate::views::{StoreError, Views};

/// Sums under one key, in one currency. Only the keys that were asked for are there.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SalesRow {
    /// The store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<u32>,
    /// The business day: 2026-11-21.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// Start of the hour, RFC 3339 in the store's offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hour: Option<String>,
    /// The SKU's code; `#` and its id where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The means of payment; empty where it was not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tender: Option<String>,
    /// The category's number; 0 where it was not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<u64>,
    /// The operator's opaque reference; 0 where it was not stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<u64>,
    /// ISO 4217 code.
    pub currency: String,
    /// Distinct sales.
    pub transactions: u64,
    /// Lines.
    pub lines: u64,
    /// Quantity in units, exact: "12.5".
    pub quantity: String,
    /// Extended amounts in minor units.
    pub net_minor: i128,
    /// Discounts in minor units, positive.
    pub discount_minor: i128,
    /// Taxes in minor units.
    pub tax_minor: i128,
}

/// The rows of sums, sorted by key and then currency; keys of one name are one row.
pub(super) fn rows(
    views: &dyn Views,
    by: By,
    sums: GroupSums,
) -> Result<Vec<SalesRow>, StoreError> {
    let mut found: Vec<(SalesGroup, String, String, Totals)> = Vec::with_capacity(sums.len());
    for ((group, currency), totals) in sums {
        let name = match (by, group) {
            (By::Sku, SalesGroup::Key(id)) => text::sku(views, id)?,
            (By::Tender, SalesGroup::Key(key)) => text::tender(views, key)?,
            _ => String::new(),
        };
        // Names sort before ids: under a name, the id is of no matter.
        let named = matches!(by, By::Sku | By::Tender);
        let group = if named { SalesGroup::Total } else { group };
        found.push((group, name, text::currency(currency), totals));
    }
    found.sort_by(|a, b| (&a.0, &a.1, &a.2).cmp(&(&b.0, &b.1, &b.2)));
    found.dedup_by(|later, first| {
        let same = (&later.0, &later.1, &later.2) == (&first.0, &first.1, &first.2);
        if same {
            add(&mut first.3, &later.3);
        }
        same
    });
    Ok(found.into_iter().map(|entry| row(by, entry)).collect())
}

fn row(by: By, (group, name, currency, totals): (SalesGroup, String, String, Totals)) -> SalesRow {
    let mut row = SalesRow {
        currency,
        transactions: totals.transactions,
        lines: totals.lines,
        quantity: text::quantity(totals.quantity),
        net_minor: totals.net,
        discount_minor: totals.discount,
        tax_minor: totals.tax,
        ..SalesRow::default()
    };
    match (by, group) {
        (By::Sku, _) => row.sku = Some(name),
        (By::Tender, _) => row.tender = Some(name),
        (By::Category, SalesGroup::Key(key)) => row.category = Some(key),
        (_, SalesGroup::Key(key)) => row.operator = Some(key),
        (_, SalesGroup::Store(store)) => row.store = Some(store),
        (_, SalesGroup::Day(day)) => row.day = Some(Day::new(day).to_string()),
        (_, SalesGroup::Hour(us, offset_s)) => row.hour = Some(text::at_offset(us, offset_s)),
        (_, SalesGroup::Total) => {}
    }
    row
}
