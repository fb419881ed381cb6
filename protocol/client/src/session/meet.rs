//! The start of a stream: do the engine and this device mean the same history?
//!
//! Where they don't, each event that waits is looked for at the engine: under its own number, and at the start of each
//! later epoch, where this device put it if the outbox is an image from before that epoch.

use till_protocol::id::{Epoch, Seq};
use till_protocol::limits::CHECK_MARKS_MAX;
use till_protocol::reply::{Check, Checked, Welcome, welcome_flag};
use till_protocol::time::Timestamp;

use super::{End, Notice, Phase, Session, SessionError};
use crate::deadletter::Cause;
use crate::frame;

impl Session {
    pub(super) fn handle_welcome(
        &mut self,
        welcome: &Welcome,
    ) -> Result<Option<End>, SessionError> {
        let Phase::Greeting { renew } = self.phase else {
            return Err(SessionError::Protocol { what: "a Welcome" });
        };
        let epoch = welcome.epoch;
        let clock_suspect = welcome.flags & welcome_flag::CLOCK_SUSPECT != 0;
        let own = self.outbox.standing().epoch;
        if welcome.terminal != self.config.terminal || (!renew && own != Some(epoch)) {
            return Err(SessionError::Protocol {
                what: "another session's Welcome",
            });
        }
        let window = welcome.credit_frames.min(self.config.window_frames).max(1);
        self.credit = usize::try_from(window).unwrap_or(usize::MAX);
        if renew {
            if welcome.next_seq != Seq::FIRST || own >= Some(epoch) {
                return Err(SessionError::Protocol {
                    what: "an epoch that is not new",
                });
            }
            let standing = self.outbox.standing();
            let is_unmet = own.is_none() && standing.last > 0;
            if is_unmet && welcome.latest_epoch < epoch && !self.config.has_event_ids {
                // An outbox that never met the engine, of a terminal that did: it may be an image of a device that
                // has sent these events since.
                return self.next_epoch(Comparison {
                    epoch: 0,
                    latest: welcome.latest_epoch.get(),
                    from: standing.committed + 1,
                    to: standing.last,
                    shift: 0,
                    asked: 0,
                    granted: Some((epoch, welcome.time, clock_suspect)),
                    marks_max: CHECK_MARKS_MAX,
                    claimed: None,
                    foreign: false,
                });
            }
            self.begin_epoch(own, epoch)?;
        } else if !self.agrees(welcome)? {
            return self.diverged(welcome);
        } else {
            self.take_up(welcome.next_seq.get());
        }
        self.go_live(epoch, welcome.time, clock_suspect);
        Ok(None)
    }

    fn go_live(&mut self, epoch: Epoch, time: Timestamp, clock_suspect: bool) {
        self.phase = Phase::Live;
        self.notices.push_back(Notice::Live {
            epoch,
            next: self.cursor,
            time,
            clock_suspect,
        });
    }

    fn begin_epoch(&mut self, old: Option<Epoch>, new: Epoch) -> Result<(), SessionError> {
        let from = self
            .renew_from
            .unwrap_or_else(|| self.outbox.standing().committed + 1);
        self.outbox.begin_epoch(new, from)?;
        self.renew_from = None;
        self.cursor = 1;
        self.journalled = 0;
        self.refused.clear();
        self.notices
            .push_back(Notice::Renumbered { old, new, from });
        Ok(())
    }

    /// Goes on where the engine stands.
    fn take_up(&mut self, next: u64) {
        let acknowledged = self.journalled.max(self.outbox.standing().committed);
        if self.config.repeat_unacknowledged {
            self.cursor = next.min(acknowledged + 1);
            return;
        }
        self.journalled = acknowledged.max(next - 1);
        let standing = self.outbox.standing();
        // An engine acknowledges frames. Where none is left to send and the last answer was lost, the last one is
        // said again: the engine knows it, and answers.
        let unanswered = next > standing.last && standing.committed < standing.last;
        self.cursor = if unanswered { standing.last } else { next };
    }

    /// Whether the engine's last event of this epoch is the one that stands in the outbox.
    fn agrees(&mut self, welcome: &Welcome) -> Result<bool, SessionError> {
        let standing = self.outbox.standing();
        let last = welcome.next_seq.get() - 1;
        if welcome.is_closed() || last > standing.last || last < standing.committed {
            return Ok(false);
        }
        if last == 0 || welcome.mark == 0 {
            // The engine has nothing, or its last event is a tombstone without a mark: the numbers have to do.
            return Ok(true);
        }
        let own = self.mark(last)?;
        Ok(own == Some(welcome.mark) || own == Some(0))
    }

    fn mark(&mut self, seq: u64) -> Result<Option<u64>, SessionError> {
        let Some(stored) = self.outbox.frame_of(seq)? else {
            return Ok(None);
        };
        let index = u32::try_from(seq - stored.first).unwrap_or(u32::MAX);
        // A frame that can't be read here could not be read there either; it has no mark.
        Ok(frame::mark(&stored.bytes, index).ok())
    }

