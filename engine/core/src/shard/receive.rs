//! Frames that are taken in before they can be decided, because the rows that they need cannot be read for now.
//!
//! Their records have no effect. [`Record::decidable`] is the record that may be given to [`Shard::adopt`] later, here or
//! elsewhere; what it says of its events then is what it said when they were received.

use bytes::Bytes;
use till_protocol::code::Reason;
use till_protocol::id::Seq;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::batch::{Span, head};
use super::decide::reason_of;
use super::tally::compress;
use super::{Handled, SessionKey, Shard};
use crate::flag;
use crate::record::{Outcome, Record, RecordKind, Verdict};
use crate::terminal::Window;

impl Shard {
    /// The record of a batch that is not decided, of a session whose next event is `expected`. Nothing has changed here.
    pub fn receive_batch(
        &self,
        now: Timestamp,
        session: SessionKey,
        batch: &Verified,
        expected: u64,
    ) -> Handled {
        let header = &batch.frame().header;
        let last = header.first_seq.saturating_add(u64::from(header.count)) - 1;
        let skip = match window(header.first_seq, header.count, expected) {
            Window::Next { skip } => skip,
            other => return not_taken(other, last),
        };
        let span = Span {
            family: header.family,
            version: header.version,
            first_seq: header.first_seq,
            count: header.count,
            skip,
        };
        let verdicts = (skip..span.count).filter_map(|index| known_of(batch, session, index));
        let mark = batch.mark(span.count.saturating_sub(1));
        let payload = batch.frame().payload.clone();
        self.received((session, now, mark), span, payload, verdicts.collect())
    }

    /// The record of a frame that makes no sense, as [`receive_batch`](Self::receive_batch).
    pub fn receive_unreadable(
        &self,
        now: Timestamp,
        session: SessionKey,
        (first_seq, count, reason): (Seq, u32, Reason),
        expected: u64,
    ) -> Handled {
        let last = first_seq.get().saturating_add(u64::from(count)) - 1;
        let skip = match window(first_seq.get(), count, expected) {
            Window::Next { skip } => skip,
            other => return not_taken(other, last),
        };
        let span = Span {
            family: 0,
            version: 0,
            first_seq: first_seq.get(),
            count,
            skip,
        };
        let all = Verdict {
            index: Verdict::ALL,
            outcome: Outcome::Refused,
            reason: reason.code(),
            flags: 0,
        };
        self.received((session, now, 0), span, Bytes::new(), vec![all])
    }

    fn received(
        &self,
        (session, now, mark): (SessionKey, Timestamp, u64),
        span: Span,
        payload: Bytes,
        verdicts: Vec<Verdict>,
    ) -> Handled {
        let mut head = head(session, span, now, mark);
        head.kind = RecordKind::Received;
        self.handled(Record {
            head,
            payload,
            verdicts: compress(verdicts, span.count - span.skip),
        })
    }
}

impl Record {
    /// The record to decide: one of a frame that was only received passes for that of a batch, any other stays as it is.
    #[must_use]
    pub fn decidable(mut self) -> Self {
        if self.head.kind == RecordKind::Received {
            self.head.kind = match self.payload.is_empty() {
                true => RecordKind::Tombstones,
                false => RecordKind::Batch,
            };
        }
        self
    }
}

// What is known of an event without any row.
fn known_of(batch: &Verified, session: SessionKey, index: u32) -> Option<Verdict> {
    let reason = reason_of(batch.refusals(), index);
    let mut flags = 0;
    if session.clock_suspect {
        flags |= flag::CLOCK_SUSPECT;
    }
    if batch.masked().contains(&index) {
        flags |= flag::CARD_MASKED;
    }
    let outcome = match reason {
        Some(_) => Outcome::Refused,
        None => Outcome::Applied,
    };
    (reason.is_some() || flags != 0).then(|| Verdict {
        index,
        outcome,
        reason: reason.map_or(0, Reason::code),
        flags,
    })
}

// Where a frame stands in its session.
fn window(first_seq: u64, count: u32, expected: u64) -> Window {
    let end = first_seq.saturating_add(u64::from(count));
    if first_seq > expected {
        return Window::Gap { expected };
    }
    if end <= expected {
        return Window::Known;
    }
    let skip = u32::try_from(expected - first_seq).unwrap_or(count);
    Window::Next { skip }
}

// The answer to a frame that ends with some number and is not to be taken.
fn not_taken(window: Window, last: u64) -> Handled {
    let seq = |number: u64| Seq::FIRST.plus(number.saturating_sub(1));
    match window {
        Window::Gap { expected } => Handled::Gap {
            expected: seq(expected),
        },
        Window::Next { .. } | Window::Known => Handled::Known { upto: seq(last) },
        Window::Closed => Handled::Closed,
    }
}
