//! Records that other engines handed off, in the shared store: taken in by the owner of their slot, and left there as long as
//! they have no place.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use till_protocol::id::Epoch;
use till_storage::cluster::{Handoff, InboxId, NodeId};
use till_storage::views::StoreError;

use crate::cluster::node::Cluster;
use crate::cluster::owners::Tenure;
use crate::lifecycle::engine::Engine;
use crate::publish::door::FlushError;
use crate::shard::message::{Left, Offer, Waits};
use crate::shard::offer::take_in;

/// Bytes of records that are replayed between two commits.
const TAKEN_BYTES: usize = 16 << 20;
/// Time that a gap before a record gets to fill. After it the record is stranded.
pub(super) const FILLED_WITHIN: Duration = Duration::from_secs(30);
/// Pause before a record that waits is looked at again, and one that is stranded.
const SOON: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_secs(30);

/// A chunk of the inbox: slot, node and number.
type Chunk = (u32, NodeId, u64);

/// What is left of a chunk.
#[derive(Debug)]
struct Rest {
    /// Under which ownership that was found.
    tenure: Tenure,
    /// When it was looked at for the first time, and for the last.
    first: Duration,
    last: Duration,
    /// The records that are left; `None`: nothing is known of any.
    left: Option<Left>,
}

impl Rest {
    fn is_late(&self, now: Duration) -> bool {
        now.saturating_sub(self.first) >= FILLED_WITHIN
    }

    fn is_due(&self, now: Duration) -> bool {
        let pause = match self.is_late(now) {
            true => AGAIN,
            false => SOON,
        };
        now.saturating_sub(self.last) >= pause
    }

    fn stranded(&self, now: Duration) -> usize {
        let is_late = self.is_late(now);
        let left = self.left.iter().flatten();
        left.filter(|(_, waits)| is_late || !matches!(waits, Waits::Gap(_)))
            .count()
    }
}

/// What the owner of slots knows of chunks that were not taken in whole.
#[derive(Debug, Default)]
pub(super) struct Inbox(BTreeMap<Chunk, Rest>);

/// Chunks that were taken in together: under which ownership, whose, and their numbers.
#[derive(Debug, Default)]
pub(super) struct ReplayedHandoff {
    chunks: Vec<(Tenure, NodeId, u64)>,
    bytes: usize,
}

impl ReplayedHandoff {
    pub(super) const fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

impl Cluster {
    /// Records that are stranded, of slots that are served here.
    pub(crate) fn stranded(&self) -> u64 {
        self.inbox.stranded.load(Ordering::Relaxed)
    }

    /// Everything in the inbox is looked at, whenever that was done last.
    pub(crate) fn look_now(&self) {
        self.inbox.now.store(true, Ordering::Release);
    }

    /// Replays what waits for slots that this node has: pieces together, so that they are committed together.
    pub(super) fn take_in(
        &self,
        engine: &Engine,
        inbox: &mut Inbox,
    ) -> Result<ReplayedHandoff, StoreError> {
        let mut taken = ReplayedHandoff::default();
        let waiting = self.store.waiting()?;
        self.intake.answered(self.now());
        let is_all_due = self.inbox.now.swap(false, Ordering::AcqRel);
        inbox.0.retain(|chunk, rest| {
            waiting.contains(chunk) && self.owners.tenure(chunk.0) == Some(rest.tenure)
        });
        for chunk in waiting {
            let Some(tenure) = self.owners.tenure(chunk.0) else {
                continue;
            };
            let rest = inbox.0.get(&chunk);
            if rest.is_some_and(|rest| !is_all_due && !rest.is_due(self.now())) {
                continue;
            }
            self.take_piece_in(engine, (chunk, tenure), inbox, &mut taken)?;
            if taken.bytes >= TAKEN_BYTES {
                break;
            }
        }
        let now = self.now();
        let stranded: usize = inbox.0.values().map(|rest| rest.stranded(now)).sum();
        let stranded = u64::try_from(stranded).unwrap_or(u64::MAX);
        self.inbox.stranded.store(stranded, Ordering::Relaxed);
        Ok(taken)
    }

