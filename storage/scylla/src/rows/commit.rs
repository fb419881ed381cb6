//! The fact rows of a commit: a pure function of it, and of what never changes about its stores.

use std::collections::{BTreeMap, BTreeSet};

use till_core::{Contributor, Outcome, Record, RecordKind, Registration, Zone};
use till_protocol::code::Reason;
use till_protocol::id::{StoreId, TerminalId};
use till_storage::cluster::Commit;
use till_storage::facts::{Fact, hour_of, range_of};
use till_storage::journal::Lsn;
use till_storage::query::{currency_code, each_event, receipt_of};
use till_storage::views::StoreError;

use super::cell::date_of_us;
use super::derived::{quarter_of, signed, store_of};
use super::event::Scribe;
use super::fact::{
    AuditRow, HourIndexRow, HourRow, LineRow, MoveRow, ReceiptIndexRow, RunIndexRow, TelemetryRow,
    TransactionRow,
};
use super::{Stamped, set};

/// Sequence numbers of one partition of `run_index`, as a power of two. More than a record has.
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
    pub(crate) hours: Vec<Stamped<HourRow>>,
    pub(crate) hour_index: Vec<Stamped<HourIndexRow>>,
    pub(crate) runs: Vec<Stamped<RunIndexRow>>,
    pub(crate) receipts: Vec<Stamped<ReceiptIndexRow>>,
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
    let mut index = HourIndex::default();
    for (number, record) in (0_u32..).zip(&commit.records) {
        let position = Commit::position(commit.flush, number);
        let fact = Fact::new(Lsn::new(position), record.clone());
        let quarters = match record.head.kind {
            RecordKind::Batch | RecordKind::Retry => {
                of_events(&mut out, (commit, &mut contributor), &fact, &mut traits)?
            }
            RecordKind::Tombstones
            | RecordKind::Duplicates
            | RecordKind::StoreRegistered
            | RecordKind::SkuAlias
            | RecordKind::BaseRow => BTreeSet::new(),
        };
        let stamp = record.head.received_at_us;
        let at = match quarters.is_empty() {
            true => BTreeSet::from([(hour_of(stamp), quarter_of(stamp))]),
            false => quarters,
        };
        for (hour, quarter) in at {
            let key = (store_of(record.head.terminal), hour, quarter);
            let (first, numbers) = index.entry(key).or_insert((stamp, Vec::new()));
            *first = stamp.min(*first);
            numbers.extend(number.to_le_bytes());
        }
        out.runs.extend(run_of(commit.epoch, &fact));
        audit_of_record(&mut out, record);
    }
    for ((store, hour, quarter), (stamp, numbers)) in index {
        out.hours.push((stamp, HourRow { store, hour }));
        let row = HourIndexRow {
            store,
            hour,
            quarter,
            flush: commit.flush.cast_signed(),
            epoch: commit.epoch.cast_signed(),
            numbers,
        };
        out.hour_index.push((stamp, row));
    }
    out.hours.dedup_by_key(|(_, row)| (row.store, row.hour));
    Ok(out)
}

/// By store, hour and quarter: when the first of the records was received, and their numbers.
type HourIndex = BTreeMap<(i32, i32, i8), (i64, Vec<u8>)>;

// The rows of the events that a record says something of. Gives the hours and quarters that they lie in.
fn of_events(
    out: &mut Facts,
    (commit, contributor): (&Commit, &mut Contributor),
    fact: &Fact,
    traits: &mut impl FnMut(StoreId) -> Result<Traits, StoreError>,
) -> Result<BTreeSet<(i32, i8)>, StoreError> {
    let damaged = |cause: String| StoreError::Damaged {
        table: "slot_log",
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
        log_epoch: commit.epoch.cast_signed(),
        terminal,
        currency: currency_code(traits.currency),
        zone,
    };
    let mut quarters = BTreeSet::new();
    each_event(fact, |event, fate, index| {
        let at_us = event.at_us();
        quarters.insert((hour_of(at_us), quarter_of(at_us)));
        scribe.event(&event, fate, index);
        Ok(())
    })?;
    Ok(quarters)
}

// Where the sequence numbers of a record are found.
fn run_of(log_epoch: u64, fact: &Fact) -> Option<Stamped<RunIndexRow>> {
    let head = &fact.record.head;
    let (first, last) = range_of(head)?;
    let row = RunIndexRow {
        terminal: head.terminal.cast_signed(),
        epoch: signed(head.epoch),
        bucket: (first >> RUN_BITS).cast_signed(),
        first_seq: first.cast_signed(),
        position: fact.lsn.get().cast_signed(),
        last_seq: last.cast_signed(),
        log_epoch: log_epoch.cast_signed(),
    };
    Some((head.received_at_us, row))
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
