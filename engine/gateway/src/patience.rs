//! How long a sender may take. Only time counts in which the engine waited for that very sender.
//!
//! All streams of a connection share one window of QUIC. Where the engine does not read one of them, because it has no
//! room for its frames, the window fills and the device can send on none: what the engine holds up is nobody's slowness.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long the engine did not read streams of a connection, all of them taken together.
#[derive(Debug, Default)]
pub(crate) struct Holding(Mutex<HeldSince>);

#[derive(Debug, Default)]
struct HeldSince {
    streams: u32,
    /// When the first of `streams` was held back.
    since: Option<Instant>,
    /// Before that.
    total: Duration,
}

/// Holds a stream back as long as it lives.
#[derive(Debug)]
pub(crate) struct Hold<'a>(&'a Holding);

impl Holding {
    /// The engine reads a stream no more, until this is dropped.
    pub(crate) fn hold(&self) -> Hold<'_> {
        self.begin(Instant::now());
        Hold(self)
    }

    fn begin(&self, now: Instant) {
        let mut held = self.0.lock();
        held.streams += 1;
        held.since.get_or_insert(now);
    }

    fn end(&self, now: Instant) {
        let mut held = self.0.lock();
        held.streams = held.streams.saturating_sub(1);
        if held.streams == 0
            && let Some(since) = held.since.take()
        {
            held.total += now.saturating_duration_since(since);
        }
    }

    fn until(&self, now: Instant) -> Duration {
        let held = self.0.lock();
        let current = held
            .since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        held.total + current
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.end(Instant::now());
    }
}

/// A sender that was given a time for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    begun: Instant,
    /// What had been held before.
    held: Duration,
}

impl Patience {
    /// The time begins to run.
    pub(crate) fn begin(holding: &Holding, now: Instant) -> Self {
        Self {
            begun: now,
            held: holding.until(now),
        }
    }

    /// How long the engine has waited for the sender, and held no stream of its connection back.
    pub(crate) fn spent(&self, holding: &Holding, now: Instant) -> Duration {
        let held = holding.until(now).saturating_sub(self.held);
        now.saturating_duration_since(self.begun)
            .saturating_sub(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_any_stream_is_held_back_is_not_the_senders() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let spent = |patience: Patience, holding: &Holding, seconds| {
            patience.spent(holding, at(seconds)).as_secs()
        };
        let holding = Holding::default();
        // Held before it began: not its concern.
        holding.begin(at(0));
        holding.end(at(5));
        let patience = Patience::begin(&holding, at(10));
        assert_eq!(spent(patience, &holding, 12), 2);
        // Two streams are held, one within the other's time: together from 12 to 20.
        holding.begin(at(12));
        holding.begin(at(14));
        holding.end(at(16));
        assert_eq!(spent(patience, &holding, 18), 2);
        // One that begins while others are held.
        let later = Patience::begin(&holding, at(18));
        holding.end(at(20));
        assert_eq!(spent(patience, &holding, 23), 5);
        assert_eq!(spent(later, &holding, 23), 3);
    }
}
