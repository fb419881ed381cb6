//! A node of the simulated cluster: a journal that outlives its processes, and the machines under test.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::oracle::Next;
use super::rng::Rng;
use crate::cluster::{MemberConfig, Membership, NodeId, SlotWriter};

pub(super) struct Node {
    pub(super) number: usize,
    pub(super) incarnation: u32,
    /// Its disk is gone with it.
    pub(super) is_lost: bool,
    pub(super) paused_until: u64,
    /// What its clock gains in a thousand.
    pub(super) drift: i64,
    /// What its time of day is off, which jumps.
    pub(super) wall_us: i64,
    pub(super) id: NodeId,
    pub(super) process: Option<Process>,
    /// Events that are durable here and not known to be committed.
    pub(super) journal: BTreeMap<u32, BTreeSet<u64>>,
}

/// What is lost with a crash.
pub(super) struct Process {
    pub(super) member: Membership,
    pub(super) hosts: BTreeMap<u32, Host>,
    pub(super) ticks: u64,
}

/// A slot on a node.
pub(super) struct Host {
    /// Tells this writer from others of the same slot and process.
    pub(super) born: u64,
    pub(super) writer: SlotWriter,
    /// State in memory: what the rows said, and what came since.
    pub(super) next: Next,
    /// State as of the last flush that was begun.
    pub(super) base: Next,
    pub(super) pending: Vec<(u32, u64)>,
    pub(super) flying: Vec<(u32, u64)>,
    /// Up to which event each device knows to be committed.
    pub(super) committed: Next,
    pub(super) is_releasing: bool,
    pub(super) is_restored: bool,
}

impl Host {
    pub(super) const fn new(writer: SlotWriter, born: u64) -> Self {
        Self {
            born,
            writer,
            next: Next::new(),
            base: Next::new(),
            pending: Vec::new(),
            flying: Vec::new(),
            committed: Next::new(),
            is_releasing: false,
            is_restored: false,
        }
    }

    /// The next sequence number that is wanted of a device.
    pub(super) fn wanted(&self, device: u32) -> u64 {
        self.next.get(&device).copied().unwrap_or(1)
    }
}

impl Node {
    pub(super) fn new(number: usize, drift: i64) -> Self {
        Self {
            number,
            incarnation: 0,
            is_lost: false,
            paused_until: 0,
            drift,
            wall_us: 0,
            id: NodeId::from_bytes([0; 16]),
            process: None,
            journal: BTreeMap::new(),
        }
    }

    /// A process starts.
    pub(super) fn start(&mut self, now: Duration, slots: u32, lease: Duration, salt: u64) {
        let former = (self.incarnation > 0).then_some(self.id);
        self.incarnation += 1;
        self.id = id_of(self.number, self.incarnation, salt);
        let config = MemberConfig {
            me: self.id,
            former,
            address: self.number.to_string(),
            lease,
            slots,
            started_us: 0,
        };
        self.process = Some(Process {
            member: Membership::new(config, now),
            hosts: BTreeMap::new(),
            ticks: 0,
        });
    }

    /// What its monotonic clock shows.
    pub(super) fn clock(&self, now: u64) -> Duration {
        let real = i64::try_from(now).unwrap();
        let shown = 1_000_000 + real + real * self.drift / 1_000;
        Duration::from_micros(u64::try_from(shown).unwrap())
    }

    /// What its time of day shows, in us.
    pub(super) fn wall(&self, now: u64) -> i64 {
        1_000_000_000_000 + i64::try_from(now).unwrap() + self.wall_us
    }
}

/// The id of one life of a node.
pub(super) fn id_of(number: usize, incarnation: u32, salt: u64) -> NodeId {
    let mut bytes = [0; 16];
    let incarnation = u64::from(incarnation) << 8 | u64::try_from(number).unwrap();
    bytes[..8].copy_from_slice(&Rng::new(salt ^ incarnation).next().to_le_bytes());
    bytes[8..].copy_from_slice(&incarnation.to_le_bytes());
    NodeId::from_bytes(bytes)
}
