//! Mistakes of a shared store, or of whoever calls it: each is planted where its calls go by.

use std::borrow::Cow;
use std::sync::Arc;

use till_storage::cluster::{
    Change, Commit, Conditional, Decided, Log, Seal, SharedStore as _, SlotRow,
};
use till_storage::views::StoreError;

use super::{WorldStore, Write};
use crate::mistake::is_planted;

/// The condition under which a change is made, and what it says.
pub(super) fn conditions<'a>(constraint: &'a Conditional, row: &SlotRow) -> Cow<'a, Conditional> {
    let is_unguarded = match constraint.change {
        Change::Commit { .. } => is_planted("commit-any-epoch"),
        Change::Acquire { .. } => is_planted("acquire-any-epoch"),
        Change::Release { .. } => false,
    };
    let mut made = Cow::Borrowed(constraint);
    if is_unguarded {
        made.to_mut().epoch = row.epoch;
    }
    if is_planted("applied-ahead")
        && let Change::Commit { applied, .. } = &mut made.to_mut().change
    {
        *applied = row.flush;
    }
    made
}

/// What an engine makes of the answer to a conditional write.
pub(super) fn understood(
    change: &Change,
    decided: Result<Decided, StoreError>,
) -> Result<Decided, StoreError> {
    match (change, &decided) {
        (Change::Commit { .. }, Err(_)) if is_planted("trust-unknown") => Ok(Decided::Applied),
        (Change::Commit { .. }, Ok(Decided::Refused(_))) if is_planted("ignore-fence") => {
            Ok(Decided::Applied)
        }
        _ => decided,
    }
}

/// The row of a slot as its next owner takes it.
pub(super) fn row_as_read(row: SlotRow) -> SlotRow {
    match is_planted("serve-without-rows") {
        true => SlotRow {
            applied: row.flush,
            ..row
        },
        false => row,
    }
}

/// A log as it is written, with the seal of the flush before.
pub(super) fn log_as_written(log: &Log, before: Option<&Seal>) -> (Log, Option<Seal>) {
    let mut log = log.clone();
    if is_planted("log-without-last") {
        log.records.pop();
    }
    let before = before.copied().filter(|_| !is_planted("seal-unwritten"));
    (log, before)
}

/// Commits whose rows are written.
pub(super) fn as_projected(commits: &[Arc<Commit>]) -> Vec<Arc<Commit>> {
    let mut commits = commits.to_vec();
    if is_planted("drop-quarantine") {
        for commit in &mut commits {
            let rows = &mut Arc::make_mut(commit).rows;
            rows.quarantine.retain(|(key, _)| key.line != u16::MAX);
        }
    }
    commits
}

impl WorldStore {
    /// Writes the rows of a commit that is about to be decided.
    pub(super) fn write_rows_early(&self, constraint: &Conditional) -> Result<(), StoreError> {
        let Change::Commit { after, seal, .. } = constraint.change else {
            return Ok(());
        };
        let row = SlotRow {
            slot: constraint.slot,
            flush: after + 1,
            applied: after,
            seal,
            ..SlotRow::default()
        };
        let of = (row.slot, row.flush);
        for found in self.store.logs(&row, (row.flush, row.flush))? {
            if let Ok(commit) = Commit::from_log(of, &seal, &found.log) {
                self.apply(&Write::Rows(vec![Arc::new(commit)]))?;
            }
        }
        Ok(())
    }

    /// Rows under the stamp that decides which of two stands: the number of their flush. A mistake stamps them with the time at
    /// which they come.
    pub(super) fn stamped<'a>(&self, commits: &'a [Arc<Commit>]) -> Cow<'a, [Arc<Commit>]> {
        let mut commits = Cow::Borrowed(commits);
        if is_planted("stamp-by-clock") {
            let state = self.lock();
            for commit in commits.to_mut() {
                let last = state.written.get(&commit.slot).copied().unwrap_or(0);
                if commit.flush < last {
                    let commit = Arc::make_mut(commit);
                    (commit.flush, commit.records) = (last, Vec::new());
                }
            }
        }
        commits
    }
}
