//! An engine among others: which stores are its own, and how its flushes become everyone's.
//!
//! The rules are state machines in `till_storage::cluster`; here is what drives them. A small pool of threads carries out
//! what they ask for, so that no wait for the shared store holds up a clock, a shard or the journal.

mod backlog;
mod both;
mod identity;
mod round;
mod slots;
mod start;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Answer, Command, Commit, Duty, End, MemberConfig, Membership, NodeId, NotNow, Route,
    SharedStore, SlotRow, SlotWriter, slot_of,
};
use till_storage::journal::Lsn;

use crate::engine::Engine;
use crate::flush::{FlushError, Part};
use crate::metrics::FlushState;
use crate::placement::{Place, Placement};

pub use backlog::{HandoverError, committed_mark, hand_over};
pub(crate) use both::BothFacts;
use round::{Cursors, Round, Since, numbered};
pub(crate) use start::{JoinError, Members, join};
pub(crate) use work::Job;

/// Things to be done that may wait for a thread: each slot has at most one at a time, and some notices.
const JOBS_MAX: usize = 1 << 15;
/// Longest look at whether a round is done, without being woken.
const LOOK: Duration = Duration::from_millis(100);
/// Time after which a commit that does not come through is told.
const SLOW: Duration = Duration::from_secs(3);

/// An engine's part in a shared store.
pub(crate) struct Cluster {
    pub(crate) store: Arc<dyn SharedStore>,
    me: NodeId,
    address: String,
    began: Instant,
    membership: Mutex<Membership>,
    owners: Mutex<BTreeMap<u32, Owner>>,
    /// A slot has become idle, was opened, or has ended.
    moved: Condvar,
    /// How far the records of each shard are in commits.
    pub(crate) cursors: Mutex<Cursors>,
    /// Numbers of what is handed over.
    numbers: AtomicU64,
    jobs: Sender<Job>,
}

/// A slot that is this node's, or is becoming or was so.
struct Owner {
    writer: SlotWriter,
    /// Where in the journal its records begin to be its own; `None` until it is open.
    since: Option<u64>,
    /// It takes nothing more: it is being given up, or is lost.
    is_closed: bool,
    /// How far its records are surely in commits.
    cursors: Cursors,
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
pub(crate) struct Standing {
    pub(crate) me: NodeId,
    pub(crate) former: Option<NodeId>,
    pub(crate) address: String,
    pub(crate) lease: Duration,
    pub(crate) started_us: i64,
}

impl Cluster {
    /// A node that has nothing yet, and what its threads read.
    pub(crate) fn new(
        store: Arc<dyn SharedStore>,
        standing: Standing,
        (shards, end): (usize, Lsn),
    ) -> (Self, Receiver<Job>) {
        let (jobs, inbox) = bounded(JOBS_MAX);
        let config = MemberConfig {
            me: standing.me,
            former: standing.former,
            address: standing.address.clone(),
            lease: standing.lease,
            slots: store.slots(),
            started_us: standing.started_us,
        };
        let cluster = Self {
            store,
            me: standing.me,
            address: standing.address,
            began: Instant::now(),
            membership: Mutex::new(Membership::new(config, Duration::ZERO)),
            owners: Mutex::default(),
            moved: Condvar::new(),
            cursors: Mutex::new(Cursors::new(shards, end)),
            numbers: AtomicU64::new(1),
            jobs,
        };
        (cluster, inbox)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
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
        self.owners
            .lock()
            .values()
            .filter(|one| one.is_open())
            .count()
    }

    /// Time goes on: to be called every twentieth of a lease or so.
    pub(crate) fn tick(&self) {
        let mut membership = self.membership.lock();
        membership.tick(self.now());
        self.hand_out(&mut membership);
    }

    // What the membership asks for goes to the threads, but for what concerns the writers, which is done here.
    fn hand_out(&self, membership: &mut Membership) {
        let duties: Vec<Duty> = membership.drain().collect();
        for duty in duties {
            match duty {
                Duty::Suspend => self.each_owner(SlotWriter::suspend),
                Duty::Resume => self.each_owner(SlotWriter::resume),
                Duty::Acquire(row) => {
                    let writer = SlotWriter::take_over(&row, self.me, &self.address);
                    let owner = Owner {
                        writer,
                        since: None,
                        is_closed: false,
                        cursors: self.cursors.lock().clone(),
                    };
                    self.owners.lock().insert(row.slot, owner);
                    self.push_commands(row.slot);
                }
                duty @ (Duty::Beat(_)
                | Duty::ReadNodes { .. }
                | Duty::ReadSlots { .. }
                | Duty::Release { .. }) => self.push(Job::Duty(duty)),
            }
        }
    }

