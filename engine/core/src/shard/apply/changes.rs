//! The changes of the events that took effect.

use till_protocol::code::Reason;

use crate::flag;
use crate::record::{Outcome, Record};
use crate::rollup::add_totals;
use crate::row::{Dim, MoveKey, QuarantineKey, QuarantineRow};
use crate::shard::Shard;
use crate::shard::touch::{Change, Scope, Touched, TouchedSku};
use crate::sku::{Effect, Level, Part};

/// The event whose changes are being made.
#[derive(Clone, Copy)]
struct Current {
    key: MoveKey,
    flags: u32,
    received_at_us: i64,
}

impl Current {
    const fn key(&self, line: u16) -> MoveKey {
        MoveKey { line, ..self.key }
    }
}

impl Shard {
    /// Makes the changes of the events of a batch or retry that took effect with it.
    pub(super) fn change(&mut self, scope: &Scope, record: &Record, touched: &Touched) {
        let head = &record.head;
        let found = self.actors.terminals.get_mut(&scope.terminal);
        let mut terminal = found
            .map(|actor| std::mem::take(&mut actor.row))
            .unwrap_or_default();
        let mut from = (0, 0);
        for (number, event) in touched.events.iter().enumerate() {
            let (changes, skus) = from;
            from = (event.changes, event.skus);
            let Some((Outcome::Applied, flags)) = record.outcome(event.index) else {
                continue;
            };
            terminal.flags |= flags;
            terminal.last_event_at_us = terminal.last_event_at_us.max(event.at_us);
            let seq = head.first_seq + u64::from(event.index);
            let now = Current {
                key: scope.key(event.at_us, seq, 0),
                flags,
                received_at_us: head.received_at_us,
            };
            let mut skus = touched
                .skus
                .get(skus..event.skus)
                .unwrap_or_default()
                .iter();
            let own = touched
                .changes
                .get(changes..event.changes)
                .unwrap_or_default();
            for change in own {
                match change {
                    Change::Training { totals } => {
                        if let Some(store) = self.actors.stores.get_mut(&scope.store.get()) {
                            add_totals(&mut store.row.training, totals);
                        }
                    }
                    Change::Line { line, unit, part } => {
                        self.movement(&touched.named, now, skus.next(), (*line, *unit, part));
                    }
                    Change::Move { unit, quantity } => {
                        let part = Part::moving(*quantity);
                        self.movement(&touched.named, now, skus.next(), (0, *unit, &part));
                    }
                    Change::Count { .. } | Change::Reserve { .. } => {
                        if let Some(sku) = skus.next() {
                            self.level_change(record, touched, (number, now), sku, change);
                        }
                    }
                }
            }
        }
        for sum in &touched.sums {
            self.actors.add_to_sum(sum.table_index, &sum.part);
            if sum.key.dim == Dim::Store {
                terminal.add_sale(sum.key.day, &sum.part.totals);
            }
        }
        if let Some(actor) = self.actors.terminals.get_mut(&scope.terminal) {
            actor.row = terminal;
        }
    }

    // A count or a reservation: the level alone.
    fn level_change(
        &mut self,
        record: &Record,
        touched: &Touched,
        (number, now): (usize, Current),
        sku: &TouchedSku,
        change: &Change,
    ) {
        let (table_index, key) = (sku.table_index, now.key);
        self.rename(table_index, now.flags, &touched.named);
        match change {
            Change::Count {
                unit,
                quantity,
                stored,
            } => {
                let is_late = key < self.actors.skus.get(table_index).level.last_move();
                let moved = match is_late {
                    true => moved_in_batch(record, touched, number, table_index, key),
                    false => 0,
                };
                let moved = stored.saturating_add(moved);
                let effect = self.level(table_index, |level| {
                    level.count(key, *quantity, moved, *unit)
                });
                self.wait(
                    effect,
                    table_index,
                    key,
                    i128::from(*quantity),
                    now.received_at_us,
                );
            }
            Change::Reserve { unit, change } => {
                let effect = self.level(table_index, |level| level.reserve(*change, *unit));
                self.wait(effect, table_index, key, *change, now.received_at_us);
            }
            Change::Training { .. } | Change::Line { .. } | Change::Move { .. } => {}
        }
    }

