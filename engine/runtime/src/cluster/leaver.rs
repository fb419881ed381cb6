//! Slots that leave: given up for others, or lost to them.
//!
//! A thread of its own does it, for all that leave together: it waits for rounds of the flush, and the threads that carry a
//! flush out must not wait for that.

use crate::cluster::job::Leave;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, TryRecvError};
use till_core::Record;
use till_storage::cluster::End;
use till_storage::journal::Lsn;
use till_storage::rebuild::store_of;

use crate::cluster::cursors::Cursors;
use crate::cluster::node::Cluster;
use crate::cluster::owners::Tenure;
use crate::lifecycle::engine::Engine;
use crate::planted;
use crate::publish::door::{FlushError, Wait};
use crate::shard::handle::shard_of;

/// Time that the records of slots get to be committed before these are given up.
const LAST_COMMIT: Duration = Duration::from_secs(30);
/// First pause before something is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before something is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Lets slots go, in turns between which it waits: for rounds of the flush, and for the shared store.
pub(crate) struct Leaver {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    inbox: Receiver<Leave>,
    stage: Stage,
    /// None leaves any more.
    is_over: bool,
}

/// What it is at.
enum Stage {
    /// Nothing.
    Idle,
    /// Slots that have ended, whose round of the flush is not over, and those that are to be given up after them.
    Passing(BTreeMap<Tenure, End>, Receiver<()>, BTreeSet<u32>),
    /// Their records are on their way to the next owners; the pause before the next try.
    Handing(Handing, BTreeSet<u32>, Duration),
    /// Slots whose last commit is on its way, and until when that is waited for.
    Giving(BTreeSet<u32>, Wait, Duration),
}

/// What leaves together.
#[derive(Debug, Default)]
struct Leaving {
    given: BTreeSet<u32>,
    ended: BTreeMap<Tenure, End>,
    is_over: bool,
}

impl Leaving {
    fn of(all: impl Iterator<Item = Leave>) -> Self {
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
struct Handing {
    ended: BTreeMap<Tenure, End>,
    standing: BTreeMap<u32, (u64, Cursors)>,
    range: (Lsn, Lsn),
    number: u64,
}

/// Whether records were handed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Handed {
    Yes,
    /// The shared store does not answer: try again.
    NotYet,
    /// The engine stops first: the next start does it then.
    Never,
}

impl Leaver {
    pub(super) fn new(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        inbox: Receiver<Leave>,
    ) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
            inbox,
            stage: Stage::Idle,
            is_over: false,
        }
    }

    /// Starts the thread. It ends with [`Leave::Stop`].
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(super) fn start(mut self) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("leaver".to_owned());
        thread.spawn(move || {
            while !(self.is_over && matches!(self.stage, Stage::Idle)) {
                if !self.turn() {
                    self.wait();
                }
            }
        })
    }

    // Waits for what the stage waits for. The next turn finds what has come.
    fn wait(&self) {
        let mut news = Select::new();
        let pause = match &self.stage {
            Stage::Idle if self.is_over => return,
            Stage::Idle => {
                news.recv(&self.inbox);
                None
            }
            Stage::Passing(_, done, _) => {
                news.recv(done);
                None
            }
            Stage::Handing(_, _, pause) => Some(*pause),
            Stage::Giving(_, flush, until) => {
                news.recv(&flush.0);
                Some(until.saturating_sub(self.cluster.now()))
            }
        };
        match pause {
            None => drop(news.ready()),
            Some(pause) => drop(news.ready_timeout(pause)),
        }
    }

    /// Takes the next step. False: there is nothing to do, or it waits.
    pub(crate) fn turn(&mut self) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let (stage, has_moved) = match stage {
            Stage::Idle => self.begin(),
            Stage::Passing(ended, done, given) => match done.try_recv() {
                Err(TryRecvError::Empty) => (Stage::Passing(ended, done, given), false),
                _ => (Stage::Handing(self.part(ended), given, PAUSE), true),
            },
            Stage::Handing(handing, given, pause) => self.hand_on(handing, given, pause),
            Stage::Giving(slots, flush, until) => {
                match flush.look_until(self.cluster.now() >= until, LAST_COMMIT) {
                    None => (Stage::Giving(slots, flush, until), false),
                    Some(flushed) => {
                        self.give_up(&slots, flushed.map(|_| ()));
                        (Stage::Idle, true)
                    }
                }
            }
        };
        self.stage = stage;
        has_moved
    }

    fn begin(&mut self) -> (Stage, bool) {
        let leaving = Leaving::of(self.inbox.try_iter());
        self.is_over |= leaving.is_over;
        if leaving.ended.is_empty() {
            return self.give(leaving.given);
        }
        self.forget(&leaving.ended);
        // A round that is under way may hold rows of their time here.
        let done = self.engine.flush.pass();
        (Stage::Passing(leaving.ended, done, leaving.given), true)
    }

    // Closes slots, and has what they have committed before they are given up.
    fn give(&self, slots: BTreeSet<u32>) -> (Stage, bool) {
        if slots.is_empty() || self.is_over {
            return (Stage::Idle, false);
        }
        self.close(&slots);
        match self.engine.flush.begin(LAST_COMMIT) {
            Ok(flush) => {
                let until = self.cluster.now().saturating_add(LAST_COMMIT);
                (Stage::Giving(slots, flush, until), true)
            }
            Err(error) => {
                self.give_up(&slots, Err(error));
                (Stage::Idle, true)
            }
        }
    }

    // Takes nothing more for slots that are to be given up.
    fn close(&self, slots: &BTreeSet<u32>) {
        self.cluster.close(slots);
        self.cluster.evict(&self.engine, slots);
    }

    // What closed slots had is committed, or as far as it will be.
    fn give_up(&self, slots: &BTreeSet<u32>, flushed: Result<(), FlushError>) {
        // An engine that stops has flushed for the last time before this.
        if let Err(error) = flushed
            && error != FlushError::Stopped
        {
            tracing::warn!(slots = slots.len(), %error, "slots are given up with records that are not committed; these are handed off to the next owners");
        }
        self.cluster.give_up(slots);
    }

    // Forgets what is in memory of slots whose writers have ended.
    fn forget(&self, ended: &BTreeMap<Tenure, End>) {
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
        if !planted::is("remember-what-left") {
            self.cluster.forget(&self.engine, &slots);
        }
    }

    // That round is over: the sessions of these slots hear of nothing more. What the journal has of them, and no commit has,
    // is for the next owners.
    fn part(&self, ended: BTreeMap<Tenure, End>) -> Handing {
        if !planted::is("tell-who-left") {
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

    // The membership hears of slots that have ended last, so that none of them comes back before nothing of its time here can
    // be written any more.
    fn hand_on(&self, handing: Handing, given: BTreeSet<u32>, pause: Duration) -> (Stage, bool) {
        match self.submit(&handing) {
            Handed::NotYet => {
                let pause = pause.saturating_mul(2).min(PAUSE_MAX);
                return (Stage::Handing(handing, given, pause), false);
            }
            Handed::Yes => self.closed(handing),
            Handed::Never => {}
        }
        (self.give(given).0, true)
    }

    fn submit(&self, handing: &Handing) -> Handed {
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
        if planted::is("keep-what-left") {
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

    // Nothing is left of the time of these slots here.
    fn closed(&self, handing: Handing) {
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
