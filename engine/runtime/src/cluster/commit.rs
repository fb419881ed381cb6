//! What shards flush, committed by slot.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::MutexGuard;
use till_core::Space;
use till_storage::cluster::{Commit, Flush};

use crate::cluster::node::Cluster;
use crate::cluster::owners::{Asked, Owner, Tenure};
use crate::cluster::round::{Round, numbered};
use crate::cluster::unread::{COMMITS, pause_after};
use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::planted;
use crate::publish::door::FlushError;

/// Longest look at whether a round is done, without being woken.
const LOOK: Duration = Duration::from_millis(100);
/// Time after which a commit that does not come through is told.
const SLOW: Duration = Duration::from_secs(3);

/// A round on its way into the shared store.
#[derive(Debug)]
pub(crate) struct Committing {
    /// What is still to be read of the journal, until it is.
    reading: Option<Reading>,
    /// A read of it has failed.
    was_unread: bool,
    names: Vec<(Space, u64, String)>,
    /// Commits that have not begun, in the order in which they do.
    waiting: VecDeque<(Tenure, Commit)>,
    /// Those that have, and whose rows may not all be written.
    begun: VecDeque<Tenure>,
    /// Shards, and the LSN up to which the round holds all of theirs.
    uptos: Vec<(usize, u64)>,
    /// When what is waited for was begun.
    since: Duration,
}

impl Committing {
    // Whether the slot that is next has something else on its way.
    fn waits(&self, all: &mut BTreeMap<u32, Owner>) -> bool {
        let next = self.waiting.front().map(|(tenure, _)| *tenure);
        let next = next.or_else(|| self.begun.front().copied());
        next.is_some_and(|tenure| matches!(finish(all, tenure), OutcomeRead::NotYet))
    }
}

/// A round on its way out of the journal.
#[derive(Debug)]
struct Reading {
    round: Round,
    tries: u32,
    /// When it is read the next time.
    at: Duration,
}

/// How a look at a slot went.
enum OutcomeRead {
    /// What was waited for is so.
    Done,
    /// Not yet.
    NotYet,
    /// The ownership has ended, and with it what it was about to commit: its records are handed off.
    Ended,
}

impl Cluster {
    /// Commits what shards gave, as far as it goes without waiting. True: every row is written.
    ///
    /// Records of a slot that is lost meanwhile are in no commit, and stay above what is said to be committed of it.
    ///
    /// # Errors
    /// [`FlushError`] when the engine stops before the records are read back and the store answers.
    pub(crate) fn commit(
        &self,
        engine: &Engine,
        round: &mut Committing,
    ) -> Result<bool, FlushError> {
        let is_done = self.read(engine, round)?
            && self.write_names(engine, round)?
            && self.get_on(engine, round, &mut self.owners.lock())?;
        if is_done {
            self.committed(engine, round);
        }
        Ok(is_done)
    }

    /// Waits until a round may get on, or for a while. For threads that may block.
    pub(crate) fn wait(&self, round: &Committing) {
        if round.reading.is_some() || !round.names.is_empty() {
            return std::thread::sleep(LOOK);
        }
        let mut all = self.owners.lock();
        // It may have been moved on since it was looked at.
        if round.waits(&mut all) {
            self.owners.wait(&mut all, LOOK);
        }
    }

    /// Puts together what shards gave. The records behind it are read when it gets on.
    pub(crate) fn gather(&self, engine: &Engine, parts: Vec<Part>) -> Committing {
        let standing = (self.cursors.lock().clone(), self.since());
        let uptos: Vec<(usize, u64)> = parts.iter().map(|part| (part.shard, part.upto)).collect();
        if planted::is("told-before-commit") {
            for (shard, upto) in &uptos {
                self.notify_devices(engine, *shard, *upto);
            }
        }
        let shape = (engine.slots.len(), self.store.slots());
        let mut round = Round::of(parts, standing, shape);
        let (names, now) = (std::mem::take(&mut round.names), self.now());
        Committing {
            reading: Some(Reading {
                round,
                tries: 0,
                at: now,
            }),
            was_unread: false,
            names,
            waiting: VecDeque::new(),
            begun: VecDeque::new(),
            uptos,
            since: now,
        }
    }

    // Reads what is to be committed. A read that fails is no end: the rows are gone from the shards, so this round is tried
    // until it works, and none comes before it. True: it is read.
    fn read(&self, engine: &Engine, committing: &mut Committing) -> Result<bool, FlushError> {
        let Some(mut reading) = committing.reading.take() else {
            return Ok(true);
        };
        if self.now() >= reading.at {
            let Err(error) = reading.round.read(&engine.journal) else {
                self.note_read(COMMITS);
                committing.waiting = reading.round.into_commits().collect();
                committing.since = self.now();
                return Ok(true);
            };
            self.note_unread(engine, COMMITS, &error);
            engine.figures.flush_state(FlushState::Unread);
            reading.tries += 1;
            reading.at = self.now().saturating_add(pause_after(reading.tries));
            committing.was_unread = true;
        }
        committing.reading = Some(reading);
        if engine.is_draining() && self.waited(committing.since) > engine.config.drain_timeout {
            let text = "what they come of cannot be read back from the journal".to_owned();
            return Err(FlushError::Rows(text));
        }
        Ok(false)
    }

