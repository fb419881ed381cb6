//! Finds events in the journal: by receipt, by store and hour, by terminal and sequence number.
//!
//! The journal's segments are the fact table. Sealed segments are found through their index files, the one being written
//! through an index in memory that is extended to the durable end whenever it is asked. Nothing is found that is not
//! durable.

mod found;
mod record;
mod retries;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use till_core::RecordKind;

use crate::index::keys::keys_of;
use crate::index::{Builder, IndexFault, IndexFile, PageCache, hour_of, receipt_hash, write_index};
use crate::journal::{Journal, Lsn, Segment, index_name, lock, range_of, segment_name};

pub use found::{FactsError, FactsFound};
pub use record::{Fact, FactEvent, Fate};
use retries::Retries;

/// Settings of [`Facts`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FactsConfig {
    /// Bytes of pages of index files that are kept in memory.
    pub cache_bytes: usize,
    /// Bytes of receipt filters that are kept in memory, those of the newest segments first.
    pub filter_bytes: usize,
}

impl Default for FactsConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            filter_bytes: 32 << 20,
        }
    }
}

/// The facts of a journal. Shared by reference; every method may be called from any thread.
#[derive(Debug)]
pub struct Facts {
    journal: Journal,
    config: FactsConfig,
    cache: PageCache,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sealed: BTreeMap<Lsn, Arc<IndexFile>>,
    active: Option<Builder>,
    filter_bytes: usize,
    retries: Retries,
}

/// Entries that may hold what is looked for, in the order of the journal.
type Places = Vec<Lsn>;

impl Facts {
    /// The facts of a journal. Indexes are opened, and built where they are missing, when they are first needed or by
    /// [`catch_up`](Self::catch_up).
    pub fn new(journal: Journal, config: FactsConfig) -> Self {
        Self {
            cache: PageCache::new(config.cache_bytes),
            journal,
            config,
            state: Mutex::new(State::default()),
        }
    }

    /// The journal that the facts lie in.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Opens or builds the index of every sealed segment, and reads the active one up to the durable end. Gives the
    /// number of indexes that were built. Meant for a thread of its own after each rotation; lookups do it themselves
    /// where it has not been done.
    ///
    /// # Errors
    /// [`FactsError`]; what was done so far stays.
    pub fn catch_up(&self) -> Result<usize, FactsError> {
        self.refresh(&mut lock(&self.state))
    }

    /// All events with this receipt (its number in decimal, or its text), oldest record first.
    ///
    /// # Errors
    /// [`FactsError`].
    pub fn by_receipt(&self, receipt: &str) -> Result<Vec<FactEvent>, FactsError> {
        let hash = receipt_hash(receipt.as_bytes());
        let places = self.places(
            |index, cache| index.receipt(cache, hash),
            |active| active.receipt(hash),
            |retries| retries.of_receipt(hash),
        )?;
        let mut events = Vec::new();
        for place in places {
            let fact = Arc::new(self.fact(place)?);
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
        let places = self.places(
            |index, cache| {
                if index.header.last_at_us < from_us || to_us <= index.header.first_at_us {
                    return Ok(Vec::new());
                }
                index.store_hours(cache, store, from, to)
            },
            |active| active.store_hours(store, from, to),
            |retries| retries.of_hours(store, from, to),
        )?;
        Ok(self.found(places))
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
        found.places.retain(|place| *place < before);
        Ok(self.found(found.places))
    }

    /// Records that carry sequence numbers `first` to `last` of one life of a terminal, in order. Numbers that retention
    /// dropped are missing.
    ///
    /// # Errors
    /// [`FactsError`] when the index fails; errors of reading come with the records.
    pub fn by_terminal(
        &self,
        terminal: u64,
        epoch: u32,
        first: u64,
        last: u64,
    ) -> Result<FactsFound<'_>, FactsError> {
        let places = self.runs(terminal, epoch, first, last)?;
        let mut kept = Vec::new();
        for run in places {
            // Ranges of one terminal rise with the place, so that the first one of interest is found by halving.
            let mut failed = None;
            let from = run.partition_point(|place| {
                match self.journal.read_head(*place).map(|head| range_of(&head)) {
                    Ok(range) => range.is_some_and(|(_, end)| end < first),
                    Err(error) => {
                        failed = Some(error);
                        false
                    }
                }
            });
            if let Some(error) = failed {
                return Err(error.into());
            }
            for place in run.into_iter().skip(from) {
                let range = range_of(&self.journal.read_head(place)?);
                if range.is_some_and(|(start, _)| start > last) {
                    break;
                }
                kept.push(place);
            }
        }
        Ok(self.found(kept))
    }

