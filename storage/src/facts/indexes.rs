//! The indexes behind look-ups: files beside sealed segments, and in memory what has no file yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use till_core::{Record, RecordKind};

use super::retries::Retries;
use super::{FactsConfig, FactsError, Places};
use crate::index::keys::keys_of;
use crate::index::{Builder, IndexFault, IndexFile, PageCache, write_index};
use crate::journal::{Journal, Lsn, Segment, index_name, lock, segment_name};
use crate::sync::Mutex;

/// Indexes that wait in memory for room on the disk. One of a segment of 64 MiB takes about 10 MiB.
pub(super) const HELD_MAX: usize = 8;

/// All indexes of a journal.
#[derive(Debug)]
pub(super) struct Indexes {
    journal: Journal,
    config: FactsConfig,
    cache: PageCache,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sealed: BTreeMap<Lsn, Sealed>,
    active: Option<Builder>,
    retries: Retries,
    /// The sealed segments have changed since filters were given their room.
    filters_are_stale: bool,
}

/// A sealed segment.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    segment: Segment,
    end: Lsn,
    pub(super) index: Index,
}

/// Where the index of a sealed segment is.
#[derive(Clone, Debug)]
pub(super) enum Index {
    /// On the disk.
    File(Arc<IndexFile>),
    /// In memory, because it could not be written.
    Held(Arc<Builder>),
    /// It could not be written, and too many such are in memory: made again for each look-up. Newest receive time.
    Made(i64),
}

impl Indexes {
    pub(super) fn new(journal: Journal, config: FactsConfig) -> Self {
        Self {
            cache: PageCache::new(config.cache_bytes),
            journal,
            config,
            state: Mutex::new(State::default()),
        }
    }

    /// Whether retention has dropped what was at a place.
    pub(super) fn is_dropped(&self, place: Lsn) -> bool {
        place < self.journal.start()
    }

    /// Places of retries.
    pub(super) fn retried(&self, wanted: impl Fn(&Retries) -> Vec<Lsn>) -> Vec<Lsn> {
        wanted(&lock(&self.state).retries)
    }

    /// Start, end and newest receive time of every sealed segment.
    pub(super) fn received(&self) -> Result<Vec<(Lsn, Lsn, i64)>, FactsError> {
        let mut state = lock(&self.state);
        self.refresh(&mut state)?;
        let rows = state.sealed.values();
        let rows = rows.map(|sealed| {
            let received_us = sealed.index.received_us();
            (sealed.segment.start, sealed.end, received_us)
        });
        Ok(rows.collect())
    }

    /// Takes in what the journal has by now, and writes the indexes that could not be written before.
    pub(super) fn catch_up(&self) -> Result<usize, FactsError> {
        let mut state = lock(&self.state);
        let mut written = self.refresh(&mut state)?;
        let waiting: Vec<Sealed> = state
            .sealed
            .values()
            .filter(|sealed| !matches!(sealed.index, Index::File(_)))
            .cloned()
            .collect();
        for mut sealed in waiting {
            let (segment, end) = (sealed.segment, sealed.end);
            let builder = match &sealed.index {
                Index::Held(builder) => Arc::clone(builder),
                Index::File(_) | Index::Made(_) => match self.whole(segment, end) {
                    Err(_) if self.is_dropped(segment.start) => continue,
                    builder => Arc::new(builder?),
                },
            };
            sealed.index = Index::File(Arc::new(self.write(&builder, segment, end)?));
            state.put(sealed);
            written += 1;
        }
        self.settle_filters(&mut state);
        Ok(written)
    }

