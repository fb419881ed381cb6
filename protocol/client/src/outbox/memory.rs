//! An outbox in memory, for sources that can say everything again.

use std::collections::VecDeque;

use bytes::Bytes;
use till_protocol::id::Epoch;

use super::{Outbox, OutboxError, Standing, Stored, Sync, SyncDone, SyncJob};
use crate::frame;

/// Bounds of a [`MemoryOutbox`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemoryConfig {
    /// Most frames that wait for their commit.
    pub frames_max: usize,
    /// Most bytes that wait for their commit; one frame may lie above it.
    pub bytes_max: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self {
            frames_max: 1_024,
            bytes_max: 16 << 20,
        }
    }
}

/// An outbox in memory. What it holds ends with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryOutbox {
    config: MemoryConfig,
    epoch: Option<Epoch>,
    frames: VecDeque<Stored>,
    last: u64,
    committed: u64,
    bytes: u64,
}

impl MemoryOutbox {
    /// An empty outbox.
    pub fn new(config: MemoryConfig) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    fn position(&self, seq: u64) -> Option<usize> {
        let at = self.frames.partition_point(|frame| frame.last() < seq);
        self.frames
            .get(at)
            .is_some_and(|frame| frame.first <= seq)
            .then_some(at)
    }
}

impl Outbox for MemoryOutbox {
    fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            last: self.last,
            durable: self.last,
            committed: self.committed,
            pending_bytes: self.bytes,
        }
    }

    fn has_room(&self) -> bool {
        self.frames.len() <= self.config.frames_max && self.bytes < self.config.bytes_max
    }

    fn sync_policy(&self) -> Sync {
        Sync::Group
    }

    fn survives_crash(&self) -> bool {
        false
    }

    fn append(&mut self, bytes: Bytes, count: u32) -> Result<(), OutboxError> {
        let first = self.last + 1;
        frame::expect_first(&bytes, first, count)?;
        self.bytes += frame::length(&bytes);
        let stored = Stored {
            first,
            count,
            bytes,
        };
        self.last = stored.last();
        self.frames.push_back(stored);
        Ok(())
    }

    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        Ok(self
            .position(seq)
            .and_then(|at| self.frames.get(at))
            .cloned())
    }

    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        let before = self.committed;
        self.committed = upto.clamp(before, self.last.max(before));
        // A frame leaves the backlog with its last event, and the outbox only when a later one is committed as well.
        let done = |frame: &Stored, upto: u64| frame.last() <= upto;
        for frame in &self.frames {
            if !done(frame, self.committed) {
                break;
            }
            if !done(frame, before) {
                self.bytes = self.bytes.saturating_sub(frame::length(&frame.bytes));
            }
        }
        while self
            .frames
            .front()
            .is_some_and(|frame| frame.last() < self.committed)
        {
            self.frames.pop_front();
        }
        Ok(())
    }

    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        let mut kept = VecDeque::new();
        let (mut next, mut bytes) = (1, 0);
        for old in &self.frames {
            if let Some(new) = frame::moved(old, from, next)? {
                next = new.last() + 1;
                bytes += frame::length(&new.bytes);
                kept.push_back(new);
            }
        }
        self.frames = kept;
        self.epoch = Some(epoch);
        self.last = next - 1;
        self.committed = 0;
        self.bytes = bytes;
        Ok(())
    }

    fn sync_job(&mut self) -> Result<Option<SyncJob>, OutboxError> {
        Ok(None)
    }

    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}
