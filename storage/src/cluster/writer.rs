//! The owner of one slot, as a state machine: takes the slot, commits its flushes one after another, gives it up.
//!
//! ```text
//! Acquiring -> Loading -> Restoring -> Idle <-> WritingLog -> Deciding -> Materialising -> Idle
//!     |                                  |                        |
//!     +-> ended: lost                    +-> Releasing -> ended   +-> ended: fenced
//! ```
//!
//! Whoever drives it carries out each [`Command`] and gives the answer back under the command's number. Answers under
//! another number are late ones and are ignored. A conditional write whose outcome is unknown is followed by a serial read
//! of the row and by nothing else. What was once written as the log of a flush in an epoch is never replaced: a second try
//! has the same bytes, so that it does not matter which of them arrives, or when.

mod steps;

use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use super::commit::Commit;
use super::log::{Log, LogError, LogKey, Unfit};
use super::row::{Change, Conditional, NodeId, SlotRow};

/// What a driver has to do, and the number under which it answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// Number of the request; rises with each. 0 for what needs no answer.
    pub request: u64,
    /// How often this has been tried before: the driver waits longer the more it is.
    pub attempt: u32,
    /// What is to be done.
    pub action: Action,
}

/// What a command asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Write every part of a log, with [`super::LOG_STAMP`], at a quorum. Answer: [`Answer::Done`] when all are
    /// acknowledged, else [`Answer::Failed`].
    WriteLog {
        /// Number of the flush.
        flush: u64,
        /// Epoch of the writer.
        epoch: u64,
        /// The parts by number.
        parts: Vec<Bytes>,
    },
    /// Send a conditional write. Answer: [`Answer::Applied`], [`Answer::NotApplied`], [`Answer::Unknown`], or
    /// [`Answer::Failed`] when it surely did not and will not happen.
    Swap(Conditional),
    /// Read the slot's row at a serial consistency. Answer: [`Answer::Row`] or [`Answer::Failed`].
    ReadSlot,
    /// Read the parts of a log at a quorum. Answer: [`Answer::Log`] or [`Answer::Failed`].
    ReadLog(LogKey),
    /// Write every fact and every row of a committed flush, each row with the flush's number as its stamp, at a quorum.
    /// Answer: [`Answer::Done`] when all are acknowledged, else [`Answer::Failed`].
    Materialise(Arc<Commit>),
    /// Delete the log of a flush that is not the last one any more. No answer.
    DeleteLog {
        /// Number of the flush.
        flush: u64,
    },
    /// The flush is committed: its events may be told so. No answer.
    NotifyCommitted {
        /// Number of the flush.
        flush: u64,
    },
    /// From now on this node serves the slot; its rows are exactly those of the last flush. No answer.
    Serve {
        /// Number of the last flush.
        flush: u64,
        /// The epoch of this owner.
        epoch: u64,
    },
    /// What the last owner committed cannot be read back, so that the slot cannot be served. It is tried again; somebody
    /// has to look. No answer.
    Report(LogError),
    /// This writer has ended. What was replayed and is not committed goes to the next owner. No answer.
    Stop(End),
}

/// How a writer ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// Another node was faster in taking the slot.
    Lost(SlotRow),
    /// Another node took the slot from this one.
    Fenced(SlotRow),
    /// The slot was given up, as asked.
    Released,
}

/// What became of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// All writes are acknowledged.
    Done,
    /// A read that gave nothing; a plain write of which at least a chunk is not acknowledged (it may be there, or come
    /// late); a conditional write that surely never happens.
    Failed,
    /// The conditional write happened.
    Applied,
    /// Its condition did not hold: the row as it was then.
    NotApplied(SlotRow),
    /// Nobody knows whether it happened, or still will.
    Unknown,
    /// The row, read serially.
    Row(SlotRow),
    /// The parts of a log that were found, with their numbers.
    Log(Vec<(u32, Bytes)>),
}

/// Why a flush was not begun.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NotNow {
    /// The rows of the flush before are not all written yet, or the slot is not owned.
    #[error("slot {slot} cannot begin a flush now")]
    Busy {
        /// The slot.
        slot: u32,
    },
    /// A commit of another slot, or with a number that is not the next one.
    #[error("flush {flush} of slot {slot} is not the next one")]
    Misnumbered {
        /// Its slot.
        slot: u32,
        /// Its number.
        flush: u64,
    },
    /// It does not fit a log.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// A flush with its log: what takes time is done when it is made, so that it need not be done where others wait for the
/// writer.
#[derive(Clone, Debug)]
pub struct Flush {
    commit: Arc<Commit>,
    log: Log,
    epoch: u64,
}

impl Flush {
    /// The flush of a commit, as the owner of its slot in `epoch` writes it.
    ///
    /// # Errors
    /// [`Unfit`] when it does not fit a log.
    pub fn new(commit: Commit, epoch: u64) -> Result<Self, Unfit> {
        let log = commit.to_parts(epoch)?;
        let commit = Arc::new(commit.settled());
        Ok(Self { commit, log, epoch })
    }

    /// The commit, to be made a flush of another epoch or number.
    pub fn into_commit(self) -> Commit {
        Arc::unwrap_or_clone(self.commit)
    }
}

#[derive(Clone, Debug)]
enum WriterState {
    /// Sent, or read after an unknown outcome.
    Acquiring {
        is_asking: bool,
    },
    /// The row is being read for what the last owner committed.
    Reading,
    Loading(LogKey),
    Restoring(Arc<Commit>),
    Idle,
    WritingLog(Flush),
    Deciding {
        flush: Flush,
        is_asking: bool,
    },
    Materialising(Arc<Commit>),
    /// Owner still, and makes sure of it with a new epoch after a suspension.
    Renewing {
        is_asking: bool,
        suspensions: u64,
    },
    Releasing {
        is_asking: bool,
    },
    Ended,
}

