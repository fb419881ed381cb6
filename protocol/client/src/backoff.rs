//! How long to wait before the next attempt.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// Exponential back-off with full jitter: a uniform share of a bound that doubles, so that a fleet that lost its engine in
/// one moment does not come back in one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Backoff {
    /// Bound of the first wait.
    pub first: Duration,
    /// Largest bound.
    pub longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// A back-off that starts at `first` and never exceeds `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            attempts: 0,
        }
    }

    /// The wait before the next attempt.
    pub fn next(&mut self, rng: &mut impl Rng) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        let bound_us = u64::try_from(doubled.min(self.longest).as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(rng.random_range(0..=bound_us))
    }

    /// An attempt succeeded: the next wait is short again.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(20))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn waits_never_exceed_a_bound_that_doubles_up_to_the_longest() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        for bound in [10, 20, 40, 80, 100, 100, 100] {
            assert!(backoff.next(&mut rng) <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert!(backoff.next(&mut rng) <= Duration::from_millis(10));
    }
}
