//! A record that another engine journalled and did not commit is a resend, at its own (terminal, epoch, seq), in its own epoch,
//! closed or not:
//!
//! - next in that epoch: it is applied;
//! - known, and equal to what is here under its numbers: it is dropped;
//! - behind a gap, or another event under its numbers: nothing changes, and the answer says so. It waits where it is.
//!
//! When its events came, what was refused, masked or quarantined of them stays as it was. What they do is decided against what
//! is here now, event ids included.

use till_protocol::code::Reason;
use till_protocol::id::{Epoch, EventId, Seq, StoreId, TerminalId};
use till_protocol::time::Timestamp;

use super::prefetch::{Arrival, Lookup, Screened};
use super::recover::read_back;
use super::{Handled, RetryError, SessionKey, Shard};
use crate::event::visit;
use crate::flag;
use crate::record::{Outcome, Record, RecordHead, RecordKind, Verdict};
use crate::row::{QuarantineKey, Rows, RowsError};
use crate::store::{Registration, StoreActor};
use crate::terminal::Window;

/// What an event says: its content, and the id that its source gave it.
type Said = (u64, Option<EventId>);

/// What stands under a sequence number.
#[derive(Clone, Copy)]
enum Standing {
    /// Nobody can say: its fact is gone, or it never had bytes.
    Unknown,
    /// An event with this content.
    Event(u64),
    /// An event that was known by its id; its bytes were not kept.
    Duplicate,
}

impl Shard {
    /// Takes in a record of another journal. A retry that finds its event not in the quarantine, or cannot take it out, changes
    /// nothing.
    pub(super) fn handle_handoff(
        &mut self,
        record: &Record,
        ask: Lookup<'_>,
    ) -> Result<Handled, RowsError> {
        match record.head.kind {
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates => {
                self.handoff_events(record, ask)
            }
            RecordKind::StoreRegistered => self.handoff_registration(record, ask.rows),
            RecordKind::Retry => self.handoff_retry(record, ask),
            RecordKind::SkuAlias | RecordKind::BaseRow => Ok(Handled::Known { upto: Seq::FIRST }),
        }
    }

    fn handoff_events(&mut self, record: &Record, ask: Lookup<'_>) -> Result<Handled, RowsError> {
        let (session, last) = sender_of(record)?;
        let fresh = record.head.count - record.head.skip;
        let known = match self.known_part(record, ask.rows)? {
            Ok(known) => known,
            Err(waits) => return Ok(waits),
        };
        #[cfg(feature = "planted")]
        let known = match crate::planted::is("handoff-twice") {
            true if known == fresh => 0,
            _ => known,
        };
        if known == fresh {
            self.counters.received += u64::from(fresh);
            self.counters.duplicate += u64::from(fresh);
            return Ok(Handled::Known { upto: last });
        }
        let head = RecordHead {
            skip: record.head.skip + known,
            ..record.head
        };
        if head.kind == RecordKind::Batch {
            let verified = read_back(u64::MAX, record)?;
            let past = Past::of(record);
            let arrival = Arrival::of_record(head, session, &past);
            return self.take(&arrival, &verified.view(), &record.payload, ask);
        }
        Ok(self.take_eventless(Record {
            head,
            ..record.clone()
        }))
    }

    // How many of a record's events are known and equal to what is here, or the answer to one that has no position.
    fn known_part(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<Result<u32, Handled>, RowsError> {
        let head = &record.head;
        let (session, _) = sender_of(record)?;
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(Err(Handled::Unregistered));
        }
        let actor = self.actors.terminal(session.terminal, rows)?;
        let fresh = head.count - head.skip;
        let first_new = head.first_seq + u64::from(head.skip);
        let known = match actor.row.window_of_record(head.epoch, first_new, fresh) {
            Window::Next { skip } => skip,
            Window::Known => fresh,
            Window::Gap { expected } => {
                let expected = Seq::FIRST.plus(expected.saturating_sub(1));
                return Ok(Err(Handled::Gap { expected }));
            }
            Window::Closed => return Ok(Err(Handled::Closed)),
        };
        let same = self.equal_ones(record, known, rows)?;
        #[cfg(feature = "planted")]
        if crate::planted::is("drop-stranded") {
            return Ok(Ok(known));
        }
        let other = (first_new..).zip(same).find(|(_, is_same)| !is_same);
        Ok(match other.and_then(|(seq, _)| Seq::new(seq).ok()) {
            Some(seq) => Err(Handled::Conflict { seq }),
            None => Ok(known),
        })
    }

