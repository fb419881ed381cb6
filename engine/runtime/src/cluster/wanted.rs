//! What a node should have, for people.

use crate::cluster::node::Cluster;

impl Cluster {
    /// Slots that this node should have, as far as it knows who is there and what operators want.
    pub(crate) fn wanted_slots(&self) -> u32 {
        self.membership.lock().wanted()
    }
}
