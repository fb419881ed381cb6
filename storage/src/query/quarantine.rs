//! What is quarantined: from the rows, and from the records behind them where they are still there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::ControlFlow;

use jiff::tz::TimeZone;
use serde::Serialize;
use till_core::event::Event;
use till_core::{QuarantineKey, QuarantineRow, RecordKind};
use till_protocol::code::Reason;
use till_protocol::id::{StoreId, TerminalId};

use super::reader::each_event;
use super::transaction::receipt_of;
use super::{QueryAnswer, Sources, text};
use crate::views::StoreError;

/// Which quarantined events to show.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuarantineQuery {
    /// Of one store; `None` for all.
    pub store: Option<StoreId>,
}

/// A quarantined event, or a line of one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct QuarantineState {
    /// The store.
    pub store: u32,
    /// The till.
    pub terminal: u32,
    /// Its epoch.
    pub epoch: u32,
    /// Sequence number of the event.
    pub seq: u64,
    /// The line that waits; absent where the whole event does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u16>,
    /// Why, in words.
    pub reason: String,
    /// Why, as a number.
    pub reason_code: u16,
    /// When it was received, RFC 3339 in UTC.
    pub received_at: String,
    /// Event time, RFC 3339 in the store's offset; absent where retention has dropped the event, as the two below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<String>,
    /// The receipt; absent also where it is no transaction or has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<String>,
    /// What its source calls it, in hexadecimal; absent also where it has no event id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The SKU that it waits for; absent where it waits for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sku: Option<String>,
    /// The movement that waits, in units; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<String>,
}

/// What is in quarantine, by store, terminal, epoch, sequence number and line.
///
/// # Errors
/// [`StoreError`] when the rows cannot be read.
pub fn quarantine(
    sources: &Sources<'_>,
    query: QuarantineQuery,
) -> Result<QueryAnswer<QuarantineState>, StoreError> {
    let freshness = sources.freshness()?;
    let mut found: Vec<(QuarantineKey, QuarantineRow)> = Vec::new();
    sources.views.quarantine(&mut |key, row| {
        found.push((key, row));
        ControlFlow::Continue(())
    })?;
    let mut rows = Vec::with_capacity(found.len());
    let mut zones = HashMap::new();
    for (key, row) in found {
        let Ok(terminal) = TerminalId::from_u64(key.terminal) else {
            continue;
        };
        if query.store.is_some_and(|wanted| wanted != terminal.store()) {
            continue;
        }
        let waits = row.sku != 0;
        let zone = zone_of(sources, terminal.store(), &mut zones)?;
        let event = original(sources, terminal, key, zone)?;
        rows.push(QuarantineState {
            store: terminal.store().get(),
            terminal: terminal.till().get(),
            epoch: key.epoch,
            seq: key.seq,
            line: (key.line != u16::MAX).then_some(key.line),
            reason: Reason::from_code(row.reason).to_string(),
            reason_code: row.reason,
            received_at: text::utc(row.received_at_us),
            occurred_at: event.occurred_at,
            receipt: event.receipt,
            event_id: event.event_id,
            sku: waits
                .then(|| text::sku(sources.views, row.sku))
                .transpose()?,
            quantity: waits.then(|| text::quantity(i128::from(row.quantity))),
        });
    }
    Ok(QueryAnswer { rows, freshness })
}

/// What a quarantined event says of itself.
#[derive(Default)]
struct Original {
    occurred_at: Option<String>,
    receipt: Option<String>,
    event_id: Option<String>,
}

fn original(
    sources: &Sources<'_>,
    terminal: TerminalId,
    key: QuarantineKey,
    zone: &TimeZone,
) -> Result<Original, StoreError> {
    let mut original = Original::default();
    sources
        .facts
        .of_event(terminal, key.epoch, key.seq, &mut |fact| {
            let head = &fact.record.head;
            let is_its = (head.terminal, head.epoch) == (key.terminal, key.epoch);
            if head.kind != RecordKind::Batch || !is_its {
                return Ok(());
            }
            each_event(fact, |event, _, index| {
                if fact.seq(index) == key.seq {
                    original = original_of(&event, zone);
                }
                Ok(())
            })
        })?;
    Ok(original)
}

fn original_of(event: &Event<'_>, zone: &TimeZone) -> Original {
    let receipt = match event {
        Event::Sale(sale) => receipt_of(sale),
        Event::Stock(_) | Event::Sensor(_) | Event::Device(_) => String::new(),
    };
    Original {
        occurred_at: Some(text::instant(zone, event.at_us())),
        receipt: (!receipt.is_empty()).then_some(receipt),
        event_id: event.event_id().map(|id| id.to_string()),
    }
}

fn zone_of<'z>(
    sources: &Sources<'_>,
    store: StoreId,
    zones: &'z mut HashMap<StoreId, TimeZone>,
) -> Result<&'z TimeZone, StoreError> {
    match zones.entry(store) {
        Entry::Occupied(known) => Ok(known.into_mut()),
        Entry::Vacant(place) => {
            let row = sources.views.store(store)?;
            let zone = row.map_or(TimeZone::UTC, |row| text::zone(&row.zone));
            Ok(place.insert(zone))
        }
    }
}
