//! What a connection does to no effect, and how long it waits for that.
//!
//! What changes nothing costs the engine as much as what does: a frame that cannot be read, one that is known, one that lies
//! behind a gap, a stream that ends in the middle of a frame. Each connection may do so much of it at once, and then so much
//! a second. For what goes beyond it waits: nothing of it is read and none of its streams taken in, and QUIC's flow control
//! stops the device. A connection that waits costs nothing; one that was closed would come back with a handshake, which
//! costs more than what it was closed for. Nothing is dropped and no stream ends for it, so that who means no harm is late
//! at worst.
//!
//! Who comes back with another connection waits on: terminals that made theirs wait are remembered, as many as there is
//! room for.
//!
//! A bad line is no abuse. When it breaks, a device sends again what it has no ack for: what was known when its session
//! began counts once in each session as if it were new ([`Session`](till_runtime::Session) tells). When a shard crashes, a
//! window of frames lies behind the gap; twice as many are free. A frame that a lost connection cut in two is not counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use till_protocol::id::TerminalId;
use till_runtime::IngressFigures;

/// What may be done to no effect at once. Two windows of frames behind a gap.
const BURST: u64 = 256;
/// What is forgiven in a second.
const REFILL_PER_S: u64 = 8;
/// Longest wait of a connection, in s.
const WAIT_MAX_S: u64 = 30;
/// Bytes of an unfinished frame that count as much as a frame.
const BYTES: usize = 2 << 10;
/// Terminals that are remembered.
const REMEMBERED_MAX: usize = 4_096;
/// Time between two lines in the log.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// What was done to no effect, and what is forgiven of it by now.
#[derive(Clone, Copy, Debug)]
struct TokenBucket {
    /// In thousandths.
    spent: u64,
    at: Instant,
}

impl TokenBucket {
    const fn none(now: Instant) -> Self {
        Self { spent: 0, at: now }
    }

    fn spent(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at).as_millis();
        let forgiven = u64::try_from(since).unwrap_or(u64::MAX);
        self.spent
            .saturating_sub(forgiven.saturating_mul(REFILL_PER_S))
    }

    fn add(&mut self, points: u64, now: Instant) {
        let most = 1_000 * (BURST + WAIT_MAX_S * REFILL_PER_S);
        let spent = self.spent(now).saturating_add(points.saturating_mul(1_000));
        *self = Self {
            spent: spent.min(most),
            at: now,
        };
    }

    fn wait(self, now: Instant) -> Option<Duration> {
        let over = self.spent(now).saturating_sub(1_000 * BURST);
        (over > 0).then(|| Duration::from_millis(over.div_ceil(REFILL_PER_S)))
    }
}

/// Terminals whose connections have to wait, of all connections.
#[derive(Debug, Default)]
pub(crate) struct LimitedTerminals {
    remembered: Mutex<Remembered>,
    figures: Arc<IngressFigures>,
}

#[derive(Debug, Default)]
struct Remembered {
    buckets: HashMap<TerminalId, TokenBucket>,
    /// How many connections that were made to wait the log tells of, and when it last did.
    logged: Option<(u64, Instant)>,
}

impl LimitedTerminals {
    pub(crate) fn new(figures: Arc<IngressFigures>) -> Self {
        Self {
            remembered: Mutex::default(),
            figures,
        }
    }

    fn of(&self, terminal: TerminalId) -> Option<TokenBucket> {
        self.remembered.lock().buckets.get(&terminal).copied()
    }

    fn remember(&self, terminal: TerminalId, bucket: TokenBucket, now: Instant) {
        let buckets = &mut self.remembered.lock().buckets;
        if buckets.len() >= REMEMBERED_MAX && !buckets.contains_key(&terminal) {
            buckets.retain(|_, bucket| bucket.spent(now) > 0);
        }
        if buckets.len() >= REMEMBERED_MAX && !buckets.contains_key(&terminal) {
            // Who owes least is forgotten.
            let least = buckets.iter().min_by_key(|(_, bucket)| bucket.spent(now));
            if let Some(least) = least.map(|(terminal, _)| *terminal) {
                buckets.remove(&least);
            }
        }
        buckets.insert(terminal, bucket);
    }

    // Many may have to wait at a time: the log tells of one, and how many others there were.
    fn waits(&self, now: Instant) -> Option<u64> {
        let mut all = self.remembered.lock();
        let waited = 1 + self.figures.made_to_wait.fetch_add(1, Ordering::Relaxed);
        let (logged_before, at) = all.logged.unwrap_or((0, now));
        if all.logged.is_some() && now.saturating_duration_since(at) < LOG_EVERY {
            return None;
        }
        all.logged = Some((waited, now));
        Some(waited - logged_before)
    }
}

/// What one connection does to no effect.
#[derive(Debug)]
pub(crate) struct AbuseControl {
    remote: SocketAddr,
    bucket: Mutex<TokenBucket>,
}

impl AbuseControl {
    /// Of a connection that has done nothing yet.
    pub(crate) fn new(remote: SocketAddr, now: Instant) -> Self {
        Self {
            remote,
            bucket: Mutex::new(TokenBucket::none(now)),
        }
    }

