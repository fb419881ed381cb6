//! The rows on which nodes agree, and the conditional writes that change them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::log::Seal;

/// One incarnation of a node's process. Rebuilt, at random, by whoever starts the process: what an earlier incarnation sent may
/// still arrive, and must never pass for something that this one did.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// The id of these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for NodeId {
    /// As a UUID is written.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                out.write_str("-")?;
            }
            write!(out, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for NodeId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 16];
        let digits: String = text.chars().filter(|one| *one != '-').collect();
        if digits.len() != 32 || !digits.is_ascii() {
            return Err(());
        }
        for (byte, at) in bytes.iter_mut().zip((0..32).step_by(2)) {
            let pair = digits.get(at..at + 2).ok_or(())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// The state of a slot: one row, changed by [`Conditional`] alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SlotRow {
    /// The slot.
    pub slot: u32,
    /// Rises whenever the slot changes hands.
    pub epoch: u64,
    /// Who owns it; `None` = nobody.
    pub owner: Option<NodeId>,
    /// Where devices reach the owner.
    pub address: String,
    /// Number of the last committed flush; 0 before the first.
    pub flush: u64,
    /// What was committed with it.
    pub seal: Seal,
    /// The last flush up to which all rows are written, as its owner knew it with the last commit. More may be.
    /// [`SlotRow::UNMADE`] where the rows have to be rebuilt.
    pub applied: u64,
}

impl SlotRow {
    /// In the place of `applied`: rows are being rebuilt, or have to be. Nobody serves the slot until they are.
    pub const UNMADE: u64 = u64::MAX;
}

/// The sign of incarnation of a node. Written plainly, stamped with `heartbeat`, so that no clock decides which beat is the newest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeRow {
    /// Who.
    pub node: NodeId,
    /// Where devices reach it.
    pub address: String,
    /// Rises with each write.
    pub heartbeat: u64,
    /// How long this node goes without a heartbeat before it stops serving.
    pub lease: Duration,
    /// When its process started, for people, in us since 1970-01-01 UTC.
    pub started_us: i64,
    /// Whether it gives its slots away and takes none.
    pub is_leaving: bool,
    /// How long the oldest event that it has journalled has waited for its rows, for people.
    pub lag: Duration,
    /// How often slots have come to it or left it. Others look at the slots when it rises, and seldom else.
    pub moves: u64,
}

/// What a conditional write does to a slot's row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// Takes the slot: `owner`, `address`, and the epoch after the one asked for.
    Acquire {
        /// The new owner.
        owner: NodeId,
        /// Where devices reach it.
        address: String,
    },
    /// Commits the flush after the one asked for.
    Commit {
        /// Number of the flush before.
        after: u64,
        /// The flush up to which all rows are written.
        applied: u64,
        /// What is committed.
        seal: Seal,
    },
    /// Gives the slot up: no owner, and the epoch after the one asked for.
    Release {
        /// The flush up to which all rows are written.
        applied: u64,
    },
}

/// One conditional write: `change` happens only if the row still has `epoch` (and, for a commit, the flush before). To be
/// sent at a serial consistency, and never again by the driver on its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conditional {
    /// The slot.
    pub slot: u32,
    /// The epoch that the row must have.
    pub epoch: u64,
    /// What is done to the row.
    pub change: Change,
}

impl Conditional {
    /// The row after the write; `None` where the condition does not hold. This is what the statement means: stores in
    /// memory use it as it stands.
    pub fn applied_to(&self, row: &SlotRow) -> Option<SlotRow> {
        if row.slot != self.slot || row.epoch != self.epoch {
            return None;
        }
        let mut after = row.clone();
        match &self.change {
            Change::Acquire { owner, address } => {
                after.epoch = self.epoch.checked_add(1)?;
                after.owner = Some(*owner);
                after.address.clone_from(address);
            }
            Change::Commit {
                after: before,
                applied,
                seal,
            } => {
                if row.flush != *before {
                    return None;
                }
                after.flush = before.checked_add(1)?;
                after.applied = *applied;
                after.seal = *seal;
            }
            Change::Release { applied } => {
                after.epoch = self.epoch.checked_add(1)?;
                after.applied = *applied;
                after.owner = None;
                after.address.clear();
            }
        }
        Some(after)
    }
}
