//! The start of a stream: do the engine and this device hold the same history?
//!
//! Where they do, what was never acknowledged is sent again under its numbers. Where they don't, a new epoch is asked for. The
//! grant ends every other session of this terminal, so that what is at the engine then stays as it is while the events that wait
//! are compared with it, once: under their own numbers, and at the start of each later epoch, where this device put them if the
//! outbox is an image from before that epoch. What is found has left the outbox when the new epoch begins. Where all that the
//! engine has turns out to be this outbox's, the epoch goes on.
//!
//! What another device with a copy of this outbox sends between the comparison and the first ack counts once for each of the two,
//! unless it has an event id.

use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq};
use till_protocol::limits::CHECK_DIGESTS_MAX;
use till_protocol::reply::{Check, Checked, Welcome, welcome_flag};
use till_protocol::time::Timestamp;

use super::{End, Notice, Phase, Session, SessionError};
use crate::deadletter::Cause;
use crate::frame;

/// An epoch in which events may be sent, with what the engine's Welcome said besides.
#[derive(Clone, Copy, Debug)]
struct Grant {
    epoch: Epoch,
    time: Timestamp,
    clock_suspect: bool,
}

/// Where the next events of the outbox are compared with the engine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    /// The epoch that begins when all is compared.
    grant: Grant,
    /// The last epoch that has events at the engine.
    latest: Epoch,
    /// The epoch of the engine's that is compared with.
    epoch: Epoch,
    /// Number in it of the next event.
    seq: u64,
    /// The next event's number in the outbox: all before it are done with.
    from: u64,
    /// How many digests the open Check holds.
    asked: u16,
    /// No event became a dead letter because nobody can tell whether the engine has it, nor did the last one that it has.
    is_plain: bool,
}

impl Comparison {
    /// The next events are done with.
    const fn advance(&mut self, events: u64) {
        self.from += events;
        self.seq += events;
    }
}

impl Session {
    pub(super) fn handle_welcome(
        &mut self,
        welcome: &Welcome,
    ) -> Result<Option<End>, SessionError> {
        let own = self.epoch_to_ask_for();
        if welcome.terminal != self.config.terminal || own.is_some_and(|own| own != welcome.epoch) {
            return Err(SessionError::Protocol {
                what: "another session's Welcome",
            });
        }
        let window = welcome.credit_frames.min(self.config.window_frames).max(1);
        self.credit = usize::try_from(window).unwrap_or(usize::MAX);
        let grant = Grant {
            epoch: welcome.epoch,
            time: welcome.time,
            clock_suspect: welcome.flags & welcome_flag::CLOCK_SUSPECT != 0,
        };
        if own.is_none() {
            self.handle_grant(grant, welcome)?;
        } else if self.is_same_history(welcome)? {
            self.resume(welcome.next_seq.get());
            self.go_live(grant);
        } else {
            self.diverged = Some(welcome.next_seq.get() - 1);
            self.phase = Phase::Apart;
            return Ok(Some(End::Renew));
        }
        Ok(None)
    }

    /// Whether the engine's last event of this epoch is the one that stands in the outbox.
    fn is_same_history(&mut self, welcome: &Welcome) -> Result<bool, SessionError> {
        let standing = self.outbox.standing();
        let last = welcome.next_seq.get() - 1;
        if welcome.is_closed() || last > standing.last || last < standing.committed {
            return Ok(false);
        }
        if last == 0 {
            return Ok(true);
        }
        if self.digest(last)? != Some(welcome.digest) {
            return Ok(false);
        }
        // What this session has sent, the engine has from it. An outbox that was put back may only have its last event in
        // common with what was sent since.
        let is_own = last <= self.sent.max(standing.committed + 1);
        Ok(is_own || self.speaks_for_others(last)?)
    }

    /// Goes on behind what is committed. What the engine has besides is sent again: an ack speaks of what its own stream has
    /// sent, and it tells what was refused, where the first one was lost, and when the rest is committed.
    fn resume(&mut self, next: u64) {
        let committed = self.outbox.standing().committed;
        self.journalled = self.journalled.max(committed).min(next - 1);
        self.cursor = committed + 1;
    }

    fn go_live(&mut self, grant: Grant) {
        self.phase = Phase::Live;
        self.notices.push_back(Notice::Live {
            epoch: grant.epoch,
            next: self.cursor,
            time: grant.time,
            clock_suspect: grant.clock_suspect,
        });
    }

    fn handle_grant(&mut self, grant: Grant, welcome: &Welcome) -> Result<(), SessionError> {
        if welcome.next_seq != Seq::FIRST {
            return Err(SessionError::Protocol {
                what: "an epoch that is not new",
            });
        }
        let standing = self.outbox.standing();
        let from = standing.committed + 1;
        if self.config.has_event_ids || welcome.latest_epoch >= grant.epoch {
            return self.begin_epoch(grant, from);
        }
        self.compare(Comparison {
            grant,
            latest: welcome.latest_epoch,
            // An outbox without an epoch may be an image of a device that has sent these events since.
            epoch: standing.epoch.unwrap_or(Epoch::FIRST),
            seq: from,
            from,
            asked: 0,
            is_plain: true,
        })
    }

