//! Records that an operator released under an epoch of their own.

use till_core::Record;

use super::Oracle;
use super::read::{Fate, places_of, reported};

impl Oracle {
    /// An operator releases a record: what was sent under its numbers may count under those of this epoch, from 1 on.
    pub(crate) fn released(&mut self, record: &Record, epoch: u32) {
        let events = reported(record);
        for position in places_of(record) {
            let (terminal, _, seq) = position;
            let index = seq - record.head.first_seq;
            let new = (terminal, epoch, index + 1);
            let event = events.iter().find(|(at, _)| u64::from(*at) == index);
            let key = event.map(|(_, event)| (terminal, event.at));
            if let Some(truth) = key.and_then(|key| self.by_key.get(&key)) {
                self.sent.insert(new, *truth);
            }
            if self.garbage.contains(&position) {
                self.garbage.insert(new);
            }
            self.handed_off.insert(new);
            self.released.insert(new);
            self.wanted.insert(position);
        }
    }

    /// Whether an operator has released a record with one of these numbers: engines each hand off what they have of them.
    pub(crate) fn is_released(&self, record: &Record) -> bool {
        places_of(record).any(|position| self.wanted.contains(&position))
    }

    /// How many events count because they were released.
    pub(crate) fn released_that_count(&self) -> u64 {
        let fates = self
            .released
            .iter()
            .map(|position| self.fates.get(position));
        let count = fates.filter(|fate| *fate == Some(&Fate::Applied)).count();
        u64::try_from(count).unwrap_or(0)
    }
}
