//! One node among the others: shows that it is alive, sees who is not, and which slots it should have.
//!
//! Time is an argument: what a monotonic clock of this node shows, from any fixed start. No other node's clock and no time
//! of day is ever compared with it. A node is dead when two reads of its row, the end of the first and the beginning of
//! the second at least a lease apart, show the same beat. A node stops serving before that, a lease less a tenth after the
//! beginning of its last beat that was acknowledged: clocks may run differently by that much.

mod plan;
mod share;

use std::collections::BTreeMap;
use std::time::Duration;

use super::constraints::Constraints;
use super::row::{NodeId, NodeRow, SlotRow};
use plan::Kept;

/// What a node is told about itself.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// This incarnation of the node.
    pub me: NodeId,
    /// An earlier incarnation of the same node that surely has ended (its data folder is locked by this one): its slots are
    /// taken back without waiting.
    pub former: Option<NodeId>,
    /// Where devices reach it.
    pub address: String,
    /// How long a node may go without a heartbeat.
    pub lease: Duration,
    /// Number of slots of the schema.
    pub slots: u32,
    /// When the process started, for people, in us since 1970-01-01 UTC.
    pub started_us: i64,
}

/// What a driver has to do for the membership.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Write this row plainly at a quorum, with the beat as its stamp. Answer: [`Membership::heartbeat_written`] if acknowledged.
    Heartbeat(NodeRow),
    /// Read all rows of nodes at a quorum. Answer: [`Membership::nodes_read`]; nothing if it failed.
    ReadNodes {
        /// Number of the read.
        read: u64,
    },
    /// Read all rows of slots at a quorum. Answer: [`Membership::slots_read`]; nothing if it failed.
    ReadSlots {
        /// Number of the read.
        read: u64,
    },
    /// Read all wishes at a quorum. Answer: [`Membership::constraints_read`]; nothing if it failed.
    ReadConstraints {
        /// Number of the read.
        read: u64,
    },
    /// Take a slot, with a [`super::SlotWriter`]. Answer: [`Membership::taken`] or [`Membership::ended`].
    Acquire(SlotRow),
    /// Close the slot, commit what it has, and give it up. Answer: [`Membership::ended`].
    Release {
        /// The slot.
        slot: u32,
    },
    /// Suspend every writer: others may count this node as dead.
    Suspend,
    /// Resume every writer.
    Resume,
}

/// Where a slot is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Route {
    /// This node has it.
    Here,
    /// Another node has it, at this address.
    At(String),
    /// Nobody, or a node that is dead.
    Nowhere,
}

/// What is known of another node.
#[derive(Clone, Debug)]
struct Peer {
    heartbeat: u64,
    address: String,
    is_leaving: bool,
    moves: u64,
    /// When a read that showed this beat first had ended.
    since: Duration,
    is_dead: bool,
    /// Number of the last read of nodes that showed it dead.
    dead_by: u64,
}

/// A slot of this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Held {
    /// It is being taken.
    Coming,
    Here,
    /// It is being given up.
    Going,
}

/// A slot as it was last seen.
#[derive(Clone, Debug)]
struct Seen {
    row: SlotRow,
    /// Reads that had begun when its epoch was first seen: what they say of its owner may be older than that.
    seen_by: u64,
    /// Since when it has been nobody's or a dead node's, in this state.
    free_since: Option<Duration>,
}