    /// A terminal speaks on this connection: what it owes from another one is owed here.
    pub(crate) fn authorisation(&self, all: &LimitedTerminals, terminal: TerminalId, now: Instant) {
        let Some(before) = all.of(terminal) else {
            return;
        };
        let mut bucket = self.bucket.lock();
        let waited = bucket.wait(now).is_some();
        if before.spent(now) > bucket.spent(now) {
            *bucket = before;
        }
        let waits = bucket.wait(now).is_some();
        drop(bucket);
        if waits && !waited {
            self.log(all, Some(terminal), now);
        }
    }

    /// So much was done to no effect.
    pub(crate) fn charge(
        &self,
        all: &LimitedTerminals,
        terminal: Option<TerminalId>,
        points: u64,
        now: Instant,
    ) {
        if points == 0 {
            return;
        }
        let (waited, bucket) = {
            let mut bucket = self.bucket.lock();
            let waited = bucket.wait(now).is_some();
            bucket.add(points, now);
            (waited, *bucket)
        };
        if bucket.wait(now).is_none() {
            return;
        }
        if let Some(terminal) = terminal {
            all.remember(terminal, bucket, now);
        }
        if !waited {
            self.log(all, terminal, now);
        }
    }

    // It has to wait from now on.
    fn log(&self, all: &LimitedTerminals, terminal: Option<TerminalId>, now: Instant) {
        if let Some(connections) = all.waits(now) {
            let terminal = terminal.map(tracing::field::display);
            tracing::warn!(
                remote = %self.remote, terminal, connections,
                "connections send too much to no effect and have to wait"
            );
        }
    }

    /// How long nothing more is taken of it; `None` where it need not wait.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.bucket.lock().wait(now)
    }
}

/// What bytes of a frame that does not come to its end cost.
pub(crate) fn unfinished(bytes: usize) -> u64 {
    u64::try_from(bytes / BYTES).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use till_protocol::id::{StoreId, TillId};

    use super::*;

    fn abuse(now: Instant) -> AbuseControl {
        AbuseControl::new(SocketAddr::from(([127, 0, 0, 1], 1)), now)
    }

    fn waited(all: &LimitedTerminals) -> u64 {
        all.figures.made_to_wait.load(Ordering::Relaxed)
    }

    fn till(number: u32) -> TerminalId {
        TerminalId::new(StoreId::new(1).unwrap(), TillId::new(number).unwrap())
    }

    #[test]
    fn some_is_free_and_what_goes_beyond_is_waited_for() {
        let start = Instant::now();
        let (all, abuse) = (LimitedTerminals::default(), abuse(start));
        abuse.charge(&all, None, BURST, start);
        assert_eq!((abuse.wait(start), waited(&all)), (None, 0));
        abuse.charge(&all, None, 16, start);
        assert_eq!(abuse.wait(start), Some(Duration::from_secs(2)));
        let later = start + Duration::from_secs(2);
        assert_eq!(abuse.wait(later), None);
        // However much it was, the wait has an end.
        abuse.charge(&all, None, u64::MAX, later);
        assert_eq!(abuse.wait(later), Some(Duration::from_secs(WAIT_MAX_S)));
        assert_eq!(waited(&all), 2);
        // In the end all is forgiven.
        let long = later + Duration::from_secs(600);
        abuse.charge(&all, None, BURST, long);
        assert_eq!(abuse.wait(long), None);
    }

    #[test]
    fn another_connection_of_a_terminal_waits_on() {
        let start = Instant::now();
        let (all, first, second, other) = (
            LimitedTerminals::default(),
            abuse(start),
            abuse(start),
            abuse(start),
        );
        first.charge(&all, Some(till(1)), BURST + 80, start);
        let later = start + Duration::from_secs(4);
        second.authorisation(&all, till(1), later);
        assert_eq!(second.wait(later), Some(Duration::from_secs(6)));
        // What another terminal of the same line did is not its neighbour's.
        other.authorisation(&all, till(2), later);
        assert_eq!(other.wait(later), None);
    }

    #[test]
    fn the_log_tells_of_one_and_later_how_many_there_were() {
        let start = Instant::now();
        let all = LimitedTerminals::default();
        assert_eq!(all.waits(start), Some(1));
        let soon = start + LOG_EVERY / 2;
        assert_eq!([all.waits(soon), all.waits(soon)], [None, None]);
        let later = start + LOG_EVERY;
        assert_eq!(all.waits(later), Some(3), "those before it, and this one");
        assert_eq!((all.waits(later), waited(&all)), (None, 5));
    }

    #[test]
    fn few_are_remembered_and_those_are_who_owe_most() {
        let start = Instant::now();
        let all = LimitedTerminals::default();
        let owes = |number: u32, points: u64| {
            abuse(start).charge(&all, Some(till(number)), points, start);
        };
        owes(1, BURST + 9);
        for number in 2..10_000 {
            owes(number, BURST + 5);
        }
        assert_eq!(all.remembered.lock().buckets.len(), REMEMBERED_MAX);
        assert!(all.of(till(1)).is_some() && all.of(till(9_999)).is_some());
    }
}
