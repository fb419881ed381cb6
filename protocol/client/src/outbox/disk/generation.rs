//! The files of one epoch, and where each frame lies in them.

use std::collections::VecDeque;
use std::path::PathBuf;

use crate::outbox::files::FileRef;

/// The files of one epoch.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) files: VecDeque<Segment>,
    pub(super) frames: VecDeque<Entry>,
    pub(super) last: u64,
    pub(super) durable: u64,
    pub(super) pending_bytes: u64,
}

#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) writer: FileRef,
    pub(super) last: u64,
    pub(super) len: u64,
    pub(super) synced: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) first: u64,
    pub(super) count: u32,
    /// Which file, counted from the first of the generation's files that still exist.
    pub(super) file: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Entry {
    pub(super) fn last(&self) -> u64 {
        self.first + u64::from(self.count) - 1
    }
}

impl Generation {
    pub(super) fn empty(number: u64) -> Self {
        Self {
            number,
            files: VecDeque::new(),
            frames: VecDeque::new(),
            last: 0,
            durable: 0,
            pending_bytes: 0,
        }
    }

    pub(super) fn push(&mut self, file: u64, offset: u64, len: u64, first: u64, count: u32) {
        let entry = Entry {
            first,
            count,
            file,
            offset,
            len,
        };
        self.last = entry.last();
        self.frames.push_back(entry);
    }

    /// Forgets the first file, whose last event was `last`.
    pub(super) fn forget_front(&mut self, last: u64) {
        while self
            .frames
            .front()
            .is_some_and(|entry| entry.last() <= last)
        {
            self.frames.pop_front();
        }
        for entry in &mut self.frames {
            entry.file = entry.file.saturating_sub(1);
        }
    }

    /// Takes the frames that are now committed out of the count.
    pub(super) fn leave_backlog(&mut self, before: u64, upto: u64) {
        let from = self.frames.partition_point(|entry| entry.last() <= before);
        let done: u64 = self
            .frames
            .range(from..)
            .take_while(|entry| entry.last() <= upto)
            .map(|entry| entry.len)
            .sum();
        self.pending_bytes = self.pending_bytes.saturating_sub(done);
    }

    pub(super) fn count_pending(&mut self, committed: u64) {
        let from = self
            .frames
            .partition_point(|entry| entry.last() <= committed);
        self.pending_bytes = self.frames.range(from..).map(|entry| entry.len).sum();
    }
}
