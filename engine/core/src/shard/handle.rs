//! The one door for events: from a device, or from the journal of another engine. What comes in goes the whole way here: its place in
//! the terminal's sequence, prefetch, decide, apply.

use bytes::Bytes;
use till_protocol::code::Reason;
use till_protocol::id::{Seq, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::prefetch::{Arrival, Lookup, Screened};
use super::tally::Tally;
use super::touch::Scope;
use super::{Handled, SessionKey, Shard};
use crate::record::{Outcome, Record, RecordHead, RecordKind, Verdict};
use crate::row::{Names, Rows, RowsError};
use crate::terminal::Window;

/// A frame of a device, as it turned out to be.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// Understood.
    Batch(&'a Verified),
    /// Its bytes arrived whole and make no sense: all its events are refused, and their sequence numbers are used up.
    Unreadable {
        /// Sequence number of its first event.
        first_seq: Seq,
        /// Number of its events.
        count: u32,
        /// Why they are refused.
        reason: Reason,
    },
}

/// Where events come from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A device sends a frame in its session.
    Device {
        /// When it was received.
        now: Timestamp,
        /// Who sends.
        session: SessionKey,
        /// What.
        frame: Frame<'a>,
    },
    /// A record that another engine journalled and did not commit. It is a resend at its own (terminal, epoch, seq), in its
    /// own epoch, closed or not; what its engine found out from outside (receipt, refusals, masks, clock) stays.
    Handoff(&'a Record),
}

impl<'a> Origin<'a> {
    /// A batch of a device.
    pub const fn batch(now: Timestamp, session: SessionKey, batch: &'a Verified) -> Self {
        Self::Device {
            now,
            session,
            frame: Frame::Batch(batch),
        }
    }
}

impl Shard {
    /// Decides what events mean and applies them. The record in the answer is to be journalled before anything is acked; until
    /// then nothing that this shard says may leave.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row, name or fact could not be read, and for a record that this software could not have
    /// written. Nothing has changed then; the same may come again.
    pub fn handle(
        &mut self,
        origin: Origin<'_>,
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        let ask = Lookup { rows, names };
        match origin {
            Origin::Device {
                now,
                session,
                frame: Frame::Batch(batch),
            } => self.handle_batch(now, session, batch, ask),
            Origin::Device {
                now,
                session,
                frame:
                    Frame::Unreadable {
                        first_seq,
                        count,
                        reason,
                    },
            } => {
                let head = head_of(session, now, first_seq.get(), count);
                self.handle_unreadable(head, session, reason, rows)
            }
            Origin::Handoff(record) => self.handle_handoff(record, ask),
        }
    }

    fn handle_batch(
        &mut self,
        now: Timestamp,
        session: SessionKey,
        batch: &Verified,
        ask: Lookup<'_>,
    ) -> Result<Handled, RowsError> {
        let mut head = head_of_batch(session, now, batch);
        head.skip = match self.place_in_sequence(session, &head, ask.rows)? {
            Ok(skip) => skip,
            Err(handled) => return Ok(handled),
        };
        head.digest = batch.digest(head.count.saturating_sub(1));
        let screened = Screened {
            refusals: batch.refusals(),
            masked: batch.masked(),
            ..Screened::default()
        };
        let arrival = Arrival::of_frame(head, session, screened);
        self.take(&arrival, &batch.view(), &batch.frame().payload, ask)
    }

    /// Takes events in that have their place: all that can fail is prefetch.
    pub(super) fn take(
        &mut self,
        arrival: &Arrival<'_>,
        view: &View<'_>,
        payload: &Bytes,
        ask: Lookup<'_>,
    ) -> Result<Handled, RowsError> {
        self.prefetch(arrival, view, ask)?;
        let record = self.record_of(arrival, payload, self.decide(arrival));
        self.apply(&record, Some(view), &arrival.scope());
        self.names.claim(ask.names);
        Ok(self.handled(record))
    }

    // All events of a frame whose bytes arrived whole and make no sense are refused, and their sequence numbers are used up.
    fn handle_unreadable(
        &mut self,
        mut head: RecordHead,
        session: SessionKey,
        reason: Reason,
        rows: &dyn Rows,
    ) -> Result<Handled, RowsError> {
        head.skip = match self.place_in_sequence(session, &head, rows)? {
            Ok(skip) => skip,
            Err(handled) => return Ok(handled),
        };
        head.kind = RecordKind::Tombstones;
        #[cfg(feature = "planted")]
        if crate::planted::is("no-tombstone") {
            let upto = Seq::FIRST.plus(head.first_seq + u64::from(head.count) - 2);
            return Ok(Handled::Known { upto });
        }
        let verdict = Verdict {
            index: Verdict::ALL,
            outcome: Outcome::Refused,
            reason: reason.code(),
            flags: 0,
        };
        Ok(self.take_eventless(Record {
            head,
            payload: Bytes::new(),
            verdicts: vec![verdict],
        }))
    }

    /// Takes a record without events in that has its place.
    pub(super) fn take_eventless(&mut self, record: Record) -> Handled {
        self.touched.clear();
        if let Ok(terminal) = TerminalId::from_u64(record.head.terminal) {
            self.apply(&record, None, &Scope::of(terminal.store(), &record.head));
        }
        self.handled(record)
    }

    // How many events of a frame are known already, or the answer to a frame that is not to be taken.
    fn place_in_sequence(
        &mut self,
        session: SessionKey,
        head: &RecordHead,
        rows: &dyn Rows,
    ) -> Result<Result<u32, Handled>, RowsError> {
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(Err(Handled::Unregistered));
        }
        let terminal = self.actors.terminal(session.terminal, rows)?;
        let (first_seq, count) = (head.first_seq, head.count);
        Ok(match terminal.row.window(head.epoch, first_seq, count) {
            #[cfg(feature = "planted")]
            Window::Next { .. } | Window::Known if crate::planted::is("no-dedupe") => Ok(0),
            #[cfg(feature = "planted")]
            Window::Gap { .. } if crate::planted::is("accept-gap") => Ok(0),
            Window::Next { skip } => Ok(skip),
            Window::Known => {
                #[cfg(feature = "planted")]
                let count = count - u32::from(crate::planted::is("miscount"));
                self.counters.received += u64::from(count);
                #[cfg(feature = "planted")]
                let count = count + u32::from(crate::planted::is("miscount"));
                self.counters.duplicate += u64::from(count);
                let last = first_seq + u64::from(count) - 1;
                Err(Handled::Known {
                    upto: Seq::FIRST.plus(last - 1),
                })
            }
            Window::Gap { expected } => {
                self.counters.frames_gap += 1;
                Err(Handled::Gap {
                    expected: Seq::FIRST.plus(expected.saturating_sub(1)),
                })
            }
            Window::Closed => {
                self.counters.frames_closed += 1;
                Err(Handled::Closed)
            }
        })
    }

    // The answer to what was applied just now, which is counted.
    fn handled(&mut self, record: Record) -> Handled {
        let tally = Tally::of(&record);
        self.count_live(&record, &tally);
        let head = &record.head;
        let mut refusals = Vec::new();
        for index in head.skip..head.count {
            if let Some(verdict) = record.verdict(index)
                && verdict.outcome == Outcome::Refused
            {
                let seq = Seq::FIRST.plus(head.first_seq - 1 + u64::from(index));
                refusals.push((seq, Reason::from_code(verdict.reason)));
            }
        }
        let duplicates = head
            .skip
            .saturating_add(u32::try_from(tally.duplicate).unwrap_or(0));
        let last = head.first_seq + u64::from(head.count) - 1;
        Handled::Journal {
            upto: Seq::FIRST.plus(last - 1),
            refusals,
            duplicates,
            record,
        }
    }

    fn count_live(&mut self, record: &Record, tally: &Tally) {
        #[cfg(feature = "planted")]
        if crate::planted::is("count-nothing") {
            return;
        }
        self.counters.received += u64::from(record.head.count);
        self.counters.duplicate += u64::from(record.head.skip) + tally.duplicate;
        self.counters.applied += tally.applied;
        self.counters.refused += tally.refused;
        self.counters.quarantined += tally.quarantined;
        self.counters.unbalanced += tally.unbalanced;
    }
}

/// The head of the record of a batch, without its digest.
pub(super) fn head_of_batch(session: SessionKey, now: Timestamp, batch: &Verified) -> RecordHead {
    let header = &batch.frame().header;
    RecordHead {
        family: header.family,
        version: header.version,
        ..head_of(session, now, header.first_seq, header.count)
    }
}

fn head_of(session: SessionKey, now: Timestamp, first_seq: u64, count: u32) -> RecordHead {
    RecordHead {
        kind: RecordKind::Batch,
        family: 0,
        version: 0,
        terminal: session.terminal.to_u64(),
        epoch: session.epoch.get(),
        first_seq,
        count,
        skip: 0,
        received_at_us: now.us(),
        digest: 0,
    }
}