    // Which of the first `known` events of a record are the same as those here. One of which nobody can say it is not; a record
    // without bytes takes none with it.
    pub(super) fn equal_ones(
        &mut self,
        record: &Record,
        known: u32,
        rows: &dyn Rows,
    ) -> Result<Vec<bool>, RowsError> {
        let head = &record.head;
        let number = usize::try_from(known).unwrap_or(0);
        if known == 0 || !matches!(head.kind, RecordKind::Batch | RecordKind::Retry) {
            return Ok(vec![true; number]);
        }
        let (session, _) = sender_of(record)?;
        let store = session.terminal.store();
        let own = said_by(record)?;
        let first = head.first_seq + u64::from(head.skip);
        let run = (first, first + u64::from(known - 1));
        let mut here = vec![Standing::Unknown; number];
        rows.records(session.terminal, head.epoch, run, &mut |fact| {
            note_standing(fact, first, &mut here)
        })?;
        let own = own
            .into_iter()
            .skip(usize::try_from(head.skip).unwrap_or(0));
        let mut same = Vec::with_capacity(number);
        for ((content, id), standing) in own.zip(here) {
            same.push(match standing {
                Standing::Event(other) => other == content,
                Standing::Duplicate => match id.map(|id| id.in_store(store)) {
                    Some(id) => self.knows(&id, content, rows)?,
                    None => false,
                },
                Standing::Unknown => false,
            });
        }
        Ok(same)
    }

    // Whether this content has come under an id, as the event that it stands for or as a conflict with that.
    fn knows(&self, id: &EventId, content: u64, rows: &dyn Rows) -> Result<bool, RowsError> {
        let row = self.event_ids.find(id, rows)?;
        Ok(match row {
            Some(row) if row.content == content => true,
            Some(_) => {
                let pair = id.with_content(content);
                self.event_ids.find(&pair, rows)?.is_some()
            }
            None => false,
        })
    }

    /// Whether a record that was handed off has events that come next here.
    ///
    /// # Errors
    /// See [`Shard::handle`].
    pub fn has_next(&mut self, record: &Record, rows: &dyn Rows) -> Result<bool, RowsError> {
        let is_of_events = matches!(
            record.head.kind,
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates
        );
        let fresh = record.head.count - record.head.skip;
        Ok(is_of_events
            && self
                .known_part(record, rows)?
                .is_ok_and(|known| known < fresh))
    }

    /// What becomes of a record that was handed off, as far as its place says: as [`Shard::handle`], but nothing changes, and
    /// one that would be applied is [`Handled::Known`] as well.
    ///
    /// # Errors
    /// See [`Shard::handle`].
    pub fn place(&mut self, record: &Record, rows: &dyn Rows) -> Result<Handled, RowsError> {
        let known = Ok(Handled::Known { upto: Seq::FIRST });
        match record.head.kind {
            RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates => {
                match self.known_part(record, rows)? {
                    Ok(_) => known,
                    Err(waits) => Ok(waits),
                }
            }
            RecordKind::StoreRegistered => {
                let (store, registration) = registration_of(record)?;
                let actor = self.actors.store(store, rows)?;
                let is_same = |actor: &mut StoreActor| {
                    let same = actor.compare(store, registration.currency, &registration.zone);
                    same.is_ok()
                };
                match actor.is_none_or(is_same) {
                    true => known,
                    false => Ok(Handled::Conflict { seq: Seq::FIRST }),
                }
            }
            RecordKind::Retry | RecordKind::SkuAlias | RecordKind::BaseRow => known,
        }
    }

    fn handoff_registration(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
    ) -> Result<Handled, RowsError> {
        let (store, registration) = registration_of(record)?;
        let upto = Seq::FIRST;
        if let Some(actor) = self.actors.store(store, rows)? {
            let same = actor.compare(store, registration.currency, &registration.zone);
            return Ok(match same {
                Ok(()) => Handled::Known { upto },
                Err(_) => Handled::Conflict { seq: Seq::FIRST },
            });
        }
        let actor = StoreActor::registered(&record.head, registration, 0)
            .map_err(|error| foreign(record, &error.to_string()))?;
        self.insert_store(store, actor);
        Ok(Handled::Journal {
            record: record.clone(),
            upto,
            refusals: Vec::new(),
            duplicates: 0,
        })
    }

