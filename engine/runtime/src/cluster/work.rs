//! The threads that carry out what the state machines of a cluster ask for.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Receiver;
use till_storage::cluster::{Action, Answer, Command, Conditional, Decided, Duty, Log, NodeRow};
use till_storage::views::StoreError;

use super::Cluster;
use super::owners::Tenure;
use crate::engine::Engine;

/// Threads for the slots. Each waits for one answer at a time; a flush has a commit per slot to make.
pub(super) const WORKERS: usize = 16;
/// Threads for the membership: a sign of life, and looks at the nodes, at the slots and at the wishes may be under way together.
/// They are its own, so that no sign of life waits behind the work of slots.
const MEMBERS: usize = 4;

/// What a thread is to do.
#[derive(Debug)]
pub(super) enum Job {
    /// For the writer of a slot.
    Command(Tenure, Command),
    /// End.
    Stop,
}

/// Starts the threads for the slots.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn start(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    jobs: &Receiver<Job>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..WORKERS).map(|_| {
        let (worker, jobs) = (Worker::new(engine, cluster), jobs.clone());
        let thread = std::thread::Builder::new().name("cluster".to_owned());
        thread.spawn(move || worker.run(&jobs))
    });
    threads.collect()
}

/// Starts the threads for the membership. They end with the first look that finds `stopped` without its other end.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn members(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    (duties, stopped): (&Receiver<Duty>, &Receiver<()>),
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..MEMBERS).map(|_| {
        let worker = Worker::new(engine, cluster);
        let (duties, stopped) = (duties.clone(), stopped.clone());
        let thread = std::thread::Builder::new().name("member".to_owned());
        thread.spawn(move || {
            loop {
                crossbeam::channel::select! {
                    recv(duties) -> duty => match duty {
                        Ok(duty) => worker.duty(duty),
                        Err(_) => return,
                    },
                    recv(stopped) -> _ => return,
                }
            }
        })
    });
    threads.collect()
}

struct Worker {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
}

impl Worker {
    fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
        }
    }

    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(Job::Command(tenure, command)) = jobs.recv() {
            self.command(tenure, command);
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
            // Done where they are asked for.
            Duty::Acquire(_) | Duty::Release { .. } | Duty::Suspend | Duty::Resume => {}
        }
    }

    fn with_lag(&self, row: NodeRow) -> NodeRow {
        NodeRow {
            lag: self.engine.figures.lag(),
            ..row
        }
    }

    fn command(&self, tenure: Tenure, command: Command) {
        let (slot, store) = (tenure.slot, &self.cluster.store);
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
            // Devices are told once the rows are written, so that what they forget is in every answer. The end of a writer
            // goes another way.
            Action::TellCommitted { .. } | Action::Stop(_) => return,
            Action::Serve { flush, epoch } => return self.open(tenure, flush, epoch),
            Action::Report(error) => {
                let text = format!("slot {slot} cannot be served: its last commit: {error}");
                tracing::error!(slot, %error, "what the last owner committed cannot be read back");
                self.engine.figures.problem(
                    &text,
                    "It is tried again; look at the shared store's health and repair it.",
                );
                return;
            }
        };
        self.cluster.answer(tenure, command.request, answer);
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
    fn open(&self, tenure: Tenure, flush: u64, epoch: u64) {
        self.engine.settle();
        let from = self.engine.journal.end().get();
        self.cluster.opened(tenure, from);
        tracing::debug!(slot = tenure.slot, flush, epoch, "a slot is served here");
    }
}

fn done(slot: u32, result: Result<(), StoreError>) -> Answer {
    result.map_or_else(|error| failed(slot, &error), |()| Answer::Done)
}

fn failed(slot: u32, error: &StoreError) -> Answer {
    tracing::debug!(slot, %error, "the shared store did not do what was asked");
    Answer::Failed
}
