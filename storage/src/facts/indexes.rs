//! The indexes behind look-ups: files beside sealed segments, and in memory what has no file yet.
//!
//! What is known is behind one lock, held for moments. Whoever reads the journal to bring it up to the durable end holds
//! another one, on which only those wait who need what is being read; whoever writes indexes holds a third, on which no
//! look-up waits: until its file is written, an index answers from memory.

mod fresh;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::retries::Retries;
use super::{FactsConfig, FactsError, Lsns};
use crate::index::{Builder, IndexFault, IndexFile, PageCache, Run};
use crate::journal::{Journal, Lsn, Segment, lock, segment_name};
use crate::sync::Mutex;

/// Indexes that wait in memory for room on the disk. One of a segment of 64 MiB takes about 10 MiB.
pub(super) const HELD_MAX: usize = 8;

/// All indexes of a journal.
#[derive(Debug)]
pub(super) struct Indexes {
    journal: Journal,
    config: FactsConfig,
    cache: PageCache,
    /// No file is read or written under it.
    pub(super) state: Mutex<IndexState>,
    /// Held by whoever takes in what the journal has by now.
    growing: Mutex<()>,
    /// Held by whoever writes indexes, or reads what of them is kept in memory.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
pub(super) struct IndexState {
    pub(super) sealed: BTreeMap<Lsn, Sealed>,
    active: Option<Builder>,
    /// Everything before this LSN is in.
    upto: Lsn,
    retries: Retries,
    /// The sealed segments have changed since they were given their room in memory.
    room_is_stale: bool,
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
    /// In memory, because it is not written yet.
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
            state: Mutex::new(IndexState::default()),
            growing: Mutex::new(()),
            writing: Mutex::new(()),
        }
    }

    /// Whether retention has dropped what was at a place.
    pub(super) fn is_dropped(&self, at_lsn: Lsn) -> bool {
        at_lsn < self.journal.start()
    }

    /// Places of retries.
    pub(super) fn retried(&self, wanted: impl Fn(&Retries) -> Vec<Lsn>) -> Vec<Lsn> {
        wanted(&lock(&self.state).retries)
    }

    /// Start, end and newest receive time of every sealed segment.
    pub(super) fn received(&self) -> Result<Vec<(Lsn, Lsn, i64)>, FactsError> {
        self.refresh()?;
        let state = lock(&self.state);
        let rows = state.sealed.values();
        let rows = rows.map(|sealed| {
            let received_us = sealed.index.received_us();
            (sealed.segment.start, sealed.end, received_us)
        });
        Ok(rows.collect())
    }

    /// Asks every index, oldest segment first. `active` is asked of those in memory.
    pub(super) fn each(
        &self,
        sealed: impl Fn(&IndexFile, &PageCache) -> Result<Vec<u32>, IndexFault>,
        active: impl Fn(&Builder) -> Vec<u32>,
    ) -> Result<Vec<Lsns>, FactsError> {
        let (known, tail) = self.known(&active)?;
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

    /// Entries of one epoch of a terminal, by segment, oldest first: those of the segments from `since` on in which a number of
    /// `range` may lie. The numbers rise with the place from there, so that the newest segment is asked first, and nothing
    /// before one that has a number as low as the lowest.
    pub(super) fn of_terminal(
        &self,
        (terminal, epoch): (u64, u32),
        range: (u64, u64),
        since: Lsn,
    ) -> Result<Vec<Lsns>, FactsError> {
        let sealed =
            |index: &IndexFile, cache: &PageCache| index.terminal(cache, terminal, epoch, range);
        let active = |builder: &Builder| builder.terminal(terminal, epoch, range);
        let (known, tail) = self.known(active)?;
        let mut found = Vec::new();
        let mut take = |start: Lsn, run: Run| {
            found.push(places_of(start, run.entries));
            run.first <= range.0
        };
        let tail = tail.and_then(|(start, run)| Some(take(start, run?)));
        let mut is_all = tail.unwrap_or(false);
        for one in known.into_iter().rev() {
            let start = one.segment.start;
            if is_all || one.end <= since {
                break;
            }
            match self.ask(one, &sealed, &active) {
                Ok(run) => is_all = run.is_some_and(|run| take(start, run)),
                Err(_) if self.is_dropped(start) => break,
                Err(error) => return Err(error),
            }
        }
        found.reverse();
        Ok(found)
    }

    // The sealed segments, and what the one behind them says: both as of one moment, and up to the durable end.
    #[expect(clippy::type_complexity, reason = "taken apart at once")]
    fn known<T>(
        &self,
        active: impl Fn(&Builder) -> T,
    ) -> Result<(Vec<Sealed>, Option<(Lsn, T)>), FactsError> {
        self.refresh()?;
        let state = lock(&self.state);
        let tail = state.active.as_ref();
        let tail = tail.map(|builder| (builder.start, active(builder)));
        Ok((state.sealed.values().cloned().collect(), tail))
    }

    fn ask<T>(
        &self,
        mut one: Sealed,
        sealed: &impl Fn(&IndexFile, &PageCache) -> Result<T, IndexFault>,
        active: &impl Fn(&Builder) -> T,
    ) -> Result<T, FactsError> {
        let (segment, end) = (one.segment, one.end);
        if let Index::File(file) = &one.index {
            match sealed(file, &self.cache) {
                Ok(found) => return Ok(found),
                Err(fault) if fault.is_mended_by_another() => {
                    one.index = self.again(&one, file, &fault)?;
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
}

impl IndexState {
    fn put(&mut self, sealed: Sealed) {
        self.sealed.insert(sealed.segment.start, sealed);
        self.room_is_stale = true;
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

fn places_of(start: Lsn, offsets: Vec<u32>) -> Lsns {
    let lsns = offsets.into_iter().map(|o| start.plus(u64::from(o)));
    lsns.collect()
}

fn useless(start: Lsn, fault: &IndexFault) -> FactsError {
    FactsError::Index {
        segment: segment_name(start),
        cause: fault.to_string(),
    }
}
