//! Refusals that wait for the ack that tells them.
//!
//! They wait as runs: a frame of a few bytes that announces a thousand events and is refused as a whole takes the room of
//! one. What is left costs its sender bytes of its own, and has a bound for each stream and one for all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::limits::ACK_REFUSALS_MAX;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a run costs in memory at most, in bytes: its entry in a tree, and its share of a node that is half full.
pub(crate) const RUN_BYTES: u64 = 64;
/// Runs that may wait for all devices together.
pub(crate) const RUNS_MAX: u32 = 256 << 10;
/// Runs that may wait for one device: all that 128 frames leave when every second event is refused. A device that reads
/// its acks never has more, because nobody may have more frames without an ack.
const RUNS_OF_ONE_MAX: usize = 64 << 10;

/// Refusals of a stream, by rising number.
#[derive(Debug, Default)]
pub(super) struct PendingRefusals {
    /// First number of a run, its last one, and why. They do not overlap.
    runs: BTreeMap<u64, (u64, Reason)>,
    /// Room for each run.
    room: Option<OwnedSemaphorePermit>,
}

impl PendingRefusals {
    /// Keeps refusals; those that wait already are kept once. `false`: there is no room, and some were not kept.
    #[must_use]
    pub(super) fn add(&mut self, room: &Arc<Semaphore>, refusals: &[(Seq, Reason)]) -> bool {
        let mut refusals = refusals.iter();
        refusals.all(|(seq, reason)| self.note(room, seq.get(), *reason))
    }

    fn note(&mut self, room: &Arc<Semaphore>, seq: u64, reason: Reason) -> bool {
        if let Some((_, (last, why))) = self.runs.range_mut(..=seq).next_back() {
            if seq <= *last {
                return true;
            }
            if seq == *last + 1 && reason == *why {
                *last = seq;
                return true;
            }
        }
        if self.runs.len() >= RUNS_OF_ONE_MAX {
            return false;
        }
        let Ok(one) = Arc::clone(room).try_acquire_owned() else {
            return false;
        };
        match &mut self.room {
            Some(all) => all.merge(one),
            none => *none = Some(one),
        }
        self.runs.insert(seq, (seq, reason));
        true
    }

    /// Takes refusals up to a number, as many as an ack has room for; and tells the next one that has none.
    pub(super) fn take(&mut self, upto: u64) -> (Vec<(Seq, Reason)>, Option<u64>) {
        let mut due = Vec::new();
        while let Some(run) = self.runs.first_entry()
            && *run.key() <= upto
        {
            if due.len() >= ACK_REFUSALS_MAX {
                return (due, Some(*run.key()));
            }
            let (first, (last, reason)) = run.remove_entry();
            let fit = u64::try_from(ACK_REFUSALS_MAX - due.len()).unwrap_or(u64::MAX);
            let end = last.min(upto).min(first.saturating_add(fit - 1));
            let numbers = (first..=end).filter_map(|number| Seq::new(number).ok());
            due.extend(numbers.map(|seq| (seq, reason)));
            if end < last {
                self.runs.insert(end + 1, (last, reason));
            } else if let Some(all) = &mut self.room {
                drop(all.split(1));
            }
        }
        (due, None)
    }
}
