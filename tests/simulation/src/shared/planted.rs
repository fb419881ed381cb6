//! Mistakes of a shared store, or of whoever calls it: each is planted where its calls go by.

use std::borrow::Cow;

use till_storage::cluster::{Change, Commit, Conditional, LogKey, SharedStore as _, SlotRow};
use till_storage::views::StoreError;

use super::{WorldStore, Write};
use crate::mistake::is_planted;

/// The condition under which a change is made.
pub(super) fn conditions<'a>(constraint: &'a Conditional, row: &SlotRow) -> Cow<'a, Conditional> {
    let is_unguarded = match constraint.change {
        Change::Commit { .. } => is_planted("commit-any-epoch"),
        Change::Acquire { .. } => is_planted("acquire-any-epoch"),
        Change::Release => false,
    };
    match is_unguarded {
        true => Cow::Owned(Conditional {
            epoch: row.epoch,
            ..constraint.clone()
        }),
        false => Cow::Borrowed(constraint),
    }
}

impl WorldStore {
    /// Writes the rows of a commit that is about to be decided.
    pub(super) fn write_rows_early(&self, constraint: &Conditional) -> Result<(), StoreError> {
        let Change::Commit {
            after,
            parts,
            digest,
        } = constraint.change
        else {
            return Ok(());
        };
        let key = LogKey {
            slot: constraint.slot,
            flush: after + 1,
            epoch: constraint.epoch,
            parts,
            digest,
        };
        if let Ok(commit) = Commit::from_parts(&key, &self.store.read_log(&key)?) {
            self.apply(&Write::Rows(Box::new(commit)))?;
        }
        Ok(())
    }

    /// Rows under the stamp that decides which of two stands: the number of their flush. A mistake stamps them with the time at
    /// which they come.
    pub(super) fn stamped<'a>(&self, commit: &'a Commit) -> Cow<'a, Commit> {
        let last = self.lock().written.get(&commit.slot).copied().unwrap_or(0);
        match is_planted("stamp-by-clock") && commit.flush < last {
            true => Cow::Owned(Commit {
                flush: last,
                records: Vec::new(),
                ..commit.clone()
            }),
            false => Cow::Borrowed(commit),
        }
    }
}
