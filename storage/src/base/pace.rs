//! When segments that are old enough go.

use std::time::Duration;

use crate::facts::{Facts, FactsError};
use crate::journal::{BaseError, Journal, Lsn, base_bytes};

/// Time after which segments that are old enough go, however little that frees.
const PATIENCE: Duration = Duration::from_hours(24);
/// Bytes of the base before that may be written again for each byte that goes.
const WRITTEN_PER_DROPPED: u64 = 2;

/// The old segments at the front of a journal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Old {
    /// Where the last of them ends.
    pub end: Lsn,
    /// Bytes that they take.
    pub bytes: u64,
}

/// The sealed segments whose every record was received before `received_before_us`; `None` when the first one was not.
///
/// # Errors
/// [`FactsError`].
pub fn old(facts: &Facts, received_before_us: i64) -> Result<Option<Old>, FactsError> {
    let segments = facts.received()?;
    let is_old = |(_, _, newest_us): &&(Lsn, Lsn, i64)| *newest_us < received_before_us;
    let old = segments.iter().take_while(is_old);
    let ends = old.clone().next().zip(old.last());
    Ok(ends.map(|(first, last)| Old {
        end: last.1,
        bytes: last.1.since(first.0),
    }))
}

/// Holds old segments back until dropping them is worth a base: one holds every row, however little goes. So what is written
/// follows what is dropped, and not how often somebody looks; and nothing stays for more than a day longer.
#[derive(Debug, Default)]
pub struct Pace {
    ran: Option<Duration>,
}

impl Pace {
    /// Whether old segments should go now, `at` a time since some beginning. The first time they should: an engine that is
    /// started every day would keep them for ever.
    ///
    /// # Errors
    /// [`BaseError`] when the folder of the journal cannot be read.
    pub fn is_due(&mut self, journal: &Journal, old: Old, at: Duration) -> Result<bool, BaseError> {
        let base = base_bytes(journal.disk().as_ref(), journal.dir())?;
        let is_worth = base <= old.bytes.saturating_mul(WRITTEN_PER_DROPPED);
        let has_waited = self
            .ran
            .is_none_or(|ran| at.saturating_sub(ran) >= PATIENCE);
        let is_due = is_worth || has_waited;
        if is_due {
            self.ran = Some(at);
        }
        Ok(is_due)
    }
}