    /// Asks about the next events; the new epoch begins when there is nothing left to ask.
    fn compare(&mut self, mut comparison: Comparison) -> Result<(), SessionError> {
        let Comparison { from, epoch, .. } = comparison;
        let last = self.outbox.standing().last;
        let (Ok(first_seq), true) = (
            Seq::new(comparison.seq),
            from <= last && epoch <= comparison.latest,
        ) else {
            return self.begin_epoch(comparison.grant, from);
        };
        let mut digests = Vec::new();
        for seq in (from..=last).take(CHECK_DIGESTS_MAX) {
            digests.push(self.digest(seq)?.unwrap_or(0));
        }
        comparison.asked = u16::try_from(digests.len()).unwrap_or(u16::MAX);
        let check = Check {
            epoch,
            first_seq,
            digests,
        };
        self.control.push_back(check.encode());
        self.phase = Phase::Checking(comparison);
        Ok(())
    }

    pub(super) fn handle_checked(
        &mut self,
        mut comparison: Comparison,
        checked: &Checked,
    ) -> Result<Option<End>, SessionError> {
        let asked = comparison.asked;
        let (matched, known) = (checked.matched, checked.known);
        if checked.epoch != comparison.epoch
            || checked.first_seq.get() != comparison.seq
            || matched > known
            || known > asked
        {
            return Err(SessionError::Protocol {
                what: "the answer to another Check",
            });
        }
        comparison.advance(u64::from(matched));
        if matched == asked {
            return self.compare(comparison).map(|()| None);
        }
        let own = self.outbox.standing().epoch;
        let is_own = own == Some(comparison.epoch);
        if matched == known && is_own && self.is_all_found(&comparison) {
            self.sent = comparison.from - 1;
            self.diverged = None;
            self.phase = Phase::Apart;
            return Ok(Some(End::Renew));
        }
        let was_there = is_own && self.diverged.is_some_and(|last| comparison.from <= last);
        if matched == known && was_there {
            self.bury(comparison.from, Cause::Unknown)?;
            self.notices.extend(own.map(|epoch| Notice::Unknown {
                epoch,
                seq: comparison.from,
            }));
            comparison.advance(1);
            comparison.is_plain = false;
            return self.compare(comparison).map(|()| None);
        }
        // The first event that the engine has not here, or has otherwise.
        let Some(later) = comparison.epoch.next() else {
            return self
                .begin_epoch(comparison.grant, comparison.from)
                .map(|()| None);
        };
        comparison.epoch = later;
        comparison.seq = 1;
        self.compare(comparison).map(|()| None)
    }

    /// Whether every event that the engine has of this epoch, the latest one, was found equal: then it is this outbox's after
    /// all, and goes on. An engine may lack what another one has journalled and hands off later; in a new epoch it would count
    /// once more.
    fn is_all_found(&self, comparison: &Comparison) -> bool {
        comparison.is_plain
            && comparison.epoch == comparison.latest
            && self.diverged == Some(comparison.from - 1)
    }

    /// Events that were found at the engine as refused: they are dead letters before they are forgotten.
    pub(super) fn bury_found(
        &mut self,
        mut comparison: Comparison,
        refusals: &[(Seq, Reason)],
    ) -> Result<(), SessionError> {
        let mut buried = Vec::new();
        for (seq, reason) in refusals {
            let seq = seq.get().saturating_sub(comparison.seq) + comparison.from;
            self.bury(seq, Cause::Refused(*reason))?;
            // The engine's last event is what it shows for the history of the epoch.
            comparison.is_plain &= self.diverged != Some(seq);
            buried.push((seq, *reason));
        }
        self.phase = Phase::Checking(comparison);
        let standing = self.outbox.standing();
        self.notices
            .extend(standing.epoch.map(|epoch| Notice::Acked {
                epoch,
                journalled: self.journalled,
                committed: standing.committed,
                refusals: buried,
            }));
        Ok(())
    }

    /// Moves the events from `from` on into the new epoch, and sends them there.
    fn begin_epoch(&mut self, grant: Grant, from: u64) -> Result<(), SessionError> {
        let old = self.outbox.standing().epoch;
        let from = self.whole_frames(from)?;
        self.outbox.begin_epoch(grant.epoch, from)?;
        self.diverged = None;
        self.cursor = 1;
        self.sent = 0;
        self.journalled = 0;
        self.refused.clear();
        self.notices.push_back(Notice::Renumbered {
            old,
            new: grant.epoch,
            from,
        });
        self.go_live(grant);
        Ok(())
    }

    /// A frame that can't be read can't be cut in two: it goes into the new epoch whole, and what was refused of it is refused
    /// again.
    fn whole_frames(&mut self, from: u64) -> Result<u64, SessionError> {
        let Some(stored) = self.outbox.frame_of(from)? else {
            return Ok(from);
        };
        let is_whole = stored.first == from;
        let is_cut = is_whole || frame::single(&stored.bytes, stored.index_of(from)).is_ok();
        Ok(if is_cut { from } else { stored.first })
    }

    fn speaks_for_others(&mut self, seq: u64) -> Result<bool, SessionError> {
        let stored = self.outbox.frame_of(seq)?;
        Ok(stored
            .is_some_and(|stored| frame::speaks_for_others(&stored.bytes, stored.index_of(seq))))
    }

    /// `None` where the outbox does not hold the event. One that can't be read here can't be read there either: neither side
    /// has a digest.
    fn digest(&mut self, seq: u64) -> Result<Option<u64>, SessionError> {
        let stored = self.outbox.frame_of(seq)?;
        Ok(stored.map(|stored| frame::digest(&stored.bytes, stored.index_of(seq)).unwrap_or(0)))
    }
}
