//! Frames out, acknowledgements in.

use std::time::{Duration, Instant};

use bytes::Bytes;
use till_protocol::id::Seq;
use till_protocol::reply::{Ack, Message};

use super::{Notice, Phase, Session, SessionError};
use crate::deadletter::Cause;

/// How long the answer to a gap is given before the same gap is answered again. Frames that were under way when the first
/// answer was given cause the same complaint; a round trip is far shorter.
const GAP_AGAIN: Duration = Duration::from_millis(500);

impl Session {
    /// Moves up to `max` pieces that are to be written now, in order, to the end of `out`.
    ///
    /// # Errors
    /// Returns [`SessionError`] when a frame can't be read from the outbox.
    pub fn transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<Bytes>,
        max: usize,
    ) -> Result<(), SessionError> {
        let mut room = max;
        while room > 0
            && let Some(message) = self.control.pop_front()
        {
            out.push(message);
            room -= 1;
        }
        if !matches!(self.phase, Phase::Live) || self.pausing(now) {
            return Ok(());
        }
        self.answer_gap_again(now);
        let durable = self.outbox.standing().durable;
        while room > 0 && self.in_flight.len() < self.credit && self.cursor <= durable {
            let Some(stored) = self.outbox.frame_of(self.cursor)? else {
                return Err(SessionError::Protocol {
                    what: "a next number that the outbox no longer holds",
                });
            };
            self.cursor = stored.last() + 1;
            self.sent = self.sent.max(stored.last());
            self.in_flight.push_back(stored.last());
            out.push(stored.bytes);
            room -= 1;
        }
        Ok(())
    }

    /// When [`Session::transmit`] should be called again although nothing else has happened.
    pub fn timeout(&self) -> Option<Instant> {
        let gap = self.gap.and_then(|(_, again)| again);
        match (self.paused_until, gap) {
            (Some(pause), Some(gap)) => Some(pause.min(gap)),
            (pause, gap) => pause.or(gap),
        }
    }

    /// Says goodbye: the engine ends the stream after what it has taken.
    pub fn leave(&mut self) {
        if !matches!(self.phase, Phase::Apart) {
            self.control.push_back(Message::Goodbye.encode());
        }
    }

    fn pausing(&mut self, now: Instant) -> bool {
        if self.paused_until.is_some_and(|until| until <= now) {
            self.paused_until = None;
        }
        self.paused_until.is_some()
    }

    pub(super) fn handle_ack(&mut self, ack: &Ack) -> Result<(), SessionError> {
        let standing = self.outbox.standing();
        let Some(epoch) = standing.epoch else {
            return Err(SessionError::Protocol { what: "an Ack" });
        };
        let journalled = ack.journalled.map_or(0, Seq::get);
        let upto = ack.committed.map_or(0, Seq::get);
        if journalled > standing.last || upto > journalled {
            return Err(SessionError::Protocol {
                what: "an Ack of what was never sent",
            });
        }
        let mut refusals = Vec::new();
        for (seq, reason) in &ack.refusals {
            let (seq, reason) = (seq.get(), *reason);
            // An Ack that is repeated names them again.
            if seq > standing.committed && seq <= journalled && self.refused.insert(seq) {
                self.bury(seq, Cause::Refused(reason))?;
                refusals.push((seq, reason));
            }
        }
        self.journalled = self.journalled.max(journalled);
        while self
            .in_flight
            .front()
            .is_some_and(|last| *last <= self.journalled)
        {
            self.in_flight.pop_front();
        }
        if self
            .gap
            .is_some_and(|(expected, _)| expected <= self.journalled)
        {
            self.gap = None;
        }
        self.outbox.commit(upto)?;
        let committed = self.outbox.standing().committed;
        // What is committed has left the outbox; there is nothing to repeat of it.
        self.cursor = self.cursor.max(committed + 1);
        self.refused = self.refused.split_off(&(committed + 1));
        self.notices.push_back(Notice::Acked {
            epoch,
            journalled: self.journalled,
            committed,
            refusals,
        });
        Ok(())
    }

    pub(super) fn handle_nack(&mut self, now: Instant, expected: u64) -> Result<(), SessionError> {
        let standing = self.outbox.standing();
        if expected <= standing.committed || expected > standing.last + 1 {
            return Err(SessionError::Protocol { what: "a Nack" });
        }
        match &mut self.gap {
            Some((answered, again)) if *answered == expected => {
                again.get_or_insert(now + GAP_AGAIN);
            }
            _ => {
                self.gap = Some((expected, None));
                self.go_back(expected);
            }
        }
        Ok(())
    }

    fn answer_gap_again(&mut self, now: Instant) {
        if let Some((expected, Some(again))) = self.gap
            && again <= now
        {
            self.gap = Some((expected, None));
            self.go_back(expected);
        }
    }

    fn go_back(&mut self, expected: u64) {
        while self.in_flight.back().is_some_and(|last| *last >= expected) {
            self.in_flight.pop_back();
        }
        self.cursor = self.cursor.min(expected);
        self.notices.push_back(Notice::Resent { expected });
    }
}
