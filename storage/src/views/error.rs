//! What can go wrong with a store of rows, by what is left to do.

use thiserror::Error;
use till_core::RowsError;

/// Why a store of rows did not do what it was asked for.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It failed, and nothing was changed: the same call may be made again.
    #[error("{table}: {cause}")]
    Failed {
        /// Which table.
        table: &'static str,
        /// What went wrong, in words.
        cause: String,
    },
    /// There is no room on the disk; nothing of the call was written. Free some, call `reopen`, write again.
    #[error(
        "no room on the disk for derived rows ({cause}); nothing acknowledged is lost, free some room"
    )]
    Full {
        /// What went wrong, in words.
        cause: String,
    },
    /// The rows cannot be trusted: move them aside and rebuild them from the journal.
    #[error("derived rows are damaged: {table}: {cause}; they can be rebuilt from the journal")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// What does not fit.
        cause: String,
    },
}

impl StoreError {
    /// Whether the rows have to be rebuilt.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

impl From<StoreError> for RowsError {
    fn from(error: StoreError) -> Self {
        let (table, cause) = match error {
            StoreError::Failed { table, cause } => (table, cause),
            StoreError::Full { cause } => ("rows", format!("disk full: {cause}")),
            StoreError::Damaged { table, cause } => (table, format!("damaged: {cause}")),
        };
        Self { table, cause }
    }
}

impl From<RowsError> for StoreError {
    fn from(error: RowsError) -> Self {
        Self::Failed {
            table: error.table,
            cause: error.cause,
        }
    }
}
