//! Records of a journal whose effects never got into the rows: another node takes them in.
//!
//! What an event is, when it came and why it was refused stay as they were. What it does is decided against what is here
//! now: since it was received, the device may have sent it again elsewhere, and gone on.

use till_protocol::code::Reason;
use till_protocol::id::{Epoch, Seq, StoreId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::batch::{Found, Span};
use super::recover::read_back;
use super::{Handled, RetryError, SessionKey, Shard};
use crate::flag;
use crate::record::{Outcome, Record, RecordHead, RecordKind, Verdict};
use crate::row::{Names, QuarantineKey, Rows, RowsError, StoreRow, Totals};
use crate::store::{Registration, StoreActor};
use crate::terminal::Window;

impl Shard {
    /// Takes in a record that the journal of another node, or of an earlier life of this one, holds and that was never
    /// committed. Give the records of a terminal in the order of that journal.
    ///
    /// The answer is that to a frame with the same events, but for these: a life that is over is continued at its own
    /// number, and [`Handled::Closed`] says that it is forgotten how far it had come; a gap begins before the first event
    /// that is new with this record. The numbers in the answer to a registration say nothing. A retry that finds its event
    /// not in the quarantine, or cannot take it out, changes nothing.
    ///
    /// Its device may have sent the same events in another life, and may do so later. `elsewhere` has the indices, rising, of
    /// those that are here from another life already: they are duplicates. The others are remembered by what they say.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row or name could not be read, when the record is none that this software could have
    /// written, and when it registers a store otherwise than it is registered. Nothing has changed then.
    pub fn adopt(
        &mut self,
        record: &Record,
        elsewhere: &[u32],
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        match record.head.kind {
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates => {
                self.adopt_events(record, elsewhere, rows, names)
            }
            RecordKind::StoreRegistered => self.adopt_registration(record, rows),
            RecordKind::Retry => self.adopt_retry(record, rows, names),
            RecordKind::SkuAlias | RecordKind::BaseRow | RecordKind::Received => {
                Ok(Handled::Known { upto: Seq::FIRST })
            }
        }
    }

    /// Takes in events that have no place in their own life: others are here under their numbers, what comes before them is
    /// missing, or it is forgotten how far that life had come. They are numbered anew, in the life `before` that others of
    /// their branch are in, as long as the terminal remembers it, or in a new one that is granted to no device from here on.
    /// As with [`adopt`](Self::adopt), `elsewhere` are those that are here already, from whatever life; those that the record
    /// skips are left out again. Where nothing is left that counts or waits, the answer is [`Handled::Known`].
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn adopt_aside(
        &mut self,
        record: &Record,
        (before, elsewhere): (Option<Epoch>, &[u32]),
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        let (sender, last) = sender_of(record)?;
        let known = Handled::Known { upto: last };
        // What says nothing has nothing to be kept.
        if record.head.kind != RecordKind::Batch {
            return Ok(known);
        }
        if self.actors.store(sender.terminal.store(), rows)?.is_none() {
            return Ok(Handled::Unregistered);
        }
        let actor = self.actors.terminal(sender.terminal, rows)?;
        let is_there = |life: &Epoch| actor.row.epoch(life.get()).is_some();
        let new = actor.row.latest_epoch().max(actor.granted) + 1;
        let Some(life) = before.filter(is_there).or_else(|| Epoch::new(new).ok()) else {
            return Ok(Handled::Closed);
        };
        let head = RecordHead {
            epoch: life.get(),
            first_seq: actor.row.next_seq(life.get()),
            skip: 0,
            ..record.head
        };
        let session = SessionKey {
            epoch: life,
            ..sender
        };
        let verified = read_back(u64::MAX, record)?;
        let mut past = Past::of(record);
        // What it skips was decided with another record. If that was a refusal, it stays one for whoever reads this record alone.
        let skipped = 0..record.head.skip;
        let refused = verified.refusals().iter();
        let refused = refused.filter(|(index, _)| skipped.contains(index));
        past.refusals.splice(0..0, refused.copied());
        let counted = skipped
            .clone()
            .filter(|index| verified.refusal(*index).is_none());
        let here = elsewhere.iter().filter(|index| !skipped.contains(index));
        let elsewhere: Vec<u32> = counted.chain(here.copied()).collect();
        let adopted = self.decide_anew(
            (session, head),
            (&verified, &past.found_again(&elsewhere)),
            rows,
            names,
        )?;
        let says = |one: &Verdict| matches!(one.outcome, Outcome::Applied | Outcome::Quarantined);
        if !adopted.iter().any(says) {
            return Ok(known);
        }
        if let Some(actor) = self.actors.terminals.get_mut(&head.terminal) {
            actor.granted = actor.granted.max(life.get());
        }
        let scope = self.scope(session.terminal, head.epoch, u64::MAX, rows);
        let adopted = self.record_of(head, &record.payload, adopted);
        self.settle(&adopted, Some(&verified.view()), &scope);
        self.count_live(&adopted);
        Ok(self.handled(adopted))
    }

    // What becomes of events of another journal here, under the numbers of this head.
    fn decide_anew(
        &mut self,
        (session, head): (SessionKey, RecordHead),
        (verified, found): (&Verified, &Found<'_>),
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Vec<Verdict>, RowsError> {
        let scope = self.scope(session.terminal, head.epoch, u64::MAX, rows);
        let now = Timestamp::from_us(head.received_at_us);
        self.decide(
            (now, session),
            (&verified.view(), *found),
            span_of(&head),
            &scope,
            names,
        )
    }

    /// Whether some events of a record are known by their numbers. They need not be the same events: two nodes may have
    /// granted the same life, each to a device of its own, if one of them died before anything of it was committed.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn knows_some(&mut self, record: &Record, rows: &dyn Rows) -> Result<bool, RowsError> {
        let head = &record.head;
        if !matches!(
            head.kind,
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates
        ) {
            return Ok(false);
        }
        let (session, _) = sender_of(record)?;
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(false);
        }
        let actor = self.actors.terminal(session.terminal, rows)?;
        let (first_new, fresh) = (
            head.first_seq + u64::from(head.skip),
            head.count - head.skip,
        );
        let window = actor.row.window_of_record(head.epoch, first_new, fresh);
        Ok(matches!(window, Window::Known | Window::Next { skip: 1.. }))
    }

    /// Whether events of a record may be here from another life of their terminal than the record's.
    ///
    /// # Errors
    /// As [`adopt`](Self::adopt).
    pub fn may_be_elsewhere(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<bool, RowsError> {
        if record.head.kind != RecordKind::Batch {
            return Ok(false);
        }
        let (session, _) = sender_of(record)?;
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(false);
        }
        let actor = self.actors.terminal(session.terminal, rows)?;
        Ok(actor.row.has_lives_beside(record.head.epoch))
    }

    fn adopt_events(
        &mut self,
        record: &Record,
        elsewhere: &[u32],
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        let head = record.head;
        let (session, last) = sender_of(record)?;
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(Handled::Unregistered);
        }
        let actor = self.actors.terminal(session.terminal, rows)?;
        let fresh = head.count - head.skip;
        let first_new = head.first_seq + u64::from(head.skip);
        let more = match actor.row.window_of_record(head.epoch, first_new, fresh) {
            Window::Next { skip } => skip,
            #[cfg(feature = "planted")]
            Window::Known if crate::planted::is("adopt-known") => 0,
            Window::Known => {
                self.counters.received += u64::from(fresh);
                self.counters.duplicate += u64::from(fresh);
                return Ok(Handled::Known { upto: last });
            }
            Window::Gap { expected } => {
                self.counters.frames_gap += 1;
                let expected = Seq::FIRST.plus(expected.saturating_sub(1));
                return Ok(Handled::Gap { expected });
            }
            Window::Closed => {
                self.counters.frames_closed += 1;
                return Ok(Handled::Closed);
            }
        };
        let head = RecordHead {
            skip: head.skip + more,
            ..head
        };
        let scope = self.scope(session.terminal, head.epoch, u64::MAX, rows);
        let adopted = if head.kind == RecordKind::Batch {
            let verified = read_back(u64::MAX, record)?;
            let past = Past::of(record);
            let found = past.found_again(elsewhere);
            let decided = self.decide_anew((session, head), (&verified, &found), rows, names)?;
            let adopted = self.record_of(head, &record.payload, decided);
            self.settle(&adopted, Some(&verified.view()), &scope);
            adopted
        } else {
            let adopted = Record {
                head,
                ..record.clone()
            };
            self.settle(&adopted, None, &scope);
            adopted
        };
        self.count_live(&adopted);
        Ok(self.handled(adopted))
    }

    fn adopt_registration(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<Handled, RowsError> {
        let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
        let store = StoreId::new(number).map_err(|error| foreign(record, &error.to_string()))?;
        let registration = Registration::decode(&record.payload)
            .ok_or_else(|| foreign(record, "its registration is cut short"))?;
        let upto = Seq::FIRST;
        if let Some(actor) = self.actors.store(store, rows)? {
            let same = actor.compare(store, registration.currency, &registration.zone);
            same.map_err(|error| foreign(record, &error.to_string()))?;
            return Ok(Handled::Known { upto });
        }
        let row = StoreRow {
            currency: registration.currency,
            zone: registration.zone,
            registered_at_us: record.head.received_at_us,
            applied: 0,
            training: Totals::default(),
        };
        let actor = StoreActor::new(row).map_err(|error| foreign(record, &error.to_string()))?;
        self.actors.stores.insert(store.get(), actor);
        self.touch_store(store.get());
        Ok(Handled::Journal {
            record: record.clone(),
            upto,
            refusals: Vec::new(),
            duplicates: 0,
        })
    }

    // The event itself was adopted before, from its own record: what it does was decided then.
    fn adopt_retry(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        let (session, last) = sender_of(record)?;
        let known = Ok(Handled::Known { upto: last });
        let Some(verdict) = record.verdicts.first().copied() else {
            return known;
        };
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(Handled::Unregistered);
        }
        let waits = verdict.waiting_line();
        let key = QuarantineKey {
            terminal: record.head.terminal,
            epoch: record.head.epoch,
            seq: record.head.first_seq + u64::from(verdict.index),
            line: waits.unwrap_or(u16::MAX),
        };
        // Why the event was set aside here is not at hand. The strictest reason is assumed: what does not bring all its
        // names stays where it is.
        let set_aside = Verdict {
            outcome: Outcome::Quarantined,
            reason: Reason::SkuCollision.code(),
            ..verdict
        };
        let original = Record {
            head: RecordHead {
                kind: RecordKind::Batch,
                ..record.head
            },
            payload: record.payload.clone(),
            verdicts: waits.is_none().then_some(set_aside).into_iter().collect(),
        };
        let now = Timestamp::from_us(record.head.received_at_us);
        match self.retry(now, key, &original, rows, names) {
            Ok(record) => Ok(Handled::Journal {
                record,
                upto: last,
                refusals: Vec::new(),
                duplicates: 0,
            }),
            Err(RetryError::Rows(error)) => Err(error),
            Err(RetryError::Gone | RetryError::OtherRecord | RetryError::Still(_)) => known,
        }
    }
}

