//! A record as readers of facts see it: its events, and what became of each.

use std::sync::Arc;

use till_core::{Outcome, Record};
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::FactsError;
use crate::index::keys::{verified_of, with_receipt};
use crate::journal::Lsn;

/// What became of an event with one record.
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
    /// A record at its place.
    pub const fn new(lsn: Lsn, record: Record) -> Self {
        Self { lsn, record }
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

    /// What became of an event with this record; `None` where the record says nothing of it. An event takes effect with the
    /// record in which it is applied: one that was quarantined and applied by a retry stays quarantined in its first record
    /// and is applied in the retry's, so that it counts once, at the place where it took effect.
    pub fn fate(&self, index: u32) -> Option<Fate> {
        let head = &self.record.head;
        if index < head.skip {
            return Some(Fate {
                outcome: Outcome::Duplicate,
                reason: 0,
                flags: 0,
            });
        }
        let (outcome, flags) = self.record.outcome(index)?;
        let reason = self.record.verdict(index).map_or(0, |one| one.reason);
        Some(Fate {
            outcome,
            reason,
            flags,
        })
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

/// Adds the events of a record that have this receipt; of a retry, the event that it decided.
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
            let is_here = fact.fate(event.index).is_some();
            if is_here && with_receipt(&event, |text| text == receipt) == Some(true) {
                events.push(FactEvent {
                    fact: Arc::clone(fact),
                    index: event.index,
                });
            }
        }
    }
    Ok(())
}
