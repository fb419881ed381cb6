//! The store of the simulated cluster: slots that change by conditional writes, cells where the highest stamp wins.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::oracle::{Cell, Oracle};
use super::{Mistake, NODES_MAX};
use crate::cluster::{
    Change, Conditional, Constraints, LOG_DELETE_STAMP, LOG_STAMP, LogKey, NodeId, NodeRow, SlotRow,
};

pub(super) struct Store {
    pub(super) slots: Vec<SlotRow>,
    /// The rows before their last change: what a plain read may still see.
    before: Vec<SlotRow>,
    pub(super) nodes: BTreeMap<NodeId, NodeRow>,
    pub(super) constraints: Constraints,
    log: BTreeMap<(u32, u64), BTreeMap<(u64, u32), Bytes>>,
    deleted: BTreeMap<(u32, u64), i64>,
    pub(super) rows: BTreeMap<(u32, Vec<u8>), StoredRow>,
}

/// A row as it is visible.
pub(super) struct StoredRow {
    stamp: i64,
    pub(super) cell: Option<Vec<u8>>,
    flush: u64,
}

/// A plain write of one row.
#[derive(Clone)]
pub(super) struct RowWrite {
    pub(super) slot: u32,
    pub(super) flush: u64,
    pub(super) stamp: i64,
    pub(super) cell: Cell,
}

impl Store {
    pub(super) fn new(slots: u32) -> Self {
        let slots: Vec<SlotRow> = (0..slots)
            .map(|slot| SlotRow {
                slot,
                ..SlotRow::default()
            })
            .collect();
        Self {
            before: slots.clone(),
            slots,
            nodes: BTreeMap::new(),
            constraints: Constraints::default(),
            log: BTreeMap::new(),
            deleted: BTreeMap::new(),
            rows: BTreeMap::new(),
        }
    }

    pub(super) fn slot(&self, slot: u32) -> &SlotRow {
        &self.slots[usize::try_from(slot).unwrap()]
    }

    /// A plain read of all slots; some of them as they were before.
    pub(super) fn all_slots(&self, mut is_stale: impl FnMut() -> bool) -> Vec<SlotRow> {
        let both = self.slots.iter().zip(&self.before);
        both.map(|(now, before)| if is_stale() { before } else { now }.clone())
            .collect()
    }

    /// Decides a conditional write. The row after it if it happened.
    pub(super) fn swap(
        &mut self,
        swap: &Conditional,
        by: NodeId,
        mistake: Option<Mistake>,
        oracle: &mut Oracle,
    ) -> Option<SlotRow> {
        let index = usize::try_from(swap.slot).unwrap();
        let row = self.slots[index].clone();
        let is_commit = matches!(swap.change, Change::Commit { .. });
        let is_acquire = matches!(swap.change, Change::Acquire { .. });
        let mut asked = swap.clone();
        if (is_commit && mistake == Some(Mistake::CommitWithoutEpoch))
            || (is_acquire && mistake == Some(Mistake::AcquireWithoutEpoch))
        {
            asked.epoch = row.epoch;
        }
        let mut after = asked.applied_to(&row)?;
        if is_commit {
            after.flush_epoch = swap.epoch;
        }
        if is_acquire && mistake == Some(Mistake::AcquireWithoutEpoch) {
            after.epoch = swap.epoch + 1;
        }
        oracle.changed(&row, &after, &swap.change, by);
        if is_commit {
            let parts = self.parts(swap.slot, after.flush, after.flush_epoch);
            oracle.committed(&after, &parts);
        }
        self.slots[index] = after.clone();
        self.before[index] = row;
        Some(after)
    }

    pub(super) fn put_part(&mut self, index: (u32, u64), epoch: u64, part: u32, body: Bytes) {
        if self.deleted.get(&index).is_some_and(|at| *at > LOG_STAMP) {
            return;
        }
        self.log
            .entry(index)
            .or_default()
            .insert((epoch, part), body);
    }

    pub(super) fn delete_log(&mut self, index: (u32, u64)) {
        self.deleted.insert(index, LOG_DELETE_STAMP);
        self.log.remove(&index);
    }

    fn parts(&self, slot: u32, flush: u64, epoch: u64) -> Vec<(u32, Bytes)> {
        let log = self.log.get(&(slot, flush)).into_iter().flatten();
        log.filter(|((of, _), _)| *of == epoch)
            .map(|((_, part), body)| (*part, body.clone()))
            .collect()
    }

    pub(super) fn read_log(&self, key: &LogKey) -> Vec<(u32, Bytes)> {
        self.parts(key.slot, key.flush, key.epoch)
    }

    pub(super) fn logs(&self) -> usize {
        self.log.len()
    }

    /// A plain write arrives.
    pub(super) fn put_row(&mut self, write: &RowWrite, oracle: &mut Oracle) {
        let (key, cell) = write.cell.clone();
        let index = (write.slot, key);
        let old = self.rows.get(&index);
        // Of two with one stamp the larger value wins, as in the real ones.
        if old.is_some_and(|old| (old.stamp, &old.cell) >= (write.stamp, &cell)) {
            return;
        }
        oracle.written(write, old.map(|old| old.flush));
        let row = StoredRow {
            stamp: write.stamp,
            cell,
            flush: write.flush,
        };
        self.rows.insert(index, row);
    }

    pub(super) fn put_node(&mut self, row: NodeRow) {
        let old = self.nodes.get(&row.node);
        if old.is_none_or(|old| old.heartbeat < row.heartbeat) {
            self.nodes.insert(row.node, row);
        }
        assert!(self.nodes.len() <= NODES_MAX * 64, "nodes without end");
    }
}