    fn each_owner(&self, act: impl Fn(&mut SlotWriter)) {
        let slots: Vec<u32> = {
            let mut owners = self.owners.lock();
            for owner in owners.values_mut() {
                act(&mut owner.writer);
            }
            owners.keys().copied().collect()
        };
        slots.into_iter().for_each(|slot| self.push_commands(slot));
        self.moved.notify_all();
    }

    fn push(&self, job: Job) {
        // The threads end with the engine; what is asked for after that is for the next owner to do.
        if self.jobs.send(job).is_err() {
            tracing::debug!("the threads of the cluster have ended");
        }
    }

    // Hands what a slot's writer asks for to the threads.
    fn push_commands(&self, slot: u32) {
        let commands: Vec<Command> = {
            let mut owners = self.owners.lock();
            let Some(owner) = owners.get_mut(&slot) else {
                return;
            };
            owner.writer.drain().collect()
        };
        for command in commands {
            self.push(Job::Command(slot, command));
        }
    }

    /// Ends the threads.
    pub(crate) fn stop(&self, threads: usize) {
        for _ in 0..threads {
            self.push(Job::Stop);
        }
    }

    /// Waits until every slot has been given up, or the time is over.
    pub(crate) fn release_all(&self, within: Duration) {
        self.each_owner(SlotWriter::release);
        let until = Instant::now() + within;
        let mut owners = self.owners.lock();
        while owners.values().any(|owner| !owner.writer.has_ended()) {
            if self.moved.wait_until(&mut owners, until).timed_out() {
                tracing::warn!(
                    "slots were not given up in time; others take them when the lease is over"
                );
                return;
            }
        }
    }

    /// Commits what shards gave: comes back when every row is written, or when the engine stops.
    ///
    /// # Errors
    /// [`FlushError`] when records cannot be read back, or the engine stops before the store answers.
    pub(crate) fn commit(&self, engine: &Engine, parts: Vec<Part>) -> Result<(), FlushError> {
        let cursors = self.cursors.lock().clone();
        let since = self.since();
        let uptos: Vec<(usize, u64)> = parts.iter().map(|part| (part.shard, part.upto)).collect();
        let shape = (engine.slots.len(), self.store.slots());
        let round = Round::gather(parts, (&cursors, &since), &engine.journal, shape)
            .map_err(|error| FlushError::Rows(error.to_string()))?;
        let Round { mut commits, names } = round;
        commits.retain(|_, commit| !commit.records.is_empty() || commit.rows.rows() > 0);
        self.write_names(engine, &names)?;
        let slots: Vec<u32> = commits.keys().copied().collect();
        for (slot, commit) in commits {
            self.begin(engine, slot, commit)?;
        }
        for slot in slots {
            self.await_idle(engine, slot)?;
        }
        let cursors = {
            let mut cursors = self.cursors.lock();
            cursors.pass(&uptos);
            cursors.clone()
        };
        for owner in self.owners.lock().values_mut() {
            if !owner.writer.has_ended() {
                owner.cursors.clone_from(&cursors);
            }
        }
        for (shard, upto) in uptos {
            self.tell_devices(engine, shard, upto);
        }
        Ok(())
    }

    fn write_names(
        &self,
        engine: &Engine,
        names: &[(till_core::Space, u64, String)],
    ) -> Result<(), FlushError> {
        while !names.is_empty() {
            match self.store.write_names(names) {
                Ok(()) => break,
                Err(error) if engine.is_draining() => {
                    return Err(FlushError::Rows(error.to_string()));
                }
                Err(error) => {
                    tracing::debug!(%error, "names are not written yet");
                    std::thread::sleep(LOOK);
                }
            }
        }
        Ok(())
    }

    fn since(&self) -> Since {
        let owners = self.owners.lock();
        let open = owners.iter().filter(|(_, owner)| !owner.writer.has_ended());
        open.filter_map(|(slot, owner)| Some((*slot, owner.since?)))
            .collect()
    }

    // Begins the commit of a slot once the one before is through. A slot that was lost needs none.
    fn begin(&self, engine: &Engine, slot: u32, commit: Commit) -> Result<(), FlushError> {
        self.await_idle(engine, slot)?;
        let begun = {
            let mut owners = self.owners.lock();
            let Some(owner) = owners.get_mut(&slot).filter(|one| one.writer.is_idle()) else {
                return Ok(());
            };
            let next = owner.writer.next_flush();
            owner.writer.commit(numbered(commit, next))
        };
        match begun {
            Ok(()) | Err(NotNow::Busy { .. }) => {}
            Err(error @ (NotNow::Misnumbered { .. } | NotNow::Unfit(_))) => {
                return Err(FlushError::Rows(error.to_string()));
            }
        }
        self.push_commands(slot);
        Ok(())
    }

