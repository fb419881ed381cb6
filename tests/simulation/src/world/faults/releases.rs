//! An operator who releases records that have no place.

use crate::coverage::Sight;
use crate::world::{Event, World};

/// Epochs that the operator's command takes are so far from those that devices are granted meanwhile, and from each other. A
/// device asks about each epoch between its own and the latest one: they are not further.
const APART: u32 = 50;

impl World {
    /// The operator looks at what has no place. A gap may fill by itself as long as devices come: until all is calm only what
    /// collides is released, and some of that.
    pub(in crate::world) fn release(&mut self) {
        self.again(self.plan.release_every, Event::Release);
        let Some(shared) = &self.shared else {
            return;
        };
        let store = std::sync::Arc::clone(&shared.store);
        for (id, record, is_conflict) in store.stranded() {
            let is_wanted = self.is_calm || (is_conflict && self.rng.one_in(2));
            // What looks the same is one thing that two engines had: who reads the list releases one of them.
            if !is_wanted || self.oracle.is_released(&record) {
                continue;
            }
            let terminal = record.head.terminal;
            let before = self.released.get(&terminal).copied().unwrap_or(0);
            let proposed = before.max(store.latest_epoch(terminal)) + APART;
            self.released.insert(terminal, proposed);
            // It may have been released before: it keeps the first epoch.
            if store.release(&id, proposed) == Some(proposed) {
                self.saw(Sight::Released);
                self.oracle.released(&record, proposed);
            }
        }
    }
}
