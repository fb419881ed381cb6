//! How many events of a record had which outcome.

use crate::flag;
use crate::record::{Outcome, Record, RecordKind, Verdict};

/// Counts of one record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) applied: u64,
    pub(super) duplicate: u64,
    pub(super) refused: u64,
    pub(super) quarantined: u64,
    pub(super) unbalanced: u64,
}

impl Tally {
    pub(super) fn of(record: &Record) -> Self {
        let fresh = u64::from(record.head.count.saturating_sub(record.head.skip));
        let mut tally = Self::default();
        match (record.head.kind, record.verdicts.last()) {
            (RecordKind::Tombstones, _) => tally.refused = fresh,
            (RecordKind::Duplicates, _) => tally.duplicate = fresh,
            (_, Some(last)) if last.index == Verdict::ALL => tally.add(last, fresh),
            _ => {
                record
                    .verdicts
                    .iter()
                    .for_each(|verdict| tally.add(verdict, 1));
                let listed = tally.applied + tally.duplicate + tally.refused + tally.quarantined;
                tally.applied += fresh.saturating_sub(listed);
            }
        }
        tally
    }

    const fn add(&mut self, verdict: &Verdict, events: u64) {
        match verdict.outcome {
            Outcome::Applied => self.applied += events,
            Outcome::Duplicate => self.duplicate += events,
            Outcome::Refused => self.refused += events,
            Outcome::Quarantined => self.quarantined += events,
        }
        if matches!(verdict.outcome, Outcome::Applied) && verdict.flags & flag::UNBALANCED != 0 {
            self.unbalanced += events;
        }
    }
}

/// One verdict for all where they are all the same: history that is sent years later is late to the last event.
pub(super) fn compress(verdicts: Vec<Verdict>, fresh: u32) -> Vec<Verdict> {
    let alike = verdicts.first().copied().filter(|first| {
        u32::try_from(verdicts.len()) == Ok(fresh)
            && fresh > 1
            && verdicts.iter().all(|verdict| {
                Verdict {
                    index: first.index,
                    ..*verdict
                } == *first
            })
    });
    match alike {
        Some(first) => vec![Verdict {
            index: Verdict::ALL,
            ..first
        }],
        None => verdicts,
    }
}