    // Waits until nothing is on its way in a slot, or it is lost.
    fn await_idle(&self, engine: &Engine, slot: u32) -> Result<(), FlushError> {
        let mut owners = self.owners.lock();
        let begun = Instant::now();
        loop {
            let is_done = owners
                .get(&slot)
                .is_none_or(|owner| owner.writer.is_idle() || owner.writer.has_ended());
            if is_done {
                return Ok(());
            }
            if engine.is_draining() && begun.elapsed() > engine.config.drain_timeout {
                let text = format!("slot {slot}: the shared store does not answer");
                return Err(FlushError::Rows(text));
            }
            self.moved.wait_for(&mut owners, LOOK);
            if begun.elapsed() > SLOW && engine.figures.flush_state(FlushState::Failed) {
                tracing::warn!(
                    slot,
                    "the shared store does not take commits; events are taken in until too many wait"
                );
                engine.figures.problem(
                    "the shared store does not take commits",
                    "Look at the shared store; commits go on by themselves when it answers.",
                );
            }
        }
    }

    /// Takes nothing more for a slot.
    fn close(&self, slot: u32) {
        if let Some(owner) = self.owners.lock().get_mut(&slot) {
            owner.is_closed = true;
        }
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a slot is open here.
    fn has(&self, slot: u32) -> bool {
        self.owners.lock().get(&slot).is_some_and(Owner::is_open)
    }

    /// Place up to which everything in the journal is committed, or handed over.
    fn committed_upto(&self) -> u64 {
        self.cursors.lock().least()
    }

    /// Gives up a slot that is closed and has nothing more to commit.
    fn give_up(&self, slot: u32) {
        if let Some(owner) = self.owners.lock().get_mut(&slot) {
            owner.writer.release();
        }
        self.push_commands(slot);
    }

    /// What was answered to a slot's writer.
    fn answer(&self, slot: u32, request: u64, answer: Answer) {
        if let Some(owner) = self.owners.lock().get_mut(&slot) {
            owner.writer.answer(request, answer);
        }
        self.push_commands(slot);
        self.moved.notify_all();
    }

    /// Tells the membership something.
    fn tell(&self, what: impl FnOnce(&mut Membership, Duration)) {
        let mut membership = self.membership.lock();
        what(&mut membership, self.now());
        self.hand_out(&mut membership);
    }

    /// Rows of slots as somebody read them: an owner that was passed over ends.
    fn observe(&self, rows: &[SlotRow]) {
        let mut ended = Vec::new();
        {
            let mut owners = self.owners.lock();
            for row in rows {
                if let Some(owner) = owners.get_mut(&row.slot) {
                    owner.writer.observe(row);
                    ended.push(row.slot);
                }
            }
        }
        ended.into_iter().for_each(|slot| self.push_commands(slot));
    }

    /// From where on a slot's records are its own here, and how far they are surely in commits.
    fn standing(&self, slot: u32) -> Option<(u64, Cursors)> {
        let owners = self.owners.lock();
        let owner = owners.get(&slot)?;
        Some((owner.since?, owner.cursors.clone()))
    }

    /// A slot's writer has ended.
    fn closed(&self, slot: u32, end: &End) {
        self.owners.lock().remove(&slot);
        let row = match end {
            End::Lost(row) | End::Fenced(row) => Some(row),
            End::Released => None,
        };
        let mut membership = self.membership.lock();
        membership.ended(self.now(), slot, row);
        self.hand_out(&mut membership);
        drop(membership);
        self.moved.notify_all();
    }

    /// A slot is open from here on: its records are its own from a place in the journal on.
    fn opened(&self, slot: u32, from: u64) {
        match self.owners.lock().get_mut(&slot) {
            // After a renewal it is as it was.
            Some(owner) => owner.since.get_or_insert(from),
            None => return,
        };
        let mut membership = self.membership.lock();
        membership.taken(self.now(), slot);
        self.hand_out(&mut membership);
        drop(membership);
        self.moved.notify_all();
    }
}

impl Placement for Cluster {
    fn place(&self, store: StoreId) -> Place {
        let slot = self.slot_of(store);
        if self.owners.lock().get(&slot).is_some_and(Owner::is_open) {
            return Place::Here;
        }
        match self.membership.lock().route(slot) {
            Route::At(address) => Place::There(address),
            Route::Here | Route::Nowhere => Place::Nobody,
        }
    }

    fn is_here(&self, store: StoreId) -> bool {
        let slot = self.slot_of(store);
        self.owners.lock().get(&slot).is_some_and(Owner::is_open)
    }
}

impl Owner {
    // A node that the store does not hear goes on taking events in: they are on its disk, and count once it is heard again,
    // or once they are submitted to whoever has the slot then.
    fn is_open(&self) -> bool {
        self.since.is_some() && !self.is_closed && !self.writer.has_ended()
    }
}