    /// The record at a place.
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
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let rows = state.sealed.values().map(|index| {
            let header = &index.header;
            (
                Lsn::new(header.start),
                Lsn::new(header.end),
                header.received_us,
            )
        });
        Ok(rows.collect())
    }

    const fn found(&self, places: Places) -> FactsFound<'_> {
        FactsFound {
            facts: self,
            places,
            next: 0,
        }
    }

    // Looks into every index, oldest segment first, and at the retries.
    fn places(
        &self,
        sealed: impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: impl Fn(&Builder) -> Vec<u32>,
        retried: impl Fn(&Retries) -> Vec<Lsn>,
    ) -> Result<Places, FactsError> {
        let runs = self.each(sealed, active)?;
        let mut found: Places = runs.into_iter().flatten().collect();
        let retried = retried(&lock(&self.state).retries);
        if !retried.is_empty() {
            found.extend(retried);
            found.sort_unstable();
        }
        Ok(found)
    }

    fn runs(
        &self,
        terminal: u64,
        epoch: u32,
        first: u64,
        last: u64,
    ) -> Result<Vec<Places>, FactsError> {
        self.each(
            |index, cache| index.terminal(cache, terminal, epoch, (first, last)),
            |active| active.terminal(terminal, epoch, first, last).to_vec(),
        )
    }

    fn each(
        &self,
        sealed: impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: impl Fn(&Builder) -> Vec<u32>,
    ) -> Result<Vec<Places>, FactsError> {
        let (indexes, tail) = {
            let mut state = lock(&self.state);
            self.refresh(&mut state)?;
            let tail = state.active.as_ref();
            let tail = tail.map(|builder| (builder.start, active(builder)));
            let indexes: Vec<Arc<IndexFile>> = state.sealed.values().map(Arc::clone).collect();
            (indexes, tail)
        };
        let mut found = Vec::new();
        for index in indexes {
            let start = Lsn::new(index.header.start);
            let offsets = match sealed(&index, &self.cache) {
                Ok(offsets) => offsets,
                Err(fault) => {
                    let index = self.rebuild(start, &fault)?;
                    sealed(&index, &self.cache).map_err(|again| useless(start, &again))?
                }
            };
            found.push(places_of(start, offsets));
        }
        if let Some((start, offsets)) = tail {
            found.push(places_of(start, offsets));
        }
        Ok(found)
    }

    fn refresh(&self, state: &mut State) -> Result<usize, FactsError> {
        let segments = self.journal.shared().segments().clone();
        let oldest = segments.first().map_or(Lsn::ZERO, |first| first.start);
        state.sealed.retain(|start, _| *start >= oldest);
        state.retries.drop_before(oldest);
        let mut built = 0;
        for segment in segments {
            match segment.end {
                Some(_) if state.sealed.contains_key(&segment.start) => {}
                Some(end) => built += usize::from(self.open_or_build(state, segment, end)?),
                None => self.extend(state, segment.start, self.journal.end())?,
            }
        }
        Ok(built)
    }

    // True when the index had to be built.
    fn open_or_build(
        &self,
        state: &mut State,
        segment: Segment,
        end: Lsn,
    ) -> Result<bool, FactsError> {
        let opened = self
            .open_index(segment, end)
            .and_then(|index| self.made_ready(state, index));
        let (built, index, retries) = match opened {
            Ok((index, retries)) => (false, index, retries),
            Err(fault) => {
                if !matches!(fault, IndexFault::Missing) {
                    let segment = segment_name(segment.start);
                    tracing::warn!(segment, %fault, "index is built again");
                }
                let index = self.build(state, segment, end)?;
                let ready = self.made_ready(state, index);
                let (index, retries) = ready.map_err(|fault| useless(segment.start, &fault))?;
                (true, index, retries)
            }
        };
        for place in places_of(segment.start, retries) {
            let record = self.journal.read(place)?;
            note_retry(state, place, &record)?;
        }
        state.sealed.insert(segment.start, Arc::new(index));
        Ok(built)
    }

    // Loads of an index what is always at hand, and names its retries.
    fn made_ready(
        &self,
        state: &mut State,
        mut index: IndexFile,
    ) -> Result<(IndexFile, Vec<u32>), IndexFault> {
        let budget = self.config.filter_bytes.saturating_sub(state.filter_bytes);
        state.filter_bytes += index.load_filter(&self.cache, budget)?;
        let retries = index.retries(&self.cache)?;
        Ok((index, retries))
    }

    fn open_index(&self, segment: Segment, end: Lsn) -> Result<IndexFile, IndexFault> {
        let path = self.journal.dir().join(index_name(segment.start));
        let disk = self.journal.disk().as_ref();
        IndexFile::open(disk, &path, segment.start, end, segment.salt)
    }

    fn build(
        &self,
        state: &mut State,
        segment: Segment,
        end: Lsn,
    ) -> Result<IndexFile, FactsError> {
        let io = |cause: io::Error| FactsError::Index {
            segment: segment_name(segment.start),
            cause: cause.to_string(),
        };
        let grown = state.active.take();
        let grown = grown.filter(|builder| builder.start == segment.start);
        let mut builder = grown.unwrap_or_else(|| Builder::new(segment.start));
        self.read_into(state, &mut builder, end)?;
        let path = self.journal.dir().join(index_name(segment.start));
        let disk = self.journal.disk().as_ref();
        write_index(disk, &path, &builder, segment.salt).map_err(io)?;
        self.cache.forget(segment.start);
        // The room behind the last group is of no use to a segment that never changes again.
        let trimmed = self
            .journal
            .shared()
            .file(segment.start)
            .and_then(|file| file.truncate(end.since(segment.start)));
        if let Err(error) = trimmed {
            tracing::warn!(%error, "a sealed segment could not be trimmed");
        }
        self.open_index(segment, end)
            .map_err(|fault| useless(segment.start, &fault))
    }

    fn rebuild(&self, start: Lsn, fault: &IndexFault) -> Result<Arc<IndexFile>, FactsError> {
        tracing::warn!(segment = segment_name(start), %fault, "index is built again");
        let mut state = lock(&self.state);
        let segments = self.journal.shared().segments().clone();
        let segment = segments.into_iter().find(|one| one.start == start);
        let Some((segment, end)) = segment.and_then(|one| Some((one, one.end?))) else {
            return Err(useless(start, fault));
        };
        // The active segment's index in memory is not touched by this.
        let active = state.active.take();
        let built = self.build(&mut state, segment, end);
        state.active = active;
        let index = Arc::new(built?);
        state.sealed.insert(start, Arc::clone(&index));
        Ok(index)
    }

    fn extend(&self, state: &mut State, start: Lsn, end: Lsn) -> Result<(), FactsError> {
        let grown = state.active.take();
        let mut builder = grown
            .filter(|builder| builder.start == start)
            .unwrap_or_else(|| Builder::new(start));
        let read = self.read_into(state, &mut builder, end);
        state.active = Some(builder);
        read
    }

    fn read_into(
        &self,
        state: &mut State,
        builder: &mut Builder,
        end: Lsn,
    ) -> Result<(), FactsError> {
        for item in self.journal.records_between(builder.upto, end) {
            let (lsn, record) = item?;
            if record.head.kind == RecordKind::Retry {
                note_retry(state, lsn, &record)?;
            }
            let keys = keys_of(&record);
            let keys = keys.map_err(|cause| FactsError::Newer { at: lsn, cause })?;
            builder.add(lsn, &record, &keys);
            builder.upto = lsn.plus(1);
        }
        builder.upto = end;
        Ok(())
    }
}

fn note_retry(state: &mut State, at: Lsn, record: &till_core::Record) -> Result<(), FactsError> {
    let noted = state.retries.note(at, record);
    noted.map_err(|cause| FactsError::Newer { at, cause })
}

fn places_of(start: Lsn, offsets: Vec<u32>) -> Places {
    let places = offsets.into_iter().map(|o| start.plus(u64::from(o)));
    places.collect()
}

fn useless(start: Lsn, fault: &IndexFault) -> FactsError {
    FactsError::Index {
        segment: segment_name(start),
        cause: fault.to_string(),
    }
}

#[cfg(test)]
mod tests;
