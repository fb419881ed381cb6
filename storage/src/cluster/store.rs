//! What nodes share, as a driver sees it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;
use till_core::{ReadSet, Record, Space};

use super::{
    Change, Commit, Conditional, Constraint, Constraints, DueDay, Found, FoundLog, Log, NodeId,
    NodeRow, Seal, SlotRow,
};
use crate::query::FactReader;
use crate::views::{StoreError, Views};

/// What became of a conditional write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decided {
    /// It happened.
    Applied,
    /// It did not, as the condition did not hold. The row as it is, where the store says so.
    Refused(Option<SlotRow>),
}

/// A committed flush, as its log was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlushLog {
    /// Its number.
    pub flush: u64,
    /// What was committed.
    pub seal: Seal,
    /// Its log.
    pub log: FoundLog,
}

/// Records of a node's journal that no commit holds, and that wait for whoever owns their slot now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Handoff {
    /// The slot.
    pub slot: u32,
    /// Whose journal they are from.
    pub from: NodeId,
    /// Rises with each of one node: they are taken in in this order.
    pub number: u64,
    /// The records, in the order of that journal.
    pub records: Vec<Record>,
}

/// A record that waits for the owner of its slot: the chunk that it is in, and its place there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct InboxId {
    /// The slot.
    pub slot: u32,
    /// Whose journal it is from.
    pub from: NodeId,
    /// The number of the chunk.
    pub number: u64,
    /// Its place among the records of the chunk.
    pub index: u32,
}

impl fmt::Display for InboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slot,
            from,
            number,
            index,
        } = self;
        write!(f, "{slot}.{from}.{number}.{index}")
    }
}

impl FromStr for InboxId {
    type Err = UnknownId;

    fn from_str(text: &str) -> Result<Self, UnknownId> {
        let unknown = || UnknownId(text.to_owned());
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or_else(unknown);
        let id = Self {
            slot: part()?.parse().map_err(|_| unknown())?,
            from: part()?.parse().map_err(|_| unknown())?,
            number: part()?.parse().map_err(|_| unknown())?,
            index: part()?.parse().map_err(|_| unknown())?,
        };
        match parts.next() {
            None => Ok(id),
            Some(_) => Err(unknown()),
        }
    }
}

/// A text that names no record.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` names no record: slot, engine, piece and place belong there, as in `17.0a…1f.1.0`")]
pub struct UnknownId(String);

/// The rows and facts of a chain in a store that several engines share, and the slots that say who may change them.
///
/// Calls block. An error of a plain write leaves open whether it happened; all of them may be made again. An error of
/// [`decide`](Self::decide) leaves open what the row is: read it before anything else.
pub trait SharedStore: Send + Sync {
    /// Number of slots.
    fn slots(&self) -> u32;

    /// The rows, of all slots.
    fn views(&self) -> Arc<dyn Views>;

    /// The facts, of all slots.
    fn facts(&self) -> Arc<dyn FactReader>;

    /// The key that codes which look like card numbers are replaced with, the same for all nodes: the one that is there, or
    /// else the one proposed.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn chain_key(&self, proposed: [u8; 32]) -> Result<[u8; 32], StoreError>;

    /// That key, if any engine has ever worked on this store.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn known_chain_key(&self) -> Result<Option<[u8; 32]>, StoreError>;

    /// The rows of all slots. May be a little old.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer, as for all methods.
    fn all_slots(&self) -> Result<Vec<SlotRow>, StoreError>;

    /// The row of a slot after everything that was decided of it.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn slot(&self, slot: u32) -> Result<SlotRow, StoreError>;

    /// Changes a slot's row, if its condition holds.
    ///
    /// # Errors
    /// [`StoreError`]: whether it happened is unknown.
    fn decide(&self, constraint: &Conditional) -> Result<Decided, StoreError>;

    /// What operators want. May be a little old.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn constraints(&self) -> Result<Constraints, StoreError>;

    /// Changes what operators want. The same once more changes nothing.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn constraint(&self, constraint: &Constraint) -> Result<(), StoreError>;

    /// The heartbeats of all nodes. May be a little old.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;

