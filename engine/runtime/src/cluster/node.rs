//! A node: its part in the membership, its slots, and the ways to the threads that carry out what they ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Action, Answer, Duty, End, MemberConfig, Membership, NodeId, Route, SharedStore, SlotRow,
    SlotWriter, slot_of,
};
use till_storage::journal::Lsn;

use crate::clock::Monotonic;
use crate::ingress::placement::{Location, Placement};
use crate::planted;

use crate::cluster::cursors::Cursors;
use crate::cluster::intake::IntakePause;
use crate::cluster::job::{Job, Later, Leave};
use crate::cluster::owners::{Asked, Owner, Owners, Since, Tenure};
use crate::cluster::unread::Unread;

/// Pieces that one range of a journal is handed off in, at most: each has a number of its own.
const CHUNKS_MAX: u64 = 1 << 32;
/// First pause before a command is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(20);
/// Longest pause before a command is tried again.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An engine's part in a shared store.
pub(crate) struct Cluster {
    pub(crate) store: Arc<dyn SharedStore>,
    pub(crate) me: NodeId,
    address: String,
    clock: Monotonic,
    pub(super) membership: Mutex<Membership>,
    pub(super) owners: Owners,
    /// How far the records of each shard are gathered.
    pub(crate) cursors: Mutex<Cursors>,
    /// When something was committed, or rows were written.
    pub(super) got_on: Mutex<Duration>,
    /// What cannot be read of the own journal.
    pub(crate) unread: Unread,
    /// Numbers of what is handed off.
    numbers: AtomicU64,
    /// What the file says that tells the next start how far everything is committed.
    pub(super) is_written: AtomicU64,
    pub(super) parting: Parting,
    pub(super) inbox: Counts,
    /// Whether frames are taken in.
    pub(crate) intake: IntakePause,
    doors: Doors,
}

/// What others are told of the inbox.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Records that are stranded, of slots that are served here.
    pub(super) stranded: AtomicU64,
    /// Everything is to be looked at now.
    pub(super) now: AtomicBool,
}

/// What a drain could not commit: it is durable, and in no row yet.
#[derive(Debug, Default)]
pub(super) struct Parting {
    /// Records that were handed off to the shared store.
    pub(super) handed_off: AtomicU64,
    /// The journal has records that the shared store does not.
    pub(super) keeps: AtomicBool,
}

/// The ways to the threads. None has a bound of its own: a slot has at most one command under way, and a few notices.
pub(super) struct Doors {
    pub(super) duties: Sender<Duty>,
    pub(super) jobs: Sender<Job>,
    pub(super) later: Sender<Later>,
    pub(super) leaving: Sender<Leave>,
}

/// What the threads read.
pub(crate) struct Inboxes {
    pub(super) duties: Receiver<Duty>,
    pub(super) jobs: Receiver<Job>,
    pub(super) later: Receiver<Later>,
    pub(super) leaving: Receiver<Leave>,
}

