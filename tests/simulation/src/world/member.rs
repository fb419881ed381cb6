//! An engine among others: its calls to the shared store, its clock, and what befalls it.

mod judge;
mod together;

use std::collections::BTreeMap;
use std::sync::Arc;

use till_runtime::testing::{Answered, Asking, Flushed, Halt};
use till_storage::cluster::NodeId;

use super::{Event, World};
use crate::coverage::Sight;
use crate::plan::{ClusterPlan, MS, SECOND};

use crate::rng::Rng;
use crate::shared::{Way, WorldStore, Write};

/// What the engines of a world share.
pub(super) struct Shared {
    pub(super) store: Arc<WorldStore>,
    /// Changes that come late.
    late: BTreeMap<u64, Write>,
    next: u64,
}

impl Shared {
    pub(super) fn new(plan: &ClusterPlan, rng: &mut Rng) -> Self {
        Self {
            store: WorldStore::new(plan.slots, rng.fork(), plan.store),
            late: BTreeMap::new(),
            next: 0,
        }
    }

    /// How it stands, in words.
    pub(super) fn words(&self) -> String {
        let slots = self.store.slots();
        let free = slots.iter().filter(|row| row.owner.is_none()).count();
        let waiting: Vec<_> = self.store.waiting();
        let waiting: Vec<_> = waiting.iter().map(|one| (one.slot, one.number)).collect();
        format!("{free} slots are free, {waiting:?} wait")
    }
}

/// What comes again and again at an engine among others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chain {
    Flush,
    Tend,
    Upkeep,
}

impl Chain {
    const fn position(self) -> usize {
        match self {
            Self::Flush => 0,
            Self::Tend => 1,
            Self::Upkeep => 2,
        }
    }
}

/// What makes an engine one of several.
pub(super) struct Member {
    pub(super) way: Way,
    address: String,
    /// The id of its epoch.
    me: NodeId,
    /// How fast its monotonic clock runs, in thousandths.
    pub(super) rate: u64,
    calls: BTreeMap<u64, Asking>,
    answers: BTreeMap<u64, Answered>,
    next: u64,
    /// When its clock's next turn is.
    clock_at: Option<u64>,
    /// Its disk: another one after it was lost.
    pub(super) disk: u64,
    pub(super) is_stopping: bool,
    /// What devices say is put away, to be heard together.
    is_gathering: bool,
    /// All records of its journal before this LSN were read.
    pub(super) read_upto: u64,
    /// When each chain goes on.
    due: [u64; 3],
}

impl Member {
    pub(super) fn new(number: usize, store: &Arc<WorldStore>, rng: &mut Rng) -> Self {
        Self {
            way: Way::to(store),
            address: address(number),
            me: NodeId::from_bytes([0; 16]),
            rate: rng.within(960, 1_040),
            calls: BTreeMap::new(),
            answers: BTreeMap::new(),
            next: 0,
            clock_at: None,
            disk: 0,
            is_stopping: false,
            is_gathering: false,
            read_upto: 0,
            due: [0; 3],
        }
    }

    /// A new incarnation: its id, and where devices reach it.
    pub(super) fn born(&mut self, rng: &mut Rng) -> (NodeId, String) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&rng.next().to_be_bytes());
        bytes[8..].copy_from_slice(&rng.next().to_be_bytes());
        self.me = NodeId::from_bytes(bytes);
        self.is_stopping = false;
        (self.me, self.address.clone())
    }

    /// Its process has ended: the calls that were on their way.
    fn died(&mut self) -> Vec<Asking> {
        self.answers.clear();
        self.is_gathering = false;
        self.clock_at = None;
        std::mem::take(&mut self.calls).into_values().collect()
    }
}

/// Where devices reach an engine.
fn address(number: usize) -> String {
    format!("engine-{number}:7400")
}

/// The engine at an address.
pub(super) fn engine_at(address: &str) -> Option<usize> {
    let name = address.strip_prefix("engine-")?.strip_suffix(":7400")?;
    name.parse().ok()
}

impl World {
    /// An engine among others has started.
    pub(super) fn joined(&mut self, n: usize) {
        let Some(member) = &mut self.nodes[n].member else {
            return;
        };
        member.clock_at = None;
        member.due = [self.now; 3];
        member.read_upto = 0;
        self.after(500 * MS, Event::Tend(n));
        self.after(3 * SECOND, Event::Upkeep(n));
        self.after(self.plan.flush_every, Event::Flush(n));
    }

    /// Goes on with a chain of an engine among others, or finds that it went on elsewhere.
    pub(super) fn is_too_soon(&mut self, n: usize, chain: Chain, pause: u64) -> bool {
        let (now, position) = (self.now, chain.position());
        let Some(member) = &mut self.nodes[n].member else {
            return false;
        };
        if now < member.due[position] {
            return true;
        }
        member.due[position] = now + pause;
        let event = match chain {
            Chain::Flush => Event::Flush(n),
            Chain::Tend => Event::Tend(n),
            Chain::Upkeep => Event::Upkeep(n),
        };
        if self.nodes[n].engine.is_some() {
            self.after(pause, event);
        }
        false
    }

    /// Gets on with what an engine's part in the cluster can do now.
    pub(super) fn drive(&mut self, n: usize) {
        if self.nodes[n].member.is_none() || self.nodes[n].engine.is_none() {
            return;
        }
        if let Err(halt) = self.take_turns(n) {
            return self.halted(n, &halt);
        }
        self.read_news();
        if self.nodes[n].disk.is_dead() {
            return;
        }
        self.look_at_slots(n);
        if let Err(halt) = self.set_clock(n) {
            self.halted(n, &halt);
        }
    }

