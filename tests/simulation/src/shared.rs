//! A store that the engines of a world share: it refuses calls, loses answers and makes calls late, and it watches what is
//! done to it.

mod part;
mod planted;
mod rebuild;
mod way;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use till_core::{Record, Space};
use till_protocol::id::TerminalId;
use till_storage::cluster::{
    Change, Commit, Conditional, Decided, Handoff, InboxId, Log, NodeId, NodeRow, Seal,
    SharedStore as _, SlotRow,
};
use till_storage::memory::MemoryViews;
use till_storage::testing::MemoryCluster;
use till_storage::views::StoreError;

use crate::mistake::is_planted;
use crate::oracle::Violation;
use crate::rng::Rng;

pub(crate) use way::Way;

use planted::conditions;
use rebuild::Rebuild;

/// How often calls go wrong, in a million.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShareFaults {
    /// A call is not made.
    pub(crate) fails: u64,
    /// A change is made, and its answer is lost.
    pub(crate) answer_lost: u64,
    /// A change is made later, and its caller hears of a failure.
    pub(crate) late: u64,
    /// A list is as it was some time ago.
    pub(crate) stale: u64,
    /// Of the rows of a commit some are written, and its caller hears of a failure.
    pub(crate) partly: u64,
}

/// What became of calls.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ShareCounts {
    pub(crate) refused: u64,
    pub(crate) answers_lost: u64,
    pub(crate) late: u64,
    pub(crate) stale: u64,
    pub(crate) partly: u64,
    /// Conditional writes whose condition did not hold any more.
    pub(crate) fenced: u64,
    /// Of them, commits.
    pub(crate) commits_fenced: u64,
    /// Conditional writes that nobody knew of whether they were made: those that were, and those that came too late for it.
    pub(crate) unknown_made: u64,
    pub(crate) unknown_refused: u64,
    /// Slots that were taken from somebody.
    pub(crate) taken_over: u64,
    /// Late writes that were an earlier owner's.
    pub(crate) after_the_next: u64,
    /// Chunks that were handed off.
    pub(crate) handed_off: u64,
    /// Asked for rows that make no sense.
    pub(crate) damaged: u64,
}

/// Records with their positions.
type Replayed = Vec<(u64, Record)>;

/// A change of the store.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Decide(Conditional),
    Heartbeat(NodeRow),
    Log((u32, u64), Log, Option<Seal>),
    ForgetRows(u32, (u64, u64)),
    Rows(Vec<Arc<Commit>>),
    Names(Vec<(Space, u64, String)>),
    HandOff(Handoff),
    TakenIn(u32, NodeId, u64),
}

/// Something that the oracle has to hear of.
#[derive(Debug)]
pub(crate) enum News {
    /// A flush was committed.
    Committed(Commit),
    /// Records are handed off.
    HandedOff(Handoff),
    /// Records that waited were taken away.
    TakenAway(Handoff),
}

/// The store. Each engine has a [`Way`] to it.
pub(crate) struct WorldStore {
    store: MemoryCluster,
    /// The rows that the records of all commits make.
    rebuilt_views: Rebuild,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    faults: ShareFaults,
    counts: ShareCounts,
    late: Vec<Write>,
    /// Every flush that was ever committed.
    commits: BTreeMap<(u32, u64), Commit>,
    /// The last flush of each slot up to which all rows are written.
    written: BTreeMap<u32, u64>,
    /// Who took each slot under each epoch.
    owners: BTreeMap<(u32, u64), NodeId>,
    news: Vec<News>,
    broken: Option<Violation>,
    slots: Vec<SlotRow>,
    /// Rows of this store make no sense.
    damaged: Option<u32>,
}

