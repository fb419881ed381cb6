//! Doing what was planned. Nothing here can fail.

use till_protocol::code::Reason;

use super::Shard;
use super::plan::{Op, Plan, Scope};
use crate::flag;
use crate::rollup::add_totals;
use crate::row::{MoveKey, QuarantineKey, QuarantineRow, Totals};
use crate::sku::{Effect, Level, Part};
use crate::zone::LocalHour;

/// The event whose changes are being made.
#[derive(Clone, Copy, Default)]
struct Current {
    seq: u64,
    at_us: i64,
    flags: u32,
    received_at_us: i64,
}

impl Current {
    fn of(received_at_us: i64) -> Self {
        Self {
            received_at_us,
            ..Self::default()
        }
    }
}

impl Shard {
    /// Makes the planned changes of a batch or retry.
    pub(super) fn apply_plan(&mut self, scope: &Scope<'_>, received_at_us: i64) {
        let plan = std::mem::take(&mut self.plan);
        let found = self.actors.terminals.get_mut(&scope.terminal);
        let mut terminal = found
            .map(|actor| std::mem::take(&mut actor.row))
            .unwrap_or_default();
        let mut now = Current::of(received_at_us);
        for (number, op) in plan.ops.iter().enumerate() {
            let key = |line| scope.key(now.at_us, now.seq, line);
            match op {
                Op::Event { seq, at_us, flags } => {
                    (now.seq, now.at_us, now.flags) = (*seq, *at_us, *flags);
                    terminal.flags |= flags;
                    terminal.last_event_at_us = terminal.last_event_at_us.max(*at_us);
                }
                Op::Training { totals } => self.train(scope, totals),
                Op::Sum {
                    table_index,
                    part,
                    sale_of,
                } => {
                    let part = part.row();
                    self.actors.add_to_sum(*table_index, &part);
                    if let Some(day) = sale_of {
                        terminal.add_sale(*day, &part.totals);
                    }
                }
                Op::Line {
                    table_index,
                    hour,
                    line,
                    unit,
                    part,
                } => {
                    self.skus(&plan, now, (*table_index, *hour, *unit), part, key(*line));
                }
                Op::Move {
                    table_index,
                    hour,
                    unit,
                    quantity,
                } => {
                    let part = Part::moving(*quantity);
                    self.skus(&plan, now, (*table_index, *hour, *unit), &part, key(0));
                }
                Op::Count { .. } => self.count(op, scope, (&plan, number), now),
                Op::Reserve {
                    table_index,
                    unit,
                    change,
                } => {
                    self.rename(*table_index, now.flags, &plan);
                    let effect = self.level(*table_index, |level| level.reserve(*change, *unit));
                    self.wait(effect, *table_index, key(0), *change, received_at_us);
                }
            }
        }
        if let Some(actor) = self.actors.terminals.get_mut(&scope.terminal) {
            actor.row = terminal;
        }
        self.plan = plan;
    }

    // A count: what moved after it is what the rows and facts had, and what this plan moved before it.
    fn count(&mut self, op: &Op, scope: &Scope<'_>, (plan, number): (&Plan, usize), now: Current) {
        let Op::Count {
            table_index,
            unit,
            quantity,
            stored,
        } = op
        else {
            return;
        };
        let key = scope.key(now.at_us, now.seq, 0);
        let before = plan.ops.iter().take(number);
        let moved = stored.saturating_add(moved_in_batch(before, scope, *table_index, key));
        self.rename(*table_index, now.flags, plan);
        let effect = self.level(*table_index, |level| {
            level.count(key, *quantity, moved, *unit)
        });
        let quantity = i128::from(*quantity);
        self.wait(effect, *table_index, key, quantity, now.received_at_us);
    }

    fn train(&mut self, scope: &Scope<'_>, totals: &Totals) {
        if let Some(store) = self.actors.stores.get_mut(&scope.store.get()) {
            add_totals(&mut store.row.training, totals);
        }
    }

    // A line of a sale, or a movement: the sums of its hour, and the level.
    #[inline]
    fn skus(
        &mut self,
        plan: &Plan,
        now: Current,
        cell: (u32, LocalHour, u8),
        part: &Part,
        key: MoveKey,
    ) {
        let (table_index, hour, unit) = cell;
        let moved = part.moved();
        if now.flags & flag::UNNAMED_SKU == 0
            && let Some(effect) = self.actors.move_here(cell, part, key)
        {
            return self.wait(effect, table_index, key, moved, now.received_at_us);
        }
        self.rename(table_index, now.flags, plan);
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
    fn rename(&mut self, table_index: u32, flags: u32, plan: &Plan) {
        let actor = self.actors.skus.get(table_index);
        let is_unnamed = actor.level.is_unnamed();
        let flagged = flags & flag::UNNAMED_SKU != 0;
        if !flagged && !is_unnamed {
            return;
        }
        let named = !flagged || plan.named.binary_search(&actor.level.key().sku).is_ok();
        let unnamed = !named && (is_unnamed || actor.level.is_virgin());
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

// What earlier events of the same batch moved after `after`.
fn moved_in_batch<'p>(
    before: impl Iterator<Item = &'p Op>,
    scope: &Scope<'_>,
    table_index: u32,
    after: MoveKey,
) -> i128 {
    let (mut seq_now, mut at_now, mut sum) = (0, 0, 0_i128);
    for op in before {
        let (line, moved) = match op {
            Op::Event { seq, at_us, .. } => {
                (seq_now, at_now) = (*seq, *at_us);
                continue;
            }
            Op::Line {
                table_index: other,
                line,
                part,
                ..
            } if *other == table_index => (*line, part.moved()),
            Op::Move {
                table_index: other,
                quantity,
                ..
            } if *other == table_index => (0, *quantity),
            _ => continue,
        };
        if scope.key(at_now, seq_now, line) > after {
            sum = sum.saturating_add(moved);
        }
    }
    sum
}
