//! A batch meets its shard: decide, which may refuse and changes nothing, then apply, which cannot fail.

use std::mem;

use bytes::Bytes;
use till_protocol::code::Reason;
use till_protocol::id::{Seq, StoreId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::decide::{Decider, reason_of};
use super::plan::{Planner, Scope};
use super::tally::{Tally, compress};
use super::{Handled, SessionKey, Shard};
use crate::event::{Event, Sides, for_each};
use crate::hash::Map;
use crate::record::{Outcome, Record, RecordHead, RecordKind, Verdict};
use crate::row::{EventIdRow, Names, QuarantineKey, QuarantineRow, Rows, RowsError};
use crate::terminal::Window;

/// What a frame is called in the sequence of its terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) family: u8,
    pub(super) version: u8,
    pub(super) first_seq: u64,
    pub(super) count: u32,
    pub(super) skip: u32,
}

/// What was found out about the events of a frame before they are decided; all by rising index.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'f> {
    /// Events that are refused.
    pub(super) refusals: &'f [(u32, Reason)],
    /// Events in which card data was masked.
    pub(super) masked: &'f [u32],
    /// Events that stay quarantined, as they were when they were received.
    pub(super) quarantined: &'f [(u32, Reason)],
    /// Events that stay duplicates, as they were when they were received.
    pub(super) duplicates: &'f [u32],
}

impl Shard {
    /// Decides what a batch of a device means and applies it.
    pub(super) fn handle_batch(
        &mut self,
        now: Timestamp,
        session: SessionKey,
        batch: &Verified,
        rows: &dyn Rows,
        names: &dyn Names,
    ) -> Result<Handled, RowsError> {
        let header = &batch.frame().header;
        let mut span = Span {
            family: header.family,
            version: header.version,
            first_seq: header.first_seq,
            count: header.count,
            skip: 0,
        };
        span.skip = match self.admit(session, span.first_seq, span.count, rows)? {
            Ok(skip) => skip,
            Err(handled) => return Ok(handled),
        };
        let view = batch.view();
        let scope = self.scope(session.terminal, session.epoch.get(), u64::MAX, rows);
        let found = Found {
            refusals: batch.refusals(),
            masked: batch.masked(),
            ..Found::default()
        };
        let decided = self.decide((now, session), (&view, found), span, &scope, names)?;
        let head = head(
            session,
            span,
            now,
            batch.digest(span.count.saturating_sub(1)),
        );
        let record = self.record_of(head, &batch.frame().payload, decided);
        self.apply_record(&record, Some(&view), &scope);
        self.count_live(&record);
        Ok(self.handled(record))
    }

    /// Takes in a frame whose bytes arrived whole and make no sense: all its events are refused, and their sequence
    /// numbers are used up.
    pub(super) fn handle_unreadable(
        &mut self,
        now: Timestamp,
        session: SessionKey,
        (first_seq, count, reason): (Seq, u32, Reason),
        rows: &dyn Rows,
    ) -> Result<Handled, RowsError> {
        let mut span = Span {
            family: 0,
            version: 0,
            first_seq: first_seq.get(),
            count,
            skip: 0,
        };
        span.skip = match self.admit(session, span.first_seq, count, rows)? {
            Ok(skip) => skip,
            Err(handled) => return Ok(handled),
        };
        let verdict = Verdict {
            index: Verdict::ALL,
            outcome: Outcome::Refused,
            reason: reason.code(),
            flags: 0,
        };
        let mut head = head(session, span, now, 0);
        head.kind = RecordKind::Tombstones;
        let record = Record {
            head,
            payload: Bytes::new(),
            verdicts: vec![verdict],
        };
        let scope = self.scope(session.terminal, session.epoch.get(), u64::MAX, rows);
        #[cfg(feature = "planted")]
        if crate::planted::is("no-tombstone") {
            let upto = Seq::FIRST.plus(span.first_seq + u64::from(count) - 2);
            return Ok(Handled::Known { upto });
        }
        self.apply_record(&record, None, &scope);
        self.count_live(&record);
        Ok(self.handled(record))
    }

