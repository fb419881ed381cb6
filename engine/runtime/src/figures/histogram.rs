//! Durations in buckets that are an eighth of a power of two wide: quantiles within 13 %, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps within a power of two.
const STEPS: u64 = 8;
/// Buckets: up to 2^40 us, which is twelve days.
const BUCKETS: usize = 8 * 38 + 8;

/// How often something took how long, in us.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// Sum of their times in us.
    pub sum_us: u64,
    /// Half of them took no longer, in us.
    pub p50_us: u64,
    /// 99 of 100 took no longer, in us.
    pub p99_us: u64,
    /// 999 of 1,000 took no longer, in us.
    pub p999_us: u64,
    /// (Upper bound in us, how many), rising, only those that are not empty; not summed up.
    pub buckets: Vec<(u64, u64)>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl Histogram {
    pub(crate) fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Latency {
        let counts: Vec<u64> = self.buckets.iter().map(load).collect();
        // Summed from the buckets, so that quantiles fit them while others count on.
        let count: u64 = counts.iter().sum();
        let quantile = |share: u64| {
            let rank = (count * share).div_ceil(1_000).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|bucket| {
                seen += bucket;
                seen >= rank
            });
            found.map_or(0, bound_of)
        };
        let filled = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        Latency {
            count,
            sum_us: load(&self.sum_us),
            p50_us: quantile(500),
            p99_us: quantile(990),
            p999_us: quantile(999),
            buckets: filled.map(|(at, count)| (bound_of(at), *count)).collect(),
        }
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn bucket_of(us: u64) -> usize {
    if us < STEPS {
        return usize::try_from(us).unwrap_or(0);
    }
    let power = u64::from(us.ilog2());
    let step = (us >> (power - 3)) - STEPS;
    let at = (power - 2) * STEPS + step;
    usize::try_from(at).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

// The largest time that lands in a bucket.
fn bound_of(at: usize) -> u64 {
    let at = u64::try_from(at).unwrap_or(0);
    if at < STEPS {
        return at;
    }
    let power = at / STEPS + 2;
    let step = at % STEPS + STEPS;
    ((step + 1) << (power - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_lands_in_a_bucket_that_bounds_it_within_an_eighth() {
        for us in (0..5_000).chain([1 << 20, (1 << 33) + 12_345]) {
            let bound = bound_of(bucket_of(us));
            assert!(us <= bound && bound <= us + us / 8 + 1, "{us}: {bound}");
        }
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let histogram = Histogram::default();
        for us in 1..=1_000 {
            histogram.add(Duration::from_micros(us));
        }
        let read = histogram.read();
        assert_eq!((read.count, read.sum_us), (1_000, 500_500));
        assert!((500..=575).contains(&read.p50_us), "{}", read.p50_us);
        assert!((990..=1_140).contains(&read.p99_us), "{}", read.p99_us);
    }
}
