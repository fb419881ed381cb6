//! A shared store that is watched: how long commits take, what waits, and what other engines say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use till_core::{ReadSet, Space};
use till_storage::cluster::{
    Change, Commit, Conditional, Constraint, Constraints, Decided, DueDay, FlushLog, Found,
    Handoff, InboxId, Log, NodeId, NodeRow, Seal, SharedStore, SlotRow,
};
use till_storage::query::FactReader;
use till_storage::views::{StoreError, Views};

use crate::figures::histogram::{Histogram, Latency};

/// An engine of a shared store, as it was last seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Where devices reach it.
    pub address: String,
    /// Slots that are its own.
    pub slots: u64,
    /// How long the oldest event that it has journalled has waited for its rows.
    pub lag: Duration,
    /// Whether it gives its slots away.
    pub is_leaving: bool,
}

/// What was seen of a shared store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sight {
    /// From the begin of a flush of a slot to its commit.
    pub commit: Latency,
    /// How long the rows of committed flushes took, several flushes of a slot together.
    pub project: Latency,
    /// How long shards waited for rows that devices' frames and Hellos ask for.
    pub rows: Latency,
    /// Pieces of other journals that wait for the owners of their slots.
    pub handoffs_waiting: u64,
    /// Slots that nobody has.
    pub slots_free: u64,
    /// The engines, by address.
    pub engines: Vec<Seen>,
}

/// A store that notes what passes through it.
pub(crate) struct Watched {
    store: Arc<dyn SharedStore>,
    commit: Histogram,
    project: Histogram,
    rows: Histogram,
    /// When the log of a slot's flush was begun, which is not committed yet.
    begun: Mutex<BTreeMap<u32, (u64, Instant)>>,
    waiting: AtomicU64,
    slots: Mutex<Vec<SlotRow>>,
    nodes: Mutex<Vec<(NodeRow, Instant)>>,
}

impl Watched {
    pub(crate) fn new(store: Arc<dyn SharedStore>) -> Self {
        Self {
            store,
            commit: Histogram::default(),
            project: Histogram::default(),
            rows: Histogram::default(),
            begun: Mutex::default(),
            waiting: AtomicU64::new(0),
            slots: Mutex::default(),
            nodes: Mutex::default(),
        }
    }

    /// What was seen so far.
    pub(crate) fn sight(&self) -> Sight {
        let slots = self.slots.lock();
        let free = slots.iter().filter(|row| row.owner.is_none()).count();
        let of = |node: NodeId| slots.iter().filter(move |row| row.owner == Some(node));
        let mut engines: Vec<Seen> = self
            .nodes
            .lock()
            .iter()
            // Its rows stay for a day when it is gone; it lives as long as its heartbeat rises.
            .filter(|(row, since)| since.elapsed() < row.lease)
            .map(|(row, _)| Seen {
                address: row.address.clone(),
                slots: wide(of(row.node).count()),
                lag: row.lag,
                is_leaving: row.is_leaving,
            })
            .collect();
        engines.sort_by(|one, other| one.address.cmp(&other.address));
        Sight {
            commit: self.commit.read(),
            project: self.project.read(),
            rows: self.rows.read(),
            handoffs_waiting: self.waiting.load(Ordering::Relaxed),
            slots_free: wide(free),
            engines,
        }
    }

    fn see(&self, rows: &[NodeRow]) {
        let mut nodes = self.nodes.lock();
        let seen = rows.iter().map(|row| {
            let before = nodes.iter().find(|(one, _)| one.node == row.node);
            let since = match before {
                Some((before, since)) if before.heartbeat >= row.heartbeat => *since,
                _ => Instant::now(),
            };
            (row.clone(), since)
        });
        let seen: Vec<_> = seen.collect();
        *nodes = seen;
    }
}

impl SharedStore for Watched {
    fn slots(&self) -> u32 {
        self.store.slots()
    }

    fn views(&self) -> Arc<dyn Views> {
        self.store.views()
    }

    fn facts(&self) -> Arc<dyn FactReader> {
        self.store.facts()
    }

    fn chain_key(&self, proposed: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.store.chain_key(proposed)
    }

    fn known_chain_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        self.store.known_chain_key()
    }

    fn all_slots(&self) -> Result<Vec<SlotRow>, StoreError> {
        let rows = self.store.all_slots()?;
        self.slots.lock().clone_from(&rows);
        Ok(rows)
    }

    fn slot(&self, slot: u32) -> Result<SlotRow, StoreError> {
        self.store.slot(slot)
    }

    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError> {
        let decided = self.store.decide(constraint)?;
        if let (Change::Commit { after, .. }, Decided::Applied) = (&constraint.change, &decided) {
            let begun = self.begun.lock().remove(&constraint.slot);
            if let Some((_, began)) = begun.filter(|(flush, _)| *flush == after + 1) {
                self.commit.add(began.elapsed());
            }
        }
        Ok(decided)
    }

    fn constraints(&self) -> Result<Constraints, StoreError> {
        self.store.constraints()
    }

    fn constraint(&self, constraint: &Constraint) -> Result<(), StoreError> {
        self.store.constraint(constraint)
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        let rows = self.store.nodes()?;
        self.see(&rows);
        Ok(rows)
    }

    fn heartbeat(&self, row: &NodeRow) -> Result<(), StoreError> {
        self.store.heartbeat(row)
    }

    fn write_log(
        &self,
        of: (u32, u64),
        log: &Log,
        before: Option<&Seal>,
    ) -> Result<(), StoreError> {
        let (slot, flush) = of;
        let mut begun = self.begun.lock();
        // A log that is written again began when it was written first.
        if begun.get(&slot).is_none_or(|(of, _)| *of != flush) {
            begun.insert(slot, (flush, Instant::now()));
        }
        drop(begun);
        self.store.write_log(of, log, before)
    }

    fn logs(&self, row: &SlotRow, flushes: (u64, u64)) -> Result<Vec<FlushLog>, StoreError> {
        self.store.logs(row, flushes)
    }

    fn project(&self, commits: &[Arc<Commit>]) -> Result<(), StoreError> {
        let began = Instant::now();
        let done = self.store.project(commits);
        self.project.add(began.elapsed());
        done
    }

    fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError> {
        self.store.days_due(slot)
    }

    fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError> {
        self.store.sum_day(slot, due, applied)
    }

    fn forget_rows(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError> {
        self.store.forget_rows(slot, flushes)
    }

    fn write_names(&self, names: &[(Space, u64, String)]) -> Result<(), StoreError> {
        self.store.write_names(names)
    }

    fn hand_off(&self, handoff: &Handoff) -> Result<(), StoreError> {
        self.store.hand_off(handoff)
    }

    fn waiting(&self) -> Result<Vec<(u32, NodeId, u64)>, StoreError> {
        let waiting = self.store.waiting()?;
        self.waiting.store(wide(waiting.len()), Ordering::Relaxed);
        Ok(waiting)
    }

    fn handed_off(
        &self,
        slot: u32,
        from: NodeId,
        number: u64,
    ) -> Result<Option<Handoff>, StoreError> {
        self.store.handed_off(slot, from, number)
    }

    fn taken_in(&self, slot: u32, from: NodeId, number: u64) -> Result<(), StoreError> {
        self.store.taken_in(slot, from, number)
    }

    fn release(&self, record: &InboxId, proposed: Option<u32>) -> Result<Option<u32>, StoreError> {
        self.store.release(record, proposed)
    }

    fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError> {
        let began = Instant::now();
        let found = self.store.rows_of(read_set);
        self.rows.add(began.elapsed());
        found
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
