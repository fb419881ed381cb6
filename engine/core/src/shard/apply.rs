//! Does what a record says: the one fold of live run, recovery, rebuild and retry. It goes by the record and by what prefetch has
//! brought in for it, asks nobody and cannot fail.

mod changes;

use till_protocol::code::Reason;
use till_protocol::id::StoreId;
use till_protocol::view::View;

use super::Shard;
use super::tally::Tally;
use super::touch::{Scope, Touched};
use crate::event::visit;
use crate::invariant::InvariantId;
use crate::record::{Outcome, Record, RecordKind, Verdict};
use crate::row::{EventIdRow, QuarantineKey, QuarantineRow};
use crate::sku::Effect;

impl Shard {
    /// Applies a record of the terminal of `scope`. `view`: its events, where it has some.
    pub(super) fn apply(&mut self, record: &Record, view: Option<&View<'_>>, scope: &Scope) {
        let mut touched = std::mem::take(&mut self.touched);
        let is_retry = record.head.kind == RecordKind::Retry;
        let has_events = is_retry || record.head.kind == RecordKind::Batch;
        if let Some(view) = view.filter(|_| has_events) {
            touched.named.clear();
            if touched.sides.texts {
                self.take_names(view, record, &mut touched.named);
            }
            if touched.sides.refs && !is_retry {
                self.remember_ids(scope.store, view, record);
            }
            self.change(scope, record, &touched);
        }
        if is_retry {
            self.release_waiting(&touched);
            for verdict in &record.verdicts {
                self.leave_quarantine(record, verdict);
            }
        } else {
            self.enter_quarantine(record);
            self.advance(record, &touched);
        }
        self.touch_terminal(scope.terminal, self.actors.generation);
        self.touch_store(scope.store.get());
        self.touched = touched;
    }

    // The sequence of the terminal goes on.
    fn advance(&mut self, record: &Record, touched: &Touched) {
        let head = &record.head;
        let tally = Tally::of(record);
        let end = head.first_seq + u64::from(head.count);
        if let Some(terminal) = self.actors.terminals.get_mut(&head.terminal) {
            if !touched.collided_ids.is_empty() {
                terminal.collided.clone_from(&touched.collided_ids);
            }
            let row = &mut terminal.row;
            row.advance(head.epoch, end, head.digest);
            row.last_seen_us = row.last_seen_us.max(head.received_at_us);
            row.applied += tally.applied;
            row.duplicates += tally.duplicate;
            row.refused += tally.refused;
            row.quarantined += tally.quarantined;
        }
    }

    fn remember_ids(&mut self, store: StoreId, view: &View<'_>, record: &Record) {
        let head = record.head;
        visit(view, |index, event| {
            let Some(id) = event.event_id().map(|id| id.in_store(store)) else {
                return;
            };
            let content = event.content();
            let id = match stands_for(record, index) {
                Some(Stands::Id) => id,
                Some(Stands::IdAndContent) => id.with_content(content),
                None => return,
            };
            let row = EventIdRow {
                terminal: head.terminal,
                epoch: head.epoch,
                seq: head.first_seq + u64::from(index),
                content,
            };
            self.event_ids.insert(&id, row, self.actors.generation);
        });
    }

    // Events that are quarantined get a row each.
    fn enter_quarantine(&mut self, record: &Record) {
        if record.verdicts.is_empty() {
            return;
        }
        for index in record.head.skip..record.head.count {
            let verdict = record.verdict(index);
            let Some(verdict) = verdict.filter(|one| one.outcome == Outcome::Quarantined) else {
                continue;
            };
            let row = QuarantineRow {
                reason: verdict.reason,
                received_at_us: record.head.received_at_us,
                position: 0,
                sku: 0,
                quantity: 0,
            };
            let key = QuarantineKey::of(record, index, u16::MAX);
            self.quarantine.insert(key, Some(row));
        }
    }

    // What a line waited for is in the level of its SKU now.
    fn release_waiting(&mut self, touched: &Touched) {
        let Some((table_index, waiting)) = &touched.waiting else {
            return;
        };
        let effect = self.level(*table_index, |level| waiting.take_into(level));
        if effect == Effect::Waits {
            self.violations.count(InvariantId::Rep1);
        }
    }

    fn leave_quarantine(&mut self, record: &Record, verdict: &Verdict) {
        let line = verdict.waiting_line().unwrap_or(u16::MAX);
        let key = QuarantineKey::of(record, verdict.index, line);
        self.quarantine.insert(key, None);
        self.retried.insert(key, self.actors.generation);
        if key.line == u16::MAX
            && let Some(terminal) = self.actors.terminals.get_mut(&key.terminal)
        {
            terminal.row.quarantined = terminal.row.quarantined.saturating_sub(1);
            terminal.row.applied += 1;
        }
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
