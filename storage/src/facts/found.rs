//! What a look-up gives.

use thiserror::Error;

use super::{Fact, Facts, Places};
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
    /// An index could not be written or read, and building it again did not help.
    #[error("index of {segment} is of no use: {cause}")]
    Index {
        /// The segment's file.
        segment: String,
        /// What is wrong.
        cause: String,
    },
}

/// Records that were found, read one by one. Ends with the first error.
#[derive(Debug)]
pub struct FactsFound<'a> {
    pub(super) facts: &'a Facts,
    pub(super) places: Places,
    pub(super) next: usize,
}

impl FactsFound<'_> {
    /// The places of the records.
    pub fn places(&self) -> &[Lsn] {
        &self.places
    }
}

impl Iterator for FactsFound<'_> {
    type Item = Result<Fact, FactsError>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = *self.places.get(self.next)?;
        self.next += 1;
        let fact = self.facts.fact(place);
        if fact.is_err() {
            self.next = self.places.len();
        }
        Some(fact)
    }
}
