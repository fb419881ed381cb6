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
    pub(super) fn commit(&mut self, scope: &Scope<'_>, received_at_us: i64) {
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
                    slot,
                    part,
                    sale_of,
                } => {
                    let part = part.row();
                    self.actors.add_to_sum(*slot, &part);
                    if let Some(day) = sale_of {
                        terminal.add_sale(*day, &part.totals);
                    }
                }
                Op::Line {
                    slot,
                    hour,
                    line,
                    unit,
                    part,
                } => {
                    self.goods(&plan, now, (*slot, *hour, *unit), part, key(*line));
                }
                Op::Move {
                    slot,
                    hour,
                    unit,
                    quantity,
                } => {
                    let part = Part::moving(*quantity);
                    self.goods(&plan, now, (*slot, *hour, *unit), &part, key(0));
                }
                Op::Count {
                    slot,
                    unit,
                    quantity,
                    stored,
                } => {
                    let before = plan.ops.iter().take(number);
                    let moved = moved_in_batch(before, scope, *slot, key(0));
                    let moved = stored.saturating_add(moved);
                    self.rename(*slot, now.flags, &plan);
                    let effect =
                        self.level(*slot, |level| level.count(key(0), *quantity, moved, *unit));
                    self.wait(effect, *slot, key(0), i128::from(*quantity), received_at_us);
                }
                Op::Reserve { slot, unit, change } => {
                    self.rename(*slot, now.flags, &plan);
                    let effect = self.level(*slot, |level| level.reserve(*change, *unit));
                    self.wait(effect, *slot, key(0), *change, received_at_us);
                }
            }
        }
        if let Some(actor) = self.actors.terminals.get_mut(&scope.terminal) {
            actor.row = terminal;
        }
        self.plan = plan;
    }

    fn train(&mut self, scope: &Scope<'_>, totals: &Totals) {
        if let Some(store) = self.actors.stores.get_mut(&scope.store.get()) {
            add_totals(&mut store.row.training, totals);
        }
    }

    // A line of a sale, or a movement: the sums of its hour, and the level.
    #[inline]
    fn goods(
        &mut self,
        plan: &Plan,
        now: Current,
        place: (u32, LocalHour, u8),
        part: &Part,
        key: MoveKey,
    ) {
        let (slot, hour, unit) = place;
        let moved = part.moved();
        if now.flags & flag::UNNAMED_SKU == 0
            && let Some(effect) = self.actors.move_here(place, part, key)
        {
            return self.wait(effect, slot, key, moved, now.received_at_us);
        }
        self.rename(slot, now.flags, plan);
        self.actors.add_to_cell(slot, hour, part);
        if moved != 0 {
            let effect = self.actors.move_level(slot, key, moved, unit);
            self.wait(effect, slot, key, moved, now.received_at_us);
        }
    }

    /// Changes the level of a SKU.
    #[inline]
    pub(super) fn level<T>(&mut self, slot: u32, change: impl FnOnce(&mut Level) -> T) -> T {
        let generation = self.actors.generation;
        let actor = self.actors.skus.get_mut(slot);
        actor.level.dirty = true;
        let result = change(&mut actor.level);
        self.actors.skus.touch(slot, generation);
        result
    }

    // An event without the flag says that its SKUs have names. One with it says that some have none: those that the frame
    // does not name and that no event without the flag has used.
    #[inline]
    fn rename(&mut self, slot: u32, flags: u32, plan: &Plan) {
        let actor = self.actors.skus.get(slot);
        let is_unnamed = actor.level.is_unnamed();
        let flagged = flags & flag::UNNAMED_SKU != 0;
        if !flagged && !is_unnamed {
            return;
        }
        let named = !flagged || plan.named.binary_search(&actor.level.key().sku).is_ok();
        let unnamed = !named && (is_unnamed || actor.level.is_virgin());
        if unnamed != is_unnamed {
            self.level(slot, |level| level.set_unnamed(unnamed));
        }
    }

    fn wait(
        &mut self,
        effect: Effect,
        slot: u32,
        key: MoveKey,
        quantity: i128,
        received_at_us: i64,
    ) {
        if effect == Effect::Done {
            return;
        }
        let actor = self.actors.skus.get(slot);
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
    slot: u32,
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
                slot: other,
                line,
                part,
                ..
            } if *other == slot => (*line, part.moved()),
            Op::Move {
                slot: other,
                quantity,
                ..
            } if *other == slot => (0, *quantity),
            _ => continue,
        };
        if scope.key(at_now, seq_now, line) > after {
            sum = sum.saturating_add(moved);
        }
    }
    sum
}