fn channels() -> (Doors, Inboxes) {
    let (duties, duties_in) = bounded(1 << 10);
    let (jobs, jobs_in) = unbounded();
    let (later, later_in) = unbounded();
    let (leaving, leaving_in) = unbounded();
    let doors = Doors {
        duties,
        jobs,
        later,
        leaving,
    };
    let inboxes = Inboxes {
        duties: duties_in,
        jobs: jobs_in,
        later: later_in,
        leaving: leaving_in,
    };
    (doors, inboxes)
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("me", &self.me)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// What a node says of itself.
pub(crate) struct ClusterStanding {
    pub(crate) me: NodeId,
    pub(crate) former: Option<NodeId>,
    pub(crate) address: String,
    pub(crate) lease: Duration,
    pub(crate) started_us: i64,
    pub(crate) clock: Monotonic,
}

impl Cluster {
    /// A node that has nothing yet, and what its threads read.
    pub(crate) fn new(
        store: Arc<dyn SharedStore>,
        standing: ClusterStanding,
        (shards, end): (usize, Lsn),
    ) -> (Self, Inboxes) {
        let (doors, inboxes) = channels();
        let config = MemberConfig {
            me: standing.me,
            former: standing.former,
            address: standing.address.clone(),
            lease: standing.lease,
            slots: store.slots(),
            started_us: standing.started_us,
        };
        let cluster = Self {
            owners: Owners::new(store.slots()),
            store,
            me: standing.me,
            address: standing.address,
            membership: Mutex::new(Membership::new(config, (standing.clock)())),
            got_on: Mutex::new((standing.clock)()),
            clock: standing.clock,
            cursors: Mutex::new(Cursors::new(shards, end)),
            inbox: Counts::default(),
            intake: IntakePause::default(),
            unread: Unread::default(),
            numbers: AtomicU64::new(1),
            is_written: AtomicU64::new(0),
            parting: Parting::default(),
            doors,
        };
        (cluster, inboxes)
    }

    pub(crate) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Whether a slot is served here.
    pub(crate) fn is_served(&self, slot: u32) -> bool {
        self.owners.is_open(slot)
    }

    /// The flush up to which all rows of a slot are written that is served here.
    pub(super) fn applied(&self, slot: u32) -> Option<u64> {
        self.owners.applied(slot)
    }

    /// Frames cannot be taken, as the shared store does not say what they need to know.
    pub(crate) fn pause_intake(&self, cause: &str) {
        self.intake.pause(self.now(), cause);
    }

    /// The slot of a store.
    pub(crate) fn slot_of(&self, store: StoreId) -> u32 {
        slot_of(store, self.store.slots())
    }

    /// Whether others have surely seen that this node is alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.membership.lock().may_serve(self.now())
    }

    /// Slots that are open here.
    pub(crate) fn open_slots(&self) -> usize {
        self.owners.open_slots()
    }

    /// The ownerships that take part in commits, and from where in the journal their records are their own.
    pub(crate) fn since(&self) -> BTreeMap<u32, Since> {
        self.owners.since()
    }

    /// Time goes on: to be called every twentieth of a lease or so.
    pub(super) fn tick(&self) {
        self.with_membership(Membership::tick);
    }

    /// Tells the membership something.
    pub(super) fn with_membership(&self, what: impl FnOnce(&mut Membership, Duration)) {
        let mut membership = self.membership.lock();
        what(&mut membership, self.now());
        let duties: Vec<Duty> = membership.drain().collect();
        // Under its lock: what it asks for is begun in its order.
        duties.into_iter().for_each(|duty| self.hand_out(duty));
    }

    // What the membership asks for goes to the threads, but for what concerns the writers, which is done here.
    fn hand_out(&self, duty: Duty) {
        match duty {
            Duty::Suspend => self.change_all(SlotWriter::suspend),
            Duty::Resume => self.change_all(SlotWriter::resume),
            Duty::Acquire(row) => {
                let writer = SlotWriter::take_over(&row, self.me, &self.address);
                let cursors = self.cursors.lock().clone();
                let asked = self.owners.begin(writer, cursors);
                self.carry_out(asked);
            }
            Duty::Release { slot } => self.leave(Leave::Give(slot)),
            duty @ (Duty::Heartbeat(_)
            | Duty::ReadNodes { .. }
            | Duty::ReadSlots { .. }
            | Duty::ReadConstraints { .. }) => {
                // They come again: one that finds the threads too far behind is left out.
                if self.doors.duties.try_send(duty).is_err() {
                    tracing::debug!("the threads of the membership have ended, or do not get on");
                }
            }
        }
    }

    fn change_all(&self, act: impl Fn(&mut SlotWriter)) {
        let all = self.owners.change_all(|owner| act(&mut owner.writer));
        all.into_iter().for_each(|asked| self.carry_out(asked));
    }

    // Hands what the writer of a slot asks for to the threads.
    fn carry_out(&self, asked: Asked) {
        for command in asked.commands {
            if let Action::Stop(end) = command.action {
                self.leave(Leave::Ended(asked.tenure, end));
                continue;
            }
            if let Action::NotifyCommitted { .. } | Action::Applied { .. } = command.action {
                self.gets_on();
            }
            let attempt = command.attempt;
            let job = Job::Command(asked.tenure, command);
            if attempt == 0 {
                self.push(job);
                continue;
            }
            let pause = PAUSE.saturating_mul(1 << attempt.min(6)).min(PAUSE_MAX);
            if self
                .doors
                .later
                .send((self.now().saturating_add(pause), job))
                .is_err()
            {
                tracing::debug!("the clock of the cluster has ended");
            }
        }
    }

    pub(super) fn push(&self, job: Job) {
        // The threads end with the engine; what is asked for after that is for the next owner to do.
        if self.doors.jobs.send(job).is_err() {
            tracing::debug!("the threads of the cluster have ended");
        }
    }

    fn leave(&self, leave: Leave) {
        if self.doors.leaving.send(leave).is_err() {
            tracing::debug!("the thread for slots that leave has ended");
        }
    }

    /// Ends the threads.
    pub(super) fn stop(&self, workers: usize) {
        (0..workers).for_each(|_| self.push(Job::Stop));
        self.leave(Leave::Stop);
        if self.doors.later.send((self.now(), Job::Stop)).is_err() {
            tracing::debug!("the clock of the cluster has ended");
        }
    }

    /// Begins to give every slot up. Everything is committed before.
    pub(crate) fn begin_release(&self) {
        self.with_membership(Membership::leave);
        self.change_all(SlotWriter::release);
    }

    pub(super) fn accepts(&self, slot: u32, membership: &Membership) -> bool {
        if planted::is("stale-handshake") {
            return self.owners.is_open(slot);
        }
        self.owners.accepts(slot) && membership.may_serve(self.now())
    }

    /// Gives every slot up, and waits until that is done or the time is over.
    pub(super) fn release_all(&self, within: Duration) {
        self.begin_release();
        let until = self.now().saturating_add(within);
        let mut all = self.owners.lock();
        while all.values().any(|owner| !owner.writer.has_ended()) {
            let left = until.saturating_sub(self.now());
            if left.is_zero() {
                tracing::warn!(
                    "slots were not given up in time; others take them when the lease is over"
                );
                return;
            }
            self.owners.wait(&mut all, left);
        }
    }

    /// The first of many numbers for what is handed off. None is ever given twice in one incarnation of a node.
    pub(super) fn numbers(&self) -> u64 {
        self.numbers.fetch_add(CHUNKS_MAX, Ordering::Relaxed)
    }

    /// Records that a drain has handed off, for others to take in; and whether the journal has some that the shared store
    /// does not. To be asked after the drain.
    pub(crate) fn left_over(&self) -> (u64, bool) {
        let keeps = self.parting.keeps.load(Ordering::Acquire);
        let handed_off = self.parting.handed_off.load(Ordering::Acquire);
        (handed_off, keeps)
    }

    /// LSN up to which everything in the journal is committed, or handed off.
    pub(super) fn committed_upto(&self) -> u64 {
        // In this order: a slot that is lost in between has its own place in the second.
        let least = self.cursors.lock().least();
        least.min(self.owners.committed_upto())
    }

    /// LSN up to which nobody asks the journal any more: the next start finds it committed or handed off, and the shared store
    /// answers for it.
    pub(crate) fn spent_upto(&self) -> Lsn {
        self.is_written().min(Lsn::new(self.owners.applied_upto()))
    }

    /// Takes nothing more for slots.
    pub(super) fn close(&self, slots: &BTreeSet<u32>) {
        for slot in slots {
            self.change(self.owners.change_any(*slot, Owner::close));
        }
    }

    /// Gives up slots that are closed and have nothing more to commit.
    pub(super) fn give_up(&self, slots: &BTreeSet<u32>) {
        for slot in slots {
            let asked = self
                .owners
                .change_any(*slot, |owner| owner.writer.release());
            self.change(asked);
        }
    }

    pub(super) fn change(&self, asked: Option<Asked>) {
        if let Some(asked) = asked {
            self.carry_out(asked);
        }
    }

    /// What was answered to a slot's writer.
    pub(super) fn answer(&self, tenure: Tenure, request: u64, answer: Answer) {
        let asked = self
            .owners
            .change(tenure, |owner| owner.writer.answer(request, answer));
        self.change(asked);
        self.begin(tenure);
    }

    /// Rows of slots as somebody read them: an owner that was passed over ends.
    pub(super) fn observe(&self, rows: &[SlotRow]) {
        for row in rows {
            self.change(self.owners.change_any(row.slot, |owner| owner.observe(row)));
        }
    }

    /// A slot is open from here on: its records are its own from a position in the journal on.
    pub(super) fn opened(&self, tenure: Tenure, from: u64) {
        let asked = self.owners.change(tenure, |owner| owner.open(from));
        if let Some(asked) = asked {
            self.carry_out(asked);
            self.with_membership(|membership, now| membership.taken(now, tenure.slot));
        }
    }

    /// Nothing is left of the time that a slot was this node's.
    pub(super) fn closed(&self, tenure: Tenure, end: &End) {
        self.owners.forget(tenure);
        let row = match end {
            End::Lost(row) | End::Fenced(row) => Some(row),
            End::Released => None,
        };
        self.with_membership(|membership, now| membership.ended(now, tenure.slot, row));
    }
}

impl Placement for Cluster {
    fn locate(&self, store: StoreId) -> Location {
        let slot = self.slot_of(store);
        let membership = self.membership.lock();
        match membership.route(slot) {
            // The clock is looked at last: a process that was stopped and goes on knows it before it accepts anybody.
            Route::Here if self.accepts(slot, &membership) => Location::Here,
            Route::At(address) => Location::There(address),
            Route::Here | Route::Nowhere => Location::Nobody,
        }
    }

    fn is_here(&self, store: StoreId) -> bool {
        self.owners.is_open(self.slot_of(store))
    }
}
