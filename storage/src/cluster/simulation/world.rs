//! The world: events in the order of time, and what each leads to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::node::{Host, Node};
use super::oracle::{Oracle, commit_of};
use super::rng::Rng;
use super::store::{RowWrite, Store};
use super::{Faults, MS, Mistake, SECOND, SimPlan};
use crate::cluster::{
    Answer, Conditional, Constraint, Constraints, Duty, NodeRow, SlotRow, SlotWriter,
};

/// A process of a node: what was sent to an earlier one is lost.
pub(super) type To = (usize, u32);

/// Who sent a frame.
#[derive(Clone, Copy)]
pub(super) enum Sender {
    Device,
    Node(To),
}

pub(super) enum Event {
    Tick(To),
    /// For the writer of a slot that began in this epoch.
    Answer(To, u32, u64, u64, Answer),
    HeartbeatWritten(To, u64),
    Nodes(To, u64, Vec<NodeRow>),
    Slots(To, u64, Vec<SlotRow>),
    Constraints(To, u64, Constraints),
    Swap(To, u32, u64, u64, Conditional, bool),
    ReadSlot(To, u32, u64, u64),
    ReadLog(To, u32, u64, u64, crate::cluster::LogKey),
    ReadNodes(To, u64),
    ReadSlots(To, u64),
    ReadConstraints(To, u64),
    PutNode(NodeRow),
    PutPart((u32, u64), u64, u32, bytes::Bytes),
    PutRow(RowWrite),
    DeleteLog((u32, u64)),
    Device(u32),
    Frame(usize, u32, u64, u64, Sender),
    Committed(u32, u64, Sender),
    Redirect(u32, usize),
    Crash(usize, Option<u64>),
    Start(usize),
    Pause(usize, u64),
    Jump(usize, i64),
    Constraint(Constraint),
    Calm,
}

pub(super) struct Device {
    pub(super) made: u64,
    pub(super) committed: u64,
    pub(super) at: usize,
    /// How many frames it has sent since it last had an answer.
    pub(super) unanswered: u32,
    pub(super) gone_at: u64,
}

pub(super) struct SlotWorld {
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) plan: SimPlan,
    pub(super) faults: Faults,
    pub(super) store: Store,
    pub(super) oracle: Oracle,
    pub(super) nodes: Vec<Node>,
    pub(super) devices: Vec<Device>,
    queue: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub(super) steps: u64,
    /// Since when slots are closed that were open, and how long slots were.
    pub(super) closed: BTreeMap<u32, u64>,
    pub(super) pauses: Vec<u64>,
}

impl SlotWorld {
    pub(super) fn new(seed: u64, plan: SimPlan, faults: Faults) -> Self {
        let mut rng = Rng::new(seed);
        let nodes = (0..plan.nodes).map(|number| {
            let drift = i64::try_from(rng.within(0, 41)).unwrap() - 20;
            Node::new(number, drift)
        });
        let nodes = nodes.collect();
        let devices = (0..plan.devices).map(|_| Device {
            made: 0,
            committed: 0,
            at: 0,
            unanswered: 0,
            gone_at: u64::MAX,
        });
        Self {
            now: 0,
            store: Store::new(plan.slots),
            oracle: Oracle::new(plan.slots),
            nodes,
            devices: devices.collect(),
            queue: BTreeMap::new(),
            number: 0,
            steps: 0,
            closed: BTreeMap::new(),
            pauses: Vec::new(),
            rng,
            plan,
            faults,
        }
    }

    pub(super) fn is(&self, mistake: Mistake) -> bool {
        self.plan.mistake == Some(mistake)
    }

