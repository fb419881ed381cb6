//! The threads that carry out what the state machines of a cluster ask for.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::Receiver;
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Action, Answer, Command, Conditional, Decided, Duty, End, Log, NodeRow,
};
use till_storage::journal::Lsn;
use till_storage::views::StoreError;

use super::Cluster;
use crate::engine::Engine;
use crate::route::shard_of;

/// Threads for the shared store. Each waits for one answer at a time; a flush has a commit per slot to make.
pub(crate) const THREADS: usize = 16;
/// First pause before something is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before something is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a thread is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// For the membership.
    Duty(Duty),
    /// For the writer of a slot.
    Command(u32, Command),
    /// End.
    Stop,
}

/// Starts the threads.
///
/// # Errors
/// What the system says when it gives no thread.
pub(crate) fn start(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    jobs: &Receiver<Job>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..THREADS).map(|_| {
        let worker = Worker {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
        };
        let jobs = jobs.clone();
        std::thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || worker.run(&jobs))
    });
    threads.collect()
}

struct Worker {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
}

impl Worker {
    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Duty(duty) => self.duty(duty),
                Job::Command(slot, command) => self.command(slot, command),
                Job::Stop => return,
            }
        }
    }

    fn duty(&self, duty: Duty) {
        let (store, cluster) = (&self.cluster.store, &self.cluster);
        match duty {
            Duty::Beat(row) => match store.beat(&self.with_lag(row.clone())) {
                Ok(()) => cluster.tell(|member, now| member.beaten(now, row.beat)),
                Err(error) => tracing::debug!(%error, "the sign of life was not written"),
            },
            Duty::ReadNodes { read } => match store.nodes() {
                Ok(rows) => cluster.tell(|member, now| member.nodes_read(now, read, &rows)),
                Err(error) => tracing::debug!(%error, "the other nodes were not seen"),
            },
            Duty::ReadSlots { read } => match store.all_slots() {
                Ok(rows) => {
                    cluster.observe(&rows);
                    cluster.tell(|member, now| member.slots_read(now, read, &rows));
                }
                Err(error) => tracing::debug!(%error, "the slots were not seen"),
            },
            Duty::ReadWishes { read } => match store.wishes() {
                Ok(wishes) => cluster.tell(|member, now| member.wishes_read(now, read, &wishes)),
                Err(error) => tracing::debug!(%error, "the wishes of operators were not seen"),
            },
            Duty::Release { slot } => self.release(slot),
            // Done where they are asked for.
            Duty::Acquire(_) | Duty::Suspend | Duty::Resume => {}
        }
    }

    fn with_lag(&self, row: NodeRow) -> NodeRow {
        NodeRow {
            lag: self.engine.figures.lag(),
            ..row
        }
    }

    // Closes a slot, commits what it has, and gives it up.
    fn release(&self, slot: u32) {
        self.cluster.close(slot);
        self.cluster.evict(&self.engine, slot);
        if let Err(error) = self.engine.flush.flush(Duration::from_secs(30)) {
            tracing::warn!(slot, %error, "a slot is given up with records that are not committed; they are submitted to its next owner");
        }
        self.cluster.forget(&self.engine, slot);
        self.cluster.give_up(slot);
    }

    fn command(&self, slot: u32, command: Command) {
        if command.attempt > 0 {
            let pause = PAUSE.saturating_mul(1 << command.attempt.min(6));
            std::thread::sleep(pause.min(PAUSE_MAX));
        }
        let store = &self.cluster.store;
        let answer = match command.action {
            Action::WriteLog {
                flush,
                epoch,
                parts,
            } => {
                let log = Log {
                    parts,
                    digest: [0; 32],
                };
                done(slot, store.write_log(slot, flush, epoch, &log))
            }
            Action::Swap(wish) => self.swap(&wish),
            Action::ReadSlot => store
                .slot(slot)
                .map_or_else(|e| failed(slot, &e), Answer::Row),
            Action::ReadLog(key) => store
                .read_log(&key)
                .map_or_else(|e| failed(slot, &e), Answer::Log),
            Action::Materialise(commit) => done(slot, store.materialise(&commit)),
            Action::DeleteLog { flush } => {
                if let Err(error) = store.delete_log(slot, flush) {
                    tracing::debug!(slot, flush, %error, "an old log stays until the next owner");
                }
                return;
            }
            // Devices are told once the rows are written, so that what they forget is in every answer.
            Action::TellCommitted { .. } => return,
            Action::Serve { flush, epoch } => return self.open(slot, flush, epoch),
            Action::Report(error) => {
                let text = format!("slot {slot} cannot be served: its last commit: {error}");
                tracing::error!(slot, %error, "what the last owner committed cannot be read back");
                self.engine.figures.problem(
                    &text,
                    "It is tried again; look at the shared store's health and repair it.",
                );
                return;
            }
            Action::Stop(end) => return self.stop(slot, &end),
        };
        self.cluster.answer(slot, command.request, answer);
    }

    fn swap(&self, wish: &Conditional) -> Answer {
        match self.cluster.store.decide(wish) {
            Ok(Decided::Applied) => Answer::Applied,
            Ok(Decided::Refused(Some(row))) => Answer::NotApplied(row),
            // The row tells why.
            Ok(Decided::Refused(None)) => Answer::Unknown,
            Err(error) => {
                tracing::debug!(slot = wish.slot, %error, "the outcome of a conditional write is unknown");
                Answer::Unknown
            }
        }
    }

    // Whatever an earlier ownership left in the journal's queue is behind `from` then.
    fn open(&self, slot: u32, flush: u64, epoch: u64) {
        self.engine.settle();
        let from = self.engine.journal.end().get();
        self.cluster.opened(slot, from);
        tracing::debug!(slot, flush, epoch, "a slot is served here");
    }

    fn stop(&self, slot: u32, end: &End) {
        if let End::Fenced(row) = end {
            tracing::warn!(
                slot,
                epoch = row.epoch,
                "another node has taken a slot from this one"
            );
        }
        self.cluster.close(slot);
        self.cluster.evict(&self.engine, slot);
        self.cluster.forget(&self.engine, slot);
        if !matches!(end, End::Released) {
            self.hand_on(slot);
        }
        self.cluster.closed(slot, end);
    }
}

impl Worker {
    // What the journal has of a slot that was lost, and no commit has, is for the next owner.
    fn hand_on(&self, slot: u32) {
        let Some((since, cursors)) = self.cluster.standing(slot) else {
            return;
        };
        let journal = &self.engine.journal;
        let shards = self.engine.slots.len();
        let range = (Lsn::new(cursors.least().max(since)), journal.end());
        let wanted = |of: u32, store: StoreId, place: u64| {
            of == slot && place >= since && place > cursors.of(shard_of(store, shards))
        };
        let mut pause = PAUSE;
        while let Err(error) = self.cluster.submit(journal, range, &wanted) {
            tracing::debug!(slot, %error, "records of a slot that was lost are not handed over yet");
            if self.engine.is_draining() {
                // The next start does it.
                return;
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}

fn done(slot: u32, result: Result<(), StoreError>) -> Answer {
    result.map_or_else(|error| failed(slot, &error), |()| Answer::Done)
}

fn failed(slot: u32, error: &StoreError) -> Answer {
    tracing::debug!(slot, %error, "the shared store did not do what was asked");
    Answer::Failed
}