    /// The histories differ: finds out which events are at the engine, then asks for a new epoch.
    fn diverged(&mut self, welcome: &Welcome) -> Result<Option<End>, SessionError> {
        let standing = self.outbox.standing();
        if self.config.has_event_ids {
            self.renew_from = Some(standing.committed + 1);
            return Ok(Some(End::Renew));
        }
        self.compare(Comparison {
            epoch: welcome.epoch.get(),
            latest: welcome.latest_epoch.get(),
            from: standing.committed + 1,
            to: standing.last.min(welcome.next_seq.get() - 1),
            shift: 0,
            asked: 0,
            granted: None,
            marks_max: CHECK_MARKS_MAX,
            claimed: None,
            foreign: false,
        })
    }

    /// Asks about the next events of this epoch, or goes on to the next one.
    fn compare(&mut self, mut comparison: Comparison) -> Result<Option<End>, SessionError> {
        let mut marks = Vec::new();
        let mut seq = comparison.from;
        while marks.len() < comparison.marks_max && seq <= comparison.to {
            let mark = self.mark(seq)?.unwrap_or(0);
            // A mark that is wrong on purpose equals nothing but a tombstone, and is never 0.
            let asked = if comparison.claimed.is_some() {
                !mark | 1
            } else {
                mark
            };
            marks.push(asked);
            seq += 1;
        }
        if marks.is_empty() {
            return self.next_epoch(comparison);
        }
        comparison.asked = u16::try_from(marks.len()).unwrap_or(u16::MAX);
        let (Ok(epoch), Ok(first_seq)) = (
            Epoch::new(comparison.epoch),
            Seq::new(comparison.from - comparison.shift),
        ) else {
            return self.next_epoch(comparison);
        };
        let check = Check {
            epoch,
            first_seq,
            marks,
        };
        self.control.push_back(check.encode());
        self.phase = Phase::Checking(comparison);
        Ok(None)
    }

    /// Compares what is left with the next epoch, at whose start a device of the same history would have put it.
    fn next_epoch(&mut self, mut comparison: Comparison) -> Result<Option<End>, SessionError> {
        let last = self.outbox.standing().last;
        if comparison.from <= last && comparison.epoch < comparison.latest {
            comparison.epoch += 1;
            comparison.shift = comparison.from - 1;
            comparison.to = last;
            comparison.foreign = true;
            return self.compare(comparison);
        }
        self.renew_from = Some(comparison.from);
        let Some((epoch, time, clock_suspect)) = comparison.granted else {
            return Ok(Some(End::Renew));
        };
        self.begin_epoch(None, epoch)?;
        self.go_live(epoch, time, clock_suspect);
        Ok(None)
    }

    pub(super) fn handle_checked(
        &mut self,
        checked: &Checked,
    ) -> Result<Option<End>, SessionError> {
        let Phase::Checking(mut comparison) = self.phase else {
            return Err(SessionError::Protocol { what: "a Checked" });
        };
        let asked = comparison.asked;
        let (matched, known) = (checked.matched, checked.known);
        if checked.epoch.get() != comparison.epoch
            || checked.first_seq.get() != comparison.from - comparison.shift
            || matched > asked
            || known > asked
        {
            return Err(SessionError::Protocol {
                what: "the answer to another Check",
            });
        }
        if let Some((claimed, all)) = comparison.claimed.take() {
            comparison.marks_max = CHECK_MARKS_MAX;
            if matched == asked {
                // Tombstones alone: this epoch may be that of quite another history.
                return self.next_epoch(comparison);
            }
            comparison.from += u64::from(claimed);
            return if all {
                self.compare(comparison)
            } else {
                self.next_epoch(comparison)
            };
        }
        let at_start = comparison.from - comparison.shift == 1;
        if comparison.foreign && at_start && matched > 0 {
            comparison.claimed = Some((matched, matched == asked));
            comparison.marks_max = usize::from(matched);
            return self.compare(comparison);
        }
        comparison.from += u64::from(matched);
        comparison.marks_max = CHECK_MARKS_MAX;
        if matched == asked {
            return self.compare(comparison);
        }
        let own = self.outbox.standing().epoch;
        if known == asked || own.map(Epoch::get) != Some(comparison.epoch) {
            // The first event that the engine has not, or has otherwise.
            return self.next_epoch(comparison);
        }
        if asked > 1 {
            // Some could not be compared; whether the next one could, its own question tells.
            comparison.marks_max = 1;
            return self.compare(comparison);
        }
        let seq = comparison.from;
        self.bury(seq, Cause::Unknown)?;
        self.notices
            .extend(own.map(|epoch| Notice::Unknown { epoch, seq }));
        comparison.from += 1;
        self.compare(comparison)
    }
}

/// Which events are being compared with which epoch of the engine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    /// The engine's epoch.
    epoch: u32,
    /// The last epoch that the engine knows.
    latest: u32,
    /// First event of the outbox that was not yet found.
    from: u64,
    /// Last event of the outbox that can be in this epoch.
    to: u64,
    /// By how much the outbox's numbers lie above the engine's.
    shift: u64,
    /// How many marks the open question holds.
    asked: u16,
    /// The epoch that begins on this stream when all is compared, with the Welcome's clock, if it was asked for.
    granted: Option<(Epoch, Timestamp, bool)>,
    /// Most marks in the next question.
    marks_max: usize,
    /// The epoch is not the outbox's own: what stands at its start may be of another history.
    foreign: bool,
    /// So many events at the start of a foreign epoch equal ours (and whether all that were asked about). A tombstone has
    /// no mark and equals everything, so this is asked once more with wrong marks before it is believed.
    claimed: Option<(u16, bool)>,
}
