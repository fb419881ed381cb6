//! Rows that are written in part: a store has no transaction over them.

use std::sync::Arc;

use till_core::Record;
use till_storage::cluster::{Commit, SharedStore as _};
use till_storage::views::{FlushBatch, StoreError};

use super::WorldStore;
use crate::rng::Rng;

impl WorldStore {
    /// Writes some of the rows of commits, in whatever order they arrive.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn write_partly(
        &self,
        commits: &[Arc<Commit>],
        rng: &mut Rng,
    ) -> Result<(), StoreError> {
        // It looks whether these are commits; the rows count as written with a call that writes all of them.
        if !commits.iter().all(|commit| self.is_committed(commit)) {
            return Ok(());
        }
        self.lock().counts.partly += 1;
        let some = commits.iter().map(|commit| Arc::new(part_of(commit, rng)));
        self.store.project(&self.stamped(&some.collect::<Vec<_>>()))
    }
}

fn part_of(commit: &Commit, rng: &mut Rng) -> Commit {
    let rows = &commit.rows;
    Commit {
        slot: commit.slot,
        flush: commit.flush,
        epoch: commit.epoch,
        records: first(&commit.records, rng),
        rows: FlushBatch {
            stores: some(&rows.stores, rng),
            terminals: some(&rows.terminals, rng),
            skus: some(&rows.skus, rng),
            rollups: some(&rows.rollups, rng),
            event_ids: some(&rows.event_ids, rng),
            quarantine: some(&rows.quarantine, rng),
            ..FlushBatch::default()
        },
    }
}

// Their places are counted from the first.
fn first(records: &[Record], rng: &mut Rng) -> Vec<Record> {
    let many = rng.index(records.len() + 1);
    records.iter().take(many).cloned().collect()
}

fn some<T: Clone>(rows: &[T], rng: &mut Rng) -> Vec<T> {
    rows.iter().filter(|_| rng.one_in(2)).cloned().collect()
}
