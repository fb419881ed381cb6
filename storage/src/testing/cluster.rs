//! A shared store in memory: the model of a cluster, for engines in one process.

mod days;
mod maintenance;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use till_core::{ReadSet, Space};
use till_protocol::id::{StoreId, TerminalId};

use crate::cluster::{
    Commit, Conditional, Constraint, Constraints, Decided, DueDay, FlushLog, Found, FoundLog,
    Handoff, InboxId, Log, LogStart, NodeId, NodeRow, Seal, SharedStore, SlotRow, slot_of,
};
use crate::facts::Fact;
use crate::journal::Lsn;
use crate::memory::MemoryViews;
use crate::num::narrow;
use crate::pack::{Key, Table};
use crate::query::{FactReader, VisitFact};
use crate::rebuild::store_of;
use crate::views::{FlushBatch, StoreError, Views, WriteViews as _};
use days::Days;

/// Rows, facts and slots in memory, and a way to them.
pub struct MemoryCluster {
    slots: u32,
    views: Arc<MemoryViews>,
    facts: Arc<MemoryFacts>,
    state: Arc<Mutex<ClusterState>>,
    /// Nothing is answered while this is set.
    is_away: AtomicBool,
    trouble: Mutex<Trouble>,
    dice: AtomicU64,
}

/// What goes wrong with a store that is not well, for tests of those who use it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trouble {
    /// Of 1,000 calls so many fail before they have done anything.
    pub fails: u32,
    /// Of 1,000 changes so many are made, and the caller hears of a failure.
    pub answers_lost: u32,
    /// How long each call takes.
    pub delay: Duration,
    /// What is asked for together, and has levels of this store in it, cannot be read.
    pub damaged: Option<StoreId>,
    /// Names are not written; everything else is.
    pub refuses_names: bool,
    /// No commit is begun; everything else is done.
    pub refuses_commits: bool,
}

#[derive(Default)]
struct ClusterState {
    slots: BTreeMap<u32, SlotRow>,
    nodes: BTreeMap<NodeId, NodeRow>,
    /// By slot, flush and epoch.
    logs: BTreeMap<(u32, u64, u64), FoundLog>,
    seals: BTreeMap<(u32, u64), Seal>,
    stamps: Stamps,
    days: Days,
    chain_key: Option<[u8; 32]>,
    constraints: Constraints,
    handoffs: BTreeMap<(u32, NodeId, u64), Handoff>,
    released: BTreeMap<InboxId, u32>,
    log_starts: BTreeMap<u32, LogStart>,
    /// Records of bases, by slot and id.
    bases: BTreeMap<(u32, [u8; 16]), BTreeMap<u32, Bytes>>,
}

