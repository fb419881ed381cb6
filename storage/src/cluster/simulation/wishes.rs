//! Wishes in the simulated cluster, and what they should come to.

use super::rng::Rng;
use super::world::{Event, World};
use crate::cluster::Wish;

impl World {
    /// So many wishes of operators, some of them taken back, before a time.
    pub(super) fn wish(&mut self, rng: &mut Rng, count: usize, before: u64) {
        for _ in 0..count {
            // Also nodes that there are not.
            let address = rng.below(self.plan.nodes + 1).to_string();
            let slot = u32::try_from(rng.within(0, u64::from(self.plan.slots))).unwrap();
            let wish = match rng.below(6) {
                0 => Wish::Drain {
                    address,
                    is_drained: true,
                },
                1 => Wish::Drain {
                    address,
                    is_drained: false,
                },
                2 => Wish::Place {
                    slot,
                    address: None,
                },
                _ => Wish::Place {
                    slot,
                    address: Some(address),
                },
            };
            self.at(rng.within(0, before), Event::Wish(wish));
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
        let wishes = &self.store.wishes;
        let is_drained = |node: &usize| wishes.drained.contains(&node.to_string());
        if !staying.iter().all(is_drained) {
            staying.retain(|node| !is_drained(node));
        }
        let mut shares = vec![0_u32; self.nodes.len()];
        let mut rest = self.plan.slots;
        for (slot, address) in &wishes.slots {
            let wished = address.parse().unwrap();
            if !staying.contains(&wished) {
                continue;
            }
            (shares[wished], rest) = (shares[wished] + 1, rest - 1);
            let owner = owners[usize::try_from(*slot).unwrap()];
            if owner != Some(wished) {
                return Some(format!(
                    "slot {slot} is wished to {wished} and at {owner:?}"
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
        // Which of those with the same wishes has one more is for them to settle.
        owned.sort_unstable();
        wanted.sort_unstable();
        (owned != wanted)
            .then(|| format!("{staying:?} have {owned:?}, and not {wanted:?}: {wishes:?}"))
    }
}
