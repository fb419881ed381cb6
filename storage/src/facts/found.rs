//! What a look-up gives.

use thiserror::Error;

use super::{Fact, Facts, Lsns};
use crate::journal::{Lsn, ReadError};

/// Why facts could not be looked up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FactsError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch that this software does not understand.
    #[error("batch at position {at} cannot be understood ({cause}): written by a newer version?")]
    Newer {
        /// Its place.
        at: Lsn,
        /// What is not understood.
        cause: String,
    },
    /// An index could not be opened, or could not be read and building it again did not help.
    #[error("index of {segment} is of no use: {cause}")]
    Index {
        /// The segment's file.
        segment: String,
        /// What is wrong.
        cause: String,
    },
    /// An index could not be written. Lookups go on without it; it is written later.
    #[error("index of {segment} could not be written: {cause}")]
    Unwritten {
        /// The segment's file.
        segment: String,
        /// What the file system said.
        cause: String,
    },
}

/// Records that were found, read one by one. Ends with the first error.
#[derive(Debug)]
pub struct FactsFound<'a> {
    pub(super) facts: &'a Facts,
    pub(super) lsns: Lsns,
    pub(super) next: usize,
}

impl FactsFound<'_> {
    /// The places of the records.
    pub fn lsns(&self) -> &[Lsn] {
        &self.lsns
    }
}

impl Iterator for FactsFound<'_> {
    type Item = Result<Fact, FactsError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let at_lsn = *self.lsns.get(self.next)?;
            self.next += 1;
            match self.facts.fact(at_lsn) {
                // Retention dropped its segment since it was found.
                Err(_) if self.facts.indexes.is_dropped(at_lsn) => {}
                Err(error) => {
                    self.next = self.lsns.len();
                    return Some(Err(error));
                }
                fact => return Some(fact),
            }
        }
    }
}
