//! From records to rows: recovery after a crash, and rebuild of every row from the base and the journal.
//!
//! Both drive the same fold as the live run. Rebuilt rows are equal to those that were lost, byte for byte, because
//! everything that was decided from outside the events lies in the records.

mod ahead;
mod fold;
mod moved;
mod registered;
mod replay;
mod unapplied;

use std::collections::BTreeMap;

use till_core::{Dirty, Record, RecordHead, ShardConfig};
use till_protocol::codec::Frame;
use till_protocol::id::StoreId;
use till_protocol::verified::Verified;

use crate::base::{FoldError, load_newest};
use crate::facts::Facts;
use crate::journal::{Journal, Lsn};
use crate::num::size32;
use crate::views::{FlushBatch, StoreError, WriteViews};

pub use ahead::{LostRegistration, lost_events, lost_registrations};
pub use fold::{Fold, panic_text};
pub use moved::FactRows;
pub use registered::{Registrations, registration_of};
pub use replay::{Replay, Replayed, replay, replay_here};
pub use unapplied::Unapplied;

/// Folds that work side by side where rows are brought up to the journal without an engine.
const FOLDS: usize = 2;

/// Told the position of records after they were read. Called often: it should only take note.
pub type Progress<'a> = &'a mut dyn FnMut(Lsn);

impl From<Dirty> for FlushBatch {
    fn from(dirty: Dirty) -> Self {
        Self {
            stores: dirty.stores,
            terminals: dirty.terminals,
            skus: dirty.skus,
            rollups: dirty.rollups,
            event_ids: dirty.event_ids,
            quarantine: dirty.quarantine,
            names: dirty.names,
            checkpoint: None,
        }
    }
}

/// Fills empty views from the newest base and every record after it. Gives the position that they then hold everything
/// up to.
///
/// # Errors
/// [`FoldError`]; the views are then of no use, and the journal is unchanged.
pub fn rebuild(
    journal: &Journal,
    facts: &Facts,
    views: &dyn WriteViews,
    (registrations, replay): (&Registrations, Replay),
    progress: Progress<'_>,
) -> Result<Caught, FoldError> {
    let from = load_newest(journal.disk().as_ref(), journal.dir(), views)?;
    let how = (from, registrations, replay);
    catch_up(journal, facts, views, how, progress)
}

/// Applies every record from an LSN on to views that hold everything before it.
///
/// # Errors
/// [`FoldError`]; the journal is unchanged.
pub fn catch_up(
    journal: &Journal,
    facts: &Facts,
    views: &dyn WriteViews,
    (from, registrations, replay): (Lsn, &Registrations, Replay),
    progress: Progress<'_>,
) -> Result<Caught, FoldError> {
    let end = journal.end();
    let fold =
        |_| Fold::new(views, facts, ShardConfig::default()).with_registrations(registrations);
    let folds = (0..FOLDS).map(fold).collect();
    let fold_of = |store: StoreId| size32(store.get()) % FOLDS;
    let replayed = replay(journal, (from, end), folds, &fold_of, progress)?;
    let mut caught = Caught {
        records: replayed.records,
        ..Caught::default()
    };
    for fold in replayed.folds {
        caught.add(&fold);
        fold.finish_part()?;
    }
    views.write(&FlushBatch {
        checkpoint: Some(end.get()),
        ..FlushBatch::default()
    })?;
    views.sync()?;
    Ok(caught)
}

/// What catching up came to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Caught {
    /// Records that were read.
    pub records: u64,
    /// Of these, records that wait for the registration of their store, see [`Fold::left_out`].
    pub left_out: BTreeMap<StoreId, u64>,
    /// And records that fit nowhere, see [`Fold::unapplied`].
    pub unapplied: Vec<Unapplied>,
}

impl Caught {
    /// Takes in what a fold could not apply.
    pub fn add(&mut self, fold: &Fold<'_>) {
        self.left_out.extend(fold.left_out());
        self.unapplied.extend_from_slice(fold.unapplied());
        self.unapplied.sort_unstable();
    }
}

/// The store that a record is of; `None` for rows of a base.
pub fn store_of(head: &RecordHead) -> Option<StoreId> {
    StoreId::new(u32::try_from(head.terminal >> 32).ok()?).ok()
}

/// The batch of a record, checked again.
pub(crate) fn batch_of(record: &Record) -> Result<Verified, StoreError> {
    let head = &record.head;
    let damaged = |cause: String| StoreError::Damaged {
        table: "journal",
        cause,
    };
    let payload = record.payload.clone();
    let frame = Frame::new(
        head.family,
        head.version,
        head.count,
        head.first_seq,
        payload,
    );
    let frame = frame.map_err(|error| damaged(error.to_string()))?;
    Verified::from_journal(frame).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests;