/// What a record says of its events beyond what they say themselves.
#[derive(Debug, Default)]
pub(super) struct Past {
    refusals: Vec<(u32, Reason)>,
    masked: Vec<u32>,
    aside: Vec<(u32, Reason)>,
}

impl Past {
    pub(super) fn of(record: &Record) -> Self {
        let mut past = Self::default();
        let events = match record.verdicts.is_empty() {
            true => 0..0,
            false => record.head.skip..record.head.count,
        };
        for index in events {
            let Some(verdict) = record.verdict(index) else {
                continue;
            };
            let reason = Reason::from_code(verdict.reason);
            if verdict.flags & flag::CARD_MASKED != 0 {
                past.masked.push(index);
            }
            match verdict.outcome {
                Outcome::Refused => past.refusals.push((index, reason)),
                // A conflict is one with another event, which may not be here. Which id collided is not journalled:
                // without it nobody can say that the event is clear now.
                Outcome::Quarantined if reason != Reason::Conflict => {
                    past.aside.push((index, reason));
                }
                Outcome::Quarantined | Outcome::Applied | Outcome::Duplicate => {}
            }
        }
        past
    }

    // The same, of events that come from another journal now; some are known by other numbers.
    fn found_again<'f>(&'f self, elsewhere: &'f [u32]) -> Found<'f> {
        #[cfg(feature = "planted")]
        let elsewhere = match crate::planted::is("adopt-renumbered") {
            true => &[],
            false => elsewhere,
        };
        Found {
            elsewhere,
            is_adopted: true,
            ..self.found()
        }
    }