    /// Writes a heartbeat.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn heartbeat(&self, row: &NodeRow) -> Result<(), StoreError>;

    /// Writes the log of a flush, with the seal of the flush before it, if there is one.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn write_log(&self, of: (u32, u64), log: &Log, before: Option<&Seal>)
    -> Result<(), StoreError>;

    /// The logs of flushes `first` to `last` of a slot whose row is `row`, as far as they are there. A flush without a seal is
    /// left out. All of them are held in memory.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn logs(&self, row: &SlotRow, flushes: (u64, u64)) -> Result<Vec<FlushLog>, StoreError>;

    /// Writes the facts and rows of committed flushes of one slot that follow each other. Once more changes nothing, nor do
    /// older flushes. Days of which hours were written are due from then on.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn project(&self, commits: &[Arc<Commit>]) -> Result<(), StoreError>;

    /// The days of a slot's stores that are due, in order.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn days_due(&self, slot: u32) -> Result<Vec<DueDay>, StoreError>;

    /// Makes the sums of a day from those of its hours; then it is due no more, unless a flush behind `applied` has written
    /// hours of it. All rows of the slot were written up to `applied` before this is called.
    ///
    /// It may come late, from an engine that has lost the slot, and twice: all that it writes and deletes has the stamp
    /// `applied`. Sums that somebody made of more have a higher stamp and stay, and so does a day that is due for more. Sums with
    /// the same stamp have the same flushes in them, but for one that is on its way: that flush makes the day due again, and
    /// the sums that are made then have a higher stamp.
    ///
    /// # Errors
    /// See [`Self::all_slots`]. The day stays due then.
    fn sum_day(&self, slot: u32, due: &DueDay, applied: u64) -> Result<(), StoreError>;

    /// Deletes what the logs of flushes `first` to `last` have of rows: these are written.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn forget_rows(&self, slot: u32, flushes: (u64, u64)) -> Result<(), StoreError>;

    /// Writes names of ids. They belong to no slot: they are written before the commits that use them, and two names of one
    /// id are both kept.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn write_names(&self, names: &[(Space, u64, String)]) -> Result<(), StoreError>;

    /// Puts records where the owner of their slot finds them. The same once more changes nothing.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn hand_off(&self, handoff: &Handoff) -> Result<(), StoreError>;

    /// What waits for owners: slot, node and number, in the order in which it is taken in.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn waiting(&self) -> Result<Vec<(u32, NodeId, u64)>, StoreError>;

    /// Records that wait; `None` when they were taken in meanwhile.
    ///
    /// # Errors
    /// See [`Self::all_slots`]. [`StoreError::Damaged`] when they are not what was put there.
    fn handed_off(
        &self,
        slot: u32,
        from: NodeId,
        number: u64,
    ) -> Result<Option<Handoff>, StoreError>;

    /// Takes away records that are committed.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn taken_in(&self, slot: u32, from: NodeId, number: u64) -> Result<(), StoreError>;

    /// The epoch under which a stranded record is released, for good: the one that is there, or else the one proposed.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn release(&self, record: &InboxId, proposed: Option<u32>) -> Result<Option<u32>, StoreError>;

    /// Rows, all asked for at once: about as long as a few of them take. Of each it says whether it is there.
    ///
    /// # Errors
    /// See [`Self::all_slots`].
    fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError>;
}

/// Changes a slot's row from `row`, and reads what came of it: the row after the change, or `None` where it did not happen. An error
/// leaves it open.
///
/// For commands, which wait: an engine's [`SlotWriter`](super::SlotWriter) does the same in steps.
///
/// # Errors
/// See [`SharedStore::all_slots`].
pub fn change_slot(
    store: &dyn SharedStore,
    row: &SlotRow,
    change: Change,
) -> Result<Option<SlotRow>, StoreError> {
    let wanted = Conditional {
        slot: row.slot,
        epoch: row.epoch,
        change,
    };
    // An error leaves open whether it happened: the row tells.
    let decided = store.decide(&wanted);
    let is = store.slot(row.slot)?;
    match wanted.applied_to(row).as_ref() == Some(&is) {
        true => Ok(Some(is)),
        false => decided.map(|_| None),
    }
}
