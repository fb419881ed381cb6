//! What is: stock, terminals, stores.

use std::ops::ControlFlow;

use serde::Serialize;
use till_core::{SkuRow, Space, StoreRow, TerminalRow, Totals, flag};
use till_protocol::id::{SkuId, StoreId, TerminalId, TillId};
use till_protocol::quantity::unit;
use till_protocol::time::Day;

use super::{QueryAnswer, Sources, text};
use crate::views::{StoreError, Views};

/// Which stock to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StockQuery {
    /// Of which store.
    pub store: StoreId,
    /// Of which SKU, by code; `None` for all.
    pub sku: Option<String>,
}

/// Whether a SKU has a name, or any store has sold, moved or counted it.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn knows_sku(views: &dyn Views, sku: SkuId) -> Result<bool, StoreError> {
    if views.name(Space::Sku, sku.get())?.is_some() {
        return Ok(true);
    }
    // What came without a name has a level.
    let mut stores = Vec::new();
    views.stores(&mut |store, _| {
        stores.push(store);
        ControlFlow::Continue(())
    })?;
    for store in stores {
        if views.sku(store, sku)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The stock of a SKU in a store.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StockRow {
    /// The store.
    pub store: u32,
    /// The SKU's code; `#` and its id where it has none.
    pub sku: String,
    /// The level in units: last count plus movements since.
    pub quantity: String,
    /// Reserved for customers, in units.
    pub reserved: String,
    /// Unit of measure; empty where none was stated.
    pub unit: &'static str,
    /// Event time of the newest count or movement, RFC 3339 in the store's offset.
    pub as_of: String,
    /// What is odd about it: `negative`, `unnamed`, `parked`.
    pub flags: Vec<&'static str>,
}

/// The stock of a store, sorted by code.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn stock(
    sources: &Sources<'_>,
    query: &StockQuery,
) -> Result<QueryAnswer<StockRow>, StoreError> {
    let freshness = sources.freshness()?;
    let store = query.store;
    let mut found: Vec<(SkuId, SkuRow)> = Vec::new();
    match &query.sku {
        Some(code) => {
            let id = text::sku_id(code);
            found.extend(sources.views.sku(store, id)?.map(|row| (id, row)));
        }
        None => sources
            .views
            .skus(store, SkuId::from_u64(0), &mut |sku, row| {
                found.push((sku, row));
                ControlFlow::Continue(())
            })?,
    }
    let zone = sources
        .views
        .store(store)?
        .map_or_else(String::new, |row| row.zone);
    let zone = text::zone(&zone);
    let mut rows = Vec::with_capacity(found.len());
    for (sku, row) in found {
        let counted = row.counted.map_or(0, |(_, quantity)| quantity);
        rows.push(StockRow {
            store: store.get(),
            sku: text::sku(sources.views, sku.get())?,
            quantity: text::quantity(i128::from(counted) + i128::from(row.moved)),
            reserved: text::quantity(i128::from(row.reserved)),
            unit: unit::name(row.unit),
            as_of: text::instant(&zone, row.as_of_us),
            flags: flag::sku::names(row.flags).collect(),
        });
    }
    rows.sort_by(|a, b| a.sku.cmp(&b.sku));
    Ok(QueryAnswer { rows, freshness })
}

/// Sums as they stand in answers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Sums {
    /// Completed transactions.
    pub transactions: u64,
    /// Lines.
    pub lines: u64,
    /// Quantity in units.
    pub quantity: String,
    /// Extended amounts in minor units.
    pub net_minor: i128,
    /// Discounts in minor units, positive.
    pub discount_minor: i128,
    /// Taxes in minor units.
    pub tax_minor: i128,
}

impl From<&Totals> for Sums {
    fn from(totals: &Totals) -> Self {
        Self {
            transactions: totals.transactions,
            lines: totals.lines,
            quantity: text::quantity(totals.quantity),
            net_minor: totals.net,
            discount_minor: totals.discount,
            tax_minor: totals.tax,
        }
    }
}

/// Which terminals to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TerminalQuery {
    /// Of which store.
    pub store: StoreId,
    /// Which till; `None` for all.
    pub terminal: Option<TillId>,
}

