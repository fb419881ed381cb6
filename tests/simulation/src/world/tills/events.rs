//! What happens at a till, as events.

use crate::coverage::Sight;
use crate::workload::{Act, SKUS, Truth, Zone, happen};
use crate::world::World;

impl World {
    // New events, or one that its source sends again.
    pub(super) fn make(&mut self, number: usize, terminal: u64) -> Vec<usize> {
        let mix = self.plan.mix;
        let till = &self.tills[number];
        if !till.with_ids.is_empty() && self.rng.below(1_000) < mix.ids / 2 {
            let again = till.with_ids[self.rng.index(till.with_ids.len())];
            let is_other = self.rng.one_in(3);
            if !is_other {
                self.oracle.known[again].is_twin = true;
                self.saw(Sight::SameId);
                return vec![again];
            }
            // The same id, and another content.
            let id = self.oracle.truths[again].id;
            let act = Act::Moved(self.rng.below(SKUS), 300_000);
            return vec![self.new_event(number, terminal, act, id)];
        }
        // Few sell what comes and goes in bulk.
        let skus: Vec<u64> = (0..SKUS + u64::from(mix.huge > 0)).collect();
        let acts = happen(&mut self.rng, &mix, &skus);
        let mut events = Vec::new();
        for act in acts {
            let has_id = act != Act::Garbage && self.rng.below(1_000) < mix.ids;
            let id = has_id.then(|| self.rng.next());
            let event = self.new_event(number, terminal, act, id);
            if has_id {
                self.tills[number].with_ids.push(event);
            }
            events.push(event);
        }
        events
    }

    fn new_event(&mut self, number: usize, terminal: u64, act: Act, id: Option<u64>) -> usize {
        let late = self.plan.mix.late_us;
        let late = if self.rng.one_in(3) {
            self.rng.signed(0, late)
        } else {
            0
        };
        let mut at = self.wall() + self.tills[number].skew - late;
        // No two events of a world have the same time.
        while !self.times.insert(at) {
            at += 1;
        }
        let zone = Zone::of(terminal >> 32, self.plan.changed);
        for sight in act.sights() {
            self.saw(sight);
        }
        if zone.is_odd() {
            self.saw(Sight::Ahead);
        }
        if let Some(change) = zone.change_at() {
            self.saw(match at < change {
                true => Sight::BeforeChange,
                false => Sight::AfterChange,
            });
        }
        self.oracle.happened(Truth {
            terminal,
            at,
            act,
            id,
            zone,
        })
    }
}
