//! What is seen of a node whose turns a test takes.

use crate::cluster::node::Cluster;

impl Cluster {
    /// Whether every slot has been given up.
    pub(crate) fn has_released(&self) -> bool {
        let all = self.owners.lock();
        all.values().all(|owner| owner.writer.has_ended())
    }

    /// Slots that are served here, to devices that come as well.
    pub(crate) fn served(&self) -> Vec<u32> {
        let membership = self.membership.lock();
        let slots = 0..self.store.slots();
        slots
            .filter(|slot| self.accepts(*slot, &membership))
            .collect()
    }
}
