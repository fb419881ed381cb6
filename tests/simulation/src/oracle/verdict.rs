//! What may happen to an event, by what the world knows of it.

use super::Oracle;
use super::read::Fate;

impl Oracle {
    /// Bytes that are no event are refused. What the engine has is known, and what has the id of another event is quarantined.
    /// Nothing else is: what is merely odd takes effect. `read`: the event, where the record holds it.
    pub(super) fn is_due(
        &self,
        position: (u64, u32, u64),
        fate: Fate,
        read: Option<usize>,
    ) -> bool {
        match (fate, read) {
            (Fate::Applied, _) | (Fate::Duplicate, None) => true,
            (Fate::Duplicate, Some(truth)) => self.quiesced[truth] > 0 || self.is_excused,
            (Fate::Refused, read) => read.is_none() && self.garbage.contains(&position),
            (Fate::Quarantined, read) => read.is_some_and(|truth| self.has_other(truth)),
        }
    }

    // Whether the engine has another event with the id of this one. Where the disk lies, it may have forgotten that it had.
    fn has_other(&self, truth: usize) -> bool {
        let own = &self.truths[truth];
        let Some(id) = own.id else {
            return false;
        };
        let all = self.by_id.get(&(own.terminal, id));
        let mut others = all.into_iter().flatten().filter(|other| **other != truth);
        others.any(|other| self.quiesced[*other] > 0 || self.is_excused)
    }
}
