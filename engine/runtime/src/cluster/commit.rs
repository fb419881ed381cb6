//! What shards flush, committed by slot.

use std::time::{Duration, Instant};

use till_core::Space;
use till_storage::cluster::Commit;

use super::Cluster;
use super::owners::{Asked, Tenure};
use super::round::{Round, numbered};
use crate::engine::Engine;
use crate::flush::{FlushError, Part};
use crate::metrics::FlushState;

/// Longest look at whether a round is done, without being woken.
const LOOK: Duration = Duration::from_millis(100);
/// Time after which a commit that does not come through is told.
const SLOW: Duration = Duration::from_secs(3);

/// How a look at a slot went.
enum Look {
    /// What was waited for is so.
    Done(Option<Asked>),
    /// Not yet.
    NotYet,
    /// The ownership has ended, and with it what it was about to commit: its records are handed over.
    Ended,
}

impl Cluster {
    /// Commits what shards gave: comes back when every row is written, or when the engine stops.
    ///
    /// Records of a slot that is lost meanwhile are in no commit, and stay above what is said to be committed of it.
    ///
    /// # Errors
    /// [`FlushError`] when records cannot be read back, or the engine stops before the store answers.
    pub(crate) fn commit(&self, engine: &Engine, parts: Vec<Part>) -> Result<(), FlushError> {
        let cursors = self.cursors.lock().clone();
        let since = self.since();
        let uptos: Vec<(usize, u64)> = parts.iter().map(|part| (part.shard, part.upto)).collect();
        let shape = (engine.slots.len(), self.store.slots());
        let round = Round::gather(parts, (&cursors, &since), &engine.journal, shape)
            .map_err(|error| FlushError::Rows(error.to_string()))?;
        let Round { mut commits, names } = round;
        commits.retain(|_, commit| !commit.records.is_empty() || commit.rows.rows() > 0);
        self.write_names(engine, &names)?;
        let mut begun = Vec::with_capacity(commits.len());
        for (slot, commit) in commits {
            let Some(life) = since.get(&slot).map(|since| since.life) else {
                continue;
            };
            let tenure = Tenure { slot, life };
            if self.begin(engine, tenure, commit)? {
                begun.push(tenure);
            }
        }
        for tenure in begun {
            self.finish(engine, tenure)?;
        }
        self.cursors.lock().pass(&uptos);
        let settled = self.settled();
        self.owners.pass(&settled);
        for (shard, upto) in uptos {
            self.tell_devices(engine, shard, upto.min(settled.of(shard)));
        }
        Ok(())
    }

    fn write_names(
        &self,
        engine: &Engine,
        names: &[(Space, u64, String)],
    ) -> Result<(), FlushError> {
        let began = Instant::now();
        while !names.is_empty() {
            match self.store.write_names(names) {
                Ok(()) => break,
                Err(error) if engine.is_draining() => {
                    return Err(FlushError::Rows(error.to_string()));
                }
                Err(error) => {
                    tracing::debug!(%error, "names are not written yet");
                    tell_slow(engine, began);
                    std::thread::sleep(LOOK);
                }
            }
        }
        Ok(())
    }

    // Begins a commit once nothing else is on its way in its slot: the commit before, or a renewal of the epoch.
    fn begin(&self, engine: &Engine, tenure: Tenure, commit: Commit) -> Result<bool, FlushError> {
        let mut commit = Some(commit);
        self.watch(engine, tenure, |owner| {
            if !owner.writer.is_idle() {
                return Ok(Look::NotYet);
            }
            if let Some(commit) = commit.take() {
                let next = owner.writer.next_flush();
                let begun = owner.writer.commit(numbered(commit, next));
                begun.map_err(|error| FlushError::Rows(error.to_string()))?;
            }
            Ok(Look::Done(Some(Asked::of(owner))))
        })
    }

    // Waits until the rows of a commit are written.
    fn finish(&self, engine: &Engine, tenure: Tenure) -> Result<bool, FlushError> {
        self.watch(engine, tenure, |owner| {
            Ok(match owner.writer.is_idle() {
                true => Look::Done(None),
                false => Look::NotYet,
            })
        })
    }

    // Looks at an ownership until something is so; `false` when the ownership ends first.
    fn watch(
        &self,
        engine: &Engine,
        tenure: Tenure,
        mut look: impl FnMut(&mut super::owners::Owner) -> Result<Look, FlushError>,
    ) -> Result<bool, FlushError> {
        let began = Instant::now();
        let mut all = self.owners.lock();
        let asked = loop {
            let owner = all.get_mut(&tenure.slot);
            let seen = match owner.filter(|one| one.is_of(tenure) && !one.writer.has_ended()) {
                Some(owner) => look(owner)?,
                None => Look::Ended,
            };
            match seen {
                Look::Done(asked) => break asked,
                Look::Ended => return Ok(false),
                Look::NotYet => {}
            }
            if engine.is_draining() && began.elapsed() > engine.config.drain_timeout {
                let text = format!("slot {}: the shared store does not answer", tenure.slot);
                return Err(FlushError::Rows(text));
            }
            self.owners.wait(&mut all, LOOK);
            tell_slow(engine, began);
        };
        drop(all);
        if let Some(asked) = asked {
            self.carry_out(asked);
        }
        Ok(true)
    }
}

// Tells of what has not come through for a while, once.
fn tell_slow(engine: &Engine, began: Instant) {
    if began.elapsed() < SLOW || !engine.figures.flush_state(FlushState::Failed) {
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
