//! The clock of a node: lets time go on for its membership, and brings up what is to be tried again later.

use crate::cluster::job::Later;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Select, TryRecvError};

use crate::cluster::job::Job;
use crate::cluster::node::Cluster;

/// What comes up, and when.
pub(crate) struct TickClock {
    cluster: Arc<Cluster>,
    inbox: Receiver<Later>,
    /// By time, and among equals in the order in which they came.
    waiting: BTreeMap<(Duration, u64), Job>,
    came: u64,
    tick: Duration,
    next: Duration,
    has_ended: bool,
}

impl TickClock {
    pub(super) fn new(cluster: &Arc<Cluster>, inbox: Receiver<Later>, tick: Duration) -> Self {
        Self {
            inbox,
            waiting: BTreeMap::new(),
            came: 0,
            tick,
            next: cluster.now(),
            has_ended: false,
            cluster: Arc::clone(cluster),
        }
    }

    /// Starts the thread. It ends when nobody can give it anything any more, or with [`Job::Stop`].
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(super) fn start(mut self) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("lease".to_owned());
        thread.spawn(move || {
            loop {
                self.turn();
                let pause = self.pause();
                if self.has_ended {
                    return;
                }
                let mut news = Select::new();
                news.recv(&self.inbox);
                // The next turn finds what has come.
                let _ready = news.ready_timeout(pause);
            }
        })
    }

    /// For how long there is nothing to do, unless something comes.
    pub(crate) fn pause(&mut self) -> Duration {
        self.take_all();
        self.due().saturating_sub(self.cluster.now())
    }

    /// Brings up what is due now.
    pub(crate) fn turn(&mut self) {
        self.take_all();
        let now = self.cluster.now();
        if now >= self.next {
            self.next = now.saturating_add(self.tick);
            self.cluster.tick();
        }
        while let Some(first) = self.waiting.first_entry().filter(|one| one.key().0 <= now) {
            self.cluster.push(first.remove());
        }
    }

    fn take_all(&mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok((_, Job::Stop)) | Err(TryRecvError::Disconnected) => {
                    self.has_ended = true;
                    return;
                }
                Ok((at, job)) => {
                    self.came += 1;
                    self.waiting.insert((at, self.came), job);
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn due(&self) -> Duration {
        let first = self.waiting.keys().next();
        first.map_or(self.next, |(at, _)| self.next.min(*at))
    }
}
