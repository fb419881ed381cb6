//! Spans that start or end within an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use till_core::Contributor;
use till_core::event::Event;
use till_core::zone::Zone;
use till_core::{Dim, Outcome, RollupKey, StoreRow, Totals};

use super::span::{HOUR_US, Span};
use super::{SalesPart, add};
use crate::query::reader::each_event;
use crate::query::{IncompleteHour, Sources, text};
use crate::views::StoreError;

/// Adds a span that is bounded by event times: whole hours from the sums, hours across a bound from the facts.
pub(super) fn add_span(
    part: &mut SalesPart,
    sources: &Sources<'_>,
    span: &Span,
    store: &StoreRow,
) -> Result<(), StoreError> {
    // The sums by store are few, and say on which business days an hour of the span was traded.
    let mut days = BTreeSet::new();
    let mut edges: BTreeMap<i64, BTreeMap<u16, Totals>> = BTreeMap::new();
    let all = span.days.clone();
    sources
        .views
        .rollups(part.store, Dim::Store, all, &mut |key, row| {
            if span.touches(key.hour_us) {
                days.insert(key.day);
                if !span.has_whole(key.hour_us) {
                    let by_day = edges.entry(key.hour_us).or_default();
                    by_day.insert(key.day, row.totals);
                }
            }
            ControlFlow::Continue(())
        })?;
    for day in days {
        part.add_days(sources, span, &(day..=day))?;
    }
    for (hour_us, expected) in edges {
        let seen = add_edge(part, sources, span, store, hour_us)?;
        if expected
            .iter()
            .any(|(day, totals)| seen.get(day) != Some(totals))
        {
            part.incomplete.push(IncompleteHour {
                store: part.store.get(),
                hour: text::instant(&part.zone, hour_us),
            });
        }
    }
    Ok(())
}

// Adds the part of an hour that lies in the span. Returns the sums by day of the whole hour as the facts have them.
fn add_edge(
    part: &mut SalesPart,
    sources: &Sources<'_>,
    span: &Span,
    store: &StoreRow,
    hour_us: i64,
) -> Result<BTreeMap<u16, Totals>, StoreError> {
    let mut zone = Zone::new(&store.zone).map_err(|error| StoreError::Damaged {
        table: "stores",
        cause: error.to_string(),
    })?;
    let (dim, sku) = (part.query.dim(), part.query.sku);
    let is_asked = |key: &RollupKey| key.dim == dim && sku.is_none_or(|sku| key.key == sku.get());
    let store_id = part.store;
    let mut contributor = Contributor::default();
    let mut seen: BTreeMap<u16, Totals> = BTreeMap::new();
    let end_us = hour_us.saturating_add(HOUR_US);
    sources
        .facts
        .of_hours(store_id, hour_us, end_us, &mut |fact| {
            if fact.lsn.get() > store.applied {
                return Ok(());
            }
            each_event(fact, |event, fate, _| {
                let Event::Sale(sale) = event else {
                    return Ok(());
                };
                let at_us = sale.sale.at.to_native();
                let local = zone.local(at_us);
                if fate.outcome != Outcome::Applied || local.hour_us != hour_us {
                    return Ok(());
                }
                let in_span = span.has(at_us);
                let mut emit = |key: &RollupKey, row: &till_core::RollupRow, _| {
                    if key.dim == Dim::Store {
                        add(seen.entry(key.day).or_default(), &row.totals);
                    }
                    if in_span && is_asked(key) && span.days.contains(&key.day) {
                        part.add(key, &row.totals);
                    }
                };
                contributor.of_sale(store_id, local, &sale, &mut emit);
                Ok(())
            })
        })?;
    Ok(seen)
}
