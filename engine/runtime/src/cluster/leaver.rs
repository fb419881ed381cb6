//! Slots that leave: given up for others, or lost to them.
//!
//! A thread of its own does it, for all that leave together: it waits for rounds of the flush, and the threads that carry a
//! flush out must not wait for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
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
const LAST_COMMIT: Duration = Duration::from_secs(30);
/// First pause before something is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
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
    let leaver = Leaver {
        engine: Arc::clone(engine),
        cluster: Arc::clone(cluster),
    };
    std::thread::Builder::new()
        .name("leaver".to_owned())
        .spawn(move || leaver.run(&inbox))
}

struct Leaver {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
}

impl Leaver {
    fn run(&self, inbox: &Receiver<Leave>) {
        while let Ok(first) = inbox.recv() {
            let (mut given, mut ended, mut is_over) = (BTreeSet::new(), BTreeMap::new(), false);
            for leave in std::iter::once(first).chain(inbox.try_iter()) {
                match leave {
                    Leave::Give(slot) => {
                        given.insert(slot);
                    }
                    Leave::Ended(tenure, end) => {
                        ended.insert(tenure, end);
                    }
                    Leave::Stop => is_over = true,
                }
            }
            if !ended.is_empty() {
                self.part_with(ended);
            }
            if is_over {
                return;
            }
            if !given.is_empty() {
                self.give(&given);
            }
        }
    }

    // Closes slots, commits what they have, and gives them up.
    fn give(&self, slots: &BTreeSet<u32>) {
        self.cluster.close(slots);
        self.cluster.evict(&self.engine, slots);
        // An engine that stops has flushed for the last time before this.
        let flushed = self.engine.flush.flush(LAST_COMMIT);
        if let Err(error) = flushed
            && error != FlushError::Stopped
        {
            tracing::warn!(slots = slots.len(), %error, "slots are given up with records that are not committed; these are handed over to the next owners");
        }
        self.cluster.give_up(slots);
    }

    // Lets go of slots whose writers have ended. The membership hears of it last, so that none of them comes back before
    // nothing of its time here can be written any more.
    fn part_with(&self, ended: BTreeMap<Tenure, End>) {
        let slots: BTreeSet<u32> = ended.keys().map(|tenure| tenure.slot).collect();
        for (tenure, end) in &ended {
            if let End::Fenced(row) = end {
                let (slot, epoch) = (tenure.slot, row.epoch);
                tracing::warn!(slot, epoch, "another node has taken a slot from this one");
            }
        }
        self.cluster.evict(&self.engine, &slots);
        self.cluster.forget(&self.engine, &slots);
        // A round that is under way may hold rows of their time here.
        self.engine.flush.pass();
        self.cluster.part(&self.engine, &slots);
        if self.hand_on(ended.keys().copied()) {
            for (tenure, end) in ended {
                self.cluster.closed(tenure, &end);
            }
        }
    }

    // What the journal has of slots that have left, and no commit has, is for the next owners. `false` when the engine stops
    // first: the next start does it then.
    fn hand_on(&self, tenures: impl Iterator<Item = Tenure>) -> bool {
        let of_one = |tenure: Tenure| Some((tenure.slot, self.cluster.owners.standing(tenure)?));
        let standing: BTreeMap<u32, (u64, Cursors)> = tenures.filter_map(of_one).collect();
        let starts = standing
            .values()
            .map(|(since, cursors)| cursors.least().max(*since));
        let Some(from) = starts.min() else {
            return true;
        };
        let journal = &self.engine.journal;
        let shards = self.engine.slots.len();
        let range = (Lsn::new(from), journal.end());
        let wanted = |slot: u32, record: &Record, place: u64| {
            let upto = |cursors: &Cursors| {
                store_of(&record.head).map_or(0, |store| cursors.of(shard_of(store, shards)))
            };
            standing
                .get(&slot)
                .is_some_and(|(since, cursors)| place >= *since && place > upto(cursors))
        };
        let number = self.cluster.numbers();
        let mut pause = PAUSE;
        loop {
            match self.cluster.submit(journal, range, number, &wanted) {
                Ok(0) => return true,
                Ok(records) => {
                    tracing::info!(records, "records of slots that have left were handed over");
                    return true;
                }
                Err(error) if self.engine.is_draining() => {
                    tracing::warn!(%error, "records of slots that have left wait for the next start");
                    return false;
                }
                Err(error) => {
                    tracing::debug!(%error, "records of slots that have left are not handed over yet");
                }
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}