impl fmt::Debug for MemoryCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCluster")
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl MemoryCluster {
    /// An empty store with so many slots.
    pub fn new(slots: u32) -> Self {
        let rows = (0..slots).map(|slot| {
            let row = SlotRow {
                slot,
                ..SlotRow::default()
            };
            (slot, row)
        });
        let state = ClusterState {
            slots: rows.collect(),
            ..ClusterState::default()
        };
        Self {
            slots,
            views: Arc::new(MemoryViews::new()),
            facts: Arc::default(),
            state: Arc::new(Mutex::new(state)),
            is_away: AtomicBool::new(false),
            trouble: Mutex::default(),
            dice: AtomicU64::new(0),
        }
    }

    /// Things go wrong from now on, in an order that the seed decides.
    pub fn set_trouble(&self, trouble: Trouble, seed: u64) {
        self.dice.store(seed, Ordering::SeqCst);
        *self.trouble() = trouble;
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Whether something happens of which so many in 1,000 do.
    fn happens(&self, of_1000: u32) -> bool {
        // The finaliser of splitmix64 over a counter.
        let mut hash = self.dice.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (hash ^ (hash >> 31)) % 1_000 < u64::from(of_1000)
    }

    /// Another way to the same store. What goes wrong on one way does not on the other.
    #[must_use]
    pub fn another_way(&self) -> Self {
        Self {
            slots: self.slots,
            views: Arc::clone(&self.views),
            facts: Arc::clone(&self.facts),
            state: Arc::clone(&self.state),
            is_away: AtomicBool::new(false),
            trouble: Mutex::default(),
            dice: AtomicU64::new(0),
        }
    }

    /// Answers nothing any more on this way, or answers again.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    fn answer(&self) -> Result<MutexGuard<'_, ClusterState>, StoreError> {
        let trouble = *self.trouble();
        if !trouble.delay.is_zero() {
            std::thread::sleep(trouble.delay);
        }
        if self.is_away.load(Ordering::SeqCst) || self.happens(trouble.fails) {
            return Err(silent());
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    // What a caller hears of a change that was made.
    fn notified<T>(&self, made: T) -> Result<T, StoreError> {
        match self.happens(self.trouble().answers_lost) {
            true => Err(silent()),
            false => Ok(made),
        }
    }
}

fn silent() -> StoreError {
    StoreError::Failed {
        table: "slots",
        cause: "the store does not answer".to_owned(),
    }
}

fn refused(table: &'static str) -> StoreError {
    StoreError::Failed {
        table,
        cause: "as was asked for".to_owned(),
    }
}

impl SharedStore for MemoryCluster {
    fn slots(&self) -> u32 {
        self.slots
    }

    fn views(&self) -> Arc<dyn Views> {
        Arc::<MemoryViews>::clone(&self.views)
    }

    fn facts(&self) -> Arc<dyn FactReader> {
        Arc::<MemoryFacts>::clone(&self.facts)
    }

    fn chain_key(&self, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        Ok(*self.answer()?.chain_key.get_or_insert(proposed))
    }

    fn known_chain_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(self.answer()?.chain_key)
    }

    fn all_slots(&self) -> Result<Vec<SlotRow>, StoreError> {
        Ok(self.answer()?.slots.values().cloned().collect())
    }

    fn slot(&self, slot: u32) -> Result<SlotRow, StoreError> {
        let row = self.answer()?.slots.get(&slot).cloned();
        row.ok_or_else(|| StoreError::Damaged {
            table: "slots",
            cause: format!("there is no slot {slot}"),
        })
    }

    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError> {
        let mut state = self.answer()?;
        let Some(row) = state.slots.get_mut(&constraint.slot) else {
            return Ok(Decided::Refused(None));
        };
        let decided = match constraint.applied_to(row) {
            Some(after) => {
                *row = after;
                Decided::Applied
            }
            None => Decided::Refused(Some(row.clone())),
        };
        self.notified(decided)
    }

    fn constraints(&self) -> Result<Constraints, StoreError> {
        Ok(self.answer()?.constraints.clone())
    }

    fn constraint(&self, constraint: &Constraint) -> Result<(), StoreError> {
        self.answer()?.constraints.change(constraint);
        Ok(())
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        Ok(self.answer()?.nodes.values().cloned().collect())
    }

    fn heartbeat(&self, row: &NodeRow) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        let newest = state.nodes.entry(row.node).or_insert_with(|| row.clone());
        if newest.heartbeat <= row.heartbeat {
            newest.clone_from(row);
        }
        self.notified(())
    }

    fn write_log(
        &self,
        (slot, flush): (u32, u64),
        log: &Log,
        before: Option<&Seal>,
    ) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        if self.trouble().refuses_commits {
            return Err(refused("logs"));
        }
        let key = (slot, flush, log.seal.epoch);
        state.logs.insert(key, log.clone().into());
        if let Some(before) = before {
            state.seals.insert((slot, flush.saturating_sub(1)), *before);
        }
        self.notified(())
    }

    fn logs(&self, row: &SlotRow, (first, last): (u64, u64)) -> Result<Vec<FlushLog>, StoreError> {
        let state = self.answer()?;
        let found = (first..=last).filter_map(|flush| {
            let seal = match flush == row.flush {
                true => row.seal,
                false => *state.seals.get(&(row.slot, flush))?,
            };
            let log = state.logs.get(&(row.slot, flush, seal.epoch)).cloned();
            let log = log.unwrap_or_default();
            Some(FlushLog { flush, seal, log })
        });
        Ok(found.collect())
    }

    fn project(&self, commits: &[Arc<Commit>]) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        for commit in commits {
            self.facts.add(commit, self.slots);
            state.days.touched(commit);
            let mut rows = commit.rows.clone();
            state.stamps.newest(commit.flush, &mut rows);
            self.views.write(&rows)?;
        }
        self.notified(())
    }

    fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError> {
        Ok(self.answer()?.days.due(slot))
    }

    fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError> {
        // Whoever asks for sums of days is given those of hours.
        self.answer()?.days.summed(slot, due, applied);
        self.notified(())
    }

    fn forget_rows(&self, slot: u32, (first, last): (u64, u64)) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        for ((of, flush, _), log) in &mut state.logs {
            if *of == slot && (first..=last).contains(flush) {
                log.rows.clear();
            }
        }
        self.notified(())
    }

    fn write_names(&self, names: &[(Space, u64, String)]) -> Result<(), StoreError> {
        let _answers = self.answer()?;
        if self.trouble().refuses_names {
            return Err(refused("names"));
        }
        // The first name of an id stands.
        let views = &self.views;
        let new = names
            .iter()
            .filter(|(space, id, _)| matches!(views.name(*space, *id), Ok(None)));
        views.write(&FlushBatch {
            names: new.cloned().collect(),
            ..FlushBatch::default()
        })
    }

    fn hand_off(&self, handoff: &Handoff) -> Result<(), StoreError> {
        let key = (handoff.slot, handoff.from, handoff.number);
        self.answer()?.handoffs.insert(key, handoff.clone());
        self.notified(())
    }

    fn waiting(&self) -> Result<Vec<(u32, NodeId, u64)>, StoreError> {
        Ok(self.answer()?.handoffs.keys().copied().collect())
    }

    fn handed_off(
        &self,
        slot: u32,
        from: NodeId,
        number: u64,
    ) -> Result<Option<Handoff>, StoreError> {
        Ok(self.answer()?.handoffs.get(&(slot, from, number)).cloned())
    }

    fn taken_in(&self, slot: u32, from: NodeId, number: u64) -> Result<(), StoreError> {
        self.answer()?.handoffs.remove(&(slot, from, number));
        self.notified(())
    }

    fn release(&self, record: &InboxId, proposed: Option<u32>) -> Result<Option<u32>, StoreError> {
        let mut state = self.answer()?;
        if let Some(epoch) = proposed {
            state.released.entry(*record).or_insert(epoch);
        }
        let released = state.released.get(record).copied();
        self.notified(released)
    }

    fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError> {
        let _answers = self.answer()?;
        let damaged = self.trouble().damaged;
        if read_set
            .skus
            .iter()
            .any(|(store, _)| Some(*store) == damaged)
        {
            return Err(StoreError::Damaged {
                table: "levels",
                cause: "as was asked for".to_owned(),
            });
        }
        Found::one_by_one(read_set, self.views.as_ref())
    }
}

