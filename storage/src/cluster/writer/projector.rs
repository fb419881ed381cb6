//! Which committed flushes of a slot have their rows written, and which are next.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Commit;

/// Committed flushes whose rows may not be written. Those that wait while others are written follow together.
#[derive(Debug)]
pub(super) struct Projector {
    /// Up to here all rows are written.
    applied: u64,
    /// Those behind it, in order.
    waiting: VecDeque<Arc<Commit>>,
    /// Of these, how many are being written: the request, and how often it was tried before.
    under_way: Option<(usize, u64, u32)>,
}

impl Projector {
    /// All rows are written up to `applied`.
    pub(super) const fn new(applied: u64) -> Self {
        Self {
            applied,
            waiting: VecDeque::new(),
            under_way: None,
        }
    }

    /// The flush up to which all rows are written.
    pub(super) const fn applied(&self) -> u64 {
        self.applied
    }

    /// Committed flushes whose rows may not be written.
    pub(super) fn behind(&self) -> usize {
        self.waiting.len()
    }

    /// A flush is committed: its rows are to be written.
    pub(super) fn push(&mut self, commit: Arc<Commit>) {
        self.waiting.push_back(commit);
    }

    /// Begins to write all that waits, if nothing is on its way: the flushes to write.
    pub(super) fn begin(&mut self, request: u64) -> Option<Vec<Arc<Commit>>> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.under_way = Some((self.waiting.len(), request, 0));
        Some(self.waiting.iter().cloned().collect())
    }

    /// Whether an answer is to what is being written.
    pub(super) fn asked(&self, request: u64) -> bool {
        self.under_way.is_some_and(|(_, asked, _)| asked == request)
    }

    /// Not all is written: it is to be written again, under this request. The flushes, and how often that was tried.
    pub(super) fn again(&mut self, request: u64) -> (Vec<Arc<Commit>>, u32) {
        let Some((count, asked, attempt)) = &mut self.under_way else {
            return (Vec::new(), 0);
        };
        *asked = request;
        *attempt = attempt.saturating_add(1);
        let all = self.waiting.iter().take(*count).cloned().collect();
        (all, *attempt)
    }

    /// All is written: the last of these flushes.
    pub(super) fn done(&mut self) -> Option<u64> {
        let (count, ..) = self.under_way.take()?;
        for commit in self.waiting.drain(..count) {
            self.applied = commit.flush;
        }
        Some(self.applied)
    }
}
