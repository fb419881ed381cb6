//! What may take effect more than once: the double faults that the promises name.

use std::collections::HashSet;

use super::Oracle;

impl Oracle {
    /// How often an event may take effect: once, whatever happens to one device. Of two that go on from copies of one outbox
    /// each may count it, if it has no id.
    pub(super) fn most_effects(&self, truth: usize) -> u32 {
        match self.truths[truth].id {
            Some(_) => 1,
            None => 1 + self.known[truth].copies,
        }
    }

    /// An event without an id may count twice, if its device moved it into a new epoch, as an image of it was put back or it was
    /// copied, while the engine that had journalled it was away: under two numbers of two epochs, the device sent it under
    /// both, and one of them was handed off.
    pub(super) fn may_double(&self, truth: usize) -> bool {
        let own = &self.truths[truth];
        let places = self.places.get(&truth).map_or(&[][..], Vec::as_slice);
        let epochs: HashSet<u32> = places.iter().map(|(_, epoch, _)| *epoch).collect();
        own.id.is_none()
            && self.branched.contains(&own.terminal)
            && epochs.len() == places.len()
            && places
                .iter()
                .all(|place| self.sent.get(place) == Some(&truth))
            && places.iter().any(|place| self.handed_off.contains(place))
    }
}
