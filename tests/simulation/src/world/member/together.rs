//! What a shard hears together, and rows of the shared store that make no sense for a while.

use crate::coverage::Sight;
use crate::plan::{MS, SECOND};
use crate::world::{Event, World};

impl World {
    /// Something waits for an engine: it may come to its shards with more that follows.
    pub(in crate::world) fn may_gather(&mut self, n: usize) {
        let rate = self.plan.cluster.map_or(0, |plan| plan.together);
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        if rate == 0 || self.is_calm || member.is_gathering || !self.rng.chance(rate) {
            return;
        }
        member.is_gathering = true;
        engine.gather();
        let pause = self.rng.within(100, 1_200 * MS);
        self.after(pause, Event::DeliverTogether(n));
    }

    /// Shards hear what was put away. Rows of one store that make no sense are no trouble of the others.
    pub(in crate::world) fn deliver_together(&mut self, n: usize) {
        self.speak(n);
        let before = self.troubles(n);
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        member.is_gathering = false;
        let most = match engine.deliver_together() {
            Ok(most) => most,
            Err(halt) => return self.halted(n, &halt),
        };
        self.note(&[u64::try_from(most).unwrap_or(0)]);
        let (damaged, others) = self.troubles(n);
        if most > 1 {
            self.saw(Sight::DeliveredTogether);
        }
        if damaged > before.0 && most > 1 {
            self.saw(Sight::DeliveredDamaged);
        }
        if damaged > before.0 && others == before.1 && !self.nodes[n].disk.is_dead() {
            self.spared_but = self
                .shared
                .as_ref()
                .and_then(|shared| shared.store.damaged());
            self.speak(n);
            self.spared_but = None;
        }
        self.engine_moved(n);
        for conn in self.conns_of(n) {
            self.take_in(conn);
        }
    }

    // Reads of an engine's rows that found damage, and what else may have kept it from reading something.
    fn troubles(&self, n: usize) -> (u64, u64) {
        let counts = self.shared.as_ref().map(|shared| shared.store.counts());
        let counts = counts.unwrap_or_default();
        let unread = self.nodes[n].disk.counts().reads_failed;
        (counts.damaged, counts.refused + unread)
    }

    /// Rows of one store are not in memory any more, and turn out to make no sense.
    pub(in crate::world) fn may_damage(&mut self) {
        let every = self.plan.cluster.map_or(0, |plan| plan.damage_every);
        if every > 0 && self.rng.one_in(2) {
            self.begin_damage();
        }
    }

    /// Rows of one store make no sense for a while: its terminals, and levels.
    pub(in crate::world) fn damage(&mut self) {
        let every = self.plan.cluster.map_or(0, |plan| plan.damage_every);
        self.again(every, Event::Damage);
        self.begin_damage();
    }

    fn begin_damage(&mut self) {
        let store = self.rng.within(1, self.plan.stores);
        let Some(shared) = self.shared.as_ref().filter(|_| !self.is_calm) else {
            return;
        };
        shared.store.damage(u32::try_from(store).ok());
        self.fault("rows_damaged");
        let pause = self.rng.within(2 * SECOND, 12 * SECOND);
        self.after(pause, Event::Repair);
    }

    pub(in crate::world) fn repair(&mut self) {
        if let Some(shared) = &self.shared {
            shared.store.damage(None);
        }
    }
}
