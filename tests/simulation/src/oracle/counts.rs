//! What the engine counts, beside what it made durable.

use till_core::Counters;

use super::Oracle;
use super::read::Fate;

/// Events of durable records, by what became of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counts {
    applied: u64,
    duplicate: u64,
    refused: u64,
    quarantined: u64,
}

impl Counts {
    pub(super) const fn note(&mut self, fate: Fate) {
        match fate {
            Fate::Applied => self.applied += 1,
            Fate::Duplicate => self.duplicate += 1,
            Fate::Refused => self.refused += 1,
            Fate::Quarantined => self.quarantined += 1,
        }
    }

    pub(super) fn skip(&mut self, events: u32) {
        self.duplicate += u64::from(events);
    }

    const fn since(self, before: Self) -> Self {
        Self {
            applied: self.applied.saturating_sub(before.applied),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            refused: self.refused.saturating_sub(before.refused),
            quarantined: self.quarantined.saturating_sub(before.quarantined),
        }
    }
}

impl Oracle {
    /// An engine or a shard begins again, and may count from nothing.
    pub(crate) const fn counts_rebuilt(&mut self) {
        self.counted_from = None;
    }

    /// What an engine counts. `is_quiet`: all that it has decided is durable, and was read.
    pub(crate) fn counts(&mut self, reported: &Counters, is_quiet: bool) {
        let sum = reported.applied + reported.duplicate + reported.refused + reported.quarantined;
        if reported.received != sum {
            self.fail("CNT-1", format!("{reported:?}"));
        }
        if !is_quiet {
            return;
        }
        let own = Counts {
            applied: reported.applied,
            duplicate: reported.duplicate,
            refused: reported.refused,
            quarantined: reported.quarantined,
        };
        let Some((before, seen)) = self.counted_from else {
            self.counted_from = Some((own, self.seen));
            return;
        };
        let (counts, seen) = (own.since(before), self.seen.since(seen));
        // What is known as a whole is counted, and leaves nothing in the journal.
        let duplicate = counts.duplicate.max(seen.duplicate);
        if counts != (Counts { duplicate, ..seen }) {
            let what = format!("{counts:?} were counted, and {seen:?} are durable");
            self.fail("CNT-1", what);
        }
    }
}