/// The owner of one slot.
#[derive(Debug)]
pub struct SlotWriter {
    slot: u32,
    me: NodeId,
    address: String,
    /// The epoch that this writer has, or had before the change that is on its way.
    epoch: u64,
    flush: u64,
    state: WriterState,
    request: u64,
    attempt: u32,
    is_suspended: bool,
    /// How often it was suspended: a renewal that began before the last time proves nothing.
    suspensions: u64,
    wants_renewal: bool,
    is_leaving: bool,
    /// What was wrong with the log of the last flush, unless the slot has gone.
    doubt: Option<LogError>,
    out: Vec<Command>,
}

impl SlotWriter {
    /// Begins to take a slot whose row was seen like this. It has to be nobody's, or its owner dead.
    pub fn take_over(seen: &SlotRow, me: NodeId, address: &str) -> Self {
        let mut writer = Self {
            slot: seen.slot,
            me,
            address: address.to_owned(),
            epoch: seen.epoch,
            flush: seen.flush,
            state: WriterState::Acquiring { is_asking: false },
            request: 0,
            attempt: 0,
            is_suspended: false,
            suspensions: 0,
            wants_renewal: false,
            is_leaving: false,
            doubt: None,
            out: Vec::new(),
        };
        writer.swap(writer.acquire());
        writer
    }

    /// The slot.
    pub const fn slot(&self) -> u32 {
        self.slot
    }

    /// The epoch of this owner.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Number that the next commit has to have.
    pub const fn next_flush(&self) -> u64 {
        self.flush.saturating_add(1)
    }

    /// Whether [`Self::commit`] would begin a flush now.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, WriterState::Idle)
    }

    /// Whether the writer has ended.
    pub const fn has_ended(&self) -> bool {
        matches!(self.state, WriterState::Ended)
    }

    /// Whether events may be taken in and questions answered for this slot, as far as the slot is concerned. The node has
    /// to be allowed to serve as well ([`super::Membership::may_serve`]).
    pub const fn is_open(&self) -> bool {
        let is_owner = matches!(
            self.state,
            WriterState::Idle
                | WriterState::WritingLog(_)
                | WriterState::Deciding { .. }
                | WriterState::Materialising(_)
        );
        is_owner && !self.is_suspended && !self.is_leaving
    }

    /// Takes what is to be done, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Command> {
        self.out.drain(..)
    }

    /// Begins a flush.
    ///
    /// # Errors
    /// [`NotNow`]; nothing has changed then.
    pub fn commit(&mut self, commit: Commit) -> Result<(), NotNow> {
        if !self.is_idle() {
            return Err(NotNow::Busy { slot: self.slot });
        }
        if commit.slot != self.slot || commit.flush != self.next_flush() {
            return Err(NotNow::Misnumbered {
                slot: commit.slot,
                flush: commit.flush,
            });
        }
        let flush = Flush::new(commit, self.epoch)?;
        self.state = WriterState::WritingLog(flush);
        self.begin();
        Ok(())
    }

    /// As [`Self::commit`], of a flush that was made before. Gives one back that is not the next one of this epoch, or comes
    /// while another is on its way.
    ///
    /// # Errors
    /// The flush; nothing has changed then.
    pub fn commit_made(&mut self, flush: Flush) -> Result<(), Box<Flush>> {
        let made_for = (flush.commit.slot, flush.commit.flush, flush.epoch);
        if !self.is_idle() || made_for != (self.slot, self.next_flush(), self.epoch) {
            return Err(Box::new(flush));
        }
        self.state = WriterState::WritingLog(flush);
        self.begin();
        Ok(())
    }

    /// The node could not show for so long that it is alive that others may count it as dead: the slot is closed. A flush
    /// that is on its way goes on; the store decides whether it counts.
    pub const fn suspend(&mut self) {
        self.is_suspended = true;
        self.wants_renewal = false;
        self.suspensions = self.suspensions.saturating_add(1);
    }

    /// The node is alive again: after the flush that is on its way, a new epoch makes sure that the slot is still its own
    /// and that nobody's earlier attempt to take it can succeed any more. Then the slot is open again.
    pub fn resume(&mut self) {
        self.wants_renewal = self.is_suspended;
        if self.is_idle() {
            self.rest();
        }
    }

    /// Gives the slot up, after the flush that is on its way. It is closed at once; what should be committed before has
    /// been given to [`Self::commit`].
    pub fn release(&mut self) {
        self.is_leaving = true;
        if self.is_idle() {
            self.rest();
        }
    }

    /// The row as somebody read it, however old: an epoch above that of this owner ends it.
    pub fn observe(&mut self, row: &SlotRow) {
        let is_owner = matches!(
            self.state,
            WriterState::Idle
                | WriterState::WritingLog(_)
                | WriterState::Materialising(_)
                | WriterState::Reading
                | WriterState::Loading(_)
                | WriterState::Restoring(_)
        );
        // While a conditional write is on its way, its outcome tells.
        if is_owner && row.slot == self.slot && row.epoch > self.epoch {
            self.end(End::Fenced(row.clone()));
        }
    }

    /// Takes the answer to a command.
    pub fn answer(&mut self, request: u64, answer: Answer) {
        if request != self.request || self.has_ended() {
            return;
        }
        let state = std::mem::replace(&mut self.state, WriterState::Ended);
        self.step(state, answer);
    }
}

#[cfg(test)]
mod tests;
