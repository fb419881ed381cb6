//! Which slots a node takes and gives up.
//!
//! The nodes that are alive and stay, in the order of their ids, have a target each: the slots divided by their number,
//! and one more for the first ones. A node below its target takes slots that nobody has, in an order of its own. A node
//! above its target gives up slots while another one is below what everybody has at least (the floor). When nobody is,
//! a node gives up what it has above the most that anybody should have (the ceiling): without this, whoever took the
//! slots of several dead nodes would keep up to one slot too many per node for ever. Nobody gives up a slot only because
//! its place among the ids has changed. Slots are never given to nobody, and never more at a time than an eighth of all.

use std::time::Duration;

use super::{Duty, Held, Membership, NodeId};
use crate::num::{narrow, size32};

/// What a node should have, in slots.
struct Share {
    /// This node, by its place among the ids.
    target: u32,
    /// Any node at least.
    floor: u32,
    /// Any node at most.
    ceiling: u32,
}

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
        if self.is_suspended {
            return;
        }
        self.watch_free();
        let live = self.live();
        let Share {
            target,
            floor,
            ceiling,
        } = self.share(&live);
        let mine = self.held.values().filter(|held| **held != Held::Going);
        let mine = narrow(mine.count());
        let is_free = self.slots.values().any(|seen| seen.free_since.is_some());
        let is_any_below = self.is_any(&live, |owned| owned < floor);
        let is_any_above = self.is_any(&live, |owned| owned > ceiling);
        if mine < floor || mine > ceiling || is_free || is_any_below || is_any_above {
            self.restless_until = self.now.saturating_add(self.config.lease);
        }
        let crowded_for = self.watch_crowd(mine > ceiling);
        if self.is_leaving {
            self.give(mine, &live);
        } else if mine > target && is_any_below {
            self.give(mine.saturating_sub(target), &live);
        } else if crowded_for >= self.share_of_lease(2) {
            self.give(mine.saturating_sub(ceiling), &live);
        } else if mine <= target {
            self.take(target.saturating_sub(mine));
        }
        // While slots change hands, a slot waits as long as nobody looks.
        if mine != target && self.now < self.restless_until {
            self.look_soon();
        }
    }

    /// The nodes that are alive and stay, this one among them, by id.
    fn live(&self) -> Vec<NodeId> {
        let others = self.peers.iter();
        let others = others.filter(|(_, peer)| !peer.is_dead && !peer.is_leaving);
        let mut live: Vec<NodeId> = others.map(|(node, _)| *node).collect();
        if !self.is_leaving {
            live.push(self.config.me);
        }
        live.sort_unstable();
        live
    }

    /// How many slots this node should have, and how many each has at least and at most.
    fn share(&self, live: &[NodeId]) -> Share {
        let nodes = narrow(live.len()).max(1);
        let floor = self.config.slots.checked_div(nodes).unwrap_or(0);
        let over = self.config.slots.checked_rem(nodes).unwrap_or(0);
        let place = live.iter().position(|node| *node == self.config.me);
        let has_one_more = place.is_some_and(|place| narrow(place) < over);
        Share {
            target: floor.saturating_add(u32::from(has_one_more)),
            floor,
            ceiling: floor.saturating_add(u32::from(over > 0)),
        }
    }

    /// Whether the number of slots of any other node that stays is such a one.
    fn is_any(&self, live: &[NodeId], is_such: impl Fn(u32) -> bool) -> bool {
        live.iter()
            .filter(|node| **node != self.config.me)
            .any(|node| {
                let rows = self.slots.values();
                let owned = rows.filter(|seen| seen.row.owner == Some(*node)).count();
                is_such(narrow(owned))
            })
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
            // That life has surely ended.
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

    /// Takes so many slots, and those that nobody has taken for a lease, whoever should have.
    fn take(&mut self, count: u32) {
        let me = self.config.me;
        let mut free: Vec<(u64, u32, Duration)> = self
            .slots
            .iter()
            .filter_map(|(slot, seen)| Some((rank(me, *slot), *slot, seen.free_since?)))
            .collect();
        free.sort_unstable();
        for (place, (_, slot, since)) in free.into_iter().enumerate() {
            let is_overdue = self.now.saturating_sub(since) >= self.config.lease;
            if place >= size32(count) && !is_overdue {
                continue;
            }
            if let Some(seen) = self.slots.get_mut(&slot) {
                seen.free_since = None;
                self.held.insert(slot, Held::Coming);
                self.out.push(Duty::Acquire(seen.row.clone()));
            }
        }
    }

    /// Gives up so many slots, the least wanted first, as far as few enough are on their way.
    fn give(&mut self, count: u32, live: &[NodeId]) {
        let free = self.slots.values();
        let free = free.filter(|seen| seen.row.owner.is_none()).count();
        let going = self.held.values().filter(|held| **held == Held::Going);
        let window = self.config.slots.div_ceil(8);
        let room = if live.is_empty() {
            // Nobody to hand over to: the last one out.
            u32::MAX
        } else {
            window.saturating_sub(narrow(free.saturating_add(going.count())))
        };
        let me = self.config.me;
        let here = self.held.iter().filter(|(_, held)| **held == Held::Here);
        let mut here: Vec<(u64, u32)> = here.map(|(slot, _)| (rank(me, *slot), *slot)).collect();
        here.sort_unstable();
        for (_, slot) in here.into_iter().rev().take(size32(count.min(room))) {
            self.held.insert(slot, Held::Going);
            self.out.push(Duty::Release { slot });
        }
    }
}