/// One node among the others.
#[derive(Debug)]
pub struct Membership {
    config: MemberConfig,
    born: Duration,
    now: Duration,
    heartbeat: u64,
    /// How often a slot has come or gone.
    moves: u64,
    /// Beats on their way: when each was begun.
    heartbeats: BTreeMap<u64, Duration>,
    /// Beginning of the last beat that was acknowledged.
    alive_at: Option<Duration>,
    is_suspended: bool,
    is_leaving: bool,
    peers: BTreeMap<NodeId, Peer>,
    slots: BTreeMap<u32, Seen>,
    held: BTreeMap<u32, Held>,
    /// What operators want; `None` before it was read.
    constraints: Option<Constraints>,
    /// Slots that this node has although they shall be elsewhere.
    kept: BTreeMap<u32, Kept>,
    /// When the read of nodes, that of slots and that of placement constraints that are on their way were begun.
    read: u64,
    nodes_read: Option<(u64, Duration)>,
    slots_read: Option<(u64, Duration)>,
    constraints_read: Option<(u64, Duration)>,
    heartbeat_due: Duration,
    nodes_due: Duration,
    slots_due: Duration,
    constraints_due: Duration,
    /// When slots are looked at although nothing moves.
    slots_stale: Duration,
    /// Until when slots are looked at more often.
    restless_until: Duration,
    /// Since when this node has had more slots than any should have.
    crowded_since: Option<Duration>,
    /// Slots that this node should have.
    wanted: u32,
    out: Vec<Duty>,
}

impl Membership {
    /// A node that starts at `now`. It beats with the first [`Self::tick`].
    pub fn new(config: MemberConfig, now: Duration) -> Self {
        Self {
            config,
            born: now,
            now,
            heartbeat: 0,
            moves: 0,
            heartbeats: BTreeMap::new(),
            alive_at: None,
            is_suspended: true,
            is_leaving: false,
            peers: BTreeMap::new(),
            slots: BTreeMap::new(),
            held: BTreeMap::new(),
            constraints: None,
            kept: BTreeMap::new(),
            read: 0,
            nodes_read: None,
            slots_read: None,
            constraints_read: None,
            heartbeat_due: now,
            nodes_due: now,
            slots_due: now,
            slots_stale: now,
            constraints_due: now,
            restless_until: now,
            crowded_since: None,
            wanted: 0,
            out: Vec::new(),
        }
    }

