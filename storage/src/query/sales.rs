//! Sales over a span, summed by what is asked for.
//!
//! Whole hours come from the sums; an hour that lies across a bound is summed again from its facts, by the same function
//! that made the sums.

mod edge;
mod row;
mod span;

use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, RangeInclusive};

use jiff::tz::TimeZone;
use till_core::{Dim, RollupKey, StoreRow, Totals};
use till_protocol::id::{SkuId, StoreId};

use super::{Bound, By, IncompleteHour, QueryAnswer, Sources, text};
use crate::views::StoreError;

pub use row::SalesRow;
use span::Span;

/// Which sales to sum, and by what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SalesQuery {
    /// Where the span starts, inclusive.
    pub from: Option<Bound>,
    /// Where it ends, exclusive.
    pub to: Option<Bound>,
    /// What to sum by.
    pub by: By,
    /// Of one store; `None` for all.
    pub store: Option<StoreId>,
    /// Of one SKU; `None` for all. Sums of a SKU are not kept by tender, category or operator: by these there is no row.
    pub sku: Option<SkuId>,
}

impl SalesQuery {
    // Sums are kept by one key at a time.
    const fn dim(&self) -> Dim {
        match self.by {
            _ if self.sku.is_some() => Dim::Sku,
            By::Total | By::Store | By::Day | By::Hour => Dim::Store,
            By::Sku => Dim::Sku,
            By::Tender => Dim::Tender,
            By::Category => Dim::Category,
            By::Operator => Dim::Operator,
        }
    }

    const fn has_sums(&self) -> bool {
        self.sku.is_none() || !matches!(self.by, By::Tender | By::Category | By::Operator)
    }
}

/// What a row of the answer stands for, before ids become names.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum SalesGroup {
    Total,
    Store(u32),
    Day(u16),
    /// Start of the hour and the store's offset in seconds.
    Hour(i64, i32),
    /// A SKU, tender, category or operator.
    Key(u64),
}

/// Sums by group and currency.
type GroupSums = BTreeMap<(SalesGroup, u16), Totals>;

/// Attempts to see a store between two flushes, where the answer needs rows and facts of one state.
const ATTEMPTS: u32 = 8;

/// Sales, summed: one row for every key and currency that has a sale, sorted by key.
///
/// # Errors
/// [`StoreError`] when rows or facts cannot be read.
pub fn sales(
    sources: &Sources<'_>,
    query: &SalesQuery,
) -> Result<QueryAnswer<SalesRow>, StoreError> {
    let mut freshness = sources.freshness()?;
    let span = Span::of(query);
    let mut sums = GroupSums::new();
    let mut stores: Vec<(StoreId, StoreRow)> = Vec::new();
    match query.store {
        _ if !query.has_sums() => {}
        Some(store) => stores.extend(sources.views.store(store)?.map(|row| (store, row))),
        None => sources.views.stores(&mut |store, row| {
            stores.push((store, row));
            ControlFlow::Continue(())
        })?,
    }
    let parts = match span.has_instants() || query.by == By::Hour {
        true => {
            let each = stores.into_iter();
            let each = each.map(|(store, row)| of_store(sources, query, &span, store, row));
            each.collect::<Result<Vec<_>, _>>()?
        }
        false => of_days(sources, query, &span, &stores)?,
    };
    for part in parts {
        for (key, totals) in part.sums {
            add(sums.entry(key).or_default(), &totals);
        }
        freshness.incomplete_hours.extend(part.incomplete);
    }
    Ok(QueryAnswer {
        rows: row::rows(sources.views, query.by, sums)?,
        freshness,
    })
}

/// What one store adds to an answer.
struct SalesPart {
    query: SalesQuery,
    store: StoreId,
    currency: u16,
    zone: TimeZone,
    sums: GroupSums,
    incomplete: Vec<IncompleteHour>,
}

impl SalesPart {
    fn new(query: &SalesQuery, store: StoreId, row: &StoreRow) -> Self {
        Self {
            query: *query,
            store,
            currency: row.currency,
            zone: text::zone(&row.zone),
            sums: GroupSums::new(),
            incomplete: Vec::new(),
        }
    }

    fn add(&mut self, key: &RollupKey, totals: &Totals) {
        if totals.lines == 0 && totals.transactions == 0 {
            return;
        }
        let group = match self.query.by {
            By::Total => SalesGroup::Total,
            By::Store => SalesGroup::Store(key.store),
            By::Day => SalesGroup::Day(key.day),
            By::Hour => SalesGroup::Hour(key.hour_us, text::offset_s(&self.zone, key.hour_us)),
            By::Sku | By::Tender | By::Category | By::Operator => SalesGroup::Key(key.key),
        };
        add(self.sums.entry((group, self.currency)).or_default(), totals);
    }

    // Adds the sums of whole hours on business days.
    fn add_days(
        &mut self,
        sources: &Sources<'_>,
        span: &Span,
        days: &RangeInclusive<u16>,
    ) -> Result<(), StoreError> {
        let (store, days, views) = (self.store, days.clone(), sources.views);
        let (sku, dim) = (self.query.sku, self.query.dim());
        let mut add = |key: &RollupKey, totals: &Totals| {
            if span.has_whole(key.hour_us) {
                self.add(key, totals);
            }
        };
        match sku {
            Some(sku) => views.sku_hours(store, sku, days, &mut add),
            None => views.rollups(store, dim, days, &mut |key, row| {
                add(&key, &row.totals);
                ControlFlow::Continue(())
            }),
        }
    }
}

// Whole days: nothing has to be known of their hours.
fn of_days(
    sources: &Sources<'_>,
    query: &SalesQuery,
    span: &Span,
    stores: &[(StoreId, StoreRow)],
) -> Result<Vec<SalesPart>, StoreError> {
    let ids: Vec<StoreId> = stores.iter().map(|(store, _)| *store).collect();
    let parts = stores.iter();
    let parts = parts.map(|(store, row)| (store.get(), SalesPart::new(query, *store, row)));
    let mut parts: HashMap<u32, SalesPart> = parts.collect();
    let (views, days) = (sources.views, span.days.clone());
    let mut add = |key: &RollupKey, totals: &Totals| {
        if let Some(part) = parts.get_mut(&key.store) {
            part.add(key, totals);
        }
    };
    match query.sku {
        Some(sku) => views.sku_parts(&ids, sku, days, &mut add)?,
        None => views.day_parts(&ids, query.dim(), days, &mut add)?,
    }
    Ok(parts.into_values().collect())
}

fn of_store(
    sources: &Sources<'_>,
    query: &SalesQuery,
    span: &Span,
    store: StoreId,
    mut row: StoreRow,
) -> Result<SalesPart, StoreError> {
    let mut attempt = 1;
    loop {
        let mut part = SalesPart::new(query, store, &row);
        if !span.has_instants() {
            part.add_days(sources, span, &span.days)?;
            return Ok(part);
        }
        edge::add_span(&mut part, sources, span, &row)?;
        let after = sources.views.store(store)?.unwrap_or_else(|| row.clone());
        // A flush came between the sums and the facts: they are of two states.
        if after.applied == row.applied || attempt == ATTEMPTS {
            return Ok(part);
        }
        row = after;
        attempt += 1;
    }
}

fn add(sum: &mut Totals, part: &Totals) {
    sum.transactions += part.transactions;
    sum.lines += part.lines;
    sum.quantity += part.quantity;
    sum.net += part.net;
    sum.discount += part.discount;
    sum.tax += part.tax;
}
