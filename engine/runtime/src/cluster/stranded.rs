//! Records that other engines handed off and that have no place: what they collide with, and how they are released.

use std::collections::BTreeMap;

use serde::Serialize;
use thiserror::Error;
use till_core::event::{Event, for_each};
use till_core::{Record, RecordHead, RecordKind, Shard, ShardConfig};
use till_protocol::codec::Frame;
use till_protocol::id::TerminalId;
use till_protocol::verified::Verified;
use till_storage::cluster::{Handoff, InboxId, SharedStore};
use till_storage::query::FactReader;
use till_storage::rebuild::FactRows;
use till_storage::views::StoreError;

use crate::lifecycle::engine::Engine;
use crate::shard::message::Waits;
use crate::shard::offer::take_epoch;

/// Events that are shown of each side of a collision.
const SHOWN_MAX: usize = 16;

/// A record of the inbox that has no position in its epoch.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Stranded {
    /// What it is released by.
    pub record: String,
    /// Its store and till.
    pub terminal: String,
    /// Its epoch.
    pub epoch: u32,
    /// The first of its events.
    pub first_seq: u64,
    /// The last of its events.
    pub last_seq: u64,
    /// When its engine received it, in us since 1970-01-01 UTC.
    pub received_at_us: i64,
    /// Why it has no position.
    pub why: String,
    /// Its events.
    pub events: Vec<Shown>,
    /// The events that are here under its numbers.
    pub here: Vec<Shown>,
}

/// An event, as far as people know it by.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Shown {
    /// Its sequence number.
    pub seq: u64,
    /// Its own time, in us since 1970-01-01 UTC.
    pub at_us: i64,
    /// What it is: its family.
    pub kind: &'static str,
    /// What it is worth: minor units of a sale, 1e-5 units of a movement.
    pub amount: i64,
}

/// Why a record was not released.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The engine shares no store.
    #[error("this engine shares no store with others: nothing is handed off to it")]
    Alone,
    /// It was taken in, or released, before.
    #[error("nothing waits as {0}: it was taken in before")]
    Gone(InboxId),
    /// Another engine serves its store.
    #[error("slot {slot} is not served here; ask {owner}")]
    CrossEpoch {
        /// The slot.
        slot: u32,
        /// Where it is served.
        owner: String,
    },
    /// The shared store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its shard does not say which epoch is free.
    #[error("no epoch could be taken for it: {0}")]
    Shard(String),
}

/// The records of the inbox that have no place, in the order in which they are looked at. Reads the shared store alone.
///
/// # Errors
/// [`StoreError`] when it does not answer.
pub fn stranded(store: &dyn SharedStore) -> Result<Vec<Stranded>, StoreError> {
    let (views, facts) = (store.views(), store.facts());
    let rows = FactRows::new(views.as_ref(), facts.as_ref());
    // It only judges places; nothing is applied to it.
    let mut judge = Shard::new(ShardConfig::default());
    // Up to where an epoch will have come once those before are taken in.
    let mut coming: BTreeMap<(u64, u32), u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (slot, from, number) in store.waiting()? {
        let Some(Handoff { records, .. }) = store.handed_off(slot, from, number)? else {
            continue;
        };
        for (index, record) in (0_u32..).zip(records) {
            let waits = match judge.place(&record, &rows) {
                Ok(handled) => Waits::of(&record, &handled),
                Err(error) => Some(Waits::Other(error.to_string())),
            };
            let (head, id) = (
                record.head,
                InboxId {
                    slot,
                    from,
                    number,
                    index,
                },
            );
            let upto = coming.entry((head.terminal, head.epoch)).or_default();
            let is_coming = matches!(waits, Some(Waits::Gap(_)))
                && head.first_seq + u64::from(head.skip) <= *upto;
            match waits {
                Some(waits) if !is_coming => {
                    found.push(shown((id, &record), &waits, facts.as_ref())?);
                }
                _ => *upto = (*upto).max(head.first_seq + u64::from(head.count)),
            }
        }
    }
    Ok(found)
}

