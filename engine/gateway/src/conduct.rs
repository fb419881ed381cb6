//! What a connection does in vain, and how long it waits for that.
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
//! A bad line is no bad conduct. When it breaks, a device sends again what it has no ack for: what was known when its session
//! began counts once in each session as if it were new ([`Session`](till_runtime::Session) tells). When a shard falls, a
//! window of frames lies behind the gap; twice as many are free. A frame that a lost connection cut in two is not counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::Mutex;
use till_protocol::id::TerminalId;
use till_runtime::IngressFigures;

/// What may be done in vain at once. Two windows of frames behind a gap.
const FREE: u64 = 256;
/// What is forgiven in a second.
const FORGIVEN_PER_S: u64 = 8;
/// Longest wait of a connection, in s.
const WAIT_MAX_S: u64 = 30;
/// Bytes of an unfinished frame that count as much as a frame.
const BYTES: usize = 2 << 10;
/// Terminals that are remembered.
const REMEMBERED_MAX: usize = 4_096;
/// Time between two lines in the log.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What was done in vain, and what is forgiven of it by now.
#[derive(Clone, Copy, Debug)]
struct Debt {
    /// In thousandths.
    owed: u64,
    at: Instant,
}

impl Debt {
    const fn none(now: Instant) -> Self {
        Self { owed: 0, at: now }
    }

    fn owed(self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at).as_millis();
        let forgiven = u64::try_from(since).unwrap_or(u64::MAX);
        self.owed
            .saturating_sub(forgiven.saturating_mul(FORGIVEN_PER_S))
    }

    fn add(&mut self, points: u64, now: Instant) {
        let most = 1_000 * (FREE + WAIT_MAX_S * FORGIVEN_PER_S);
        let owed = self.owed(now).saturating_add(points.saturating_mul(1_000));
        *self = Self {
            owed: owed.min(most),
            at: now,
        };
    }

    fn wait(self, now: Instant) -> Option<Duration> {
        let over = self.owed(now).saturating_sub(1_000 * FREE);
        (over > 0).then(|| Duration::from_millis(over.div_ceil(FORGIVEN_PER_S)))
    }
}

/// Terminals whose connections have to wait, of all connections.
#[derive(Debug, Default)]
pub(crate) struct Debtors {
    remembered: Mutex<Remembered>,
    figures: Arc<IngressFigures>,
}

#[derive(Debug, Default)]
struct Remembered {
    debts: HashMap<TerminalId, Debt>,
    /// How many connections that were made to wait the log tells of, and when it last did.
    said: Option<(u64, Instant)>,
}

impl Debtors {
    pub(crate) fn new(figures: Arc<IngressFigures>) -> Self {
        Self {
            remembered: Mutex::default(),
            figures,
        }
    }

    fn of(&self, terminal: TerminalId) -> Option<Debt> {
        self.remembered.lock().debts.get(&terminal).copied()
    }

    fn remember(&self, terminal: TerminalId, debt: Debt, now: Instant) {
        let debts = &mut self.remembered.lock().debts;
        if debts.len() >= REMEMBERED_MAX && !debts.contains_key(&terminal) {
            debts.retain(|_, debt| debt.owed(now) > 0);
        }
        if debts.len() >= REMEMBERED_MAX && !debts.contains_key(&terminal) {
            // Who owes least is forgotten.
            let least = debts.iter().min_by_key(|(_, debt)| debt.owed(now));
            if let Some(least) = least.map(|(terminal, _)| *terminal) {
                debts.remove(&least);
            }
        }
        debts.insert(terminal, debt);
    }

    // Many may have to wait at a time: the log tells of one, and how many others there were.
    fn waits(&self, now: Instant) -> Option<u64> {
        let mut all = self.remembered.lock();
        let waited = 1 + self.figures.made_to_wait.fetch_add(1, Ordering::Relaxed);
        let (told, at) = all.said.unwrap_or((0, now));
        if all.said.is_some() && now.saturating_duration_since(at) < SAID_EVERY {
            return None;
        }
        all.said = Some((waited, now));
        Some(waited - told)
    }
}

/// What one connection does in vain.
#[derive(Debug)]
pub(crate) struct Conduct {
    remote: SocketAddr,
    debt: Mutex<Debt>,
}

impl Conduct {
    /// Of a connection that has done nothing yet.
    pub(crate) fn new(remote: SocketAddr, now: Instant) -> Self {
        Self {
            remote,
            debt: Mutex::new(Debt::none(now)),
        }
    }

