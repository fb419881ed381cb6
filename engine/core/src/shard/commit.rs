//! Doing what was planned. Nothing here can fail.

use till_protocol::code::Reason;

use super::Shard;
use super::plan::{Op, Plan, Scope};
use crate::flag;
use crate::rollup::add_totals;
use crate::row::{MoveKey, QuarantineKey, QuarantineRow, RollupRow};
use crate::sku::{Effect, Level};
use crate::terminal::TerminalActor;

/// The event whose changes are being made.
#[derive(Clone, Copy)]
struct Current {
    seq: u64,
    at_us: i64,
    flags: u32,
}

impl Shard {
    /// Makes the planned changes of a batch or retry.
    pub(super) fn commit(&mut self, scope: &Scope<'_>, received_at_us: i64) {
        let plan = std::mem::take(&mut self.plan);
        let mut now = Current {
            seq: 0,
            at_us: 0,
            flags: 0,
        };
        let mut newest_us = i64::MIN;
        let mut flags_seen = 0;
        for (number, op) in plan.ops.iter().enumerate() {
            match op {
                Op::Event { seq, at_us, flags } => {
                    now = Current {
                        seq: *seq,
                        at_us: *at_us,
                        flags: *flags,
                    };
                    newest_us = newest_us.max(*at_us);
                    flags_seen |= flags;
                }
                Op::Sale { day, totals } => {
                    if let Some(terminal) = self.terminal_of(scope) {
                        terminal.row.add_sale(*day, totals);
                    }
                }
                Op::Training { totals } => {
                    if let Some(store) = self.actors.stores.get_mut(&scope.store.get()) {
                        add_totals(&mut store.row.training, totals);
                    }
                }
                Op::Sum { slot, part } => self.actors.add_to_sum(*slot, part),
                Op::Line {
                    slot,
                    hour,
                    line,
                    unit,
                    part,
                } => {
                    self.rename(*slot, now.flags, &plan);
                    self.actors.add_to_cell(*slot, *hour, part);
                    if part.moved != 0 {
                        let key = scope.key(now.at_us, now.seq, *line);
                        self.moved(*slot, key, part.moved, *unit, received_at_us);
                    }
                }
                Op::Move {
                    slot,
                    hour,
                    unit,
                    quantity,
                } => {
                    self.rename(*slot, now.flags, &plan);
                    let part = RollupRow {
                        moved: *quantity,
                        ..RollupRow::default()
                    };
                    self.actors.add_to_cell(*slot, *hour, &part);
                    let key = scope.key(now.at_us, now.seq, 0);
                    self.moved(*slot, key, *quantity, *unit, received_at_us);
                }
                Op::Count {
                    slot,
                    unit,
                    quantity,
                    stored,
                } => {
                    self.rename(*slot, now.flags, &plan);
                    let key = scope.key(now.at_us, now.seq, 0);
                    let before = plan.ops.iter().take(number);
                    let moved = stored.saturating_add(moved_in_batch(before, scope, *slot, key));
                    let effect =
                        self.level(*slot, |level| level.count(key, *quantity, moved, *unit));
                    self.wait(effect, *slot, key, i128::from(*quantity), received_at_us);
                }
                Op::Reserve { slot, unit, change } => {
                    self.rename(*slot, now.flags, &plan);
                    let key = scope.key(now.at_us, now.seq, 0);
                    let effect = self.level(*slot, |level| level.reserve(*change, *unit));
                    self.wait(effect, *slot, key, *change, received_at_us);
                }
            }
        }
        if let Some(terminal) = self.terminal_of(scope) {
            terminal.row.flags |= flags_seen;
            terminal.row.last_event_at_us = terminal.row.last_event_at_us.max(newest_us);
        }
        self.plan = plan;
    }

    pub(super) fn terminal_of(&mut self, scope: &Scope<'_>) -> Option<&mut TerminalActor> {
        self.actors.terminals.get_mut(&scope.terminal)
    }

    fn moved(&mut self, slot: u32, key: MoveKey, quantity: i128, unit: u8, received_at_us: i64) {
        let effect = self.level(slot, |level| level.movement(key, quantity, unit));
        self.wait(effect, slot, key, quantity, received_at_us);
    }

    /// Changes the level of a SKU.
    #[inline]
    pub(super) fn level<T>(&mut self, slot: u32, change: impl FnOnce(&mut Level) -> T) -> T {
        let generation = self.actors.generation;
        let actor = self.actors.skus.get_mut(slot);
        actor.level_dirty = true;
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
        let named = !flagged || plan.named.binary_search(&actor.key.sku).is_ok();
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
            sku: actor.key.sku,
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
            } if *other == slot => (*line, part.moved),
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