/// One epoch of a terminal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct EpochState {
    /// Which epoch.
    pub epoch: u32,
    /// The sequence number that comes next.
    pub next_seq: u64,
}

/// A terminal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TerminalState {
    /// The store.
    pub store: u32,
    /// The till.
    pub terminal: u32,
    /// Its latest life.
    pub epoch: u32,
    /// The sequence number that comes next in it.
    pub next_seq: u64,
    /// All its lives, oldest first.
    pub epochs: Vec<EpochState>,
    /// When it last sent something new, RFC 3339 in the store's offset.
    pub last_seen: String,
    /// Largest event time by its own clock, RFC 3339 in the store's offset.
    pub last_event_at: String,
    /// Currency of the sums.
    pub currency: String,
    /// Sums of all its sales.
    pub totals: Sums,
    /// The latest business day.
    pub shift_day: String,
    /// Sums of that day.
    pub shift: Sums,
    /// Events that were applied.
    pub applied: u64,
    /// Events that came again under another sequence number.
    pub duplicates: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Events that were quarantined.
    pub quarantined: u64,
    /// Every flag that one of its events ever had.
    pub flags: Vec<&'static str>,
}

/// The terminals of a store, by till.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn terminals(
    sources: &Sources<'_>,
    query: &TerminalQuery,
) -> Result<QueryAnswer<TerminalState>, StoreError> {
    let freshness = sources.freshness()?;
    let store = sources.views.store(query.store)?;
    let mut rows = Vec::new();
    match query.terminal {
        Some(till) => {
            let id = TerminalId::new(query.store, till);
            let row = sources.views.terminal(id)?;
            rows.extend(row.map(|row| terminal_state(store.as_ref(), id, &row)));
        }
        None => sources.views.terminals(query.store, &mut |id, row| {
            rows.push(terminal_state(store.as_ref(), id, &row));
            ControlFlow::Continue(())
        })?,
    }
    Ok(QueryAnswer { rows, freshness })
}

fn terminal_state(store: Option<&StoreRow>, id: TerminalId, row: &TerminalRow) -> TerminalState {
    let zone = text::zone(store.map_or("UTC", |store| store.zone.as_str()));
    let epochs: Vec<EpochState> = row
        .epochs
        .iter()
        .map(|progress| EpochState {
            epoch: progress.epoch,
            next_seq: progress.next_seq,
        })
        .collect();
    let latest = epochs.last();
    TerminalState {
        store: id.store().get(),
        terminal: id.till().get(),
        epoch: latest.map_or(0, |progress| progress.epoch),
        next_seq: latest.map_or(1, |progress| progress.next_seq),
        last_seen: text::instant(&zone, row.last_seen_us),
        last_event_at: text::instant(&zone, row.last_event_at_us),
        currency: text::currency(store.map_or(0, |store| store.currency)),
        totals: Sums::from(&row.totals),
        shift_day: Day::new(row.shift_day).to_string(),
        shift: Sums::from(&row.shift),
        applied: row.applied,
        duplicates: row.duplicates,
        refused: row.refused,
        quarantined: row.quarantined,
        flags: flag::names(row.flags).collect(),
        epochs,
    }
}

/// Which stores to show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct StoresQuery {
    /// One store; `None` for all.
    pub store: Option<StoreId>,
}

/// A store.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct StoreState {
    /// The store.
    pub store: u32,
    /// Its currency.
    pub currency: String,
    /// Its time zone.
    pub time_zone: String,
    /// When it was registered, RFC 3339 in its offset.
    pub registered_at: String,
    /// What was rung up in training mode.
    pub training: Sums,
}

/// The stores, by number.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn stores(
    sources: &Sources<'_>,
    query: StoresQuery,
) -> Result<QueryAnswer<StoreState>, StoreError> {
    let freshness = sources.freshness()?;
    let mut rows = Vec::new();
    sources.views.stores(&mut |id, row| {
        if query.store.is_none_or(|wanted| wanted == id) {
            rows.push(StoreState {
                store: id.get(),
                currency: text::currency(row.currency),
                registered_at: text::instant(&text::zone(&row.zone), row.registered_at_us),
                training: Sums::from(&row.training),
                time_zone: row.zone,
            });
        }
        ControlFlow::Continue(())
    })?;
    Ok(QueryAnswer { rows, freshness })
}
