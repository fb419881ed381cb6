//! One engine's way to the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use till_core::{ReadSet, Space};
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Commit, Conditional, Constraint, Constraints, Decided, DueDay, FlushLog, Found, Handoff,
    InboxId, Log, NodeId, NodeRow, Seal, SharedStore, SlotRow,
};
use till_storage::query::FactReader;
use till_storage::views::{StoreError, Views};

use crate::mistake::is_planted;

use super::planted::{as_projected, log_as_written, row_as_read, understood};
use super::{WorldStore, Write};

/// One engine's way to the store. Clones are the same way.
#[derive(Clone)]
pub(crate) struct Way {
    store: Arc<WorldStore>,
    is_parted: Arc<AtomicBool>,
}

impl Way {
    pub(crate) fn to(store: &Arc<WorldStore>) -> Self {
        Self {
            store: Arc::clone(store),
            is_parted: Arc::default(),
        }
    }

    /// Nothing gets through any more, or everything again.
    pub(crate) fn part(&self, is_parted: bool) {
        self.is_parted.store(is_parted, Ordering::Relaxed);
    }

    /// Whether nothing gets through.
    pub(crate) fn is_parted(&self) -> bool {
        self.is_parted.load(Ordering::Relaxed)
    }

    fn reach(&self) -> Result<(), StoreError> {
        let mut state = self.store.lock();
        let fails = state.faults.fails;
        if self.is_parted() || state.rng.chance(fails) {
            state.counts.refused += 1;
            return Err(silent());
        }
        Ok(())
    }

    fn write(&self, write: Write) -> Result<Decided, StoreError> {
        self.reach()?;
        let mut state = self.store.lock();
        let faults = state.faults;
        if state.rng.chance(faults.late) {
            state.counts.late += 1;
            state.late.push(write);
            return Err(silent());
        }
        let is_lost = state.rng.chance(faults.answer_lost);
        state.counts.answers_lost += u64::from(is_lost);
        drop(state);
        let decided = self.store.apply(&write)?;
        if let (Write::Decide(_), Decided::Applied, true) = (&write, &decided, is_lost) {
            self.store.lock().counts.unknown_made += 1;
        }
        match is_lost {
            true => Err(silent()),
            false => Ok(decided),
        }
    }

    fn done(&self, write: Write) -> Result<(), StoreError> {
        self.write(write).map(|_| ())
    }

    // Whether what is told now is what was told some time ago.
    fn is_stale(&self) -> bool {
        let mut state = self.store.lock();
        let stale = state.faults.stale;
        let is_stale = state.rng.chance(stale);
        state.counts.stale += u64::from(is_stale);
        is_stale
    }
}

fn silent() -> StoreError {
    StoreError::Failed {
        table: "shared",
        cause: "the store does not answer".to_owned(),
    }
}

impl SharedStore for Way {
    fn slots(&self) -> u32 {
        self.store.store.slots()
    }

    fn views(&self) -> Arc<dyn Views> {
        self.store.store.views()
    }

    fn facts(&self) -> Arc<dyn FactReader> {
        self.store.store.facts()
    }

    fn chain_key(&self, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.reach()?;
        self.store.store.chain_key(proposed)
    }