    fn take_piece_in(
        &self,
        engine: &Engine,
        (chunk, tenure): (Chunk, Tenure),
        inbox: &mut Inbox,
        taken: &mut ReplayedHandoff,
    ) -> Result<(), StoreError> {
        let (slot, from, number) = chunk;
        let left = inbox.0.get(&chunk).and_then(|rest| rest.left.clone());
        let offered = match self.store.handed_off(slot, from, number) {
            Ok(None) => return Ok(()),
            // One that is damaged keeps no other from being taken in.
            Err(damaged @ StoreError::Damaged { .. }) => Err((0, damaged.to_string())),
            Err(error) => return Err(error),
            Ok(Some(handoff)) => {
                let offers = self.offers(handoff, left.as_ref())?;
                let payloads = offers.iter().map(|offer| offer.record.payload.len());
                let bytes = payloads.sum();
                if crate::planted::is("taken-away-early") {
                    self.store.taken_in(slot, from, number)?;
                }
                take_in(engine, offers)
                    .map(|left| (left, bytes))
                    .map_err(|cause| (bytes, cause))
            }
        };
        match offered {
            Ok((left, bytes)) => {
                taken.bytes += bytes;
                if left.is_empty() {
                    inbox.0.remove(&chunk);
                    taken.chunks.push((tenure, from, number));
                    return Ok(());
                }
                self.keep(engine, (chunk, tenure), Ok(left), inbox);
            }
            Err((bytes, cause)) => {
                taken.bytes += bytes;
                self.keep(engine, (chunk, tenure), Err(cause), inbox);
            }
        }
        Ok(())
    }

    // The records of a chunk that are left, all of them where none was looked at; those that are released with their epochs.
    fn offers(&self, handoff: Handoff, left: Option<&Left>) -> Result<Vec<Offer>, StoreError> {
        let Handoff {
            slot,
            from,
            number,
            records,
        } = handoff;
        let mut offers = Vec::new();
        for (index, record) in (0_u32..).zip(records) {
            let mut released = None;
            if let Some(left) = left {
                if left.binary_search_by_key(&index, |(one, _)| *one).is_err() {
                    continue;
                }
                let id = InboxId {
                    slot,
                    from,
                    number,
                    index,
                };
                released = self.store.release(&id, None)?;
            }
            offers.push(Offer {
                index,
                record,
                released: released.and_then(|epoch| Epoch::new(epoch).ok()),
            });
        }
        Ok(offers)
    }

    // A chunk, or some of it, stays where it is.
    fn keep(
        &self,
        engine: &Engine,
        (chunk, tenure): (Chunk, Tenure),
        offered: Result<Left, String>,
        inbox: &mut Inbox,
    ) {
        let now = self.now();
        let before = inbox.0.remove(&chunk);
        let first = before.as_ref().map_or(now, |rest| rest.first);
        let cause = match &offered {
            Ok(left) => left
                .first()
                .map_or_else(String::new, |(_, waits)| waits.to_string()),
            Err(cause) => cause.clone(),
        };
        let told = before.as_ref().map_or(0, |rest| rest.stranded(rest.last));
        let left = offered.ok().or_else(|| before.and_then(|rest| rest.left));
        let rest = Rest {
            tenure,
            first,
            last: now,
            left,
        };
        let stranded = rest.stranded(now);
        if stranded > told {
            tell_stranded(engine, chunk, stranded, &cause);
        } else {
            tracing::debug!(slot = chunk.0, from = %chunk.1, number = chunk.2, cause, "records wait in the inbox");
        }
        inbox.0.insert(chunk, rest);
    }

    /// What was replayed is committed, or was not.
    pub(super) fn taken_in(&self, taken: ReplayedHandoff, flushed: Result<(), FlushError>) {
        if let Err(error) = flushed {
            tracing::debug!(%error, "records that were handed off are not committed yet");
            return;
        }
        if crate::planted::is("forget-taken-in") {
            return;
        }
        let (chunks, bytes) = (taken.chunks.len(), taken.bytes);
        for (tenure, from, number) in taken.chunks {
            // Under another ownership they would be in the journal alone.
            if self.owners.tenure(tenure.slot) == Some(tenure)
                && let Err(error) = self.store.taken_in(tenure.slot, from, number)
            {
                tracing::debug!(%error, "what was replayed is still in the shared store");
                return;
            }
        }
        tracing::info!(chunks, bytes, "took in records of other journals");
    }
}

fn tell_stranded(engine: &Engine, (slot, from, number): Chunk, records: usize, cause: &str) {
    tracing::warn!(slot, %from, number, records, cause, "records that were handed off are stranded");
    engine.figures.problem(
        &format!("{records} records of engine {from} for slot {slot} are stranded: {cause}"),
        "Nothing of them is lost; `tillstream quarantine list --stranded` shows them.",
    );
}
