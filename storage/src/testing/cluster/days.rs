//! Days that are due, as the tables have them: rows with stamps, and stamps of those that were deleted.

use std::collections::BTreeMap;

use till_protocol::id::StoreId;

use crate::cluster::{Commit, DueDay};

/// A day by slot, store and day.
type DayKey = (u32, StoreId, u16);

/// Days whose sums are to be made.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// The last flush that wrote hours of a day.
    touched: BTreeMap<DayKey, u64>,
    /// The flush up to which its sums are made.
    summed: BTreeMap<DayKey, u64>,
}

impl Days {
    pub(super) fn touched(&mut self, commit: &Commit) {
        for (key, _) in &commit.rows.rollups {
            if let Ok(store) = StoreId::new(key.store) {
                let last = self.touched.entry((commit.slot, store, key.day));
                let last = last.or_default();
                *last = commit.flush.max(*last);
            }
        }
    }

    pub(super) fn due(&self, slot: u32) -> Vec<DueDay> {
        let of_slot = self.touched.iter().filter(|((of, ..), _)| *of == slot);
        let is_due = |(key, flush): &(&DayKey, &u64)| {
            let summed = self.summed.get(*key);
            summed.is_none_or(|summed| summed < *flush)
        };
        let due = of_slot.filter(is_due);
        due.map(|((_, store, day), flush)| DueDay {
            store: *store,
            day: *day,
            flush: *flush,
        })
        .collect()
    }

    pub(super) fn summed(&mut self, slot: u32, due: &DueDay, applied: u64) {
        let summed = self.summed.entry((slot, due.store, due.day)).or_default();
        *summed = applied.max(*summed);
    }
}