    // How many events of a frame are known already, or the answer to a frame that is not to be taken.
    fn admit(
        &mut self,
        session: SessionKey,
        first_seq: u64,
        count: u32,
        rows: &dyn Rows,
    ) -> Result<Result<u32, Handled>, RowsError> {
        if self.actors.store(session.terminal.store(), rows)?.is_none() {
            return Ok(Err(Handled::Unregistered));
        }
        let terminal = self.actors.terminal(session.terminal, rows)?;
        Ok(
            match terminal.row.window(session.epoch.get(), first_seq, count) {
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
            },
        )
    }

    pub(super) fn scope<'r>(
        &self,
        terminal: TerminalId,
        epoch: u32,
        position: u64,
        rows: &'r dyn Rows,
    ) -> Scope<'r> {
        Scope {
            store: terminal.store(),
            terminal: terminal.to_u64(),
            epoch,
            position,
            stored: self.actors.stored(terminal.store()),
            rows,
        }
    }

    // Verdicts on all events from `span.skip` on; the changes are in the plan.
    pub(super) fn decide(
        &mut self,
        (now, session): (Timestamp, SessionKey),
        (view, found): (&View<'_>, Found<'_>),
        span: Span,
        scope: &Scope<'_>,
        names: &dyn Names,
    ) -> Result<Vec<Verdict>, RowsError> {
        self.plan.ops.clear();
        let mut collided = mem::take(&mut self.collided);
        collided.clear();
        if let Some(terminal) = self.actors.terminals.get(&scope.terminal) {
            collided.extend_from_slice(&terminal.collided);
        }
        let is_new = |index| {
            index >= span.skip
                && reason_of(found.refusals, index).is_none()
                && reason_of(found.quarantined, index).is_none()
        };
        self.names.has_new = false;
        self.plan.named.clear();
        if Sides::of(view).texts {
            self.claim_names(view, is_new, names, &mut collided)?;
        }
        let mut decider = Decider {
            now,
            session,
            found,
            names,
            event_ids: &self.event_ids,
            named: mem::take(&mut self.plan.named),
            collided,
            in_batch: Map::default(),
            verdicts: Vec::new(),
        };
        let mut planner = Planner {
            actors: &mut self.actors,
            contributor: &mut self.contributor,
            plan: &mut self.plan,
        };
        planner.prefetch(scope, view);
        let result = for_each(view, |index, event| {
            if index < span.skip || index >= span.count {
                return Ok(());
            }
            let seq = span.first_seq + u64::from(index);
            decider.event(&mut planner, scope, &event, index, seq)
        });
        let Decider {
            verdicts,
            collided,
            named,
            ..
        } = decider;
        self.plan.named = named;
        if result.is_ok()
            && !collided.is_empty()
            && let Some(terminal) = self.actors.terminals.get_mut(&scope.terminal)
        {
            terminal.collided.clone_from(&collided);
        }
        self.collided = collided;
        result.map(|()| verdicts)
    }

    // Events that are all known by their ids need no payload, unless it brings names.
    pub(super) fn record_of(
        &self,
        mut head: RecordHead,
        payload: &Bytes,
        verdicts: Vec<Verdict>,
    ) -> Record {
        let fresh = head.count - head.skip;
        let duplicates = verdicts
            .iter()
            .filter(|v| v.outcome == Outcome::Duplicate)
            .count();
        if u32::try_from(duplicates) == Ok(fresh) && !self.names.has_new {
            head.kind = RecordKind::Duplicates;
            let all = Verdict {
                index: Verdict::ALL,
                outcome: Outcome::Duplicate,
                reason: 0,
                flags: 0,
            };
            return Record {
                head,
                payload: Bytes::new(),
                verdicts: vec![all],
            };
        }
        Record {
            head,
            payload: payload.clone(),
            verdicts: compress(verdicts, fresh),
        }
    }

    /// Does what a record says: the one fold of live run, recovery and rebuild. The plan holds its changes.
    pub(super) fn apply_record(
        &mut self,
        record: &Record,
        view: Option<&View<'_>>,
        scope: &Scope<'_>,
    ) {
        let head = &record.head;
        if head.kind == RecordKind::Batch
            && let Some(view) = view
        {
            let sides = Sides::of(view);
            self.plan.named.clear();
            if sides.texts {
                self.take_names(view, record);
            }
            if sides.refs {
                self.remember_ids(scope.store, view, record);
            }
            self.apply_plan(scope, head.received_at_us);
        }
        self.quarantined(record);
        let tally = Tally::of(record);
        let end = head.first_seq + u64::from(head.count);
        let generation = self.actors.generation;
        if let Some(terminal) = self.actors.terminals.get_mut(&scope.terminal) {
            let row = &mut terminal.row;
            row.advance(head.epoch, end, head.digest);
            row.last_seen_us = row.last_seen_us.max(head.received_at_us);
            row.applied += tally.applied;
            row.duplicates += tally.duplicate;
            row.refused += tally.refused;
            row.quarantined += tally.quarantined;
        }
        self.touch_terminal(scope.terminal, generation);
        self.touch_store(scope.store.get());
    }

    fn remember_ids(&mut self, store: StoreId, view: &View<'_>, record: &Record) {
        let head = record.head;
        let done: Result<(), std::convert::Infallible> =
            for_each(view, |index, event: Event<'_>| {
                let Some(id) = event.event_id().map(|id| id.in_store(store)) else {
                    return Ok(());
                };
                let content = event.content();
                let id = match stands_for(record, index) {
                    Some(Stands::Id) => id,
                    Some(Stands::IdAndContent) => id.with_content(content),
                    None => return Ok(()),
                };
                let row = EventIdRow {
                    terminal: head.terminal,
                    epoch: head.epoch,
                    seq: head.first_seq + u64::from(index),
                    content,
                };
                self.event_ids.insert(&id, row, self.actors.generation);
                Ok(())
            });
        if let Err(never) = done {
            match never {}
        }
    }

    // Events that were quarantined get a row each.
    fn quarantined(&mut self, record: &Record) {
        let head = &record.head;
        for index in head.skip..head.count {
            if record.verdicts.is_empty() {
                break;
            }
            let Some(verdict) = record.verdict(index) else {
                continue;
            };
            if verdict.outcome != Outcome::Quarantined {
                continue;
            }
            let key = QuarantineKey {
                terminal: head.terminal,
                epoch: head.epoch,
                seq: head.first_seq + u64::from(index),
                line: u16::MAX,
            };
            let row = QuarantineRow {
                reason: verdict.reason,
                received_at_us: head.received_at_us,
                position: 0,
                sku: 0,
                quantity: 0,
            };
            self.quarantine.insert(key, Some(row));
        }
    }

    pub(super) fn count_live(&mut self, record: &Record) {
        #[cfg(feature = "planted")]
        if crate::planted::is("count-nothing") {
            return;
        }
        let tally = Tally::of(record);
        self.counters.received += u64::from(record.head.count);
        self.counters.duplicate += u64::from(record.head.skip) + tally.duplicate;
        self.counters.applied += tally.applied;
        self.counters.refused += tally.refused;
        self.counters.quarantined += tally.quarantined;
        self.counters.unbalanced += tally.unbalanced;
    }

    pub(super) fn handled(&self, record: Record) -> Handled {
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
        let tally = Tally::of(&record);
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
}

pub(super) fn head(session: SessionKey, span: Span, now: Timestamp, digest: u64) -> RecordHead {
    RecordHead {
        kind: RecordKind::Batch,
        family: span.family,
        version: span.version,
        terminal: session.terminal.to_u64(),
        epoch: session.epoch.get(),
        first_seq: span.first_seq,
        count: span.count,
        skip: span.skip,
        received_at_us: now.us(),
        digest,
    }
}

/// What an event is remembered by.
enum Stands {
    /// Its id: it is the first durable event that had it.
    Id,
    /// Its id and its content: the id is another event's, and with this content it has come before.
    IdAndContent,
}

fn stands_for(record: &Record, index: u32) -> Option<Stands> {
    match record.outcome(index)? {
        (Outcome::Applied, _) => Some(Stands::Id),
        (Outcome::Quarantined, _) => {
            let reason = record.verdict(index).map(|verdict| verdict.reason);
            let is_conflict = reason == Some(Reason::Conflict.code());
            Some(if is_conflict {
                Stands::IdAndContent
            } else {
                Stands::Id
            })
        }
        (Outcome::Duplicate | Outcome::Refused, _) => None,
    }
}