    /// Asks every index, oldest segment first. `active` is asked of those in memory.
    pub(super) fn each(
        &self,
        sealed: impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: impl Fn(&Builder) -> Vec<u32>,
    ) -> Result<Vec<Places>, FactsError> {
        let (known, tail) = {
            let mut state = lock(&self.state);
            self.refresh(&mut state)?;
            let tail = state.active.as_ref();
            let tail = tail.map(|builder| (builder.start, active(builder)));
            let known: Vec<Sealed> = state.sealed.values().cloned().collect();
            (known, tail)
        };
        let mut found = Vec::new();
        for one in known {
            let start = one.segment.start;
            match self.ask(one, &sealed, &active) {
                Ok(offsets) => found.push(places_of(start, offsets)),
                Err(_) if self.is_dropped(start) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some((start, offsets)) = tail {
            found.push(places_of(start, offsets));
        }
        Ok(found)
    }

    fn ask(
        &self,
        mut one: Sealed,
        sealed: &impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: &impl Fn(&Builder) -> Vec<u32>,
    ) -> Result<Vec<u32>, FactsError> {
        let (segment, end) = (one.segment, one.end);
        if let Index::File(file) = &one.index {
            match sealed(file, &self.cache) {
                Ok(offsets) => return Ok(offsets),
                Err(fault) if fault.is_mended_by_another() => {
                    one.index = self.again(segment, end, &fault)?;
                }
                Err(fault) => return Err(useless(segment.start, &fault)),
            }
        }
        match &one.index {
            Index::File(file) => {
                sealed(file, &self.cache).map_err(|fault| useless(segment.start, &fault))
            }
            Index::Held(builder) => Ok(active(builder)),
            Index::Made(_) => Ok(active(&self.whole(segment, end)?)),
        }
    }

    /// Brings what is known of the journal to what is durable now. Gives the number of indexes that were written.
    fn refresh(&self, state: &mut State) -> Result<usize, FactsError> {
        // Taken while the state is locked, so that it is never older than the state.
        let (segments, durable) = self.journal.shared().snapshot();
        self.take_in(state, &segments, durable)
    }

    pub(super) fn take_in(
        &self,
        state: &mut State,
        segments: &[Segment],
        durable: Lsn,
    ) -> Result<usize, FactsError> {
        let oldest = segments.first().map_or(Lsn::ZERO, |first| first.start);
        let kept = state.sealed.split_off(&oldest);
        for start in std::mem::replace(&mut state.sealed, kept).into_keys() {
            self.cache.forget(start);
            state.filters_are_stale = true;
        }
        state.retries.drop_before(oldest);
        let mut written = 0;
        for segment in segments {
            match segment.end {
                Some(_) if state.sealed.contains_key(&segment.start) => {}
                Some(end) => match self.open_or_make(state, *segment, end) {
                    Ok(was_made) => written += usize::from(was_made),
                    Err(_) if self.is_dropped(segment.start) => {}
                    Err(error) => return Err(error),
                },
                None => self.extend(state, segment.start, durable)?,
            }
        }
        self.settle_filters(state);
        Ok(written)
    }

    // True when the index had to be made, and was written.
    fn open_or_make(
        &self,
        state: &mut State,
        segment: Segment,
        end: Lsn,
    ) -> Result<bool, FactsError> {
        let opened = self
            .open(segment, end)
            .and_then(|file| Ok((file.retries(&self.cache)?, file)));
        match opened {
            Ok((retries, file)) => {
                for place in places_of(segment.start, retries) {
                    note_retry(&mut state.retries, place, &self.journal.read(place)?)?;
                }
                let index = Index::File(Arc::new(file));
                state.put(Sealed {
                    segment,
                    end,
                    index,
                });
                Ok(false)
            }
            Err(fault) if !fault.is_mended_by_another() => Err(useless(segment.start, &fault)),
            Err(fault) => {
                if !matches!(fault, IndexFault::Missing) {
                    let segment = segment_name(segment.start);
                    tracing::warn!(segment, %fault, "index is built again");
                }
                self.make(state, segment, end)
            }
        }
    }

    // Makes an index from its segment, or from what has grown in memory. One that cannot be written stays in memory.
    fn make(&self, state: &mut State, segment: Segment, end: Lsn) -> Result<bool, FactsError> {
        let grown = state
            .active
            .take_if(|builder| builder.start == segment.start);
        let mut builder = grown.unwrap_or_else(|| Builder::new(segment.start));
        self.read_into(&mut state.retries, &mut builder, end)?;
        self.trim(segment, end);
        let written = self.write(&builder, segment, end);
        let was_written = written.is_ok();
        let index = match written {
            Ok(file) => Index::File(Arc::new(file)),
            Err(error) => {
                tracing::warn!(%error, "look-ups go on from memory; the index is written later");
                Index::Held(Arc::new(builder))
            }
        };
        state.put(Sealed {
            segment,
            end,
            index,
        });
        state.hold_no_more_than(HELD_MAX);
        Ok(was_written)
    }

    fn again(&self, segment: Segment, end: Lsn, fault: &IndexFault) -> Result<Index, FactsError> {
        let start = segment.start;
        tracing::warn!(segment = segment_name(start), %fault, "index is built again");
        let mut state = lock(&self.state);
        self.make(&mut state, segment, end)?;
        self.settle_filters(&mut state);
        let made = state.sealed.get(&start);
        made.map(|sealed| sealed.index.clone())
            .ok_or_else(|| useless(start, fault))
    }

    // The index of a sealed segment, read from the segment for this once.
    fn whole(&self, segment: Segment, end: Lsn) -> Result<Builder, FactsError> {
        let mut builder = Builder::new(segment.start);
        // Its retries were noted when the segment was first met.
        self.read_into(&mut Retries::default(), &mut builder, end)?;
        Ok(builder)
    }

    fn open(&self, segment: Segment, end: Lsn) -> Result<IndexFile, IndexFault> {
        let path = self.journal.dir().join(index_name(segment.start));
        IndexFile::open(self.journal.disk(), path, segment.start, end, segment.salt)
    }

    fn write(
        &self,
        builder: &Builder,
        segment: Segment,
        end: Lsn,
    ) -> Result<IndexFile, FactsError> {
        let unwritten = |cause: String| FactsError::Unwritten {
            segment: segment_name(segment.start),
            cause,
        };
        let path = self.journal.dir().join(index_name(segment.start));
        let disk = self.journal.disk().as_ref();
        let written = write_index(disk, &path, builder, segment.salt);
        written.map_err(|error| unwritten(error.to_string()))?;
        self.cache.forget(segment.start);
        let opened = self.open(segment, end);
        opened.map_err(|fault| unwritten(fault.to_string()))
    }

    // The room behind the last group is of no use to a segment that never changes again.
    fn trim(&self, segment: Segment, end: Lsn) {
        let file = self.journal.shared().file(segment.start);
        let trimmed = file.and_then(|file| file.truncate(end.since(segment.start)));
        if let Err(error) = trimmed {
            tracing::warn!(%error, "a sealed segment could not be trimmed");
        }
    }

    fn extend(&self, state: &mut State, start: Lsn, end: Lsn) -> Result<(), FactsError> {
        let grown = state.active.take_if(|builder| builder.start == start);
        let mut builder = grown.unwrap_or_else(|| Builder::new(start));
        let read = self.read_into(&mut state.retries, &mut builder, end);
        state.active = Some(builder);
        read
    }

    fn read_into(
        &self,
        retries: &mut Retries,
        builder: &mut Builder,
        end: Lsn,
    ) -> Result<(), FactsError> {
        for item in self.journal.records_between(builder.upto, end) {
            let (lsn, record) = item?;
            note_retry(retries, lsn, &record)?;
            let keys = keys_of(&record);
            let keys = keys.map_err(|cause| FactsError::Newer { at: lsn, cause })?;
            builder.add(lsn, &record, &keys);
            builder.upto = lsn.plus(1);
        }
        builder.upto = end;
        Ok(())
    }

    // Gives the newest segments the room for filters. A segment that left gives its room back.
    fn settle_filters(&self, state: &mut State) {
        if !std::mem::take(&mut state.filters_are_stale) {
            return;
        }
        let mut room = self.config.filter_bytes;
        for sealed in state.sealed.values().rev() {
            let Index::File(file) = &sealed.index else {
                continue;
            };
            match room.checked_sub(file.filter_bytes()) {
                Some(rest) => match file.load_filter(&self.cache) {
                    Ok(()) => room = rest,
                    // Look-ups find the same fault, and build the index again.
                    Err(fault) => tracing::warn!(%fault, "a receipt filter could not be read"),
                },
                None => {
                    file.unload_filter();
                    room = 0;
                }
            }
        }
    }
}

impl State {
    fn put(&mut self, sealed: Sealed) {
        self.sealed.insert(sealed.segment.start, sealed);
        self.filters_are_stale = true;
    }

    // The newest stay: they are asked most.
    fn hold_no_more_than(&mut self, most: usize) {
        let held = self.sealed.values_mut().rev();
        let held = held.filter(|sealed| matches!(sealed.index, Index::Held(_)));
        for sealed in held.skip(most) {
            sealed.index = Index::Made(sealed.index.received_us());
        }
    }
}

impl Index {
    fn received_us(&self) -> i64 {
        match self {
            Self::File(file) => file.header.received_us,
            Self::Held(builder) => builder.received_us,
            Self::Made(received_us) => *received_us,
        }
    }
}

fn note_retry(retries: &mut Retries, at: Lsn, record: &Record) -> Result<(), FactsError> {
    if record.head.kind != RecordKind::Retry {
        return Ok(());
    }
    let noted = retries.note(at, record);
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
