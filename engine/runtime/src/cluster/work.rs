//! The threads that carry out what the state machines of a cluster ask for.

use crate::cluster::job::Job;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam::channel::Receiver;
use till_storage::cluster::{
    Action, Answer, Command, Conditional, Constraints, Decided, Duty, LogError, NodeRow, SlotRow,
};
use till_storage::views::StoreError;

use crate::cluster::node::Cluster;
use crate::cluster::owners::Tenure;
use crate::lifecycle::engine::Engine;

/// Threads for the slots. Each waits for one answer at a time; a flush has a commit per slot to make.
pub(super) const WORKERS: usize = 16;
/// Threads for the membership: a heartbeat, and looks at the nodes, at the slots and at the placement constraints may be under way
/// together. They are its own, so that no heartbeat waits behind the work of slots.
const MEMBERS: usize = 4;

/// Starts the threads for the slots.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn start(worker: &Worker, jobs: &Receiver<Job>) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..WORKERS).map(|_| {
        let (worker, jobs) = (worker.clone(), jobs.clone());
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
    worker: &Worker,
    (duties, stopped): (&Receiver<Duty>, &Receiver<()>),
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let threads = (0..MEMBERS).map(|_| {
        let (worker, duties, stopped) = (worker.clone(), duties.clone(), stopped.clone());
        let thread = std::thread::Builder::new().name("member".to_owned());
        thread.spawn(move || {
            loop {
                crossbeam::channel::select! {
                    recv(duties) -> duty => match duty {
                        Ok(duty) => worker.complete(worker.ask(Call::Duty(duty))),
                        Err(_) => return,
                    },
                    recv(stopped) -> _ => return worker.last_words(&duties),
                }
            }
        })
    });
    threads.collect()
}