    /// Takes what is to be done, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = Duty> {
        self.out.drain(..)
    }

    /// Whether this node may serve the slots that it has: a look at the clock decides, so that a node that was stopped
    /// and goes on knows it before anything else.
    pub fn may_serve(&self, now: Duration) -> bool {
        !self.is_suspended && self.is_alive(now)
    }

    fn is_alive(&self, now: Duration) -> bool {
        if crate::planted::is("no-lease") {
            return self.alive_at.is_some();
        }
        let patience = self.config.lease.saturating_sub(self.share_of_lease(10));
        self.alive_at
            .is_some_and(|at| now.saturating_sub(at) < patience)
    }

    fn share_of_lease(&self, parts: u32) -> Duration {
        self.config
            .lease
            .checked_div(parts)
            .unwrap_or(self.config.lease)
    }

    /// The time is `now`. To be called every twentieth of a lease or so, and before an answer is given to a writer after
    /// a pause of any length.
    pub fn tick(&mut self, now: Duration) {
        self.note(now);
        if now >= self.heartbeat_due {
            self.heartbeat_due = now.saturating_add(self.share_of_lease(5));
            self.heartbeat_now(now);
        }
        let next = now.saturating_add(self.share_of_lease(10));
        if now >= self.constraints_due {
            self.constraints_due = next;
            let read = self.next_read();
            self.constraints_read = Some((read, now));
            self.out.push(Duty::ReadConstraints { read });
        }
        if now >= self.nodes_due {
            self.nodes_due = next;
            let read = self.next_read();
            self.nodes_read = Some((read, now));
            self.out.push(Duty::ReadNodes { read });
        }
        if now >= self.slots_due {
            self.slots_due = next;
            if now >= self.slots_stale || !self.is_calm() {
                let read = self.next_read();
                self.slots_read = Some((read, now));
                self.out.push(Duty::ReadSlots { read });
            }
        }
    }

    // Whether every slot is with an engine that lives and stays: what changes then, an engine's row tells.
    fn is_calm(&self) -> bool {
        let stays = |owner: NodeId| {
            let peer = self.peers.get(&owner);
            owner == self.config.me || peer.is_some_and(|peer| !peer.is_dead && !peer.is_leaving)
        };
        let known = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        let mut owners = self.slots.values().map(|seen| seen.row.owner);
        !self.is_leaving
            && self.now >= self.restless_until
            && known == self.config.slots
            && owners.all(|owner| owner.is_some_and(stays))
    }

    const fn next_read(&mut self) -> u64 {
        self.read = self.read.saturating_add(1);
        self.read
    }

    // Every entry comes by here: the suspension is noticed before anything that would hide it.
    fn note(&mut self, now: Duration) {
        self.now = now;
        if !self.is_suspended && !self.is_alive(now) {
            self.is_suspended = true;
            self.out.push(Duty::Suspend);
        }
    }

    fn heartbeat_now(&mut self, now: Duration) {
        self.heartbeat = self.heartbeat.saturating_add(1);
        self.heartbeats.insert(self.heartbeat, now);
        // Old ones are of no use any more: their beginning is too long ago.
        let oldest = self.heartbeat.saturating_sub(16);
        self.heartbeats.retain(|heartbeat, _| *heartbeat > oldest);
        self.out.push(Duty::Heartbeat(NodeRow {
            node: self.config.me,
            address: self.config.address.clone(),
            heartbeat: self.heartbeat,
            lease: self.config.lease,
            started_us: self.config.started_us,
            is_leaving: self.is_leaving,
            lag: Duration::ZERO,
            moves: self.moves,
        }));
    }

    /// A heartbeat was acknowledged.
    pub fn heartbeat_written(&mut self, now: Duration, heartbeat: u64) {
        self.note(now);
        let Some(begun) = self.heartbeats.remove(&heartbeat) else {
            return;
        };
        self.alive_at = self.alive_at.max(Some(begun));
        if self.is_suspended && self.is_alive(now) {
            self.is_suspended = false;
            self.out.push(Duty::Resume);
        }
    }

    /// The rows of all nodes, as a read gave them.
    pub fn nodes_read(&mut self, now: Duration, read: u64, rows: &[NodeRow]) {
        self.note(now);
        let Some((_, begun)) = self.nodes_read.take_if(|(number, _)| *number == read) else {
            return;
        };
        let me = self.config.me;
        for row in rows.iter().filter(|row| row.node != me) {
            self.see(row, now);
        }
        let slots = &self.slots;
        self.peers.retain(|node, _| {
            let is_owner = |seen: &Seen| seen.row.owner == Some(*node);
            rows.iter().any(|row| row.node == *node) || slots.values().any(is_owner)
        });
        for peer in self.peers.values_mut() {
            if !peer.is_dead && begun.saturating_sub(peer.since) >= self.config.lease {
                peer.is_dead = true;
                // What it took last, its row may not have told.
                (self.slots_due, self.slots_stale) = (now, now);
            }
            if peer.is_dead {
                peer.dead_by = read;
            }
        }
        self.decide();
    }

    fn see(&mut self, row: &NodeRow, now: Duration) {
        let is_former = self.config.former == Some(row.node);
        let peer = self.peers.entry(row.node).or_insert_with(|| Peer {
            heartbeat: row.heartbeat,
            address: row.address.clone(),
            is_leaving: row.is_leaving,
            // Another number than that of the row: its slots are looked at.
            moves: row.moves.wrapping_add(1),
            since: now,
            is_dead: is_former,
            dead_by: 0,
        });
        if peer.moves != row.moves {
            peer.moves = row.moves;
            (self.slots_due, self.slots_stale) = (now, now);
        }
        peer.is_leaving = row.is_leaving;
        peer.address.clone_from(&row.address);
        if row.heartbeat > peer.heartbeat {
            peer.heartbeat = row.heartbeat;
            peer.since = now;
            peer.is_dead = is_former;
        }
    }

    /// The rows of all slots, as a read gave them.
    pub fn slots_read(&mut self, now: Duration, read: u64, rows: &[SlotRow]) {
        self.note(now);
        let Some((_, begun)) = self.slots_read.take_if(|(number, _)| *number == read) else {
            return;
        };
        // Something may have moved since it was begun.
        if begun > self.slots_stale {
            self.slots_stale = begun.saturating_add(self.config.lease);
        }
        for row in rows {
            self.see_slot(row);
        }
        self.decide();
    }

    /// What operators want, as a read gave it.
    pub fn constraints_read(&mut self, now: Duration, read: u64, constraints: &Constraints) {
        self.note(now);
        if self
            .constraints_read
            .take_if(|(number, _)| *number == read)
            .is_some()
        {
            self.constraints = Some(constraints.clone());
            self.decide();
        }
    }

    fn see_slot(&mut self, row: &SlotRow) {
        if let Some(owner) = row.owner.filter(|owner| *owner != self.config.me) {
            // An owner whose row is gone has a lease of patience from now on.
            let is_former = self.config.former == Some(owner);
            self.peers.entry(owner).or_insert_with(|| Peer {
                heartbeat: 0,
                address: row.address.clone(),
                is_leaving: true,
                moves: 0,
                since: self.now,
                is_dead: is_former,
                dead_by: 0,
            });
        }
        match self.slots.get_mut(&row.slot) {
            Some(seen) if row.epoch < seen.row.epoch => {}
            Some(seen) => {
                if row.epoch > seen.row.epoch {
                    seen.free_since = None;
                    seen.seen_by = self.read;
                }
                seen.row = row.clone();
            }
            None => {
                let row = row.clone();
                let seen = Seen {
                    row,
                    seen_by: self.read,
                    free_since: None,
                };
                self.slots.insert(seen.row.slot, seen);
            }
        }
    }

    /// This node serves a slot that it was told to take.
    pub fn taken(&mut self, now: Duration, slot: u32) {
        self.note(now);
        if let Some(held) = self.held.get_mut(&slot)
            && *held == Held::Coming
        {
            *held = Held::Here;
            self.moved();
        }
    }

    // The others hear of it with the next heartbeat.
    fn moved(&mut self) {
        self.moves = self.moves.saturating_add(1);
        self.heartbeat_due = self.now;
    }

    /// The writer of a slot has ended; `row` is the slot's row if it was told.
    pub fn ended(&mut self, now: Duration, slot: u32, row: Option<&SlotRow>) {
        self.note(now);
        self.held.remove(&slot);
        if let Some(row) = row {
            self.see_slot(row);
        } else if let Some(seen) = self.slots.get_mut(&slot)
            && seen.row.owner == Some(self.config.me)
        {
            // Given up: nobody's, until a read says more.
            seen.row.owner = None;
            seen.row.epoch = seen.row.epoch.saturating_add(1);
        }
        self.moved();
        // Soon, so that everybody knows who has it now.
        self.look_soon();
    }

    /// Begins to give every slot away and takes none any more, and says so first: others give slots to a node that has none.
    pub fn leave(&mut self, now: Duration) {
        self.is_leaving = true;
        self.note(now);
        self.heartbeat_now(now);
        self.decide();
    }

    /// Slots that this node should have, when it last looked.
    pub const fn wanted(&self) -> u32 {
        self.wanted
    }

    /// Where a slot is.
    pub fn route(&self, slot: u32) -> Route {
        if self.held.get(&slot) == Some(&Held::Here) {
            return Route::Here;
        }
        let Some(row) = self.slots.get(&slot).map(|seen| &seen.row) else {
            return Route::Nowhere;
        };
        match row.owner {
            Some(owner) if owner != self.config.me && !self.is_dead(owner) => {
                Route::At(row.address.clone())
            }
            _ => Route::Nowhere,
        }
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_dead)
    }

    fn look_soon(&mut self) {
        let soon = self.now.saturating_add(self.share_of_lease(20));
        self.slots_due = self.slots_due.min(soon);
        self.slots_stale = self.slots_stale.min(soon);
    }
}

#[cfg(test)]
mod tests;
