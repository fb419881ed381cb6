//! One suite that every store of rows passes, so that it may stand in for every other.
//!
//! A check panics where a store breaks its promise; it is called from tests.

mod days;
mod order;
mod rows;
mod samples;
mod shared;

use crate::views::{FlushBatch, StoreError, Views};

pub use days::days;
pub use samples::{Sample, filled, sample};
pub use shared::rows_at_once;

/// A store under test.
pub trait Fixture {
    /// The store, as readers see it.
    fn views(&self) -> &dyn Views;

    /// Writes a flush.
    ///
    /// # Errors
    /// What the store says.
    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError>;

    /// Makes everything that was written survive a power cut.
    ///
    /// # Errors
    /// What the store says.
    fn sync(&self) -> Result<(), StoreError>;

    /// Opens the store again in place, as after a full disk.
    ///
    /// # Errors
    /// What the store says.
    fn reopen(&self) -> Result<(), StoreError>;

    /// Closes it and opens it again, as after an orderly stop.
    fn restart(&mut self);

    /// What the store does not promise.
    fn lacks(&self) -> Lacks {
        Lacks::default()
    }
}

/// Promises that a store does not make. One that says nothing makes them all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lacks {
    /// It has no one position up to which all of its rows hold every record: its checkpoint is always 0.
    pub checkpoint: bool,
    /// A scan that runs beside a write may see a part of it.
    pub whole_flushes: bool,
}

impl Lacks {
    // Whether a check is of a promise that is not made.
    fn has(self, promise: &str) -> bool {
        (self.checkpoint && promise == CHECKPOINT) || (self.whole_flushes && promise == WHOLE)
    }
}

const CHECKPOINT: &str = "the_checkpoint_never_goes_back";
const WHOLE: &str = "a_flush_is_seen_whole_or_not_at_all";

// What scans show of a store after this flush.
fn shown(fixture: &dyn Fixture, flush: &FlushBatch) -> FlushBatch {
    let mut shown = flush.clone();
    if fixture.lacks().checkpoint {
        shown.checkpoint = Some(0);
    }
    shown
}

/// A promise and the check of it, on an empty store.
pub type Check = (&'static str, fn(&mut dyn Fixture) -> Result<(), StoreError>);

/// All checks, by what they promise.
pub const CHECKS: [Check; 14] = [
    ("an_empty_store_has_nothing", rows::empty),
    ("every_row_reads_as_it_was_written", rows::every_row),
    ("the_last_write_of_a_row_stands", rows::last_write),
    ("the_later_row_of_one_flush_stands", rows::later_row),
    ("the_same_flush_twice_changes_nothing", rows::twice),
    ("extremes_are_kept", rows::extremes),
    ("a_large_flush_is_kept_whole", rows::large),
    ("a_released_quarantine_row_is_gone", rows::quarantine),
    (CHECKPOINT, rows::checkpoint),
    ("rows_and_checkpoint_outlive_a_restart", rows::restart),
    ("reopening_in_place_loses_nothing", rows::reopen),
    ("scans_go_in_key_order", order::scans),
    (
        "scans_keep_to_their_range_and_stop_when_told",
        order::ranges,
    ),
    (WHOLE, order::atomic),
];

/// Runs every check on a store of its own. Prints the promise before each, so that the last one printed is the broken one.
///
/// # Errors
/// [`StoreError`] when a store failed.
pub fn run<F: Fixture>(mut fresh: impl FnMut() -> F) -> Result<(), StoreError> {
    for (promise, check) in CHECKS {
        tracing::info!(promise, "conformance");
        let mut fixture = fresh();
        if fixture.lacks().has(promise) {
            continue;
        }
        check(&mut fixture).map_err(|error| StoreError::Failed {
            table: promise,
            cause: error.to_string(),
        })?;
    }
    Ok(())
}
