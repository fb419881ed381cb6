//! Which shard a store belongs to, and what of a shard is seen from outside.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use till_core::{Counters, Violations};
use till_protocol::code::Reason;
use till_protocol::id::{StoreId, TerminalId};
use tokio::sync::oneshot;

use crate::admission::Gate;
use crate::ingress::session::Session;
use crate::shard::message::{ShardMessage, Which};

/// A shard from outside: the way in, its permits, its sessions and its figures. It outlives restarts of the actor.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    pub(crate) gate: Arc<Gate>,
    /// Rows that may wait for the disk.
    pub(crate) dirty_rows_max: usize,
    pub(crate) published: Mutex<Published>,
    actor: RwLock<Standing>,
    /// Stores that have left while the actor did not run: what it starts from may still have them.
    missed: Mutex<Vec<Which>>,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    /// Terminals of which nothing is taken until the engine starts again, with the reason.
    parked: Mutex<BTreeMap<TerminalId, String>>,
    in_flight: AtomicUsize,
}

/// Puts a message into the mailbox of a shard.
pub(crate) type Deliver = Box<dyn Fn(ShardMessage) -> Result<(), Down> + Send + Sync>;

enum Standing {
    Starting,
    Running(Deliver),
    Parked,
}

impl Standing {
    fn send(&self, message: ShardMessage) -> Result<(), Down> {
        match self {
            Self::Running(mailbox) => mailbox(message),
            Self::Starting | Self::Parked => Err(Down),
        }
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "Starting",
            Self::Running(_) => "Running",
            Self::Parked => "Parked",
        })
    }
}

/// Figures of a shard: `counters` as of its last frame, the others as of its last flush.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// Counters of earlier runs of the actor.
    pub(crate) before: Counters,
    pub(crate) counters: Counters,
    pub(crate) violations: Violations,
    pub(crate) actors: usize,
    pub(crate) stores: usize,
    pub(crate) terminals: usize,
    pub(crate) dirty_rows: usize,
    pub(crate) hot_terminals: Vec<(u64, u64)>,
    pub(crate) hot_skus: Vec<(u64, u64)>,
}

/// The shard does not run; the device comes again.
#[derive(Debug)]
pub(crate) struct Down;