fn shown(
    (id, record): (InboxId, &Record),
    waits: &Waits,
    facts: &dyn FactReader,
) -> Result<Stranded, StoreError> {
    let head = &record.head;
    let terminal = TerminalId::from_u64(head.terminal);
    let first = head.first_seq.saturating_add(u64::from(head.skip));
    let last = head
        .first_seq
        .saturating_add(u64::from(head.count))
        .saturating_sub(1);
    let mut here = Vec::new();
    if let (Waits::Conflict(_), Ok(terminal)) = (waits, terminal) {
        facts.of_run(terminal, head.epoch, (first, last), &mut |fact| {
            let of = &fact.record.head;
            if (of.terminal, of.epoch) == (head.terminal, head.epoch)
                && of.kind != RecordKind::Retry
            {
                here.extend(events_of(&fact.record, (first, last)));
            }
            Ok(())
        })?;
        here.truncate(SHOWN_MAX);
    }
    let mut events = events_of(record, (first, last));
    events.truncate(SHOWN_MAX);
    Ok(Stranded {
        record: id.to_string(),
        terminal: terminal.map_or_else(|_| head.terminal.to_string(), |one| one.to_string()),
        epoch: head.epoch,
        first_seq: first,
        last_seq: last,
        received_at_us: head.received_at_us,
        why: waits.to_string(),
        events,
        here,
    })
}

// The events of a record within a run. One that cannot be read shows none.
fn events_of(record: &Record, (first, last): (u64, u64)) -> Vec<Shown> {
    let RecordHead {
        family,
        version,
        count,
        first_seq,
        ..
    } = record.head;
    let frame = Frame::new(family, version, count, first_seq, record.payload.clone());
    let batch = frame.ok().map(Verified::from_journal);
    let Some(Ok(batch)) = batch.filter(|_| record.head.kind == RecordKind::Batch) else {
        return Vec::new();
    };
    let mut events = Vec::new();
    let done: Result<(), std::convert::Infallible> = for_each(&batch.view(), |index, event| {
        let seq = first_seq + u64::from(index);
        if (first..=last).contains(&seq) {
            events.push(show(seq, &event));
        }
        Ok(())
    });
    match done {
        Ok(()) => events,
        Err(never) => match never {},
    }
}

fn show(seq: u64, event: &Event<'_>) -> Shown {
    let (kind, amount) = match event {
        Event::Sale(sale) => {
            let amounts = sale.lines.iter().map(|line| line.amount.to_native());
            ("sale", amounts.fold(0, i64::saturating_add))
        }
        Event::Stock(stock) => ("stock", stock.record.quantity.to_native()),
        Event::Sensor(_) => ("sensor", 0),
        Event::Device(_) => ("device", 0),
    };
    Shown {
        seq,
        at_us: event.at_us(),
        kind,
        amount,
    }
}

/// Releases a stranded record under an epoch that no device is granted; gives that epoch. The same again gives the same one, and
/// changes nothing. It counts once the owner of its slot has looked at it, which it does at once. For threads that may block.
pub(crate) fn release(engine: &Engine, id: &InboxId) -> Result<u32, ReleaseError> {
    let cluster = engine.row_backend.cluster().ok_or(ReleaseError::Alone)?;
    let store = &cluster.store;
    let gone = || ReleaseError::Gone(*id);
    let chunk = store
        .handed_off(id.slot, id.from, id.number)?
        .ok_or_else(gone)?;
    let index = usize::try_from(id.index).map_err(|_| gone())?;
    let record = chunk.records.get(index).ok_or_else(gone)?;
    if !cluster.is_served(id.slot) {
        let row = store.slot(id.slot)?;
        let owner = match row.owner {
            Some(_) => row.address,
            None => "an engine that serves it".to_owned(),
        };
        return Err(ReleaseError::CrossEpoch {
            slot: id.slot,
            owner,
        });
    }
    if let Some(epoch) = store.release(id, None)? {
        cluster.look_now();
        return Ok(epoch);
    }
    let shard = |cause: &dyn ToString| ReleaseError::Shard(cause.to_string());
    let terminal = TerminalId::from_u64(record.head.terminal);
    // A registration has no terminal, and takes no epoch with it: it is let go.
    let epoch = match terminal {
        _ if record.head.kind == RecordKind::StoreRegistered => 1,
        Ok(terminal) => {
            let epoch = take_epoch(engine, terminal).map_err(|cause| shard(&cause))?;
            epoch
                .ok_or_else(|| shard(&"its store is not registered"))?
                .get()
        }
        Err(error) => return Err(shard(&error)),
    };
    let released = store.release(id, Some(epoch))?;
    cluster.look_now();
    released.ok_or_else(|| shard(&"the shared store has not kept it"))
}
