//! A record as readers of facts see it: its events, and what became of each.

use std::sync::Arc;

use hashbrown::HashMap;
use till_core::{Outcome, Record, Verdict};
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::FactsError;
use crate::index::keys::{verified_of, with_receipt};
use crate::journal::Lsn;

/// What became of an event, retries included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fate {
    /// Whether it counts.
    pub outcome: Outcome,
    /// Reason of a refusal or quarantine; 0 = none.
    pub reason: u16,
    /// Bits of `flag`.
    pub flags: u32,
}

/// A record that was found in the journal.
#[derive(Clone, Debug)]
pub struct Fact {
    /// Its place.
    pub lsn: Lsn,
    /// The record.
    pub record: Record,
    // Verdicts of retries, by index of the event.
    retried: Vec<Verdict>,
}

/// One event of a record.
#[derive(Clone, Debug)]
pub struct FactEvent {
    /// The record.
    pub fact: Arc<Fact>,
    /// Index of the event in it.
    pub index: u32,
}

impl Fact {
    pub(crate) const fn new(lsn: Lsn, record: Record) -> Self {
        Self {
            lsn,
            record,
            retried: Vec::new(),
        }
    }

    pub(crate) fn retry(&mut self, retried: &HashMap<(u64, u32, u64), Verdict>) {
        let head = &self.record.head;
        for verdict in &self.record.verdicts {
            if verdict.outcome != Outcome::Quarantined {
                continue;
            }
            let seq = head.first_seq.saturating_add(u64::from(verdict.index));
            if let Some(again) = retried.get(&(head.terminal, head.epoch, seq)) {
                self.retried.push(Verdict {
                    index: verdict.index,
                    ..*again
                });
            }
        }
    }

    /// The events of the record, to be read in place; `None` for a record without a payload of events.
    ///
    /// # Errors
    /// [`FactsError::Newer`] when this software does not understand them.
    pub fn verified(&self) -> Result<Option<Verified>, FactsError> {
        let verified = verified_of(&self.record).transpose();
        verified.map_err(|cause| FactsError::Newer {
            at: self.lsn,
            cause,
        })
    }

    /// What became of an event of the record.
    pub fn fate(&self, index: u32) -> Fate {
        if index < self.record.head.skip {
            return Fate {
                outcome: Outcome::Duplicate,
                reason: 0,
                flags: 0,
            };
        }
        let again = self.retried.iter().find(|one| one.index == index);
        let first = self.record.verdicts.iter();
        let mut first = first.filter(|one| one.index == index || one.index == Verdict::ALL);
        match again.or_else(|| first.next()) {
            Some(verdict) => Fate {
                outcome: verdict.outcome,
                reason: verdict.reason,
                flags: verdict.flags,
            },
            None => Fate {
                outcome: Outcome::Applied,
                reason: 0,
                flags: 0,
            },
        }
    }

    /// Whether an event of the record counts in sums and levels.
    pub fn is_applied(&self, index: u32) -> bool {
        self.fate(index).outcome == Outcome::Applied
    }

    /// Sequence number of an event of the record.
    pub const fn seq(&self, index: u32) -> u64 {
        let head = &self.record.head;
        // A u32 always fits; From is not const.
        #[expect(
            clippy::as_conversions,
            reason = "u32 to u64 widens; From is not const"
        )]
        head.first_seq.saturating_add(index as u64)
    }
}

/// Adds the events of a record that have this receipt.
pub(crate) fn add_with_receipt(
    fact: &Arc<Fact>,
    receipt: &str,
    events: &mut Vec<FactEvent>,
) -> Result<(), FactsError> {
    let Some(verified) = fact.verified()? else {
        return Ok(());
    };
    if let View::Sale(view) = verified.view() {
        for event in view.events() {
            if with_receipt(&event, |text| text == receipt) == Some(true) {
                events.push(FactEvent {
                    fact: Arc::clone(fact),
                    index: event.index,
                });
            }
        }
    }
    Ok(())
}
