//! The time of day.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use till_protocol::time::Timestamp;

/// Tells the time of day.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Tells the time since any fixed start; it never goes back.
pub(crate) type Monotonic = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let us = since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    });
    Timestamp::from_us(us)
}
