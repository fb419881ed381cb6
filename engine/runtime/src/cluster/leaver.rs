//! Slots that leave: given up for others, or lost to them.
//!
//! A thread of its own does it, for all that leave together: it waits for rounds of the flush, and the threads that carry a
//! flush out must not wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::Receiver;
use till_core::Record;
use till_storage::cluster::End;
use till_storage::journal::Lsn;
use till_storage::rebuild::store_of;

use super::Cluster;
use super::owners::Tenure;
use super::round::Cursors;
use crate::engine::Engine;
use crate::flush::FlushError;
use crate::route::shard_of;

/// Time that the records of slots get to be committed before these are given up.
pub(super) const LAST_COMMIT: Duration = Duration::from_secs(30);
/// First pause before something is tried again; it doubles up to the longest.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before something is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A slot that leaves.
#[derive(Debug)]
pub(crate) enum Leave {
    /// It is to be given up.
    Give(u32),
    /// Its writer has ended.
    Ended(Tenure, End),
    /// None leaves any more: the thread ends.
    Stop,
}

/// Starts the thread.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn start(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    inbox: Receiver<Leave>,
) -> std::io::Result<JoinHandle<()>> {
    let leaver = Leaver::new(engine, cluster);
    std::thread::Builder::new()
        .name("leaver".to_owned())
        .spawn(move || leaver.run(&inbox))
}

/// Lets slots go, in steps between which it waits: for rounds of the flush, and for the shared store.
pub(super) struct Leaver {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
}

/// What leaves together.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    pub(super) given: BTreeSet<u32>,
    pub(super) ended: BTreeMap<Tenure, End>,
    pub(super) is_over: bool,
}

impl Leaving {
    pub(super) fn of(all: impl Iterator<Item = Leave>) -> Self {
        let mut leaving = Self::default();
        for leave in all {
            match leave {
                Leave::Give(slot) => {
                    leaving.given.insert(slot);
                }
                Leave::Ended(tenure, end) => {
                    leaving.ended.insert(tenure, end);
                }
                Leave::Stop => leaving.is_over = true,
            }
        }
        leaving
    }
}

/// Records of slots that have left, on their way to the next owners.
pub(super) struct Handing {
    ended: BTreeMap<Tenure, End>,
    standing: BTreeMap<u32, (u64, Cursors)>,
    range: (Lsn, Lsn),
    number: u64,
}

/// Whether records were handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Handed {
    Yes,
    /// The shared store does not answer: try again.
    NotYet,
    /// The engine stops first: the next start does it then.
    Never,
}

