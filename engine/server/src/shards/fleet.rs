//! The engines of a shared store, as an operator names them, and which of them live.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::bail;
use till_storage::cluster::{Constraints, NodeId, NodeRow, SharedStore};

use super::unknown;

/// Time between two looks at the heartbeats.
const LOOK: Duration = Duration::from_millis(100);
/// Fewest digits that name a node.
const DIGITS_MIN: usize = 4;

/// Nodes that show no heartbeat for longer than those that live. Takes as long as that.
pub(crate) fn silent(
    store: &dyn SharedStore,
    first: &[NodeRow],
) -> anyhow::Result<BTreeSet<NodeId>> {
    let longest = first.iter().map(|row| row.lease).max().unwrap_or_default();
    // One that lives writes a heartbeat every fifth of its lease.
    std::thread::sleep(longest.mul_f32(0.3));
    let second = store.nodes()?;
    let is_silent = |row: &&NodeRow| {
        let again = second.iter().find(|one| one.node == row.node);
        again.is_none_or(|again| again.heartbeat <= row.heartbeat)
    };
    let silent = first.iter().filter(is_silent).map(|row| row.node);
    Ok(silent.collect())
}

/// The engines that have shown a heartbeat within a day.
pub(super) struct Fleet<'a> {
    store: &'a dyn SharedStore,
    began: Instant,
    first: Vec<NodeRow>,
    constraints: Constraints,
    /// Addresses where somebody has shown a new heartbeat since.
    alive: BTreeSet<String>,
}

impl<'a> Fleet<'a> {
    /// Looks for the first time.
    pub(super) fn of(store: &'a dyn SharedStore) -> anyhow::Result<Self> {
        Ok(Self {
            store,
            began: Instant::now(),
            first: store.nodes()?,
            constraints: store.constraints()?,
            alive: BTreeSet::new(),
        })
    }

    /// The address of an engine: as it stands, or of the one node whose id begins so.
    pub(super) fn address_of(&self, name: &str) -> anyhow::Result<String> {
        if self.first.iter().any(|row| row.address == name) {
            return Ok(name.to_owned());
        }
        let name = name.to_ascii_lowercase();
        let is_such = |row: &&NodeRow| row.node.to_string().starts_with(&name);
        let found: Vec<&NodeRow> = self.first.iter().filter(is_such).collect();
        match found[..] {
            [only] if name.len() >= DIGITS_MIN => Ok(only.address.clone()),
            [] | [_] => Err(unknown(&name)),
            _ => bail!(
                "`{name}` is the beginning of {} node ids: give more of it",
                found.len()
            ),
        }
    }

    /// The address of a cordoned engine that goes by this name, also when it is long gone.
    pub(super) fn cordoned(&self, name: &str) -> Option<String> {
        self.constraints.cordoned.get(name).cloned()
    }

    /// Whether an operator wants the engine at this address to have no slot.
    pub(super) fn is_cordoned(&self, address: &str) -> bool {
        self.constraints.cordoned.contains(address)
    }

    /// An error unless the engine at this address lives and stays.
    pub(super) fn must_live(&mut self, address: &str) -> anyhow::Result<()> {
        if self.watch(|one| one == address)? {
            return Ok(());
        }
        bail!(
            "the engine at {address} is dead or leaves: it has shown no heartbeat for {:?}; the others serve its slots",
            self.lease()
        )
    }

    /// Whether an engine lives at another address that is not drained.
    pub(super) fn is_another_alive(&mut self, address: &str) -> anyhow::Result<bool> {
        let cordoned = self.constraints.cordoned.clone();
        self.watch(|one| one != address && !cordoned.contains(one))
    }

    fn lease(&self) -> Duration {
        let leases = self.first.iter().map(|row| row.lease);
        leases.max().unwrap_or_default()
    }

    // Whether somebody at such an address shows a heartbeat within the longest lease.
    fn watch(&mut self, is_such: impl Fn(&str) -> bool) -> anyhow::Result<bool> {
        if !self.first.iter().any(|row| is_such(&row.address)) {
            return Ok(false);
        }
        loop {
            if self.alive.iter().any(|address| is_such(address)) {
                return Ok(true);
            }
            if self.began.elapsed() > self.lease() {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
            for row in self.store.nodes()? {
                let before = self.first.iter().find(|one| one.node == row.node);
                let is_new = before.is_none_or(|before| before.heartbeat < row.heartbeat);
                if is_new && !row.is_leaving {
                    self.alive.insert(row.address);
                }
            }
        }
    }
}
