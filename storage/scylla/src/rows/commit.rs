//! The fact rows of a commit: a pure function of it, and of what never changes about its stores.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use till_core::{Contributor, Outcome, Record, RecordKind, Registration, Verdict, Zone};
use till_protocol::code::Reason;
use till_protocol::id::{StoreId, TerminalId};
use till_storage::cluster::Commit;
use till_storage::facts::{Fact, hour_of, range_of};
use till_storage::journal::Lsn;
use till_storage::query::{currency_code, each_event, receipt_of};
use till_storage::views::StoreError;

use super::cell::date_of_us;
use super::derived::{signed, store_of};
use super::event::Scribe;
use super::fact::{
    AuditRow, LineRow, MoveRow, ReceiptRow, RecordHourRow, RecordRow, RunRow, TelemetryRow,
    TransactionRow,
};
use super::{Stamped, set};

/// Sequence numbers of one partition of `runs`, as a power of two. More than a record has.
pub(crate) const RUN_BITS: u32 = 16;

/// What never changes about a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Traits {
    /// ISO 4217 number.
    pub(crate) currency: u16,
    /// IANA name.
    pub(crate) zone: String,
}

/// Fact rows, each with its timestamp.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) records: Vec<Stamped<RecordRow>>,
    pub(crate) hours: Vec<Stamped<RecordHourRow>>,
    pub(crate) runs: Vec<Stamped<RunRow>>,
    pub(crate) receipts: Vec<Stamped<ReceiptRow>>,
    pub(crate) transactions: Vec<Stamped<TransactionRow>>,
    pub(crate) lines: Vec<Stamped<LineRow>>,
    pub(crate) moves: Vec<Stamped<MoveRow>>,
    pub(crate) telemetry: Vec<Stamped<TelemetryRow>>,
    pub(crate) audit: Vec<Stamped<AuditRow>>,
}

/// The fact rows of a commit. `traits` gives what is fixed about a store.
///
/// # Errors
/// [`StoreError::Damaged`] for a record that is none which this software writes; what `traits` returns.
pub(crate) fn facts_of(
    commit: &Commit,
    mut traits: impl FnMut(StoreId) -> Result<Traits, StoreError>,
) -> Result<Facts, StoreError> {
    let mut out = Facts::default();
    let mut contributor = Contributor::default();
    for (index, record) in (0_u32..).zip(&commit.records) {
        let position = Commit::position(commit.flush, index);
        let fact = Fact::new(Lsn::new(position), record.clone());
        let hours = match record.head.kind {
            RecordKind::Batch | RecordKind::Retry => {
                of_events(&mut out, &mut contributor, &fact, &mut traits)?
            }
            RecordKind::Tombstones
            | RecordKind::Duplicates
            | RecordKind::StoreRegistered
            | RecordKind::SkuAlias
            | RecordKind::BaseRow => BTreeSet::new(),
        };
        of_record(&mut out, &fact, hours);
        audit_of_record(&mut out, record);
    }
    // Most records of a commit are of a few hours.
    out.hours
        .sort_unstable_by_key(|(stamp, row)| (row.store, row.hour, *stamp));
    out.hours.dedup_by_key(|(_, row)| (row.store, row.hour));
    Ok(out)
}

// The rows of the events that a record says something of. Gives the hours that they lie in.
fn of_events(
    out: &mut Facts,
    contributor: &mut Contributor,
    fact: &Fact,
    traits: &mut impl FnMut(StoreId) -> Result<Traits, StoreError>,
) -> Result<BTreeSet<i32>, StoreError> {
    let damaged = |cause: String| StoreError::Damaged {
        table: "records",
        cause,
    };
    let terminal = TerminalId::from_u64(fact.record.head.terminal)
        .map_err(|error| damaged(error.to_string()))?;
    let traits = traits(terminal.store())?;
    let zone = Zone::new(&traits.zone).map_err(|error| damaged(error.to_string()))?;
    let mut scribe = Scribe {
        out,
        contributor,
        fact,
        terminal,
        currency: currency_code(traits.currency),
        zone,
    };
    let mut hours = BTreeSet::new();
    each_event(fact, |event, fate, index| {
        hours.insert(hour_of(event.at_us()));
        scribe.event(&event, fate, index);
        Ok(())
    })?;
    Ok(hours)
}

