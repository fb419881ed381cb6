//! The start of a stream: do the engine and this device mean the same history?
//!
//! Where they do, what was never acknowledged is sent again under its numbers. Where they don't, a new epoch is asked for.
//! The grant ends every other session of this terminal, so that what is at the engine then stays as it is while each event
//! that waits is looked for there: under its own number, and at the start of each later epoch, where this device put it if
//! the outbox is an image from before that epoch.
//!
//! A life is the device's own from its first committed event on. Until then another device with a copy of this outbox may
//! say the same events in the life from which they were carried over, or in one between: where the engine has others but
//! nothing of this one, they are looked for again, from where they came.

use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq};
use till_protocol::limits::CHECK_MARKS_MAX;
use till_protocol::reply::{Check, Checked, Welcome, welcome_flag};
use till_protocol::time::Timestamp;

use super::{End, Notice, Phase, Session, SessionError};
use crate::deadletter::Cause;
use crate::frame;
use crate::outbox::Origin;

impl Session {
    pub(super) fn handle_welcome(
        &mut self,
        welcome: &Welcome,
    ) -> Result<Option<End>, SessionError> {
        let Phase::Greeting { renew } = self.phase else {
            return Err(SessionError::Protocol { what: "a Welcome" });
        };
        let standing = self.outbox.standing();
        let own = standing.epoch;
        if welcome.terminal != self.config.terminal || (!renew && own != Some(welcome.epoch)) {
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
        if !renew {
            if self.agrees(welcome)? {
                self.take_up(welcome.next_seq.get());
                self.go_live(grant);
                return Ok(None);
            }
            self.renewal = Some(Renewal {
                known: welcome.next_seq.get() - 1,
            });
            return Ok(Some(End::Renew));
        }
        if welcome.next_seq != Seq::FIRST {
            return Err(SessionError::Protocol {
                what: "an epoch that is not new",
            });
        }
        let from = standing.committed + 1;
        let has_others = welcome.latest_epoch < grant.epoch;
        let latest = welcome.latest_epoch;
        let origin = self.branched(latest);
        if self.config.has_event_ids || !has_others {
            self.begin_epoch(grant, from, origin)?;
            return Ok(None);
        }
        self.compare(Comparison {
            grant,
            epoch: origin.epoch,
            next: origin.seq,
            latest,
            start: Start {
                seq: origin.seq,
                from,
            },
            from,
            origin,
            asked: 0,
            marks_max: CHECK_MARKS_MAX,
        })?;
        Ok(None)
    }

    /// Where the first event that is not committed may be found, or what is missing before it.
    fn branched(&self, latest: Epoch) -> Origin {
        let standing = self.outbox.standing();
        let seq = standing.committed + 1;
        // What is in no commit may still be said by another device in the life from which it came.
        let came_from = standing.origin.filter(|_| standing.committed == 0);
        let own = standing.epoch.map(|epoch| Origin { epoch, seq });
        // An outbox that never met this engine may be an image of a device that has sent these events since.
        let met = came_from.or(own).filter(|one| one.epoch <= latest);
        met.unwrap_or(Origin {
            epoch: Epoch::FIRST,
            seq: 1,
        })
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

    /// Moves the events from `from` on into the new epoch, and sends them there.
    fn begin_epoch(&mut self, grant: Grant, from: u64, origin: Origin) -> Result<(), SessionError> {
        let standing = self.outbox.standing();
        let old = standing.epoch;
        let (from, origin) = self.whole_frames(from, origin)?;
        // Nobody else has what was never said under another number, what has an id is known by that, and before the first life
        // of all there is none to look in.
        let is_branch =
            from <= standing.last && !self.config.has_event_ids && grant.epoch != Epoch::FIRST;
        let origin = Some(origin).filter(|_| is_branch);
        self.outbox.begin_epoch(grant.epoch, from, origin)?;
        self.renewal = None;
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

    /// A frame that can't be read can't be cut in two: it goes into the new life whole, and what was refused of it is refused
    /// again.
    fn whole_frames(&mut self, from: u64, origin: Origin) -> Result<(u64, Origin), SessionError> {
        let Some(stored) = self.outbox.frame_of(from)? else {
            return Ok((from, origin));
        };
        let before = from - stored.first;
        let index = u32::try_from(before).unwrap_or(u32::MAX);
        if before == 0 || frame::single(&stored.bytes, index).is_ok() {
            return Ok((from, origin));
        }
        let seq = origin.seq.saturating_sub(before).max(1);
        Ok((stored.first, Origin { seq, ..origin }))
    }

    /// Goes on behind what is committed. What the engine has besides is said again: an ack speaks of what its own stream has
    /// sent, and it tells what was refused, where the first one was lost, and when the rest is committed.
    fn take_up(&mut self, next: u64) {
        let committed = self.outbox.standing().committed;
        self.journalled = self.journalled.max(committed).min(next - 1);
        self.sent = self.sent.max(self.cursor - 1);
        self.cursor = committed + 1;
    }

    /// Whether the engine's last event of this epoch is the one that stands in the outbox.
    fn agrees(&mut self, welcome: &Welcome) -> Result<bool, SessionError> {
        let standing = self.outbox.standing();
        let last = welcome.next_seq.get() - 1;
        if welcome.is_closed() || last > standing.last || last < standing.committed {
            return Ok(false);
        }
        if last == 0 {
            let others = welcome.latest_epoch < welcome.epoch;
            let is_branch = standing.origin.is_some() && standing.last > 0;
            return Ok(!(others && is_branch));
        }
        if self.mark(last)? != Some(welcome.mark) {
            return Ok(false);
        }
        // What this session has sent, the engine has from it. An outbox that was put back may only have its last event in
        // common with what was sent since.
        let is_own = last <= self.sent.max(self.cursor - 1).max(standing.committed + 1);
        Ok(is_own || self.speaks_for_others(last)?)
    }

    fn speaks_for_others(&mut self, seq: u64) -> Result<bool, SessionError> {
        let stored = self.outbox.frame_of(seq)?;
        Ok(stored.is_some_and(|stored| {
            let index = u32::try_from(seq - stored.first).unwrap_or(u32::MAX);
            frame::speaks_for_others(&stored.bytes, index)
        }))
    }

    fn mark(&mut self, seq: u64) -> Result<Option<u64>, SessionError> {
        let Some(stored) = self.outbox.frame_of(seq)? else {
            return Ok(None);
        };
        let index = u32::try_from(seq - stored.first).unwrap_or(u32::MAX);
        // A frame that can't be read here could not be read there either; neither side has a mark.
        Ok(Some(frame::mark(&stored.bytes, index).unwrap_or(0)))
    }

    /// Asks about the next events in the epoch at hand, or in the first later one that can hold them; goes live when there
    /// is nothing left to ask.
    fn compare(&mut self, mut comparison: Comparison) -> Result<(), SessionError> {
        let last = self.outbox.standing().last;
        let (Ok(first_seq), true) = (Seq::new(comparison.next), comparison.from <= last) else {
            return self.begin_compared(comparison);
        };
        let mut marks = Vec::new();
        let mut seq = comparison.from;
        while marks.len() < comparison.marks_max && seq <= last {
            marks.push(self.mark(seq)?.unwrap_or(0));
            seq += 1;
        }
        comparison.asked = u16::try_from(marks.len()).unwrap_or(u16::MAX);
        let check = Check {
            epoch: comparison.epoch,
            first_seq,
            marks,
        };
        self.control.push_back(check.encode());
        self.phase = Phase::Checking(comparison);
        Ok(())
    }

    fn begin_compared(&mut self, comparison: Comparison) -> Result<(), SessionError> {
        let Comparison {
            grant,
            from,
            origin,
            ..
        } = comparison;
        self.begin_epoch(grant, from, origin)
    }

    /// Compares what is left with the next epoch, at whose start a device of the same history would have put it. What was found
    /// before may have come to the engine since that epoch began: then it began with the first event of this comparison, or
    /// with the very first of the life from which that one is.
    fn next_place(&mut self, mut comparison: Comparison) -> Result<(), SessionError> {
        let start = comparison.start;
        let found = comparison.from - start.from;
        let places = [1, found + 1, found + start.seq];
        let is_nothing_here = comparison.origin.epoch != comparison.epoch;
        let other = places.into_iter().find(|place| *place > comparison.next);
        if let Some(place) = other.filter(|_| is_nothing_here) {
            comparison.next = place;
        } else {
            let later = comparison.epoch.next();
            let Some(later) = later.filter(|later| *later <= comparison.latest) else {
                return self.begin_compared(comparison);
            };
            comparison.epoch = later;
            comparison.next = 1;
        }
        comparison.marks_max = CHECK_MARKS_MAX;
        self.compare(comparison)
    }

    /// Events that were found at the engine as refused: they are dead letters before they are forgotten.
    pub(super) fn bury_found(
        &mut self,
        comparison: &Comparison,
        refusals: &[(Seq, Reason)],
    ) -> Result<(), SessionError> {
        let mut buried = Vec::new();
        for (seq, reason) in refusals {
            let seq = seq.get().saturating_sub(comparison.next) + comparison.from;
            self.bury(seq, Cause::Refused(*reason))?;
            buried.push((seq, *reason));
        }
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

    pub(super) fn handle_checked(&mut self, checked: &Checked) -> Result<(), SessionError> {
        let Phase::Checking(mut comparison) = self.phase else {
            return Err(SessionError::Protocol { what: "a Checked" });
        };
        let asked = comparison.asked;
        let (matched, known) = (checked.matched, checked.known);
        if checked.epoch != comparison.epoch
            || checked.first_seq.get() != comparison.next
            || matched > known
            || known > asked
        {
            return Err(SessionError::Protocol {
                what: "the answer to another Check",
            });
        }
        comparison.found(u64::from(matched));
        comparison.marks_max = CHECK_MARKS_MAX;
        if matched == asked {
            return self.compare(comparison);
        }
        // Under its own numbers, that is.
        let is_own = self.outbox.standing().epoch == Some(comparison.epoch)
            && comparison.next == comparison.from;
        let known_at_first = self.renewal.map_or(0, |renewal| renewal.known);
        if matched < known || !is_own || comparison.from > known_at_first {
            // The first event that the engine has not, or has otherwise.
            return self.next_place(comparison);
        }
        if asked > 1 {
            // Some could not be compared; whether the next one could, its own question tells.
            comparison.marks_max = 1;
            return self.compare(comparison);
        }
        let seq = comparison.from;
        self.bury(seq, Cause::Unknown)?;
        let own = self.outbox.standing().epoch;
        self.notices
            .extend(own.map(|epoch| Notice::Unknown { epoch, seq }));
        comparison.found(1);
        self.compare(comparison)
    }
}

/// Why a new epoch is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// Last event of the outbox's epoch that the engine had when it greeted.
    known: u64,
}

/// An epoch that the engine has opened, with what its greeting said besides.
#[derive(Clone, Copy, Debug)]
struct Grant {
    epoch: Epoch,
    time: Timestamp,
    clock_suspect: bool,
}

/// Which events are being compared with which epoch of the engine's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    /// The epoch that begins when all is compared.
    grant: Grant,
    /// The engine's epoch.
    epoch: Epoch,
    /// The last epoch that has events.
    latest: Epoch,
    /// Number of the next event in it.
    next: u64,
    start: Start,
    /// First event of the outbox that was not yet found.
    from: u64,
    /// Where the last one was found, or could have been.
    origin: Origin,
    /// How many marks the open question holds.
    asked: u16,
    /// Most marks in the next question.
    marks_max: usize,
}

impl Comparison {
    /// The next events are done with: the engine has them where they were looked for.
    const fn found(&mut self, events: u64) {
        self.from += events;
        self.next += events;
        if events > 0 {
            self.origin = Origin {
                epoch: self.epoch,
                seq: self.next,
            };
        }
    }
}

/// The first event that was asked for.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// Its number in the first epoch of the comparison.
    seq: u64,
    /// Its number in the outbox.
    from: u64,
}
