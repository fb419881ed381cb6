//! Records that are whole and fit nowhere.

use std::fmt;

use till_core::RecordHead;

use crate::journal::Lsn;

/// Records of one terminal's epoch, one after another, that could not be applied: other events had come under their sequence
/// numbers before, or a newer epoch. They stay in the journal.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Unapplied {
    /// Place of the first one.
    pub at: Lsn,
    /// The terminal as u64, its store in the upper 32 bits.
    pub terminal: u64,
    /// Its epoch.
    pub epoch: u32,
    /// First sequence number.
    pub first: u64,
    /// Last sequence number.
    pub last: u64,
    /// How many records.
    pub records: u64,
}

impl Unapplied {
    /// Adds a record to those that were noted before, to the last one of its terminal where it goes on there.
    pub(super) fn note(noted: &mut Vec<Self>, at: Lsn, head: &RecordHead) {
        let first = head.first_seq.saturating_add(u64::from(head.skip));
        let end = head.first_seq.saturating_add(u64::from(head.count));
        let last = end.saturating_sub(1).max(first);
        if let Some(before) = noted.last_mut()
            && (before.terminal, before.epoch) == (head.terminal, head.epoch)
            && before.last.saturating_add(1) == first
        {
            before.last = last;
            before.records += 1;
            return;
        }
        noted.push(Self {
            at,
            terminal: head.terminal,
            epoch: head.epoch,
            first,
            last,
            records: 1,
        });
    }
}

impl fmt::Display for Unapplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, till) = (self.terminal >> 32, self.terminal & u64::from(u32::MAX));
        let records = if self.records == 1 {
            "record"
        } else {
            "records"
        };
        write!(
            f,
            "{} {records} from position {} on: terminal {store}-{till} epoch {} seq {} to {}",
            self.records, self.at, self.epoch, self.first, self.last
        )
    }
}