impl WorldStore {
    pub(crate) fn new(slots: u32, rng: Rng, faults: ShareFaults) -> Arc<Self> {
        let state = State {
            rng,
            faults,
            counts: ShareCounts::default(),
            late: Vec::new(),
            commits: BTreeMap::new(),
            written: BTreeMap::new(),
            owners: BTreeMap::new(),
            news: Vec::new(),
            broken: None,
            slots: Vec::new(),
            damaged: None,
        };
        Arc::new(Self {
            store: MemoryCluster::new(slots),
            rebuilt_views: Rebuild::new(),
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self) -> ShareCounts {
        self.lock().counts
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&self) {
        let mut state = self.lock();
        state.faults = ShareFaults::default();
        state.damaged = None;
    }

    /// Rows of a store make no sense from now on; of none again.
    pub(crate) fn damage(&self, store: Option<u32>) {
        self.lock().damaged = store;
    }

    pub(crate) fn damaged(&self) -> Option<u32> {
        self.lock().damaged
    }

    /// Changes that will be made later.
    pub(crate) fn take_late(&self) -> Vec<Write> {
        std::mem::take(&mut self.lock().late)
    }

    /// What the oracle has not heard yet.
    pub(crate) fn take_news(&self) -> Vec<News> {
        std::mem::take(&mut self.lock().news)
    }

    /// What was broken.
    pub(crate) fn take_broken(&self) -> Option<Violation> {
        self.lock().broken.take()
    }

    /// The rows.
    pub(crate) fn rows(&self) -> Arc<dyn till_storage::views::Views> {
        self.store.views()
    }

    /// The rows of all slots.
    pub(crate) fn slots(&self) -> Vec<SlotRow> {
        self.store.all_slots().unwrap_or_default()
    }

    /// Whether the rows of a slot hold its last flush.
    pub(crate) fn is_whole(&self, row: &SlotRow) -> bool {
        self.lock().written.get(&row.slot).copied().unwrap_or(0) == row.flush
    }

    /// Whether the owner of a slot has what was committed: the rows hold it, or the owner has had the slot since the first flush
    /// that they lack.
    pub(crate) fn has_all(&self, row: &SlotRow) -> bool {
        let state = self.lock();
        let written = state.written.get(&row.slot).copied().unwrap_or(0);
        match state.commits.get(&(row.slot, written + 1)) {
            None => written == row.flush,
            Some(lacking) => (lacking.epoch..=row.epoch)
                .all(|epoch| state.owners.get(&(row.slot, epoch)) == row.owner.as_ref()),
        }
    }

    /// What waits for the owners of slots.
    pub(crate) fn waiting(&self) -> Vec<Handoff> {
        let waiting = self.store.waiting().unwrap_or_default();
        let each = waiting.into_iter();
        each.filter_map(|(slot, from, number)| {
            self.store.handed_off(slot, from, number).ok().flatten()
        })
        .collect()
    }

    /// What waits and has no place, and whether it collides with something.
    pub(crate) fn stranded(&self) -> Vec<(InboxId, Record, bool)> {
        let found = till_runtime::stranded(&self.store).unwrap_or_default();
        let each = found.into_iter();
        each.filter_map(|one| {
            let id: InboxId = one.record.parse().ok()?;
            let chunk = self.store.handed_off(id.slot, id.from, id.number).ok()??;
            let record = chunk.records.get(usize::try_from(id.index).ok()?)?;
            Some((id, record.clone(), one.why.starts_with("another event")))
        })
        .collect()
    }

    // Another number at each look.
    fn looked(&self) -> u32 {
        let looked = self.lock().rng.clone().within(1, 40);
        u32::try_from(looked).unwrap_or(1)
    }

    /// The latest epoch of a terminal that is committed.
    pub(crate) fn latest_epoch(&self, terminal: u64) -> u32 {
        let terminal = TerminalId::from_u64(terminal).ok();
        let row = terminal.and_then(|one| self.store.views().terminal(one).ok().flatten());
        row.map_or(0, |row| row.latest_epoch())
    }

    /// Releases a record; gives the epoch that it has now.
    pub(crate) fn release(&self, id: &InboxId, epoch: u32) -> Option<u32> {
        self.store.release(id, Some(epoch)).ok().flatten()
    }

    /// The records of the facts by slot and position, and those that were committed.
    pub(crate) fn facts(&self) -> (Replayed, Replayed) {
        let mut kept = Vec::new();
        let visited = self.store.facts().of_receipt("", &mut |fact| {
            kept.push((fact.lsn.get(), fact.record.clone()));
            Ok(())
        });
        drop(visited);
        let mut committed = Vec::new();
        for ((_, flush), commit) in &self.lock().commits {
            for (index, record) in (0..).zip(&commit.records) {
                committed.push((Commit::position(*flush, index), record.clone()));
            }
        }
        (kept, committed)
    }

    /// Rebuilds all rows from the log. Gives those of before.
    pub(crate) fn rebuilt(&self) -> Result<MemoryViews, Violation> {
        rebuild::rebuilt(&self.store).map_err(|what| Violation { id: "REP-1", what })
    }

    /// Makes a change that comes late.
    pub(crate) fn make_late(&self, write: &Write) {
        let is_old = match write {
            Write::Decide(constraint) => self.is_passed(constraint.slot, constraint.epoch),
            Write::Log((slot, _), log, _) => self.is_passed(*slot, log.seal.epoch),
            _ => false,
        };
        self.lock().counts.after_the_next += u64::from(is_old);
        // Nobody hears what became of it.
        let made = self.apply(write);
        if let Write::Decide(_) = write {
            let mut state = self.lock();
            match made {
                Ok(Decided::Applied) => state.counts.unknown_made += 1,
                _ => state.counts.unknown_refused += 1,
            }
        }
    }

    fn is_passed(&self, slot: u32, epoch: u64) -> bool {
        self.store.slot(slot).is_ok_and(|row| row.epoch > epoch)
    }

    fn fail(&self, id: &'static str, what: String) {
        self.lock().broken.get_or_insert(Violation { id, what });
    }

    fn apply(&self, write: &Write) -> Result<Decided, StoreError> {
        let store = &self.store;
        match write {
            Write::Decide(constraint) => return self.decide(constraint),
            Write::Heartbeat(row) => store.heartbeat(row)?,
            Write::Log(of, log, before) => store.write_log(*of, log, before.as_ref())?,
            Write::ForgetRows(slot, flushes) => store.forget_rows(*slot, *flushes)?,
            Write::Rows(commits) => {
                let new = self.take_due(commits);
                store.project(&self.stamped(commits))?;
                self.judge_rows(&new);
            }
            Write::Names(names) => store.write_names(names)?,
            Write::HandOff(handoff) => {
                let mut state = self.lock();
                state.counts.handed_off += 1;
                state.news.push(News::HandedOff(handoff.clone()));
                drop(state);
                store.hand_off(handoff)?;
            }
            Write::TakenIn(slot, from, number) => {
                if let Some(chunk) = store.handed_off(*slot, *from, *number)? {
                    self.lock().news.push(News::TakenAway(chunk));
                }
                store.taken_in(*slot, *from, *number)?;
            }
        }
        Ok(Decided::Applied)
    }

    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError> {
        let before = self.store.slot(constraint.slot)?;
        let decided = self.store.decide(&conditions(constraint, &before))?;
        if decided != Decided::Applied {
            let mut state = self.lock();
            state.counts.fenced += 1;
            state.counts.commits_fenced +=
                u64::from(matches!(constraint.change, Change::Commit { .. }));
            drop(state);
            return Ok(decided);
        }
        if constraint.epoch != before.epoch {
            let what = format!(
                "slot {} has epoch {}, and what its owner of epoch {} wanted came to pass",
                constraint.slot, before.epoch, constraint.epoch
            );
            self.fail("FEN-2", what);
        }
        match &constraint.change {
            Change::Commit { .. } => {
                self.look_at_applied(constraint.slot)?;
                self.committed(constraint.slot)?;
                if is_planted("rows-forgotten-early") {
                    let last = before.flush + 1;
                    self.store.forget_rows(constraint.slot, (last, last))?;
                }
            }
            Change::Acquire { owner, .. } => {
                let is_taken = before.owner.is_some_and(|before| before != *owner);
                let mut state = self.lock();
                state.counts.taken_over += u64::from(is_taken);
                state
                    .owners
                    .insert((constraint.slot, before.epoch + 1), *owner);
            }
            Change::Release { .. } => self.look_at_applied(constraint.slot)?,
        }
        Ok(decided)
    }

    // Whoever takes the slot next writes no rows up to there.
    fn look_at_applied(&self, slot: u32) -> Result<(), StoreError> {
        let applied = self.store.slot(slot)?.applied;
        let written = self.lock().written.get(&slot).copied().unwrap_or(0);
        if applied > written {
            let what = format!(
                "slot {slot}: rows are said to be written up to flush {applied}, and are up to {written}"
            );
            self.fail("CLU-2", what);
        }
        Ok(())
    }

    // A flush was committed: it can be read.
    fn committed(&self, slot: u32) -> Result<(), StoreError> {
        let row = self.store.slot(slot)?;
        let logs = self.store.logs(&row, (row.flush, row.flush))?;
        let read = logs
            .first()
            .map(|found| Commit::from_log((slot, row.flush), &row.seal, &found.log));
        match read {
            Some(Ok(commit)) => {
                let mut state = self.lock();
                state.commits.insert((slot, row.flush), commit.clone());
                state.news.push(News::Committed(commit));
            }
            Some(Err(error)) => {
                let what = format!("flush {} of slot {slot}: {error}", row.flush);
                self.fail("CLU-1", what);
            }
            None => self.fail(
                "CLU-1",
                format!("flush {} of slot {slot} is gone", row.flush),
            ),
        }
        Ok(())
    }

    // Rows are those of flushes that were committed, and of no others. Gives those that are written for the first time.
    fn take_due(&self, commits: &[Arc<Commit>]) -> Vec<Arc<Commit>> {
        let mut due = Vec::new();
        for commit in commits {
            if self.is_committed(commit) {
                let mut state = self.lock();
                let written = state.written.entry(commit.slot).or_default();
                if commit.flush > *written {
                    *written = commit.flush;
                    due.push(Arc::clone(commit));
                }
            }
        }
        due
    }

    // Whether rows are those of a flush that was committed.
    fn is_committed(&self, commit: &Commit) -> bool {
        let key = (commit.slot, commit.flush);
        if self.lock().commits.get(&key) == Some(commit) {
            return true;
        }
        let what = format!(
            "rows of slot {} as of flush {} are written, and that was never committed",
            commit.slot, commit.flush
        );
        self.fail("FEN-1", what);
        false
    }

    // Rows are what their records make of the rows before.
    fn judge_rows(&self, commits: &[Arc<Commit>]) {
        let Some(last) = commits.last() else {
            return;
        };
        let (facts, rows) = (self.store.facts(), self.store.views());
        if let Err(unlike) = self
            .rebuilt_views
            .take_in(commits, facts.as_ref(), rows.as_ref())
        {
            let what = format!("flush {} of slot {}: {unlike}", last.flush, last.slot);
            self.fail("REP-1", what);
        }
    }
}
