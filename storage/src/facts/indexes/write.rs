//! Writes the indexes that are only in memory, and gives those on the disk their room in memory.

use std::sync::Arc;

use super::{HELD_MAX, Index, Indexes, Sealed, useless};
use crate::facts::FactsError;
use crate::index::{Builder, IndexFault, IndexFile, write_index};
use crate::journal::{Lsn, Segment, index_name, lock, segment_name};

impl Indexes {
    /// Takes in what the journal has by now, and writes the indexes that could not be written before.
    pub(in crate::facts) fn catch_up(&self) -> Result<usize, FactsError> {
        let mut written = self.refresh()?;
        let writing = lock(&self.writing);
        let waiting: Vec<Lsn> = {
            let state = lock(&self.state);
            let sealed = state.sealed.iter();
            let waiting = sealed.filter(|(_, one)| !matches!(one.index, Index::File(_)));
            waiting.map(|(start, _)| *start).collect()
        };
        for start in waiting {
            written += usize::from(self.write(start)?);
        }
        drop(writing);
        self.settle_room();
        Ok(written)
    }

    /// Writes the index of a segment that was just found sealed, unless somebody else is writing: then it is written with the
    /// next [`catch_up`](Self::catch_up). One that cannot be written stays in memory.
    pub(super) fn write_found(&self, start: Lsn) -> bool {
        let Ok(_writing) = self.writing.try_lock() else {
            return false;
        };
        self.write(start).unwrap_or_else(|error| {
            tracing::warn!(%error, "look-ups go on from memory; the index is written later");
            false
        })
    }

    // False where it is on the disk already, or its segment has left.
    fn write(&self, start: Lsn) -> Result<bool, FactsError> {
        let Some(sealed) = lock(&self.state).sealed.get(&start).cloned() else {
            return Ok(false);
        };
        let (segment, end) = (sealed.segment, sealed.end);
        let builder = match sealed.index {
            Index::File(_) => return Ok(false),
            Index::Held(builder) => builder,
            Index::Made(_) => match self.whole(segment, end) {
                Err(_) if self.is_dropped(start) => return Ok(false),
                builder => Arc::new(builder?),
            },
        };
        let file = self.write_file(&builder, segment, end)?;
        self.replace(segment, end, Index::File(Arc::new(file)));
        Ok(true)
    }

    // Retention may have dropped the segment meanwhile.
    fn replace(&self, segment: Segment, end: Lsn, index: Index) {
        let mut state = lock(&self.state);
        if state.sealed.contains_key(&segment.start) {
            state.put(Sealed {
                segment,
                end,
                index,
            });
            state.hold_no_more_than(HELD_MAX);
        }
    }

    fn write_file(
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

    /// Another index in place of a file that is broken.
    pub(super) fn again(
        &self,
        broken: &Sealed,
        file: &Arc<IndexFile>,
        fault: &IndexFault,
    ) -> Result<Index, FactsError> {
        let (segment, end) = (broken.segment, broken.end);
        let writing = lock(&self.writing);
        // Somebody else may have found the same.
        let now = lock(&self.state).sealed.get(&segment.start).cloned();
        match now.map(|sealed| sealed.index) {
            Some(Index::File(now)) if Arc::ptr_eq(&now, file) => {}
            Some(other) => return Ok(other),
            None => return Err(useless(segment.start, fault)),
        }
        tracing::warn!(segment = segment_name(segment.start), %fault, "index is built again");
        let builder = Arc::new(self.whole(segment, end)?);
        self.replace(segment, end, Index::Held(Arc::clone(&builder)));
        let written = self.write(segment.start);
        drop(writing);
        if let Err(error) = written {
            tracing::warn!(%error, "look-ups go on from memory; the index is written later");
        }
        self.settle_room();
        Ok(Index::Held(builder))
    }

    /// Gives the newest segments the room for what of their indexes is kept in memory. A segment that left gives its room
    /// back. Somebody else who writes does it behind this call, or the next look-up.
    pub(super) fn settle_room(&self) {
        if !lock(&self.state).room_is_stale {
            return;
        }
        let Ok(_writing) = self.writing.try_lock() else {
            return;
        };
        let files: Vec<Arc<IndexFile>> = {
            let mut state = lock(&self.state);
            state.room_is_stale = false;
            let newest_first = state.sealed.values().rev();
            let files = newest_first.filter_map(|sealed| match &sealed.index {
                Index::File(file) => Some(Arc::clone(file)),
                Index::Held(_) | Index::Made(_) => None,
            });
            files.collect()
        };
        let mut filters = Room(self.config.filter_bytes);
        let mut terminals = Room(self.config.terminal_bytes);
        for file in files {
            let kept = file.keep(
                &self.cache,
                filters.has(file.filter_bytes()),
                terminals.has(file.terminal_bytes()),
            );
            // Look-ups find the same fault, and build the index again.
            if let Err(fault) = kept {
                tracing::warn!(%fault, "what is kept of an index in memory could not be read");
            }
        }
    }
}

/// Bytes that are left. What is too large for them leaves nothing to what is older.
struct Room(usize);

impl Room {
    fn has(&mut self, bytes: usize) -> bool {
        let rest = self.0.checked_sub(bytes);
        self.0 = rest.unwrap_or(0);
        rest.is_some()
    }
}
