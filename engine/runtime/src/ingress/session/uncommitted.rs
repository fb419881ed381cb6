//! What a stream has sent that is durable here and not committed yet.

use std::collections::VecDeque;

/// Steps that are told apart. Beyond them the newest become one, which is committed when the last of them is.
const STEPS_MAX: usize = 64;

/// The steps in which a stream becomes committed.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    /// Position in the journal and last sequence number; both rise.
    steps: VecDeque<(u64, u64)>,
    /// All up to this LSN is committed.
    upto: u64,
    /// Last sequence number that this stream has sent and that is committed; 0 = none.
    committed: u64,
    /// What is committed here from now on is not of this stream's time.
    is_over: bool,
}

impl Uncommitted {
    /// What was sent up to a number is durable at an LSN.
    pub(super) fn durable(&mut self, position: u64, seq: u64) {
        if self.is_over {
            return;
        }
        if position <= self.upto {
            self.committed = self.committed.max(seq);
            return;
        }
        let newest = self.steps.back().map_or(self.committed, |(_, seq)| *seq);
        if seq <= newest {
            return;
        }
        if self.steps.len() >= STEPS_MAX {
            self.steps.pop_back();
        }
        self.steps.push_back((position, seq));
    }

    /// All up to an LSN is committed. True: that is more of this stream.
    pub(super) fn committed_upto(&mut self, position: u64) -> bool {
        if self.is_over {
            return false;
        }
        self.upto = self.upto.max(position);
        let before = self.committed;
        while let Some((position, seq)) = self.steps.front().copied()
            && position <= self.upto
        {
            self.committed = self.committed.max(seq);
            self.steps.pop_front();
        }
        self.committed > before
    }

    /// Nothing more of this stream is committed here.
    pub(super) fn end(&mut self) {
        self.is_over = true;
        self.steps.clear();
    }

    /// Last sequence number that is committed; 0 = none.
    pub(super) const fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether nothing waits.
    pub(super) fn is_done(&self) -> bool {
        self.steps.is_empty()
    }
}
