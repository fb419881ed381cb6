//! The owner of one slot, as a state machine: takes the slot, commits its flushes one after another, gives it up. Behind the
//! commits, and beside them, the rows of committed flushes are written (projected), several flushes together where these wait.
//!
//! ```text
//! Acquiring -> Reading -> Loading -> Restoring -> Idle <-> WritingLog -> Deciding -> Idle
//!     |                                             |                       |
//!     +-> ended: lost                               +-> Releasing -> ended  +-> ended: fenced
//! ```
//!
//! Whoever drives it carries out each [`Command`] and gives the answer back under the command's number. Answers under
//! another number are late ones and are ignored. A conditional write whose outcome is unknown is followed by a serial read
//! of the row and by nothing else. What was once written as the log of a flush in an epoch is never replaced: a second try
//! has the same bytes, so that it does not matter which of them arrives, or when.

mod projector;
mod steps;

use std::sync::Arc;

use thiserror::Error;

use super::commit::Commit;
use super::log::{Log, Seal};
use super::parts::{LogError, Unfit};
use super::row::{Change, Conditional, NodeId, SlotRow};
use super::store::FlushLog;
use projector::Projector;

/// Committed flushes of a slot whose rows may wait: so many more are committed before they are written. What is behind is held
/// in memory, and is what the next owner has to write first.
const BEHIND_MAX: usize = 8;

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
    /// Write a log, at a quorum, with the seal of the flush before. Answer: [`Answer::Done`] when all of it is acknowledged,
    /// else [`Answer::Failed`].
    WriteLog {
        /// Number of the flush.
        flush: u64,
        /// The log.
        log: Arc<Log>,
        /// What was committed with the flush before, if there was one.
        before: Option<Seal>,
    },
    /// Send a conditional write. Answer: [`Answer::Applied`], [`Answer::NotApplied`], [`Answer::Unknown`], or
    /// [`Answer::Failed`] when it surely did not and will not happen.
    Swap(Conditional),
    /// Read the slot's row at a serial consistency. Answer: [`Answer::Row`] or [`Answer::Failed`].
    ReadSlot,
    /// Read the logs of the flushes whose rows may not be written, at a quorum. Answer: [`Answer::Logs`] or
    /// [`Answer::Failed`].
    ReadLogs(Box<SlotRow>),
    /// Write every fact and every row of committed flushes, each row with its flush's number as its stamp, at a quorum.
    /// Answer: [`Answer::Done`] when all are acknowledged, else [`Answer::Failed`].
    Project(Vec<Arc<Commit>>),
    /// All rows are written up to this flush. No answer.
    Applied {
        /// Its number.
        flush: u64,
    },
    /// Delete what the logs of flushes have of rows: the slot's row says that these are written. No answer.
    ForgetRows {
        /// The first flush.
        first: u64,
        /// The last.
        last: u64,
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
    /// The logs that were found.
    Logs(Vec<FlushLog>),
}

/// Why a flush was not begun.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NotNow {
    /// A flush is on its way, the rows of too many are not written yet, or the slot is not owned.
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
    log: Arc<Log>,
}

impl Flush {
    /// The flush of a commit.
    ///
    /// # Errors
    /// [`Unfit`] when it does not fit a log.
    pub fn new(commit: Commit) -> Result<Self, Unfit> {
        let log = Arc::new(commit.to_log()?);
        let commit = Arc::new(commit.settled());
        Ok(Self { commit, log })
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
    Loading(Box<SlotRow>),
    /// What the last owner committed is being projected.
    Restoring,
    Idle,
    WritingLog(Flush),
    /// `applied`: what the slot's row says is written once it is committed.
    Deciding {
        flush: Flush,
        applied: u64,
        is_asking: bool,
    },
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
    /// What was committed last.
    seal: Option<Seal>,
    projector: Projector,
    /// Up to here the slot's row says that all rows are written.
    noted: u64,
    state: WriterState,
    /// The number given last.
    numbers: u64,
    /// The number of the command of `state` that waits for its answer; 0 for none.
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
            seal: None,
            projector: Projector::new(seen.applied),
            noted: seen.applied,
            state: WriterState::Acquiring { is_asking: false },
            numbers: 0,
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

    /// The flush up to which all rows are written.
    pub const fn applied(&self) -> u64 {
        self.projector.applied()
    }

    /// Whether [`Self::commit`] would begin a flush now.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, WriterState::Idle) && self.projector.behind() < BEHIND_MAX
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
            WriterState::Idle | WriterState::WritingLog(_) | WriterState::Deciding { .. }
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
        let flush = Flush::new(Commit {
            epoch: self.epoch,
            ..commit
        })?;
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
        let made_for = (flush.commit.slot, flush.commit.flush, flush.commit.epoch);
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
        self.look_up();
    }

    /// Gives the slot up, after the flush that is on its way and all rows. It is closed at once; what should be committed
    /// before has been given to [`Self::commit`].
    pub fn release(&mut self) {
        self.is_leaving = true;
        self.look_up();
    }

    /// The row as somebody read it, however old: an epoch above that of this owner ends it.
    pub fn observe(&mut self, row: &SlotRow) {
        let is_owner = matches!(
            self.state,
            WriterState::Idle
                | WriterState::WritingLog(_)
                | WriterState::Reading
                | WriterState::Loading(_)
                | WriterState::Restoring
        );
        // While a conditional write is on its way, its outcome tells.
        if is_owner && row.slot == self.slot && row.epoch > self.epoch {
            self.end(End::Fenced(row.clone()));
        }
    }

    /// Takes the answer to a command.
    pub fn answer(&mut self, request: u64, answer: Answer) {
        if request == 0 || self.has_ended() {
            return;
        }
        if self.projector.asked(request) {
            return self.projected(&answer);
        }
        if request != self.request {
            return;
        }
        self.request = 0;
        let state = std::mem::replace(&mut self.state, WriterState::Ended);
        self.step(state, answer);
    }
}

#[cfg(test)]
mod tests;