    // A line of a sale, or a movement: the sums of its SKU's hour, and the level.
    #[inline]
    fn movement(
        &mut self,
        named: &[u64],
        now: Current,
        sku: Option<&TouchedSku>,
        (line, unit, part): (u16, u8, &Part),
    ) {
        let Some((table_index, hour)) = sku.and_then(|sku| Some((sku.table_index, sku.hour()?)))
        else {
            return;
        };
        let (key, moved) = (now.key(line), part.moved());
        if now.flags & flag::UNNAMED_SKU == 0
            && let Some(effect) = self.actors.move_here((table_index, hour, unit), part, key)
        {
            return self.wait(effect, table_index, key, moved, now.received_at_us);
        }
        self.rename(table_index, now.flags, named);
        self.actors.add_to_cell(table_index, hour, part);
        if moved != 0 {
            let effect = self.actors.move_level(table_index, key, moved, unit);
            self.wait(effect, table_index, key, moved, now.received_at_us);
        }
    }

    /// Changes the level of a SKU.
    #[inline]
    pub(super) fn level<T>(&mut self, table_index: u32, change: impl FnOnce(&mut Level) -> T) -> T {
        let generation = self.actors.generation;
        let actor = self.actors.skus.get_mut(table_index);
        actor.level.dirty = true;
        let result = change(&mut actor.level);
        self.actors.skus.touch(table_index, generation);
        result
    }

    // An event without the flag says that its SKUs have names. One with it says that some have none: those that the frame
    // does not name and that no event without the flag has used.
    #[inline]
    fn rename(&mut self, table_index: u32, flags: u32, named: &[u64]) {
        let actor = self.actors.skus.get(table_index);
        let is_unnamed = actor.level.is_unnamed();
        let flagged = flags & flag::UNNAMED_SKU != 0;
        if !flagged && !is_unnamed {
            return;
        }
        let named = !flagged || named.binary_search(&actor.level.key().sku).is_ok();
        let unnamed = !named && actor.level.may_lack_name();
        if unnamed != is_unnamed {
            self.level(table_index, |level| level.set_unnamed(unnamed));
        }
    }

    fn wait(
        &mut self,
        effect: Effect,
        table_index: u32,
        key: MoveKey,
        quantity: i128,
        received_at_us: i64,
    ) {
        if effect == Effect::Done {
            return;
        }
        let actor = self.actors.skus.get(table_index);
        let reason = if actor.level.is_parked() {
            Reason::Parked
        } else {
            Reason::Overflow
        };
        let row = QuarantineRow {
            reason: reason.code(),
            received_at_us,
            position: 0,
            sku: actor.level.key().sku,
            quantity: i64::try_from(quantity).unwrap_or(if quantity < 0 {
                i64::MIN
            } else {
                i64::MAX
            }),
        };
        let key = QuarantineKey {
            terminal: key.terminal,
            epoch: key.epoch,
            seq: key.seq,
            line: key.line,
        };
        self.quarantine.insert(key, Some(row));
        self.counters.movements_waiting += 1;
    }
}

// What earlier events of the same batch moved of a SKU after a count.
fn moved_in_batch(
    record: &Record,
    touched: &Touched,
    count: usize,
    table_index: u32,
    after: MoveKey,
) -> i128 {
    let (mut changes, mut skus, mut sum) = (0, 0, 0_i128);
    for event in touched.events.iter().take(count) {
        let own = touched.changes.get(changes..event.changes);
        let of = touched.skus.get(skus..event.skus).unwrap_or_default();
        (changes, skus) = (event.changes, event.skus);
        let outcome = record.outcome(event.index);
        if !of.iter().any(|sku| sku.table_index == table_index)
            || !matches!(outcome, Some((Outcome::Applied, _)))
        {
            continue;
        }
        let of_skus = own.unwrap_or_default().iter().filter_map(|one| match one {
            Change::Line { line, part, .. } => Some((*line, part.moved())),
            Change::Move { quantity, .. } => Some((0, *quantity)),
            Change::Count { .. } | Change::Reserve { .. } => Some((0, 0)),
            Change::Training { .. } => None,
        });
        for (sku, (line, moved)) in of.iter().zip(of_skus) {
            let key = MoveKey {
                at_us: event.at_us,
                seq: record.head.first_seq + u64::from(event.index),
                line,
                ..after
            };
            if sku.table_index == table_index && key > after {
                sum = sum.saturating_add(moved);
            }
        }
    }
    sum
}