    pub(super) fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.insert((at, self.number), event);
    }

    pub(super) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn delay(&mut self) -> u64 {
        if self.rng.chance(self.faults.slow) {
            return self.rng.within(MS, 400 * MS);
        }
        self.rng.within(MS, 12 * MS)
    }

    /// Runs until a time, or until something is wrong.
    pub(super) fn run(&mut self, until: u64) {
        while self.oracle.error.is_none() {
            let Some(entry) = self.queue.first_entry() else {
                return;
            };
            let (at, _) = *entry.key();
            if at > until {
                self.now = until;
                return;
            }
            let event = entry.remove();
            self.now = at;
            self.steps += 1;
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Tick(to) => self.at_node(to, event, |world, _| world.tick(to)),
            Event::Answer(to, slot, born, request, answer) => {
                let again = Event::Answer(to, slot, born, request, answer.clone());
                self.at_node(to, again, move |world, _| {
                    world.answer(to, slot, (born, request), answer);
                });
            }
            Event::HeartbeatWritten(to, heartbeat) => self.at_node(to, event, |world, now| {
                world.member(to).heartbeat_written(now, heartbeat);
            }),
            Event::Nodes(to, read, ref rows) => {
                let rows = rows.clone();
                self.at_node(to, event, |world, now| {
                    world.member(to).nodes_read(now, read, &rows);
                });
            }
            Event::Slots(to, read, ref rows) => {
                let rows = rows.clone();
                self.at_node(to, event, |world, now| {
                    world.member(to).slots_read(now, read, &rows);
                    world.observe(to, &rows);
                });
            }
            Event::Constraints(to, read, ref constraints) => {
                let constraints = constraints.clone();
                self.at_node(to, event, |world, now| {
                    world.member(to).constraints_read(now, read, &constraints);
                });
            }
            Event::Frame(node, device, first, last, from) => {
                let to = (node, self.nodes[node].incarnation);
                let again = Event::Frame(node, device, first, last, from);
                self.at_node(to, again, |world, now| {
                    world.frame(to, now, device, (first, last), from);
                });
            }
            Event::Committed(device, upto, Sender::Node(to)) => {
                let known = self.plan.mistake == Some(Mistake::ForgetBacklog);
                if !known && let Some(seqs) = self.nodes[to.0].journal.get_mut(&device) {
                    seqs.retain(|seq| *seq > upto);
                }
            }
            Event::Committed(device, upto, Sender::Device) => {
                let device = self.device(device);
                device.committed = device.committed.max(upto);
                device.unanswered = 0;
            }
            Event::Redirect(device, node) => {
                let device = self.device(device);
                (device.at, device.unanswered) = (node, 0);
            }
            Event::Device(device) => self.device_acts(device),
            event => self.at_store(event),
        }
    }

    fn at_store(&mut self, event: Event) {
        match event {
            Event::Swap(to, slot, born, request, swap, is_answered) => {
                let by = self.store_id(to);
                let mistake = self.plan.mistake;
                let after = self.store.swap(&swap, by, mistake, &mut self.oracle);
                if is_answered {
                    let row = self.store.slot(slot).clone();
                    let answer = after.map_or(Answer::NotApplied(row), |_| Answer::Applied);
                    self.reply(to, slot, born, request, answer);
                }
            }
            Event::ReadSlot(to, slot, born, request) => {
                let row = self.store.slot(slot).clone();
                self.reply(to, slot, born, request, Answer::Row(row));
            }
            Event::ReadLog(to, slot, born, request, key) => {
                let parts = self.store.read_log(&key);
                self.reply(to, slot, born, request, Answer::Log(parts));
            }
            Event::ReadNodes(to, read) => {
                let rows = self.store.nodes.values().cloned().collect();
                let delay = self.delay();
                self.after(delay, Event::Nodes(to, read, rows));
            }
            Event::ReadSlots(to, read) => {
                let (rng, stale) = (&mut self.rng, self.faults.stale);
                let rows = self.store.all_slots(|| rng.chance(stale));
                let delay = self.delay();
                self.after(delay, Event::Slots(to, read, rows));
            }
            Event::ReadConstraints(to, read) => {
                let constraints = self.store.constraints.clone();
                let delay = self.delay();
                self.after(delay, Event::Constraints(to, read, constraints));
            }
            Event::Constraint(constraint) => self.store.constraints.change(&constraint),
            Event::PutNode(row) => self.store.put_node(row),
            Event::PutPart(index, epoch, part, body) => {
                self.store.put_part(index, epoch, part, body);
            }
            Event::PutRow(write) => self.store.put_row(&write, &mut self.oracle),
            Event::DeleteLog(index) => self.store.delete_log(index),
            event => self.nemesis(&event),
        }
    }

    // The id under which a process wrote, also when it is gone by now.
    fn store_id(&self, to: To) -> crate::cluster::NodeId {
        self.plan.id(to.0, to.1)
    }

    fn reply(&mut self, to: To, slot: u32, born: u64, request: u64, answer: Answer) {
        let delay = self.delay();
        self.after(delay, Event::Answer(to, slot, born, request, answer));
    }

    pub(super) fn device(&mut self, device: u32) -> &mut Device {
        &mut self.devices[usize::try_from(device).unwrap()]
    }

    pub(super) fn member(&mut self, to: To) -> &mut crate::cluster::Membership {
        let process = self.nodes[to.0].process.as_mut().unwrap();
        &mut process.member
    }

    pub(super) fn host(&mut self, to: To, slot: u32) -> Option<&mut Host> {
        self.nodes[to.0].process.as_mut()?.hosts.get_mut(&slot)
    }

    /// What this node takes for the time.
    pub(super) fn clock(&self, node: usize) -> Duration {
        let node = &self.nodes[node];
        if self.is(Mistake::WallClockLease) {
            let wall = node.wall(self.now) - 900_000_000_000;
            return Duration::from_micros(u64::try_from(wall).unwrap_or(0));
        }
        node.clock(self.now)
    }

    /// Something comes to a process: later if it is stopped, never if it is gone. A look at the clock comes first.
    fn at_node(&mut self, to: To, event: Event, act: impl FnOnce(&mut Self, Duration)) {
        let node = &self.nodes[to.0];
        if node.incarnation != to.1 || node.process.is_none() {
            return;
        }
        if node.paused_until > self.now {
            let until = node.paused_until;
            return self.at(until, event);
        }
        let now = self.clock(to.0);
        self.member(to).tick(now);
        self.duties(to);
        act(self, now);
        self.duties(to);
    }

    fn tick(&mut self, to: To) {
        let next = self.plan.lease / 20;
        self.after(next, Event::Tick(to));
        let slots: Vec<u32> = match &mut self.nodes[to.0].process {
            Some(process) => {
                process.ticks += 1;
                process.hosts.keys().copied().collect()
            }
            None => return,
        };
        for slot in slots {
            self.absorb(to, slot);
            self.flush(to, slot);
        }
        self.send_backlog(to);
    }

    fn observe(&mut self, to: To, rows: &[SlotRow]) {
        for row in rows {
            if let Some(host) = self.host(to, row.slot) {
                host.writer.observe(row);
            }
            self.commands(to, row.slot);
        }
    }

    pub(super) fn duties(&mut self, to: To) {
        loop {
            let duties: Vec<Duty> = self.member(to).drain().collect();
            if duties.is_empty() {
                return;
            }
            for duty in duties {
                self.duty(to, duty);
            }
        }
    }

    fn duty(&mut self, to: To, duty: Duty) {
        let is_lost = self.rng.chance(self.faults.lost);
        match duty {
            Duty::Heartbeat(row) => {
                let (heartbeat, delay) = (row.heartbeat, self.delay());
                if !is_lost {
                    self.after(delay, Event::PutNode(row));
                    let back = delay + self.delay();
                    self.after(back, Event::HeartbeatWritten(to, heartbeat));
                } else if self.rng.chance(500) {
                    let late = self.rng.within(MS, 3 * SECOND);
                    self.after(late, Event::PutNode(row));
                }
            }
            Duty::ReadNodes { read } if !is_lost => {
                let delay = self.delay();
                self.after(delay, Event::ReadNodes(to, read));
            }
            Duty::ReadSlots { read } if !is_lost => {
                let delay = self.delay();
                self.after(delay, Event::ReadSlots(to, read));
            }
            Duty::ReadConstraints { read } if !is_lost => {
                let delay = self.delay();
                self.after(delay, Event::ReadConstraints(to, read));
            }
            Duty::ReadNodes { .. } | Duty::ReadSlots { .. } | Duty::ReadConstraints { .. } => {}
            Duty::Acquire(row) => {
                self.number += 1;
                let born = self.number;
                let node = &mut self.nodes[to.0];
                let writer = SlotWriter::take_over(&row, node.id, &to.0.to_string());
                if let Some(process) = &mut node.process {
                    process.hosts.insert(row.slot, Host::new(writer, born));
                }
                self.commands(to, row.slot);
            }
            Duty::Release { slot } => {
                if let Some(host) = self.host(to, slot) {
                    host.is_releasing = true;
                    self.closed.insert(slot, self.now);
                }
                self.flush(to, slot);
            }
            Duty::Suspend | Duty::Resume => self.suspend(to, duty == Duty::Suspend),
        }
    }

    fn suspend(&mut self, to: To, is_suspended: bool) {
        if self.is(Mistake::ServeSuspended) {
            return;
        }
        self.oracle
            .seen
            .insert(if is_suspended { "suspended" } else { "resumed" });
        let Some(process) = &mut self.nodes[to.0].process else {
            return;
        };
        let slots: Vec<u32> = process.hosts.keys().copied().collect();
        for slot in slots {
            if let Some(host) = self.host(to, slot) {
                if is_suspended {
                    host.writer.suspend();
                } else {
                    host.writer.resume();
                }
            }
            self.commands(to, slot);
        }
    }

    /// Begins the next flush of a slot, or gives it up when there is nothing left to flush.
    pub(super) fn flush(&mut self, to: To, slot: u32) {
        let Some(host) = self.host(to, slot) else {
            return;
        };
        if host.writer.is_idle() && !host.pending.is_empty() {
            host.flying = std::mem::take(&mut host.pending);
            let commit = commit_of(slot, host.writer.next_flush(), &host.base, &host.flying);
            for (device, seq) in &host.flying {
                host.base.insert(*device, seq + 1);
            }
            host.writer.commit(commit.clone()).unwrap();
            if self.is(Mistake::RowsBeforeCommit) {
                self.put_rows(to, &Arc::new(commit.settled()), 0);
            }
        } else if host.is_releasing && host.pending.is_empty() {
            host.writer.release();
        }
        self.commands(to, slot);
    }

    fn answer(&mut self, to: To, slot: u32, (born, request): (u64, u64), answer: Answer) {
        let Some(host) = self.host(to, slot) else {
            return;
        };
        // An answer for an earlier owner of this slot in the same process.
        if host.born != born {
            return;
        }
        if answer == Answer::Unknown {
            self.oracle.seen.insert("unknown");
        }
        if let Some(host) = self.host(to, slot) {
            host.writer.answer(request, answer);
        }
        self.commands(to, slot);
        self.flush(to, slot);
    }

    pub(super) fn commands(&mut self, to: To, slot: u32) {
        let Some(host) = self.host(to, slot) else {
            return;
        };
        let born = host.born;
        let commands: Vec<_> = host.writer.drain().collect();
        for command in commands {
            // The driver waits longer the more often it has tried.
            let wait = u64::from(command.attempt.min(6)) * 20 * MS;
            self.carry_out(to, slot, (born, command.request), command.action, wait);
        }
    }
}