/// The flush with which each row was written last.
#[derive(Debug, Default)]
struct Stamps(HashMap<(Table, Vec<u8>), u64>);

impl Stamps {
    /// Leaves the rows that no later flush has written.
    fn newest(&mut self, flush: u64, rows: &mut FlushBatch) {
        rows.stores
            .retain(|(key, _)| self.is_newest(Table::Stores, key, flush));
        rows.terminals
            .retain(|(key, _)| self.is_newest(Table::Terminals, key, flush));
        rows.skus
            .retain(|(key, _)| self.is_newest(Table::Skus, key, flush));
        rows.rollups
            .retain(|(key, _)| self.is_newest(Table::Rollups, key, flush));
        rows.event_ids
            .retain(|(key, _)| self.is_newest(Table::EventIds, key, flush));
        rows.quarantine
            .retain(|(key, _)| self.is_newest(Table::Quarantine, key, flush));
    }

    fn is_newest(&mut self, table: Table, key: &impl Key, flush: u64) -> bool {
        let stamp = self.0.entry((table, key.to_key())).or_default();
        *stamp = flush.max(*stamp);
        *stamp == flush
    }
}

/// The records of all commits by slot and position.
#[derive(Debug, Default)]
struct MemoryFacts {
    records: RwLock<BTreeMap<(u32, u64), Fact>>,
    /// Of stores of which records were dropped: up to when they were received.
    dropped: RwLock<BTreeMap<StoreId, i64>>,
}

impl MemoryFacts {
    fn add(&self, commit: &Commit, slots: u32) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        for (index, record) in commit.records.iter().enumerate() {
            let position = Commit::position(commit.flush, narrow(index));
            let slot = store_of(&record.head).map_or(commit.slot, |store| slot_of(store, slots));
            let fact = Fact::new(Lsn::new(position), record.clone());
            records.insert((slot, position), fact);
        }
    }

    fn clear(&self) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        records.clear();
    }

    fn each(&self, visit: VisitFact<'_>) -> Result<(), StoreError> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        records.values().try_for_each(visit)
    }
}

impl FactReader for MemoryFacts {
    fn end(&self) -> u64 {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let newest = records.values().map(|fact| fact.lsn.get() + 1).max();
        newest.unwrap_or(0)
    }

    fn start(&self) -> u64 {
        0
    }

    fn is_whole(&self, store: StoreId, since_us: i64) -> Result<bool, StoreError> {
        let dropped = self.dropped.read().unwrap_or_else(PoisonError::into_inner);
        let before_us = dropped.get(&store).copied().unwrap_or(i64::MIN);
        Ok(since_us >= before_us)
    }

    fn of_hours(
        &self,
        store: StoreId,
        _: i64,
        _: i64,
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        self.each(&mut |fact| match store_of(&fact.record.head) {
            Some(of) if of == store => visit(fact),
            _ => Ok(()),
        })
    }

    fn of_receipt(&self, _: &str, visit: VisitFact<'_>) -> Result<(), StoreError> {
        self.each(visit)
    }

    fn of_run(
        &self,
        terminal: TerminalId,
        _: u32,
        _: (u64, u64),
        visit: VisitFact<'_>,
    ) -> Result<(), StoreError> {
        self.each(
            &mut |fact| match fact.record.head.terminal == terminal.to_u64() {
                true => visit(fact),
                false => Ok(()),
            },
        )
    }
}