    // The event itself came before, with its own record, or comes later and is quarantined then.
    fn handoff_retry(&mut self, record: &Record, ask: Lookup<'_>) -> Result<Handled, RowsError> {
        let (session, last) = sender_of(record)?;
        let known = Ok(Handled::Known { upto: last });
        let Some(verdict) = record.verdicts.first().copied() else {
            return known;
        };
        if self
            .actors
            .store(session.terminal.store(), ask.rows)?
            .is_none()
        {
            return Ok(Handled::Unregistered);
        }
        let same = self.equal_ones(&alone(record, verdict.index), 1, ask.rows)?;
        if !same.iter().all(|is_same| *is_same) {
            return known;
        }
        let waits = verdict.waiting_line();
        let key = QuarantineKey::of(record, verdict.index, waits.unwrap_or(u16::MAX));
        // Why the event was quarantined here is not at hand. The strictest reason is assumed: what does not bring all its
        // names stays where it is.
        let quarantined = Verdict {
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
            verdicts: waits.is_none().then_some(quarantined).into_iter().collect(),
        };
        let now = Timestamp::from_us(record.head.received_at_us);
        match self.retry(now, key, &original, ask.rows, ask.names) {
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
    quarantined: Vec<(u32, Reason)>,
    duplicates: Vec<u32>,
    collided: Vec<u32>,
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
                    past.quarantined.push((index, reason));
                    if verdict.flags & flag::UNNAMED_SKU != 0 {
                        past.collided.push(index);
                    }
                }
                Outcome::Duplicate => past.duplicates.push(index),
                Outcome::Quarantined | Outcome::Applied => {}
            }
        }
        past
    }

    pub(super) fn screened(&self) -> Screened<'_> {
        Screened {
            refusals: &self.refusals,
            masked: &self.masked,
            quarantined: &self.quarantined,
            duplicates: &self.duplicates,
            collided: &self.collided,
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

// What the events of a record say, all of its frame.
fn said_by(record: &Record) -> Result<Vec<Said>, RowsError> {
    let verified = read_back(u64::MAX, record)?;
    let mut said = Vec::new();
    visit(&verified.view(), |_, event| {
        said.push((event.content(), event.event_id()));
    });
    Ok(said)
}

// What a fact has of the events from `first` on.
fn note_standing(fact: &Record, first: u64, here: &mut [Standing]) -> Result<(), RowsError> {
    let head = &fact.head;
    let said = match head.kind {
        RecordKind::Batch => said_by(fact)?,
        RecordKind::Duplicates => Vec::new(),
        _ => return Ok(()),
    };
    for index in head.skip..head.count {
        let at = (head.first_seq + u64::from(index)).checked_sub(first);
        let at = at.and_then(|at| usize::try_from(at).ok());
        let Some(standing) = at.and_then(|at| here.get_mut(at)) else {
            continue;
        };
        let event = usize::try_from(index).ok().and_then(|at| said.get(at));
        *standing = event.map_or(Standing::Duplicate, |(content, _)| {
            Standing::Event(*content)
        });
    }
    Ok(())
}

fn registration_of(record: &Record) -> Result<(StoreId, Registration), RowsError> {
    let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
    let store = StoreId::new(number).map_err(|error| foreign(record, &error.to_string()))?;
    let registration = Registration::decode(&record.payload)
        .ok_or_else(|| foreign(record, "its registration is cut short"))?;
    Ok((store, registration))
}

// The one event of a retry.
fn alone(record: &Record, index: u32) -> Record {
    let mut one = record.clone();
    one.head.skip = index;
    one
}

fn foreign(record: &Record, cause: &str) -> RowsError {
    let RecordHead {
        terminal,
        epoch,
        first_seq,
        ..
    } = record.head;
    RowsError {
        table: "handoff",
        cause: format!(
            "record of terminal {terminal:#x}, epoch {epoch}, event {first_seq}: {cause}"
        ),
    }
}