    /// A terminal speaks on this connection: what it owes from another one is owed here.
    pub(crate) fn speaks(&self, all: &Debtors, terminal: TerminalId, now: Instant) {
        let Some(before) = all.of(terminal) else {
            return;
        };
        let mut debt = self.debt.lock();
        let waited = debt.wait(now).is_some();
        if before.owed(now) > debt.owed(now) {
            *debt = before;
        }
        let waits = debt.wait(now).is_some();
        drop(debt);
        if waits && !waited {
            self.tell(all, Some(terminal), now);
        }
    }

    /// So much was done in vain.
    pub(crate) fn charge(
        &self,
        all: &Debtors,
        terminal: Option<TerminalId>,
        points: u64,
        now: Instant,
    ) {
        if points == 0 {
            return;
        }
        let (waited, debt) = {
            let mut debt = self.debt.lock();
            let waited = debt.wait(now).is_some();
            debt.add(points, now);
            (waited, *debt)
        };
        if debt.wait(now).is_none() {
            return;
        }
        if let Some(terminal) = terminal {
            all.remember(terminal, debt, now);
        }
        if !waited {
            self.tell(all, terminal, now);
        }
    }

    // It has to wait from now on.
    fn tell(&self, all: &Debtors, terminal: Option<TerminalId>, now: Instant) {
        if let Some(connections) = all.waits(now) {
            let terminal = terminal.map(tracing::field::display);
            tracing::warn!(
                remote = %self.remote, terminal, connections,
                "connections send too much in vain and have to wait"
            );
        }
    }

    /// How long nothing more is taken of it; `None` where it need not wait.
    pub(crate) fn wait(&self, now: Instant) -> Option<Duration> {
        self.debt.lock().wait(now)
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

    fn conduct(now: Instant) -> Conduct {
        Conduct::new(SocketAddr::from(([127, 0, 0, 1], 1)), now)
    }

    fn waited(all: &Debtors) -> u64 {
        all.figures.made_to_wait.load(Ordering::Relaxed)
    }

    fn till(number: u32) -> TerminalId {
        TerminalId::new(StoreId::new(1).unwrap(), TillId::new(number).unwrap())
    }

    #[test]
    fn some_is_free_and_what_goes_beyond_is_waited_for() {
        let start = Instant::now();
        let (all, conduct) = (Debtors::default(), conduct(start));
        conduct.charge(&all, None, FREE, start);
        assert_eq!((conduct.wait(start), waited(&all)), (None, 0));
        conduct.charge(&all, None, 16, start);
        assert_eq!(conduct.wait(start), Some(Duration::from_secs(2)));
        let later = start + Duration::from_secs(2);
        assert_eq!(conduct.wait(later), None);
        // However much it was, the wait has an end.
        conduct.charge(&all, None, u64::MAX, later);
        assert_eq!(conduct.wait(later), Some(Duration::from_secs(WAIT_MAX_S)));
        assert_eq!(waited(&all), 2);
        // In the end all is forgiven.
        let long = later + Duration::from_secs(600);
        conduct.charge(&all, None, FREE, long);
        assert_eq!(conduct.wait(long), None);
    }

    #[test]
    fn another_connection_of_a_terminal_waits_on() {
        let start = Instant::now();
        let (all, first, second, other) = (
            Debtors::default(),
            conduct(start),
            conduct(start),
            conduct(start),
        );
        first.charge(&all, Some(till(1)), FREE + 80, start);
        let later = start + Duration::from_secs(4);
        second.speaks(&all, till(1), later);
        assert_eq!(second.wait(later), Some(Duration::from_secs(6)));
        // What another terminal of the same line did is not its neighbour's.
        other.speaks(&all, till(2), later);
        assert_eq!(other.wait(later), None);
    }

    #[test]
    fn the_log_tells_of_one_and_later_how_many_there_were() {
        let start = Instant::now();
        let all = Debtors::default();
        assert_eq!(all.waits(start), Some(1));
        let soon = start + SAID_EVERY / 2;
        assert_eq!([all.waits(soon), all.waits(soon)], [None, None]);
        let later = start + SAID_EVERY;
        assert_eq!(all.waits(later), Some(3), "those before it, and this one");
        assert_eq!((all.waits(later), waited(&all)), (None, 5));
    }

    #[test]
    fn few_are_remembered_and_those_are_who_owe_most() {
        let start = Instant::now();
        let all = Debtors::default();
        let owes = |number: u32, points: u64| {
            conduct(start).charge(&all, Some(till(number)), points, start);
        };
        owes(1, FREE + 9);
        for number in 2..10_000 {
            owes(number, FREE + 5);
        }
        assert_eq!(all.remembered.lock().debts.len(), REMEMBERED_MAX);
        assert!(all.of(till(1)).is_some() && all.of(till(9_999)).is_some());
    }
}