    // Names come before the commits that use them. True: they are written.
    fn write_names(&self, engine: &Engine, round: &mut Committing) -> Result<bool, FlushError> {
        if round.names.is_empty() {
            return Ok(true);
        }
        match self.store.write_names(&round.names) {
            Ok(()) => {
                let names = round.names.iter();
                let names = names.map(|(space, id, name)| (*space, *id, name.as_str()));
                engine.names.written(names);
                round.names.clear();
                round.since = self.now();
                Ok(true)
            }
            Err(_) if planted::is("drop-names") => {
                round.names.clear();
                Ok(true)
            }
            Err(error) if engine.is_draining() => Err(FlushError::Rows(error.to_string())),
            Err(error) => {
                tracing::debug!(%error, "names are not written yet");
                self.report_slow(engine, round.since);
                Ok(false)
            }
        }
    }

    // Begins commits one after another, then looks whether their rows are written. True: all are.
    fn get_on(
        &self,
        engine: &Engine,
        round: &mut Committing,
        all: &mut MutexGuard<'_, BTreeMap<u32, Owner>>,
    ) -> Result<bool, FlushError> {
        while let Some((tenure, commit)) = round.waiting.front_mut() {
            let tenure = *tenure;
            match begin(all, tenure, commit)? {
                (OutcomeRead::NotYet, _) => return self.not_yet(engine, tenure, round.since),
                (OutcomeRead::Ended, _) => {}
                (OutcomeRead::Done, asked) => {
                    round.begun.push_back(tenure);
                    self.change(asked);
                }
            }
            round.waiting.pop_front();
            round.since = self.now();
        }
        while let Some(tenure) = round.begun.front().copied() {
            if let OutcomeRead::NotYet = finish(all, tenure) {
                return self.not_yet(engine, tenure, round.since);
            }
            round.begun.pop_front();
            round.since = self.now();
        }
        Ok(true)
    }

    fn not_yet(
        &self,
        engine: &Engine,
        tenure: Tenure,
        since: Duration,
    ) -> Result<bool, FlushError> {
        if engine.is_draining() && self.waited(since) > engine.config.drain_timeout {
            let text = format!("slot {}: the shared store does not answer", tenure.slot);
            return Err(FlushError::Rows(text));
        }
        self.report_slow(engine, since);
        Ok(false)
    }

    fn waited(&self, since: Duration) -> Duration {
        self.now().saturating_sub(since)
    }

    // Whoever still has a slot has it in commits up to here, and its devices hear of it.
    fn committed(&self, engine: &Engine, round: &Committing) {
        if round.was_unread {
            self.unread.note_going_on();
        }
        self.cursors.lock().pass(&round.uptos);
        let passed = self.cursors.lock().clone();
        self.owners.pass(&passed);
        for (shard, upto) in &round.uptos {
            self.notify_devices(engine, *shard, (*upto).min(passed.of(*shard)));
        }
    }

    // Tells of what has not come through for a while, once.
    fn report_slow(&self, engine: &Engine, since: Duration) {
        if self.waited(since) < SLOW || !engine.figures.flush_state(FlushState::Failed) {
            return;
        }
        tracing::warn!(
            "the shared store does not take commits; events are taken in until too many wait"
        );
        engine.figures.problem(
            "the shared store does not take commits",
            "Look at the shared store; commits go on by themselves when it answers.",
        );
    }
}

fn owner(all: &mut BTreeMap<u32, Owner>, tenure: Tenure) -> Option<&mut Owner> {
    let owner = all.get_mut(&tenure.slot);
    owner.filter(|one| one.is_of(tenure) && !one.writer.has_ended())
}

// Begins a commit once nothing else is on its way in its slot: the commit before, or a renewal of the epoch. Its log is made
// while the owners are free for others.
fn begin(
    all: &mut MutexGuard<'_, BTreeMap<u32, Owner>>,
    tenure: Tenure,
    commit: &mut Commit,
) -> Result<(OutcomeRead, Option<Asked>), FlushError> {
    let Some(owner) = owner(all, tenure) else {
        return Ok((OutcomeRead::Ended, None));
    };
    if !owner.writer.is_idle() {
        return Ok((OutcomeRead::NotYet, None));
    }
    let (next, epoch) = (owner.writer.next_flush(), owner.writer.epoch());
    let numbered = numbered(std::mem::take(commit), next);
    let flush = MutexGuard::unlocked(all, || Flush::new(numbered, epoch));
    let flush = flush.map_err(|error| FlushError::Rows(error.to_string()))?;
    let Some(owner) = self::owner(all, tenure) else {
        return Ok((OutcomeRead::Ended, None));
    };
    match owner.writer.commit_made(flush) {
        Ok(()) => Ok((OutcomeRead::Done, Some(Asked::of(owner)))),
        // A renewal has come between.
        Err(flush) => {
            *commit = flush.into_commit();
            Ok((OutcomeRead::NotYet, None))
        }
    }
}

// Whether the rows of a commit are written.
fn finish(all: &mut BTreeMap<u32, Owner>, tenure: Tenure) -> OutcomeRead {
    match owner(all, tenure) {
        None => OutcomeRead::Ended,
        Some(owner) if owner.writer.is_idle() => OutcomeRead::Done,
        Some(_) => OutcomeRead::NotYet,
    }
}
