//! Answers a device that asks which of its events are here.

use std::time::{Duration, Instant};

use till_core::{Outcome, RecordKind, SessionKey};
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::id::{Seq, TerminalId};
use till_protocol::reply::{Check, Checked};
use till_protocol::verified::Verified;
use till_storage::facts::Fact;
use till_storage::query::FactReader;
use till_storage::views::StoreError;

use crate::ingress::placement::is_own_position;

/// Time that a commit gets before a device is sent away, to ask again.
const COMMITTED_WITHIN: Duration = Duration::from_secs(10);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Events of a terminal that were refused, and why.
pub(crate) type Refusals = Vec<(Seq, Reason)>;

/// Compares digests with the journal, event by event, and tells which of the equal ones were refused. Reads the disk: for
/// threads that may block.
///
/// The events of a frame that could not be read have the digest 0, here as on the device. An event whose bytes were never
/// journalled (it came under another sequence number before) cannot be compared.
///
/// What is found here a device forgets. Where several engines share a store, an event that only the disk of this one holds
/// is not found before it is committed, and neither is it unknown. `None`: there is no answer yet.
pub(crate) fn answer(
    facts: &dyn FactReader,
    terminal: TerminalId,
    check: &Check,
) -> Result<Option<(Checked, Refusals)>, StoreError> {
    let first = check.first_seq.get();
    let count = u64::try_from(check.digests.len()).unwrap_or(0);
    let last = first.saturating_add(count.saturating_sub(1));
    let mut known: Vec<Option<u64>> = vec![None; check.digests.len()];
    let mut refused = Refusals::new();
    // The first event that is in no commit.
    let mut loose = u64::MAX;
    facts.of_run(terminal, check.epoch.get(), (first, last), &mut |fact| {
        // A reader gives records besides.
        if !is_of(fact, terminal, check.epoch.get()) {
            return Ok(());
        }
        note_digests(fact, first, &mut known);
        if is_own_position(fact.lsn.get()) {
            loose = loose.min(fact.seq(fact.record.head.skip));
        }
        note_refusals(fact, first, last, &mut refused);
        Ok(())
    })?;
    let comparable = known.iter().take_while(|digest| digest.is_some()).count();
    let pairs = known.iter().zip(&check.digests);
    let matched = pairs
        .take_while(|(known, stated)| **known == Some(**stated))
        .count();
    let end = first.saturating_add(u64::try_from(matched).unwrap_or(0));
    #[cfg(feature = "planted")]
    if till_core::planted::is("check-uncommitted") {
        loose = u64::MAX;
    }
    if loose < end {
        return Ok(None);
    }
    refused.retain(|(seq, _)| seq.get() < end);
    let checked = Checked {
        epoch: check.epoch,
        first_seq: check.first_seq,
        matched: u16::try_from(matched).unwrap_or(u16::MAX),
        known: u16::try_from(comparable).unwrap_or(u16::MAX),
    };
    Ok(Some((checked, refused)))
}

/// As [`answer`]; waits for a commit that is due. For threads that may stand still.
pub(crate) fn answer_once_committed(
    facts: &dyn FactReader,
    terminal: TerminalId,
    check: &Check,
) -> Result<(Checked, Refusals), StoreError> {
    let began = Instant::now();
    loop {
        if let Some(answer) = answer(facts, terminal, check)? {
            return Ok(answer);
        }
        if began.elapsed() > COMMITTED_WITHIN {
            return Err(StoreError::Failed {
                table: "facts",
                cause: "events that a device asks for are in no commit yet".to_owned(),
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Which of the events `first` to `last` of an epoch were refused. Reads the disk: for threads that may block.
pub(crate) fn refusals(
    facts: &dyn FactReader,
    key: SessionKey,
    first: u64,
    last: u64,
) -> Result<Refusals, StoreError> {
    let mut refused = Refusals::new();
    facts.of_run(key.terminal, key.epoch.get(), (first, last), &mut |fact| {
        if is_of(fact, key.terminal, key.epoch.get()) {
            note_refusals(fact, first, last, &mut refused);
        }
        Ok(())
    })?;
    Ok(refused)
}

fn is_of(fact: &Fact, terminal: TerminalId, epoch: u32) -> bool {
    let head = &fact.record.head;
    (head.terminal, head.epoch) == (terminal.to_u64(), epoch)
}

fn note_refusals(fact: &Fact, first: u64, last: u64, refused: &mut Refusals) {
    let head = &fact.record.head;
    for index in head.skip..head.count {
        let Some(fate) = fact.fate(index) else {
            continue;
        };
        let seq = fact.seq(index);
        if fate.outcome == Outcome::Refused
            && (first..=last).contains(&seq)
            && let Ok(seq) = Seq::new(seq)
        {
            refused.push((seq, Reason::from_code(fate.reason)));
        }
    }
}

fn note_digests(fact: &Fact, first: u64, known: &mut [Option<u64>]) {
    let head = &fact.record.head;
    if head.kind == RecordKind::Retry {
        return;
    }
    let batch = batch(fact);
    for index in head.skip..head.count {
        let at = fact.seq(index).checked_sub(first);
        let position = at.and_then(|at| usize::try_from(at).ok());
        let Some(slot) = position.and_then(|at| known.get_mut(at)) else {
            continue;
        };
        *slot = match (head.kind, &batch) {
            (RecordKind::Batch, Some(batch)) => Some(batch.digest(index)),
            (RecordKind::Tombstones, _) => Some(0),
            (RecordKind::Duplicates, _) if index + 1 == head.count => Some(head.digest),
            _ => None,
        };
    }
}

fn batch(fact: &Fact) -> Option<Verified> {
    let head = &fact.record.head;
    if head.kind != RecordKind::Batch {
        return None;
    }
    let payload = fact.record.payload.clone();
    let frame = Frame::new(
        head.family,
        head.version,
        head.count,
        head.first_seq,
        payload,
    );
    Verified::from_journal(frame.ok()?).ok()
}

#[cfg(test)]
mod tests;
