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

    /// A terminal goes on from an image, or (`is_copy`) twice from one outbox.
    pub(crate) fn branches(&mut self, terminal: u64, is_copy: bool) {
        if !is_copy && self.copied.contains(&terminal) {
            self.put_back_beside.insert(terminal);
        }
        if is_copy {
            self.copied.insert(terminal);
        }
        self.branched.insert(terminal);
    }

    /// An event without an id may count twice, under two numbers of two epochs that its device sent it under: if its device was
    /// put back or copied and something of it was handed off, as the engine that had journalled it was away (what comes before an
    /// event in an epoch decides its number in the next one); or if a device was put back while another went on from a copy of
    /// its outbox. Never because it was released twice.
    pub(super) fn may_double(&self, truth: usize) -> bool {
        let own = &self.truths[truth];
        let positions = self.positions.get(&truth).map_or(&[][..], Vec::as_slice);
        let epochs: HashSet<u32> = positions.iter().map(|(_, epoch, _)| *epoch).collect();
        let is_handed_off = || {
            let terminals = self.handed_off.iter().map(|(terminal, ..)| *terminal);
            terminals.into_iter().any(|one| one == own.terminal)
        };
        let released = positions.iter().filter(|one| self.released.contains(one));
        let is_double_fault = self.put_back_beside.contains(&own.terminal)
            || (self.branched.contains(&own.terminal) && is_handed_off());
        own.id.is_none()
            && is_double_fault
            && released.count() < 2
            && epochs.len() == positions.len()
            && positions
                .iter()
                .all(|position| self.sent.get(position) == Some(&truth))
    }
}