impl ShardHandle {
    pub(crate) fn new(gate: Arc<Gate>, dirty_rows_max: usize) -> Self {
        Self {
            gate,
            dirty_rows_max,
            published: Mutex::default(),
            actor: RwLock::new(Standing::Starting),
            missed: Mutex::default(),
            sessions: Mutex::default(),
            parked: Mutex::default(),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(crate) fn send(&self, message: ShardMessage) -> Result<(), Down> {
        self.actor.read().send(message)
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(&*self.actor.read(), Standing::Running(_))
    }

    pub(crate) fn is_parked(&self) -> bool {
        matches!(&*self.actor.read(), Standing::Parked)
    }

    /// Lets the shard forget stores that have left. `None` where it does not run: it forgets them before anything else then.
    pub(crate) fn release(&self, which: &Which) -> Option<oneshot::Receiver<()>> {
        // No new actor may come between the look and the note.
        let standing = self.actor.write();
        let (message, done) = release(which.clone());
        if standing.send(message).is_ok() {
            return Some(done);
        }
        self.missed.lock().push(which.clone());
        None
    }

    pub(crate) fn run(&self, mailbox: Deliver) {
        let now = Standing::Running(mailbox);
        let mut standing = self.actor.write();
        for which in self.missed.lock().drain(..) {
            // One that has fallen already starts again, and is told again by whoever waits for it.
            let _crashed = now.send(release(which).0);
        }
        *standing = now;
        drop(standing);
        self.gate.pause(false);
    }

    /// Takes nothing more from a terminal. Call it before the shard runs again: sessions are refused where they are accepted.
    pub(crate) fn park_terminal(&self, terminal: TerminalId, cause: String) {
        self.parked.lock().insert(terminal, cause);
    }

    /// Why nothing is taken from a terminal; `None` where it is.
    pub(crate) fn why_parked(&self, terminal: TerminalId) -> Option<String> {
        self.parked.lock().get(&terminal).cloned()
    }

    /// Terminals of which nothing is taken.
    pub(crate) fn parked_terminals(&self) -> Vec<TerminalId> {
        self.parked.lock().keys().copied().collect()
    }

    /// The actor has failed: its sessions end, and what it counted is kept.
    pub(crate) fn fail(&self, park: bool) {
        *self.actor.write() = if park {
            Standing::Parked
        } else {
            Standing::Starting
        };
        for session in self.sessions.lock().drain().map(|(_, session)| session) {
            session.bye(Reason::Internal, None);
        }
        let mut published = self.published.lock();
        let counted = std::mem::take(&mut published.counters);
        published.before.add(&counted);
        published.dirty_rows = 0;
        self.in_flight.store(0, Ordering::Relaxed);
        drop(published);
        // Its rows are gone with it, and whoever waits for them to be written would wait for ever.
        self.gate.pause(false);
    }

    /// A session was accepted. One of the same terminal that is there ends: nothing more of it is taken, so that events of
    /// two devices never pass for each other's duplicates.
    pub(crate) fn enter(&self, session: &Arc<Session>) {
        let key = session.terminal().to_u64();
        let before = self.sessions.lock().insert(key, Arc::clone(session));
        if let Some(before) = before {
            before.bye(Reason::Superseded, None);
        }
        // Its stream may have ended before it was accepted, and left already.
        if session.is_over() {
            self.leave(session);
        }
    }

    /// A session is over.
    pub(crate) fn leave(&self, session: &Arc<Session>) {
        let key = session.terminal().to_u64();
        let mut sessions = self.sessions.lock();
        if sessions
            .get(&key)
            .is_some_and(|current| Arc::ptr_eq(current, session))
        {
            sessions.remove(&key);
        }
    }

    /// The live session of a terminal.
    pub(crate) fn session_of(&self, terminal: u64) -> Option<Arc<Session>> {
        self.sessions.lock().get(&terminal).map(Arc::clone)
    }

    /// The live sessions of some stores.
    pub(crate) fn sessions_of(&self, which: &dyn Fn(StoreId) -> bool) -> Vec<Arc<Session>> {
        let sessions = self.sessions.lock();
        let of_one = sessions
            .values()
            .filter(|session| which(session.terminal().store()));
        of_one.map(Arc::clone).collect()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.lock().len()
    }

    pub(crate) fn rows_in_flight(&self, rows: usize) {
        self.in_flight.fetch_add(rows, Ordering::Relaxed);
    }

    pub(crate) fn rows_landed(&self, rows: usize) {
        let less = |waiting: usize| Some(waiting.saturating_sub(rows));
        // The closure always gives a value.
        let _updated = self
            .in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    pub(crate) fn rows_waiting(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

fn release(which: Which) -> (ShardMessage, oneshot::Receiver<()>) {
    let (reply, done) = oneshot::channel();
    (ShardMessage::Release { which, reply }, done)
}

/// The shard of a store. Nothing on disk depends on it.
pub(crate) fn shard_of(store: StoreId, shards: usize) -> usize {
    // Fibonacci hashing: neighbouring numbers, as stores have them, spread evenly.
    let mixed = u64::from(store.get()).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let shards = u64::try_from(shards.max(1)).unwrap_or(1);
    usize::try_from(mixed % shards).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_spread_over_all_shards() {
        for shards in [1, 2, 3, 4, 8] {
            let mut hits = vec![0_u32; shards];
            for number in 1..=1_000 {
                hits[shard_of(StoreId::new(number).unwrap(), shards)] += 1;
            }
            let even = 1_000 / u32::try_from(shards).unwrap();
            assert!(
                hits.iter().all(|n| *n > even / 2 && *n < even * 2),
                "{hits:?}"
            );
        }
    }
}
