//! The clock of a node: lets time go on for its membership, and brings up what is to be tried again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::Cluster;
use super::work::Job;

/// What is to be done again, and when.
pub(crate) type Later = (Duration, Job);

/// Starts the thread. It ends when nobody can give it anything any more, or with [`Job::Stop`].
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn start(
    cluster: &Arc<Cluster>,
    inbox: Receiver<Later>,
    tick: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let cluster = Arc::clone(cluster);
    std::thread::Builder::new()
        .name("lease".to_owned())
        .spawn(move || run(&cluster, &inbox, tick))
}

fn run(cluster: &Cluster, inbox: &Receiver<Later>, tick: Duration) {
    let mut clock = TickClock::new(tick, cluster.now());
    loop {
        let pause = clock.due().saturating_sub(cluster.now());
        match inbox.recv_timeout(pause) {
            Ok((_, Job::Stop)) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(later) => clock.take(later),
            Err(RecvTimeoutError::Timeout) => {}
        }
        clock.turn(cluster);
    }
}

/// What comes up, and when.
pub(super) struct TickClock {
    /// By time, and among equals in the order in which they came.
    waiting: BTreeMap<(Duration, u64), Job>,
    came: u64,
    tick: Duration,
    next: Duration,
}

impl TickClock {
    pub(super) const fn new(tick: Duration, now: Duration) -> Self {
        Self {
            waiting: BTreeMap::new(),
            came: 0,
            tick,
            next: now,
        }
    }

    /// When the next turn is due.
    pub(super) fn due(&self) -> Duration {
        let first = self.waiting.keys().next();
        first.map_or(self.next, |(at, _)| self.next.min(*at))
    }

    /// Keeps what is to be tried again.
    pub(super) fn take(&mut self, (at, job): Later) {
        self.came += 1;
        self.waiting.insert((at, self.came), job);
    }

    /// Brings up what is due now.
    pub(super) fn turn(&mut self, cluster: &Cluster) {
        let now = cluster.now();
        if now >= self.next {
            self.next = now.saturating_add(self.tick);
            cluster.tick();
        }
        while let Some(first) = self.waiting.first_entry().filter(|one| one.key().0 <= now) {
            cluster.push(first.remove());
        }
    }
}
