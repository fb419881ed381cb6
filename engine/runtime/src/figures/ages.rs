//! How old the oldest event is that is durable and not in the rows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ranges of the journal that are told apart. Where there are more, neighbours become one, as old as the older of them.
const STRETCHES_MAX: usize = 512;

/// What becomes durable within this time is one stretch.
const STRETCH: Duration = Duration::from_millis(20);

/// When the ranges of the journal that are not in the rows became durable.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// Where each begins, and when its first record was durable. It ends where the next one begins.
    stretches: VecDeque<(u64, Instant)>,
    durable: u64,
}

impl Ages {
    /// The journal is durable up to an LSN, as of now.
    pub(super) fn durable(&mut self, through: u64, now: Instant) {
        if through <= self.durable {
            return;
        }
        let from = std::mem::replace(&mut self.durable, through);
        let last = self.stretches.back();
        if last.is_some_and(|(_, at)| now.saturating_duration_since(*at) < STRETCH) {
            return;
        }
        if self.stretches.len() >= STRETCHES_MAX {
            let mut number = 0;
            self.stretches.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.stretches.push_back((from, now));
    }

    /// The rows hold every record up to an LSN, and perhaps none above it.
    pub(super) fn applied(&mut self, upto: u64) {
        let next = upto.saturating_add(1);
        while !self.stretches.is_empty() {
            let end = self
                .stretches
                .get(1)
                .map_or(self.durable, |(from, _)| *from);
            if end > next {
                return;
            }
            self.stretches.pop_front();
        }
    }

    /// When the oldest of what is not in the rows became durable.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.stretches.front().map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn flushes_that_leave_a_record_out_do_not_make_it_younger() {
        let (mut ages, begin) = (Ages::default(), Instant::now());
        ages.durable(100, begin);
        ages.applied(100);
        assert_eq!(ages.oldest(), None);
        // This one waits for its decision; what comes behind it waits with it.
        for second in 1..=60 {
            ages.durable(100 + second * 10, after(begin, second));
            ages.applied(99);
            assert_eq!(ages.oldest(), Some(after(begin, 1)), "{second}");
        }
        ages.applied(329);
        assert_eq!(ages.oldest(), Some(after(begin, 24)));
        ages.applied(700);
        assert_eq!(ages.oldest(), None);
    }

    #[test]
    fn a_long_backlog_takes_bounded_room_and_is_never_taken_for_younger_than_it_is() {
        let (mut ages, begin) = (Ages::default(), Instant::now());
        for second in 1..=10_000 {
            ages.durable(second * 10, after(begin, second));
        }
        assert!(ages.stretches.len() <= STRETCHES_MAX);
        for second in [1, 17, 5_000, 9_999] {
            ages.applied(second * 10);
            assert!(
                ages.oldest().unwrap() <= after(begin, second + 1),
                "{second}"
            );
        }
    }
}
