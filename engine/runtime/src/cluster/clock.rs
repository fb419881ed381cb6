//! The clock of a node: lets time go on for its membership, and brings up what is to be tried again later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::Cluster;
use super::work::Job;

/// What is to be done again, and when.
pub(crate) type Later = (Instant, Job);

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
    // By time, and among equals in the order in which they came.
    let mut waiting: BTreeMap<(Instant, u64), Job> = BTreeMap::new();
    let mut came = 0;
    let mut next = Instant::now();
    loop {
        let due = waiting.keys().next().map_or(next, |(at, _)| next.min(*at));
        match inbox.recv_deadline(due) {
            Ok((_, Job::Stop)) | Err(RecvTimeoutError::Disconnected) => return,
            Ok((at, job)) => {
                came += 1;
                waiting.insert((at, came), job);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if now >= next {
            next = now + tick;
            cluster.tick();
        }
        while let Some(first) = waiting.first_entry().filter(|one| one.key().0 <= now) {
            cluster.push(first.remove());
        }
    }
}
