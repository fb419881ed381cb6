//! Which slots a node takes and gives up.
//!
//! The nodes that are alive and stay, in the order of their ids, have a target each: the slots divided by their number,
//! and one more for the first ones. A node below its target takes slots that nobody has, in an order of its own. A node
//! above its target gives up slots while another one is below what everybody has at least (the floor). When nobody is,
//! a node gives up what it has above the most that anybody should have (the ceiling): without this, whoever took the
//! slots of several dead nodes would keep up to one slot too many per node for ever. Nobody gives up a slot only because
//! its place among the ids has changed. Slots are never given to nobody, and never more at a time than an eighth of all.
//! What operators constrain changes the numbers, and which slots they are: see [`super::plan`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Plan;
use super::{Duty, Held, Membership, NodeId};
use crate::num::{narrow, size32};

/// A place in the order in which a node takes slots: differs from node to node, so that they do not all reach for the
/// same one. The finaliser of splitmix64, as in [`super::super::slot_of`].
fn rank(node: NodeId, slot: u32) -> u64 {
    let [low, high] = halves(node);
    let mut hash = low ^ high.rotate_left(32) ^ u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

fn halves(node: NodeId) -> [u64; 2] {
    let number = u128::from_le_bytes(node.to_bytes());
    let low = u64::try_from(number & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(number >> 64).unwrap_or(0);
    [low, high]
}

impl Membership {
    /// What is to be taken or given up, as far as is known now.
    pub(super) fn decide(&mut self) {
        if self.is_suspended || !self.knows_constraints() {
            return;
        }
        self.watch_free();
        let plan = self.plan();
        let me = self.config.me;
        let (floor, target, ceiling) = (plan.floor(me), plan.target(me), plan.ceiling(me));
        self.wanted = target;
        let strays = self.strays(&plan);
        let mine = self.held.values().filter(|held| **held != Held::Going);
        // Those that shall be elsewhere go in any case.
        let mine = narrow(mine.count()).saturating_sub(narrow(strays.len()));
        let is_missing = plan
            .constrained_to(me)
            .any(|slot| !self.held.contains_key(&slot));
        let is_free = self.slots.values().any(|seen| seen.free_since.is_some());
        let owned = self.owned();
        let is_any_below = plan.is_any_below(&owned, me);
        let is_uneven = mine < floor || mine > ceiling || is_any_below;
        if is_uneven || is_free || is_missing || plan.is_any_above(&owned, me) {
            self.restless_until = self.now.saturating_add(self.config.lease);
        }
        let crowded_for = self.watch_crowd(mine > ceiling);
        if plan.has(me) {
            self.give_up(&strays, &plan);
            if mine > target && is_any_below {
                self.give(mine.saturating_sub(target), &plan);
            } else if crowded_for >= self.share_of_lease(2) {
                self.give(mine.saturating_sub(ceiling), &plan);
            }
            self.take((mine <= target).then(|| target.saturating_sub(mine)), &plan);
        } else {
            self.give(u32::MAX, &plan);
        }
        // While slots change hands, a slot waits as long as nobody looks.
        if (mine != target || is_missing) && self.now < self.restless_until {
            self.look_soon();
        }
    }

    /// Slots that are here and shall be elsewhere.
    fn strays(&self, plan: &Plan) -> Vec<u32> {
        let here = self.held.iter().filter(|(_, held)| **held == Held::Here);
        let is_stray = |slot: &u32| {
            plan.constrained(*slot)
                .is_some_and(|to| to != self.config.me)
        };
        here.map(|(slot, _)| *slot).filter(is_stray).collect()
    }

    /// How many slots each node that is not dead has.
    fn owned(&self) -> BTreeMap<NodeId, u32> {
        let alive = self.peers.iter().filter(|(_, peer)| !peer.is_dead);
        let mut owned: BTreeMap<NodeId, u32> = alive.map(|(node, _)| (*node, 0)).collect();
        for owner in self.slots.values().filter_map(|seen| seen.row.owner) {
            if let Some(count) = owned.get_mut(&owner) {
                *count = count.saturating_add(1);
            }
        }
        owned
    }

    /// For how long this node has had more slots than anybody should. It waits a little before it gives them up: those
    /// who will take them have to see it first and look more often, so that no slot waits for its next owner.
    fn watch_crowd(&mut self, is_crowded: bool) -> Duration {
        let since = self.crowded_since.filter(|_| is_crowded);
        self.crowded_since = is_crowded.then_some(since.unwrap_or(self.now));
        since.map_or(Duration::ZERO, |since| self.now.saturating_sub(since))
    }

    fn is_free(&self, slot: u32) -> bool {
        let Some(seen) = self.slots.get(&slot) else {
            return false;
        };
        let is_free = match seen.row.owner {
            None => true,
            // An attempt of this node that was late, and of which its writer did not know.
            Some(owner) if owner == self.config.me => true,
            // That epoch has surely ended.
            Some(owner) if self.config.former == Some(owner) => true,
            // A node that counts as dead may have come back and taken it: it has to be seen dead since.
            Some(owner) => self
                .peers
                .get(&owner)
                .is_some_and(|peer| peer.is_dead && peer.dead_by > seen.seen_by),
        };
        is_free && !self.held.contains_key(&slot)
    }

    fn watch_free(&mut self) {
        let numbers: Vec<u32> = self.slots.keys().copied().collect();
        for slot in numbers {
            let is_free = self.is_free(slot);
            let now = self.now;
            if let Some(seen) = self.slots.get_mut(&slot) {
                let since = seen.free_since.unwrap_or(now);
                seen.free_since = is_free.then_some(since);
            }
        }
    }

    /// Takes what is constrained to this node; and, where there is room, so many others and those that nobody has taken for a
    /// lease, whoever should have.
    fn take(&mut self, room: Option<u32>, plan: &Plan) {
        let me = self.config.me;
        let mut free: Vec<(u64, u32, Duration)> = self
            .slots
            .iter()
            .filter_map(|(slot, seen)| Some((rank(me, *slot), *slot, seen.free_since?)))
            .collect();
        free.sort_unstable();
        let is_mine = |slot: u32| plan.constrained(slot) == Some(me);
        let mine = free.iter().filter(|(_, slot, _)| is_mine(*slot)).count();
        let mut left = room.unwrap_or(0).saturating_sub(narrow(mine));
        for (_, slot, since) in free {
            let is_overdue = self.now.saturating_sub(since) >= self.config.lease;
            let constrained = plan.constrained(slot);
            let is_due = match constrained {
                Some(to) if to == me => true,
                Some(_) => room.is_some() && is_overdue,
                None => left > 0 || (room.is_some() && is_overdue),
            };
            if !is_due {
                continue;
            }
            match constrained {
                Some(to) if to != me => self.keep_from(slot, to),
                Some(_) => {}
                None => left = left.saturating_sub(1),
            }
            if let Some(seen) = self.slots.get_mut(&slot) {
                seen.free_since = None;
                self.held.insert(slot, Held::Coming);
                self.out.push(Duty::Acquire(seen.row.clone()));
            }
        }
    }

    /// Gives up so many slots, the least wanted first and none that is wished here.
    fn give(&mut self, count: u32, plan: &Plan) {
        let me = self.config.me;
        let is_here = |(slot, held): &(&u32, &Held)| {
            **held == Held::Here && plan.constrained(**slot).is_none_or(|to| to != me)
        };
        let here = self.held.iter().filter(is_here);
        let mut here: Vec<(u64, u32)> = here.map(|(slot, _)| (rank(me, *slot), *slot)).collect();
        here.sort_unstable();
        let here = here.into_iter().rev().map(|(_, slot)| slot);
        let least: Vec<u32> = here.take(size32(count)).collect();
        self.give_up(&least, plan);
    }

    /// Gives up these slots, as far as few enough are on their way.
    fn give_up(&mut self, slots: &[u32], plan: &Plan) {
        let free = self.slots.values();
        let free = free.filter(|seen| seen.row.owner.is_none()).count();
        let going = self.held.values().filter(|held| **held == Held::Going);
        let window = self.config.slots.div_ceil(8);
        let room = if plan.has_any() {
            window.saturating_sub(narrow(free.saturating_add(going.count())))
        } else {
            // Nobody to hand off to: the last one out.
            u32::MAX
        };
        for slot in slots.iter().take(size32(room)) {
            self.held.insert(*slot, Held::Going);
            self.out.push(Duty::Release { slot: *slot });
        }
    }
}
