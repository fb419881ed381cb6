//! What can go wrong while rows are folded from records.

use thiserror::Error;
use till_core::RowsError;
use till_protocol::id::StoreId;

use crate::facts::FactsError;
use crate::journal::{BaseError, DropError, Lsn, ReadError};
use crate::views::StoreError;

/// Why rows could not be folded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A record of the base is no row of this version.
    #[error("a record of the base is not of this version ({cause}); use a newer tillstream")]
    Row {
        /// What does not fit.
        cause: String,
    },
    /// Salvage lost a store's registration, so that its records cannot be applied yet.
    #[error(
        "{records} records of store {store} wait: the journal has lost its registration; register it again, then run `tillstream rebuild`"
    )]
    Unregistered {
        /// Which store.
        store: StoreId,
        /// How many.
        records: u64,
    },
    /// A record could not be applied.
    #[error(transparent)]
    Apply(#[from] RowsError),
    /// The software failed over a record. The journal is unchanged.
    #[error(
        "the record at position {at} (terminal {terminal}, epoch {epoch}, events {first} to {last}) makes this version fail: \
         {cause}; nothing is lost: start the version that wrote it, and report it"
    )]
    Panicked {
        /// Where it lies in the journal.
        at: Lsn,
        /// Whose it is.
        terminal: String,
        /// Of which of its lives.
        epoch: u32,
        /// Sequence number of its first event.
        first: u64,
        /// And of its last.
        last: u64,
        /// What the software said.
        cause: String,
    },
    /// The rows could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The facts could not be read.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The base could not be read or written.
    #[error(transparent)]
    Base(#[from] BaseError),
    /// Segments could not be dropped; the base that stands in for them is there.
    #[error(transparent)]
    Drop(#[from] DropError),
}
