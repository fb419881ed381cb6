//! What can be wrong with an index.

use std::io;

use thiserror::Error;

/// Why an index is of no use.
#[derive(Debug, Error)]
pub(crate) enum IndexFault {
    #[error("it is not there")]
    Missing,
    #[error("it is broken at offset {0}")]
    Broken(u64),
    #[error("it was built for another segment")]
    Other,
    #[error("it cannot be read: {0}")]
    Unread(io::Error),
    #[error("it cannot be opened: {0}")]
    Unopened(io::Error),
}

impl IndexFault {
    /// Whether an index that is built again is better. One that cannot be opened for now may be whole: too many files are
    /// open, say, and another could not be opened either.
    pub(crate) const fn is_mended_by_another(&self) -> bool {
        !matches!(self, Self::Unopened(_))
    }

    pub(super) fn of_opening(cause: io::Error) -> Self {
        match cause.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unopened(cause),
        }
    }
}
