//! Who should have what, with the placement constraints of operators.
//!
//! A node that is cordoned counts as one that leaves; when all that are alive are cordoned, none of them is. A slot that is
//! constrained to a node counts among what that node should have, and everybody else leaves it to that node. All other slots are
//! dealt so that all have as even a number as the placement constraints allow. A placement constraint for a node that is dead,
//! leaves, is cordoned or unknown is none.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Membership, NodeId};
use crate::num::narrow;

/// Leases for which a node keeps a slot that was constrained to another one, when that had let it lie for a lease; twice as
/// many each time, up to the most.
const KEPT_LEASES: u32 = 4;
const KEPT_LEASES_MAX: u32 = 64;

/// A slot that this node has taken because nobody did: the node that it was constrained to had let it lie. To give it back at
/// once would leave it unserved again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Who shall have it.
    from: NodeId,
    until: Duration,
    leases: u32,
}

/// Who should have what.
pub(super) struct Plan {
    /// The nodes that are alive and shall have slots, this one perhaps among them, with the number of slots that are
    /// constrained to each; by id.
    staying: BTreeMap<NodeId, u32>,
    /// Slots that are constrained to one of them.
    constrained: BTreeMap<u32, NodeId>,
    /// What each has at least, but for those with more wishes.
    floor: u32,
    /// How many nodes have one more than that.
    over: u32,
}

impl Plan {
    /// Whether a node shall have slots.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.staying.contains_key(&node)
    }

    /// Whether any node shall.
    pub(super) fn has_any(&self) -> bool {
        !self.staying.is_empty()
    }

    /// Who shall have a slot, if somebody in particular.
    pub(super) fn constrained(&self, slot: u32) -> Option<NodeId> {
        self.constrained.get(&slot).copied()
    }

    /// Slots that this node in particular shall have.
    pub(super) fn constrained_to(&self, node: NodeId) -> impl Iterator<Item = u32> {
        let constrained = self.constrained.iter().filter(move |(_, to)| **to == node);
        constrained.map(|(slot, _)| *slot)
    }

    /// What a node should have at least.
    pub(super) fn floor(&self, node: NodeId) -> u32 {
        let constrained = self.staying.get(&node);
        constrained.map_or(0, |constrained| self.floor.max(*constrained))
    }

    /// What a node should have at most.
    pub(super) fn ceiling(&self, node: NodeId) -> u32 {
        let ceiling = self.floor.saturating_add(u32::from(self.over > 0));
        let constrained = self.staying.get(&node);
        constrained.map_or(0, |constrained| ceiling.max(*constrained))
    }

    /// What a node should have: one more than the floor for the first ones, by id.
    pub(super) fn target(&self, node: NodeId) -> u32 {
        let mut even = self.staying.iter().filter(|(_, one)| **one <= self.floor);
        let place = even.position(|(one, _)| *one == node);
        let has_one_more = place.is_some_and(|place| narrow(place) < self.over);
        self.floor(node).saturating_add(u32::from(has_one_more))
    }

    /// Whether another node that stays has too few.
    pub(super) fn is_any_below(&self, owned: &BTreeMap<NodeId, u32>, me: NodeId) -> bool {
        let mut others = owned.iter().filter(|(node, _)| **node != me);
        others.any(|(node, owned)| self.has(*node) && *owned < self.floor(*node))
    }

    /// Whether another node has too many; one that does not stay should have none.
    pub(super) fn is_any_above(&self, owned: &BTreeMap<NodeId, u32>, me: NodeId) -> bool {
        let mut others = owned.iter().filter(|(node, _)| **node != me);
        others.any(|(node, owned)| *owned > self.ceiling(*node))
    }

    // Deals the slots out: as much to each as there is, and nobody less than is constrained to it.
    fn deal(&mut self, slots: u32) {
        let nodes = narrow(self.staying.len()).max(1);
        let needed = |floor: u32| {
            let each = self
                .staying
                .values()
                .map(|constrained| floor.max(*constrained));
            each.fold(0_u32, u32::saturating_add)
        };
        let most = slots.checked_div(nodes).unwrap_or(0);
        self.floor = (0..=most)
            .rev()
            .find(|floor| needed(*floor) <= slots)
            .unwrap_or(0);
        self.over = slots.saturating_sub(needed(self.floor));
    }
}

impl Membership {
    /// Whether the placement constraints are known, or were waited for long enough: a node that is cordoned should not take slots
    /// only to give them up again.
    pub(super) fn knows_constraints(&self) -> bool {
        self.constraints.is_some() || self.now.saturating_sub(self.born) >= self.config.lease
    }

    /// Who should have what, as far as is known now.
    pub(super) fn plan(&mut self) -> Plan {
        let mut live: Vec<(NodeId, &str)> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_dead && !peer.is_leaving)
            .map(|(node, peer)| (*node, peer.address.as_str()))
            .collect();
        if !self.is_leaving {
            live.push((self.config.me, self.config.address.as_str()));
        }
        let constraints = self.constraints.as_ref();
        let is_cordoned =
            |address: &str| constraints.is_some_and(|all| all.cordoned.contains(address));
        if live.iter().any(|(_, address)| !is_cordoned(address)) {
            live.retain(|(_, address)| !is_cordoned(address));
        }
        let at: BTreeMap<&str, NodeId> = live.iter().map(|(node, at)| (*at, *node)).collect();
        let constrained = constraints.into_iter().flat_map(|all| &all.slots);
        let constrained = constrained.filter(|(slot, _)| **slot < self.config.slots);
        let constrained = constrained.filter_map(|(slot, to)| Some((*slot, *at.get(to.as_str())?)));
        let mut plan = Plan {
            staying: live.iter().map(|(node, _)| (*node, 0)).collect(),
            constrained: constrained.collect(),
            floor: 0,
            over: 0,
        };
        self.keep(&mut plan);
        for node in plan.constrained.values() {
            if let Some(count) = plan.staying.get_mut(node) {
                *count = count.saturating_add(1);
            }
        }
        plan.deal(self.config.slots);
        plan
    }

    // What this node keeps for the time being is constrained to it, as far as it is concerned.
    fn keep(&mut self, plan: &mut Plan) {
        let (me, now) = (self.config.me, self.now);
        let slots = &self.slots;
        self.kept.retain(|slot, kept| {
            let has_it = |node| {
                slots
                    .get(slot)
                    .is_some_and(|seen| seen.row.owner == Some(node))
            };
            plan.constrained(*slot) == Some(kept.from) && !has_it(kept.from)
        });
        let kept = self.kept.iter().filter(|(_, kept)| now < kept.until);
        let kept = kept.filter(|(slot, _)| self.held.contains_key(slot));
        for (slot, _) in kept.filter(|_| plan.staying.contains_key(&me)) {
            plan.constrained.insert(*slot, me);
        }
    }

    /// This node takes a slot that is constrained to another one and that nobody has taken.
    pub(super) fn keep_from(&mut self, slot: u32, from: NodeId) {
        let before = self.kept.get(&slot).map(|kept| kept.leases);
        let leases = before.map_or(KEPT_LEASES, |before| before.saturating_mul(2));
        let leases = leases.min(KEPT_LEASES_MAX);
        let until = self
            .now
            .saturating_add(self.config.lease.saturating_mul(leases));
        let kept = Kept {
            from,
            until,
            leases,
        };
        self.kept.insert(slot, kept);
    }
}