    fn known_chain_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        self.reach()?;
        self.store.store.known_chain_key()
    }

    fn all_slots(&self) -> Result<Vec<SlotRow>, StoreError> {
        self.reach()?;
        let now = self.store.store.all_slots()?;
        let is_stale = self.is_stale();
        let mut state = self.store.lock();
        if is_stale && !state.slots.is_empty() {
            return Ok(state.slots.clone());
        }
        state.slots.clone_from(&now);
        Ok(now)
    }

    fn slot(&self, slot: u32) -> Result<SlotRow, StoreError> {
        self.reach()?;
        self.store.store.slot(slot).map(row_as_read)
    }

    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError> {
        if is_planted("rows-before-commit") {
            self.store.write_rows_early(constraint)?;
        }
        let decided = self.write(Write::Decide(constraint.clone()));
        understood(&constraint.change, decided)
    }

    fn constraints(&self) -> Result<Constraints, StoreError> {
        self.reach()?;
        self.store.store.constraints()
    }

    fn constraint(&self, constraint: &Constraint) -> Result<(), StoreError> {
        self.reach()?;
        self.store.store.constraint(constraint)
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.reach()?;
        self.store.store.nodes()
    }

    fn heartbeat(&self, row: &NodeRow) -> Result<(), StoreError> {
        self.done(Write::Heartbeat(row.clone()))
    }

    fn write_log(
        &self,
        of: (u32, u64),
        log: &Log,
        before: Option<&Seal>,
    ) -> Result<(), StoreError> {
        let (log, before) = log_as_written(log, before);
        self.done(Write::Log(of, log, before))
    }

    fn logs(&self, row: &SlotRow, flushes: (u64, u64)) -> Result<Vec<FlushLog>, StoreError> {
        self.reach()?;
        self.store.store.logs(row, flushes)
    }

    fn project(&self, commits: &[Arc<Commit>]) -> Result<(), StoreError> {
        let commits = as_projected(commits);
        let mut state = self.store.lock();
        let (partly, is_hasty) = (state.faults.partly, is_planted("rows-taken-for-written"));
        if state.rng.chance(partly) {
            let mut rng = state.rng.fork();
            drop(state);
            self.store.write_partly(&commits, &mut rng)?;
            return Err(silent());
        }
        drop(state);
        match self.done(Write::Rows(commits)) {
            Err(_) if is_hasty => Ok(()),
            done => done,
        }
    }

    fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError> {
        self.reach()?;
        self.store.store.days_due(slot)
    }

    fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError> {
        self.reach()?;
        self.store.store.sum_day(slot, due, applied)
    }

    fn forget_rows(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError> {
        self.done(Write::ForgetRows(slot, flushes))
    }

    fn write_names(&self, names: &[(Space, u64, String)]) -> Result<(), StoreError> {
        match self.done(Write::Names(names.to_vec())) {
            Err(_) if is_planted("drop-names") => Ok(()),
            done => done,
        }
    }

    fn hand_off(&self, handoff: &Handoff) -> Result<(), StoreError> {
        self.done(Write::HandOff(handoff.clone()))
    }

    fn waiting(&self) -> Result<Vec<(u32, NodeId, u64)>, StoreError> {
        self.reach()?;
        self.store.store.waiting()
    }

    fn handed_off(
        &self,
        slot: u32,
        from: NodeId,
        number: u64,
    ) -> Result<Option<Handoff>, StoreError> {
        self.reach()?;
        self.store.store.handed_off(slot, from, number)
    }

    fn taken_in(&self, slot: u32, from: NodeId, number: u64) -> Result<(), StoreError> {
        self.done(Write::TakenIn(slot, from, number))
    }

    fn release(&self, record: &InboxId, proposed: Option<u32>) -> Result<Option<u32>, StoreError> {
        self.reach()?;
        let released = self.store.store.release(record, proposed)?;
        // A store that does not keep what was decided first.
        let anew = u32::from(is_planted("release-anew")) * self.store.looked();
        Ok(released.map(|epoch| epoch + anew))
    }

    fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError> {
        self.reach()?;
        let mut state = self.store.lock();
        let is_damaged = |store: StoreId| Some(store.get()) == state.damaged;
        let mut skus = read_set.skus.iter();
        let mut terminals = read_set.terminals.iter();
        if skus.any(|(store, _)| is_damaged(*store)) || terminals.any(|one| is_damaged(one.store()))
        {
            state.counts.damaged += 1;
            return Err(StoreError::Damaged {
                table: "rows",
                cause: "bytes that make no sense".to_owned(),
            });
        }
        drop(state);
        self.store.store.rows_of(read_set)
    }
}
