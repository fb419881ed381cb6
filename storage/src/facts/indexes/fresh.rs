//! Brings what is known of the journal to what is durable.

use std::sync::Arc;

use till_core::{Record, RecordHead, RecordKind};

use super::{HELD_MAX, Index, Indexes, Sealed, places_of, useless};
use crate::facts::FactsError;
use crate::facts::retries::Retries;
use crate::index::keys::{Keys, keys_of};
use crate::index::{Builder, IndexFault, IndexFile};
use crate::journal::{Lsn, Segment, index_name, lock, segment_name};

/// Records that are read before those who look something up get at them.
const AT_ONCE: usize = 1_024;

impl Indexes {
    /// Takes in what is durable by now, and writes the index of each segment that was found sealed. Gives the number of
    /// indexes that were written.
    pub(super) fn refresh(&self) -> Result<usize, FactsError> {
        let mut written = 0;
        while let Some(start) = self.take_in_next()? {
            written += usize::from(self.write_found(start));
        }
        self.settle_room();
        Ok(written)
    }

    // Goes on until a segment is sealed whose index is only in memory, or until everything is in.
    fn take_in_next(&self) -> Result<Option<Lsn>, FactsError> {
        if self.has_everything() {
            return Ok(None);
        }
        let _alone = lock(&self.growing);
        // Taken while nobody else takes in, so that it is never older than the state.
        let (segments, durable) = self.journal.shared().snapshot();
        self.take_in(&segments, durable)
    }

    fn has_everything(&self) -> bool {
        let (oldest, durable) = (self.journal.start(), self.journal.end());
        let state = lock(&self.state);
        let sealed = state.sealed.first_key_value();
        durable <= state.upto && sealed.is_none_or(|(start, _)| oldest <= *start)
    }

    pub(in crate::facts) fn take_in(
        &self,
        segments: &[Segment],
        durable: Lsn,
    ) -> Result<Option<Lsn>, FactsError> {
        self.forget_before(segments.first().map_or(Lsn::ZERO, |first| first.start));
        for segment in segments {
            let Some(end) = segment.end else {
                self.extend(segment.start, durable)?;
                continue;
            };
            if lock(&self.state).sealed.contains_key(&segment.start) {
                continue;
            }
            match self.seal(*segment, end) {
                Ok(true) => return Ok(Some(segment.start)),
                Ok(false) => {}
                Err(_) if self.is_dropped(segment.start) => {}
                Err(error) => return Err(error),
            }
        }
        lock(&self.state).upto = durable;
        Ok(None)
    }

    fn forget_before(&self, oldest: Lsn) {
        let gone = {
            let mut state = lock(&self.state);
            let kept = state.sealed.split_off(&oldest);
            let gone = std::mem::replace(&mut state.sealed, kept);
            state.room_is_stale |= !gone.is_empty();
            state.retries.drop_before(oldest);
            gone
        };
        for start in gone.into_keys() {
            self.cache.forget(start);
        }
    }

    // True when the index is in memory only.
    fn seal(&self, segment: Segment, end: Lsn) -> Result<bool, FactsError> {
        let start = segment.start;
        let grown = lock(&self.state).active.as_ref().map(|grown| grown.start);
        if grown == Some(start) {
            self.extend(start, end)?;
            self.trim(segment, end);
            let mut state = lock(&self.state);
            if let Some(builder) = state.active.take() {
                let index = Index::Held(Arc::new(builder));
                state.put(Sealed {
                    segment,
                    end,
                    index,
                });
                state.hold_no_more_than(HELD_MAX);
            }
            return Ok(true);
        }
        let opened = self.open(segment, end);
        match opened.and_then(|file| Ok((file.retries(&self.cache)?, file))) {
            Ok((retries, file)) => {
                for at_lsn in places_of(start, retries) {
                    self.note_retry(at_lsn, &self.journal.read(at_lsn)?)?;
                }
                let index = Index::File(Arc::new(file));
                lock(&self.state).put(Sealed {
                    segment,
                    end,
                    index,
                });
                Ok(false)
            }
            Err(fault) if !fault.is_mended_by_another() => Err(useless(start, &fault)),
            Err(fault) => {
                if !matches!(fault, IndexFault::Missing) {
                    let segment = segment_name(start);
                    tracing::warn!(segment, %fault, "index is built again");
                }
                let builder = self.read_whole(segment, end, true)?;
                self.trim(segment, end);
                let index = Index::Held(Arc::new(builder));
                let mut state = lock(&self.state);
                state.put(Sealed {
                    segment,
                    end,
                    index,
                });
                state.hold_no_more_than(HELD_MAX);
                Ok(true)
            }
        }
    }

