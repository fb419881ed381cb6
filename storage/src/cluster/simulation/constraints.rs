//! Wishes in the simulated cluster, and what they should come to.

use super::rng::Rng;
use super::world::{Event, SlotWorld};
use crate::cluster::Constraint;

impl SlotWorld {
    /// So many wishes of operators, some of them taken back, before a time.
    pub(super) fn constraint(&mut self, rng: &mut Rng, count: usize, before: u64) {
        for _ in 0..count {
            // Also nodes that there are not.
            let address = rng.below(self.plan.nodes + 1).to_string();
            let slot = u32::try_from(rng.within(0, u64::from(self.plan.slots))).unwrap();
            let constraint = match rng.below(6) {
                0 => Constraint::Drain {
                    address,
                    is_cordoned: true,
                },
                1 => Constraint::Drain {
                    address,
                    is_cordoned: false,
                },
                2 => Constraint::Place {
                    slot,
                    address: None,
                },
                _ => Constraint::Place {
                    slot,
                    address: Some(address),
                },
            };
            self.at(rng.within(0, before), Event::Constraint(constraint));
        }
    }

    /// Who serves each slot, where it is one.
    pub(super) fn owners(&self) -> Vec<Option<usize>> {
        let serves = |node: usize, slot: u32| {
            let process = self.nodes[node].process.as_ref();
            let host = process.and_then(|process| process.hosts.get(&slot));
            host.is_some_and(|host| host.writer.is_open())
        };
        let owner = |slot| {
            let mut nodes = (0..self.nodes.len()).filter(|node| serves(*node, slot));
            nodes.next().filter(|_| nodes.next().is_none())
        };
        (0..self.plan.slots).map(owner).collect()
    }

    /// What is not as it should be when nothing changes any more.
    pub(super) fn misdealt(&self) -> Option<String> {
        let owners = self.owners();
        if let Some(slot) = owners.iter().position(Option::is_none) {
            return Some(format!("slot {slot} is not served by one node"));
        }
        let alive = |node: &usize| self.nodes[*node].process.is_some();
        let mut staying: Vec<usize> = (0..self.nodes.len()).filter(alive).collect();
        let constraints = &self.store.constraints;
        let is_cordoned = |node: &usize| constraints.cordoned.contains(&node.to_string());
        if !staying.iter().all(is_cordoned) {
            staying.retain(|node| !is_cordoned(node));
        }
        let mut shares = vec![0_u32; self.nodes.len()];
        let mut rest = self.plan.slots;
        for (slot, address) in &constraints.slots {
            let constrained = address.parse().unwrap();
            if !staying.contains(&constrained) {
                continue;
            }
            (shares[constrained], rest) = (shares[constrained] + 1, rest - 1);
            let owner = owners[usize::try_from(*slot).unwrap()];
            if owner != Some(constrained) {
                return Some(format!(
                    "slot {slot} is constrained to {constrained} and at {owner:?}"
                ));
            }
        }
        // One after another to whoever has fewest.
        for _ in 0..rest {
            let least = staying.iter().min_by_key(|node| shares[**node]).unwrap();
            shares[*least] += 1;
        }
        let has = |node: usize| owners.iter().filter(|owner| **owner == Some(node)).count();
        let mut owned: Vec<usize> = (0..shares.len()).map(has).collect();
        let mut wanted: Vec<usize> = shares
            .into_iter()
            .map(|n| usize::try_from(n).unwrap())
            .collect();
        // Which of those with the same placement constraints has one more is for them to quiesce.
        owned.sort_unstable();
        wanted.sort_unstable();
        (owned != wanted)
            .then(|| format!("{staying:?} have {owned:?}, and not {wanted:?}: {constraints:?}"))
    }
}