/// What is asked of the shared store.
#[derive(Debug)]
pub(crate) enum Call {
    /// For the membership.
    Duty(Duty),
    /// For the writer of a slot.
    Command(Tenure, Command),
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Completion {
    HeartbeatWritten(u64),
    Nodes(u64, Vec<NodeRow>),
    Slots(u64, Vec<SlotRow>),
    Constraints(u64, Constraints),
    Answer(Tenure, u64, Answer),
    /// A slot may be served.
    Serve(Tenure),
    /// Nobody waits for it.
    Nothing,
}

/// Asks the shared store, and tells what it said.
#[derive(Clone)]
pub(crate) struct Worker {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
}

impl Worker {
    pub(super) fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
        }
    }

    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(Job::Command(tenure, command)) = jobs.recv() {
            self.complete(self.ask(Call::Command(tenure, command)));
        }
    }

    // That this node leaves is still to be said.
    fn last_words(&self, duties: &Receiver<Duty>) {
        for duty in duties.try_iter() {
            if let Duty::Heartbeat(_) = duty {
                self.complete(self.ask(Call::Duty(duty)));
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, call: Call) -> Completion {
        match call {
            Call::Duty(duty) => self.duty(duty),
            Call::Command(tenure, command) => self.command(tenure, command),
        }
    }

    /// Tells what was answered to those who wait for it.
    pub(crate) fn complete(&self, completion: Completion) {
        let cluster = &self.cluster;
        match completion {
            Completion::HeartbeatWritten(heartbeat) => {
                cluster.with_membership(|member, now| member.heartbeat_written(now, heartbeat))
            }
            Completion::Nodes(read, rows) => {
                cluster.with_membership(|member, now| member.nodes_read(now, read, &rows));
            }
            Completion::Slots(read, rows) => {
                cluster.observe(&rows);
                cluster.with_membership(|member, now| member.slots_read(now, read, &rows));
            }
            Completion::Constraints(read, constraints) => {
                cluster.with_membership(|member, now| {
                    member.constraints_read(now, read, &constraints)
                });
            }
            Completion::Answer(tenure, request, answer) => {
                cluster.answer(tenure, request, answer);
                self.engine.flush.look();
            }
            Completion::Serve(tenure) => self.open(tenure),
            Completion::Nothing => {}
        }
    }

    fn duty(&self, duty: Duty) -> Completion {
        let store = &self.cluster.store;
        let (what, completion) = match duty {
            Duty::Heartbeat(row) => {
                let written = store.heartbeat(&self.with_lag(row.clone()));
                (
                    "beat",
                    written.map(|()| Completion::HeartbeatWritten(row.heartbeat)),
                )
            }
            Duty::ReadNodes { read } => {
                let rows = store.nodes();
                ("nodes", rows.map(|rows| Completion::Nodes(read, rows)))
            }
            Duty::ReadSlots { read } => {
                let rows = store.all_slots();
                ("slots", rows.map(|rows| Completion::Slots(read, rows)))
            }
            Duty::ReadConstraints { read } => {
                let constraints = store.constraints();
                (
                    "constraints",
                    constraints.map(|constraints| Completion::Constraints(read, constraints)),
                )
            }
            // Done where they are asked for.
            Duty::Acquire(_) | Duty::Release { .. } | Duty::Suspend | Duty::Resume => {
                return Completion::Nothing;
            }
        };
        completion.unwrap_or_else(|error| {
            tracing::debug!(what, %error, "the shared store did not answer the membership");
            Completion::Nothing
        })
    }

    fn with_lag(&self, row: NodeRow) -> NodeRow {
        NodeRow {
            lag: self.engine.figures.lag(),
            ..row
        }
    }

    fn command(&self, tenure: Tenure, command: Command) -> Completion {
        let (slot, store) = (tenure.slot, &self.cluster.store);
        let answer = match command.action {
            Action::WriteLog { flush, log, before } => {
                done(slot, store.write_log((slot, flush), &log, before.as_ref()))
            }
            Action::Swap(constraint) => self.swap(&constraint),
            Action::ReadSlot => store
                .slot(slot)
                .map_or_else(|e| failed(slot, &e), Answer::Row),
            Action::ReadLogs(row) => store
                .logs(&row, (row.applied.saturating_add(1), row.flush))
                .map_or_else(|e| failed(slot, &e), Answer::Logs),
            Action::Project(commits) => done(slot, store.project(&commits)),
            Action::ForgetRows { first, last } => {
                if let Err(error) = store.forget_rows(slot, (first, last)) {
                    tracing::debug!(slot, last, %error, "rows of a log that are written stay there");
                }
                return Completion::Nothing;
            }
            // Noted where they come from. The end of a writer goes another way.
            Action::NotifyCommitted { .. } | Action::Applied { .. } | Action::Stop(_) => {
                return Completion::Nothing;
            }
            Action::Serve { flush, epoch } => {
                tracing::debug!(slot, flush, epoch, "a slot is served here");
                return Completion::Serve(tenure);
            }
            Action::Report(error) => {
                let text = format!("slot {slot} cannot be served: {error}");
                tracing::error!(slot, %error, "a slot cannot be served");
                self.engine.figures.problem(&text, hint_of(&error));
                return Completion::Nothing;
            }
        };
        Completion::Answer(tenure, command.request, answer)
    }

    fn swap(&self, constraint: &Conditional) -> Answer {
        match self.cluster.store.decide(constraint) {
            Ok(Decided::Applied) => Answer::Applied,
            Ok(Decided::Refused(Some(row))) => Answer::NotApplied(row),
            // The row tells why.
            Ok(Decided::Refused(None)) => Answer::Unknown,
            Err(error) => {
                tracing::debug!(slot = constraint.slot, %error, "the outcome of a conditional write is unknown");
                Answer::Unknown
            }
        }
    }

    // Whatever an earlier ownership left in the journal's queue is behind `from` then.
    fn open(&self, tenure: Tenure) {
        self.engine.barrier();
        let from = self.engine.journal.end().get();
        self.cluster.opened(tenure, from);
    }
}

fn done(slot: u32, result: Result<(), StoreError>) -> Answer {
    result.map_or_else(|error| failed(slot, &error), |()| Answer::Done)
}

fn failed(slot: u32, error: &StoreError) -> Answer {
    tracing::debug!(slot, %error, "the shared store did not do what was asked");
    Answer::Failed
}

// What an operator does about a slot that cannot be served.
const fn hint_of(error: &LogError) -> &'static str {
    match error {
        LogError::Unmade => "Stop every engine of the chain and rebuild; then start them again.",
        _ => "It is tried again; look at the shared store's health and repair it.",
    }
}