    fn take_turns(&mut self, n: usize) -> Result<(), Halt> {
        let mut is_over = false;
        loop {
            let Some(engine) = &mut self.nodes[n].engine else {
                return Ok(());
            };
            let has_flushed = engine.flush_turn()? == Flushed::Over;
            let has_left = engine.leave_turn()?;
            let call = engine.next_call()?;
            is_over |= has_flushed;
            let is_done = call.is_none() && !has_flushed && !has_left;
            if let Some(call) = call {
                self.send_call(n, call);
            }
            if is_done {
                break;
            }
        }
        if is_over {
            self.saw(Sight::RoundShared);
            // Devices that were held back go on.
            let conns = self.conns_of(n);
            for conn in conns {
                self.after(MS, Event::In(conn));
            }
        }
        Ok(())
    }

    fn send_call(&mut self, n: usize, call: Asking) {
        let delay = self.store_takes();
        let Some(member) = &mut self.nodes[n].member else {
            return;
        };
        member.next += 1;
        let number = member.next;
        member.calls.insert(number, call);
        self.after(delay, Event::Ask(n, number));
    }

    // How long one way to the shared store takes.
    fn store_takes(&mut self) -> u64 {
        let Some(plan) = self.plan.cluster.filter(|_| !self.is_calm) else {
            return MS;
        };
        if self.rng.chance(plan.slow) {
            self.fault("store_slow");
            self.saw(Sight::StoreSlow);
            return self.rng.within(100 * MS, 3 * SECOND);
        }
        self.rng.within(100, 8 * MS)
    }

    /// A call takes effect.
    pub(super) fn ask(&mut self, n: usize, number: u64) {
        self.advance_time(n);
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        let Some(call) = member.calls.remove(&number) else {
            return;
        };
        match engine.ask(call) {
            Ok(Some(answered)) => {
                member.answers.insert(number, answered);
                let delay = self.store_takes();
                self.after(delay, Event::Deliver(n, number));
            }
            Ok(None) => {}
            Err(halt) => return self.halted(n, &halt),
        }
        if self.read_news() {
            self.has_committed(n);
        }
    }

    // A process may end between a commit and its rows: the next owner writes them.
    fn has_committed(&mut self, n: usize) {
        let rate = self.plan.cluster.map_or(0, |plan| plan.ends_after_commit);
        if !self.is_calm && self.rng.chance(rate) {
            self.saw(Sight::EndedAtCommit);
            self.end_process(n);
        }
    }

    /// The answer of a call comes.
    pub(super) fn read_store_news(&mut self, n: usize, number: u64) {
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        let Some(answered) = member.answers.remove(&number) else {
            return;
        };
        match engine.complete(answered) {
            Ok(()) => self.engine_moved(n),
            Err(halt) => self.halted(n, &halt),
        }
    }

    /// The turn of an engine's clock.
    pub(super) fn clock(&mut self, n: usize) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        if member.clock_at.is_some_and(|at| at <= now) {
            member.clock_at = None;
        }
        match engine.tick() {
            Ok(()) => self.engine_moved(n),
            Err(halt) => self.halted(n, &halt),
        }
        self.look_at_stop(n);
    }

    fn set_clock(&mut self, n: usize) -> Result<(), Halt> {
        let now = self.now;
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return Ok(());
        };
        let pause = u64::try_from(engine.pause()?.as_micros()).unwrap_or(u64::MAX);
        let at = now.saturating_add(pause.saturating_mul(1_000) / member.rate + 1);
        if member.clock_at.is_none_or(|before| at < before) {
            member.clock_at = Some(at);
            self.at(at, Event::Clock(n));
        }
        Ok(())
    }

    /// Records are handed off, and those of others taken in.
    pub(super) fn tend(&mut self, n: usize) {
        if self.is_too_soon(n, Chain::Tend, 500 * MS) {
            return;
        }
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        let tended = engine.tend();
        match tended {
            Ok(()) => self.engine_moved(n),
            Err(halt) => self.halted(n, &halt),
        }
    }

    /// A change of the shared store comes late.
    pub(super) fn late(&mut self, number: u64) {
        let Some(shared) = &mut self.shared else {
            return;
        };
        if let Some(write) = shared.late.remove(&number) {
            shared.store.make_late(&write);
        }
        self.read_news();
    }

    /// Calls that were on their way when a process ended may still arrive.
    pub(super) fn member_died(&mut self, n: usize) {
        let Self { nodes, rng, .. } = self;
        let node = &mut nodes[n];
        let Some(member) = &mut node.member else {
            return;
        };
        for call in member.died() {
            if let (Some(engine), true) = (&mut node.engine, rng.one_in(2)) {
                // Nobody hears the answer.
                drop(engine.ask(call));
            }
        }
        self.read_news();
    }

    /// Begins to stop in good order.
    pub(super) fn begin_stop(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &mut node.member) else {
            return;
        };
        member.is_stopping = true;
        engine.begin_stop();
        self.saw(Sight::Cordoned);
        for conn in self.conns_of(n) {
            self.cut(conn);
        }
        self.engine_moved(n);
    }

    fn look_at_stop(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let (Some(engine), Some(member)) = (&mut node.engine, &node.member) else {
            return;
        };
        if !member.is_stopping {
            return;
        }
        match engine.stop_turn() {
            false => self.engine_moved(n),
            true => self.stop(n),
        }
    }

    pub(super) fn conns_of(&self, n: usize) -> Vec<u64> {
        let conns = self.conns.iter().filter(|(_, conn)| conn.node == n);
        conns.map(|(number, _)| *number).collect()
    }
}
