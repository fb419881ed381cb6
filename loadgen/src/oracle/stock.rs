//! A level: the last count by event time, and the movements after it.

use crate::workload::LATE_MAX_US;

/// Movements older than this, by event time, are folded into a sum: no count reaches back that far.
const HORIZON_US: i64 = 2 * LATE_MAX_US;
const FOLD_AT: usize = 256;

/// The expected stock of one SKU in one store.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Level {
    counted: Option<(i64, i128)>,
    folded: i128,
    recent: Vec<(i64, i128)>,
    /// How many of them are looked through next: twice what was left, so that each is looked at few times.
    fold_at: usize,
    /// Reserved, in 1e-5 units.
    pub reserved: i128,
}

impl Level {
    /// The level in 1e-5 units, where it was `before` when the oracle began.
    pub fn quantity(&self, before: i128) -> i128 {
        let base = self.counted.map_or(before, |(_, quantity)| quantity);
        base + self.folded
            + self
                .recent
                .iter()
                .map(|(_, quantity)| quantity)
                .sum::<i128>()
    }

    /// A movement at a time.
    pub fn moved(&mut self, at_us: i64, quantity: i128) {
        if self
            .counted
            .is_some_and(|(counted_at, _)| at_us < counted_at)
        {
            return;
        }
        self.recent.push((at_us, quantity));
        if self.recent.len() >= self.fold_at.max(FOLD_AT) {
            self.fold();
        }
    }

    /// So many movements at once that no count will ever precede, in 1e-5 units.
    pub const fn moved_before_counts(&mut self, quantity: i128) {
        self.folded += quantity;
    }

    /// A count at a time, in whatever order it arrives.
    pub fn counted(&mut self, at_us: i64, quantity: i128) {
        if self.counted.is_some_and(|(before, _)| at_us < before) {
            return;
        }
        self.counted = Some((at_us, quantity));
        self.folded = 0;
        self.recent.retain(|(moved_at, _)| *moved_at > at_us);
    }

    fn fold(&mut self) {
        let newest = self.recent.iter().map(|(at, _)| *at).max().unwrap_or(0);
        let folded = &mut self.folded;
        self.recent.retain(|(at, quantity)| {
            let is_recent = *at > newest - HORIZON_US;
            if !is_recent {
                *folded += quantity;
            }
            is_recent
        });
        self.fold_at = 2 * self.recent.len();
    }
}
