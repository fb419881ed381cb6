//! Finds events in the journal: by receipt, by store and hour, by terminal and sequence number.
//!
//! The journal's segments are the fact table. Sealed segments are found through their index files, the one being written
//! through an index in memory that is extended to the durable end whenever it is asked. Nothing is found that is not
//! durable.

mod found;
mod indexes;
mod record;
mod retries;

use std::sync::Arc;

use crate::index::{Builder, IndexFault, IndexFile, PageCache, receipt_hash};
use crate::journal::{Journal, Lsn};
use indexes::Indexes;
use retries::Retries;

pub use crate::index::hour_of;
pub use crate::journal::range_of;
pub use found::{FactsError, FactsFound};
pub use record::{Fact, FactEvent, Fate};

/// Settings of [`Facts`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FactsConfig {
    /// Bytes of pages of index files that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of receipt filters that are kept in memory, those of the newest segments first.
    pub filter_bytes: usize,
    /// Bytes that say which terminals a segment has, and with which sequence numbers, that are kept in memory: 36 for each
    /// epoch of a terminal in a segment, those of the newest segments first.
    pub terminal_bytes: usize,
}

impl Default for FactsConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            filter_bytes: 32 << 20,
            terminal_bytes: 16 << 20,
        }
    }
}

/// The facts of a journal. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Facts {
    journal: Journal,
    indexes: Indexes,
}

/// Entries that may hold what is looked for, in the order of the journal.
type Lsns = Vec<Lsn>;

impl Facts {
    /// The facts of a journal. Indexes are opened, and built where they are missing, when they are first needed or by
    /// [`catch_up`](Self::catch_up).
    pub fn new(journal: Journal, config: FactsConfig) -> Self {
        Self {
            indexes: Indexes::new(journal.clone(), config),
            journal,
        }
    }

    /// The journal that the facts lie in.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Opens or builds the index of every sealed segment, and reads the active one up to the durable end. Gives the
    /// number of indexes that were written. Meant for a thread of its own after each rotation; lookups do it themselves
    /// where it has not been done.
    ///
    /// # Errors
    /// [`FactsError`]; what was done so far stays. [`FactsError::Unwritten`] when an index could not be written: lookups
    /// go on from memory, and the next call tries again.
    pub fn catch_up(&self) -> Result<usize, FactsError> {
        self.indexes.catch_up()
    }

    /// All events with this receipt (its number in decimal, or its text), oldest record first.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn by_receipt(&self, receipt: &str) -> Result<Vec<FactEvent>, FactsError> {
        let hash = receipt_hash(receipt.as_bytes());
        let lsns = self.lsns(
            |index, cache| index.receipt(cache, hash),
            |active| active.receipt(hash),
            |retries| retries.of_receipt(hash),
        )?;
        let mut events = Vec::new();
        for at_lsn in lsns {
            let fact = match self.fact(at_lsn) {
                Err(_) if self.indexes.is_dropped(at_lsn) => continue,
                fact => Arc::new(fact?),
            };
            record::add_with_receipt(&fact, receipt, &mut events)?;
        }
        Ok(events)
    }

    /// All records with an event of a store whose own time lies in an hour (UTC) that `from_us..to_us` touches, oldest
    /// record first. They may hold events of other times too: the caller filters by event.
    ///
    /// # Errors
    /// [`FactsError`] when the index fails; errors of reading come with the records.
    pub fn by_store_hours(
        &self,
        store: u32,
        from_us: i64,
        to_us: i64,
    ) -> Result<FactsFound<'_>, FactsError> {
        let (from, to) = (hour_of(from_us), hour_of(to_us.saturating_sub(1)));
        if from_us >= to_us {
            return Ok(self.found(Vec::new()));
        }
        let lsns = self.lsns(
            |index, cache| {
                if index.header.last_at_us < from_us || to_us <= index.header.first_at_us {
                    return Ok(Vec::new());
                }
                index.store_hours(cache, store, from, to)
            },
            |active| active.store_hours(store, from, to),
            |retries| retries.of_hours(store, from, to),
        )?;
        Ok(self.found(lsns))
    }

    /// Records of a store with an event at or after the hour of `from_us`, of those that begin before `before`: what a
    /// late count is computed from.
    ///
    /// # Errors
    /// As [`by_store_hours`](Self::by_store_hours).
    pub fn store_since(
        &self,
        store: u32,
        from_us: i64,
        before: Lsn,
    ) -> Result<FactsFound<'_>, FactsError> {
        let mut found = self.by_store_hours(store, from_us, i64::MAX)?;
        found.lsns.retain(|at_lsn| *at_lsn < before);
        Ok(self.found(found.lsns))
    }

    /// Records from `since` on that carry sequence numbers `first` to `last` of one epoch of a terminal, in order. Numbers that
    /// retention dropped are missing.
    ///
    /// From `since` on the numbers of an epoch have to rise with the place. [`Lsn::ZERO`] does where an engine is alone. One of
    /// several may have journalled frames that it could not commit, and after a restart others under the same numbers: of
    /// those it asks from where it has owned their slot.
    ///
    /// # Errors
    /// [`FactsError`] when the index fails; errors of reading come with the records.
    pub fn by_terminal(
        &self,
        terminal: u64,
        epoch: u32,
        (first, last): (u64, u64),
        since: Lsn,
    ) -> Result<FactsFound<'_>, FactsError> {
        let life = (terminal, epoch);
        let lsns = self.indexes.of_terminal(life, (first, last), since)?;
        let mut kept = Vec::new();
        for mut run in lsns {
            run.retain(|at_lsn| *at_lsn >= since);
            // Ranges of one terminal rise with the place, so that the first one of interest is found by halving.
            let mut failed = None;
            let from = run.partition_point(|at_lsn| {
                match self.journal.read_head(*at_lsn).map(|head| range_of(&head)) {
                    Ok(range) => range.is_some_and(|(_, end)| end < first),
                    Err(_) if self.indexes.is_dropped(*at_lsn) => true,
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
            for at_lsn in run.into_iter().skip(from) {
                let range = match self.journal.read_head(at_lsn) {
                    Err(_) if self.indexes.is_dropped(at_lsn) => continue,
                    head => range_of(&head?),
                };
                if range.is_some_and(|(start, _)| start > last) {
                    break;
                }
                kept.push(at_lsn);
            }
        }
        Ok(self.found(kept))
    }

    /// The record at an LSN.
    ///
    /// # Errors
    /// [`FactsError::Read`].
    pub fn fact(&self, lsn: Lsn) -> Result<Fact, FactsError> {
        let record = self.journal.read(lsn)?;
        Ok(Fact::new(lsn, record))
    }

    /// Start, end and newest receive time (us) of every sealed segment, oldest first: what retention decides by.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn received(&self) -> Result<Vec<(Lsn, Lsn, i64)>, FactsError> {
        self.indexes.received()
    }

    const fn found(&self, lsns: Lsns) -> FactsFound<'_> {
        FactsFound {
            facts: self,
            lsns,
            next: 0,
        }
    }

    // Looks into every index, oldest segment first, and at the retries.
    fn lsns(
        &self,
        sealed: impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: impl Fn(&Builder) -> Vec<u32>,
        retried: impl Fn(&Retries) -> Vec<Lsn>,
    ) -> Result<Lsns, FactsError> {
        let runs = self.indexes.each(sealed, active)?;
        let mut found: Lsns = runs.into_iter().flatten().collect();
        let retried = self.indexes.retried(retried);
        if !retried.is_empty() {
            found.extend(retried);
            found.sort_unstable();
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