// The record itself, and what it is found by.
fn of_record(out: &mut Facts, fact: &Fact, mut hours: BTreeSet<i32>) {
    let head = &fact.record.head;
    let stamp = head.received_at_us;
    if hours.is_empty() {
        hours.insert(hour_of(stamp));
    }
    let mut verdicts = BytesMut::with_capacity(fact.record.verdicts.len() * Verdict::BYTES);
    for verdict in &fact.record.verdicts {
        verdicts.put_slice(&verdict.encode());
    }
    let verdicts = verdicts.freeze();
    let store = store_of(head.terminal);
    let position = fact.lsn.get().cast_signed();
    for hour in &hours {
        let row = RecordRow {
            store,
            hour: *hour,
            position,
            terminal: head.terminal.cast_signed(),
            epoch: signed(head.epoch),
            first_seq: head.first_seq.cast_signed(),
            count: signed(head.count),
            kind: i8::try_from(head.kind.number()).unwrap_or(0),
            head: Bytes::copy_from_slice(&head.encode()),
            verdicts: verdicts.clone(),
            payload: fact.record.payload.clone(),
        };
        out.records.push((stamp, row));
        out.hours
            .push((stamp, RecordHourRow { store, hour: *hour }));
    }
    let first_hour = hours.first().copied().unwrap_or(0);
    if let Some((first, last)) = range_of(head) {
        let row = RunRow {
            terminal: head.terminal.cast_signed(),
            epoch: signed(head.epoch),
            bucket: (first >> RUN_BITS).cast_signed(),
            first_seq: first.cast_signed(),
            last_seq: last.cast_signed(),
            hour: first_hour,
            position,
        };
        out.runs.push((stamp, row));
    }
}

// What a record says beyond its events: registrations, frames that were not understood, lines that waited.
fn audit_of_record(out: &mut Facts, record: &Record) {
    let head = &record.head;
    let row = |seq: u64, what, reason: Option<u16>, detail: Option<String>| AuditRow {
        store: store_of(head.terminal),
        day: date_of_us(head.received_at_us),
        at_us: head.received_at_us,
        terminal: head.terminal.cast_signed(),
        epoch: signed(head.epoch),
        seq: seq.cast_signed(),
        what,
        reason: set(reason.map(i32::from)),
        detail: set(detail),
    };
    match head.kind {
        RecordKind::StoreRegistered => {
            let told = Registration::decode(&record.payload);
            let told = told.map(|one| format!("{} {}", currency_code(one.currency), one.zone));
            let row = row(head.first_seq, "registered", None, told);
            out.audit.push((head.received_at_us, row));
        }
        RecordKind::Tombstones => {
            let reason = record.verdicts.last().map(|verdict| verdict.reason);
            let words = reason.map_or_else(String::new, words);
            let events = head.count.saturating_sub(head.skip);
            let told = format!("{events} events of a frame: {words}");
            let first = head.first_seq.saturating_add(u64::from(head.skip));
            let row = row(first, "refused", reason, Some(told));
            out.audit.push((head.received_at_us, row));
        }
        RecordKind::Retry => {
            for verdict in &record.verdicts {
                let Some(line) = verdict.waiting_line() else {
                    continue;
                };
                let seq = head.first_seq.saturating_add(u64::from(verdict.index));
                let row = row(seq, "released", None, Some(format!("line {line}")));
                out.audit.push((head.received_at_us, row));
            }
        }
        RecordKind::Batch | RecordKind::Duplicates | RecordKind::SkuAlias | RecordKind::BaseRow => {
        }
    }
}

/// A reason in words.
pub(crate) fn words(reason: u16) -> String {
    Reason::from_code(reason).to_string()
}

/// Whether an event counts: it took effect.
pub(crate) const fn took_effect(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Applied)
}

/// The receipt of a sale, where it has one.
pub(crate) fn stated_receipt(sale: &till_protocol::view::SaleEvent<'_>) -> Option<String> {
    Some(receipt_of(sale)).filter(|receipt| !receipt.is_empty())
}

#[cfg(test)]
mod tests;