    pub(super) fn open(&self, segment: Segment, end: Lsn) -> Result<IndexFile, IndexFault> {
        let path = self.journal.dir().join(index_name(segment.start));
        IndexFile::open(self.journal.disk(), path, segment.start, end, segment.salt)
    }

    // The room behind the last group is of no use to a segment that never changes again.
    fn trim(&self, segment: Segment, end: Lsn) {
        let file = self.journal.shared().file(segment.start);
        let trimmed = file.and_then(|file| file.truncate(end.since(segment.start)));
        if let Err(error) = trimmed {
            tracing::warn!(%error, "a sealed segment could not be trimmed");
        }
    }

    // Reads the segment that grows, or has just been sealed, up to an LSN.
    fn extend(&self, start: Lsn, end: Lsn) -> Result<(), FactsError> {
        let from = {
            let mut state = lock(&self.state);
            let grown = state.active.take_if(|builder| builder.start == start);
            let builder = grown.unwrap_or_else(|| Builder::new(start));
            state.active.insert(builder).upto
        };
        let mut read = Vec::new();
        let whole = self.read(from, end, true, |lsn, head, keys| {
            read.push((lsn, head, keys));
            if read.len() == AT_ONCE {
                self.add(&mut read, None);
            }
        });
        self.add(&mut read, whole.is_ok().then_some(end));
        whole
    }

    fn add(&self, read: &mut Vec<(Lsn, RecordHead, Keys)>, upto: Option<Lsn>) {
        if let Some(builder) = &mut lock(&self.state).active {
            for (lsn, head, keys) in read.drain(..) {
                builder.add(lsn, &head, &keys);
                builder.upto = lsn.plus(1);
            }
            builder.upto = upto.unwrap_or(builder.upto);
        }
    }

    /// The index of a sealed segment, read from the segment. Its retries were noted when the segment was first met.
    pub(super) fn whole(&self, segment: Segment, end: Lsn) -> Result<Builder, FactsError> {
        self.read_whole(segment, end, false)
    }

    fn read_whole(
        &self,
        segment: Segment,
        end: Lsn,
        notes_retries: bool,
    ) -> Result<Builder, FactsError> {
        let mut builder = Builder::new(segment.start);
        self.read(segment.start, end, notes_retries, |lsn, head, keys| {
            builder.add(lsn, &head, &keys);
        })?;
        builder.upto = end;
        Ok(builder)
    }

    fn read(
        &self,
        from: Lsn,
        end: Lsn,
        notes_retries: bool,
        mut show: impl FnMut(Lsn, RecordHead, Keys),
    ) -> Result<(), FactsError> {
        for item in self.journal.records_between(from, end) {
            let (lsn, record) = item?;
            if notes_retries {
                self.note_retry(lsn, &record)?;
            }
            let keys = keys_of(&record);
            let keys = keys.map_err(|cause| FactsError::Newer { at: lsn, cause })?;
            show(lsn, record.head, keys);
        }
        Ok(())
    }

    fn note_retry(&self, at: Lsn, record: &Record) -> Result<(), FactsError> {
        if record.head.kind != RecordKind::Retry {
            return Ok(());
        }
        let noted = Retries::keys_of(record);
        let noted = noted.map_err(|cause| FactsError::Newer { at, cause })?;
        if let Some(keys) = noted {
            lock(&self.state).retries.note(at, keys);
        }
        Ok(())
    }
}