impl Leaver {
    pub(super) fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
        }
    }

    fn run(&self, inbox: &Receiver<Leave>) {
        while let Ok(first) = inbox.recv() {
            let leaving = Leaving::of(std::iter::once(first).chain(inbox.try_iter()));
            if !leaving.ended.is_empty() {
                self.part_with(leaving.ended);
            }
            if leaving.is_over {
                return;
            }
            if !leaving.given.is_empty() {
                self.give(&leaving.given);
            }
        }
    }

    // Closes slots, commits what they have, and gives them up.
    fn give(&self, slots: &BTreeSet<u32>) {
        self.close(slots);
        let flushed = self.engine.flush.flush(LAST_COMMIT);
        self.give_up(slots, flushed.map(|_| ()));
    }

    /// Takes nothing more for slots that are to be given up. What they have is then committed, with
    /// [`flush`](crate::flush::FlushDoor::flush).
    pub(super) fn close(&self, slots: &BTreeSet<u32>) {
        self.cluster.close(slots);
        self.cluster.evict(&self.engine, slots);
    }

    /// What closed slots had is committed, or as far as it will be.
    pub(super) fn give_up(&self, slots: &BTreeSet<u32>, flushed: Result<(), FlushError>) {
        // An engine that stops has flushed for the last time before this.
        if let Err(error) = flushed
            && error != FlushError::Stopped
        {
            tracing::warn!(slots = slots.len(), %error, "slots are given up with records that are not committed; these are handed off to the next owners");
        }
        self.cluster.give_up(slots);
    }

    // Lets go of slots whose writers have ended. The membership hears of it last, so that none of them comes back before
    // nothing of its time here can be written any more.
    fn part_with(&self, ended: BTreeMap<Tenure, End>) {
        self.forget(&ended);
        // A round that is under way may hold rows of their time here.
        self.engine.flush.pass();
        let handing = self.part(ended);
        let mut pause = PAUSE;
        loop {
            match self.hand_on(&handing) {
                Handed::Yes => return self.closed(handing),
                Handed::Never => return,
                Handed::NotYet => {}
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// Forgets what is in memory of slots whose writers have ended. A round that is under way may hold rows of them.
    pub(super) fn forget(&self, ended: &BTreeMap<Tenure, End>) {
        let fenced = |(tenure, end): (&Tenure, &End)| match end {
            End::Fenced(_) => Some(tenure.slot),
            _ => None,
        };
        let lost: BTreeSet<u32> = ended.iter().filter_map(fenced).collect();
        if !lost.is_empty() {
            let (count, slots) = (lost.len(), ranges(&lost));
            tracing::warn!(count, slots, "another node has taken slots from this one");
        }
        let slots = slots_of(ended);
        self.cluster.evict(&self.engine, &slots);
        #[cfg(feature = "planted")]
        if till_core::planted::is("remember-what-left") {
            return;
        }
        self.cluster.forget(&self.engine, &slots);
    }

    /// That round is over: the sessions of these slots hear of nothing more. What the journal has of them, and no commit has,
    /// is for the next owners.
    pub(super) fn part(&self, ended: BTreeMap<Tenure, End>) -> Handing {
        #[cfg(feature = "planted")]
        let parts = !till_core::planted::is("tell-who-left");
        #[cfg(not(feature = "planted"))]
        let parts = true;
        if parts {
            self.cluster.part(&self.engine, &slots_of(&ended));
        }
        let of_one = |tenure: &Tenure| Some((tenure.slot, self.cluster.owners.standing(*tenure)?));
        let standing: BTreeMap<u32, (u64, Cursors)> = ended.keys().filter_map(of_one).collect();
        let starts = standing
            .values()
            .map(|(since, cursors)| cursors.least().max(*since));
        let end = self.engine.journal.end();
        Handing {
            range: (starts.min().map_or(end, Lsn::new), end),
            number: self.cluster.numbers(),
            standing,
            ended,
        }
    }

    /// Hands these records on.
    pub(super) fn hand_on(&self, handing: &Handing) -> Handed {
        let shards = self.engine.slots.len();
        let wanted = |slot: u32, record: &Record, position: u64| {
            let upto = |cursors: &Cursors| {
                store_of(&record.head).map_or(0, |store| cursors.of(shard_of(store, shards)))
            };
            handing
                .standing
                .get(&slot)
                .is_some_and(|(since, cursors)| position >= *since && position > upto(cursors))
        };
        #[cfg(feature = "planted")]
        if till_core::planted::is("keep-what-left") {
            return Handed::Yes;
        }
        let (range, number) = (handing.range, handing.number);
        match self.cluster.submit(&self.engine, range, number, &wanted) {
            Ok(0) => Handed::Yes,
            Ok(records) => {
                tracing::info!(records, "records of slots that have left were handed off");
                if self.engine.is_draining() {
                    let parting = &self.cluster.parting;
                    parting.handed_off.fetch_add(records, Ordering::AcqRel);
                }
                Handed::Yes
            }
            Err(error) if self.engine.is_draining() => {
                tracing::warn!(%error, "records of slots that have left wait for the next start");
                self.cluster.parting.keeps.store(true, Ordering::Release);
                Handed::Never
            }
            Err(error) => {
                tracing::debug!(%error, "records of slots that have left are not handed off yet");
                Handed::NotYet
            }
        }
    }

    /// Nothing is left of the time of these slots here.
    pub(super) fn closed(&self, handing: Handing) {
        for (tenure, end) in handing.ended {
            self.cluster.closed(tenure, &end);
        }
    }
}

fn slots_of(ended: &BTreeMap<Tenure, End>) -> BTreeSet<u32> {
    ended.keys().map(|tenure| tenure.slot).collect()
}

// Numbers as a person writes them: 3-17, 20.
fn ranges(numbers: &BTreeSet<u32>) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => spans.push((*number, *number)),
        }
    }
    let words = spans.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn slots_that_are_lost_together_are_named_in_one_line() {
        let named = |numbers: &[u32]| ranges(&numbers.iter().copied().collect());
        assert_eq!(named(&[]), "");
        assert_eq!(named(&[7]), "7");
        assert_eq!(named(&[20, 3, 4, 5, 255, 254]), "3-5, 20, 254-255");
    }
}