    pub(super) fn found(&self) -> Found<'_> {
        Found {
            refusals: &self.refusals,
            masked: &self.masked,
            aside: &self.aside,
            ..Found::default()
        }
    }
}

// Who sent a record's events, and the number of the last one.
pub(super) fn sender_of(record: &Record) -> Result<(SessionKey, Seq), RowsError> {
    let head = &record.head;
    let terminal = TerminalId::from_u64(head.terminal);
    let terminal = terminal.map_err(|error| foreign(record, &error.to_string()))?;
    let epoch = Epoch::new(head.epoch).map_err(|error| foreign(record, &error.to_string()))?;
    if head.count <= head.skip {
        return Err(foreign(record, "it has no event"));
    }
    let last = head.first_seq.checked_add(u64::from(head.count - 1));
    let last = last.filter(|_| head.first_seq > 0).map(Seq::new);
    let Some(Ok(last)) = last else {
        return Err(foreign(record, "its sequence numbers are out of range"));
    };
    let clock_suspect = |verdict: &Verdict| verdict.flags & flag::CLOCK_SUSPECT != 0;
    let is_retry_of_line = head.kind == RecordKind::Retry;
    let session = SessionKey {
        terminal,
        epoch,
        clock_suspect: !is_retry_of_line && record.verdicts.iter().any(clock_suspect),
    };
    Ok((session, last))
}

const fn span_of(head: &RecordHead) -> Span {
    Span {
        family: head.family,
        version: head.version,
        first_seq: head.first_seq,
        count: head.count,
        skip: head.skip,
    }
}

fn foreign(record: &Record, cause: &str) -> RowsError {
    let RecordHead {
        terminal,
        epoch,
        first_seq,
        ..
    } = record.head;
    RowsError {
        table: "backlog",
        cause: format!(
            "record of terminal {terminal:#x}, life {epoch}, event {first_seq}: {cause}"
        ),
    }
}
