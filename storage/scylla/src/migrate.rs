//! A chain of an earlier release, copied into a new keyspace.
//!
//! Up to schema version 3 a record lay in each hour that its events touch, and the log of a flush was deleted. Since version 4 the
//! log is kept, by slot and flush. So all records are read in the order of their positions and committed anew, some at a time; from
//! that log every fact and row is made ([`rebuild`](till_storage::cluster::rebuild)). The earlier keyspace is only read.

mod earlier;

use std::collections::BTreeMap;

use thiserror::Error;
use till_core::Record;
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Change, Commit, Conditional, Decided, NodeId, SharedStore, SlotRow, Unfit, slot_of,
};
use till_storage::views::StoreError;

pub use earlier::Earlier;
use earlier::Place;

/// Records of one commit: some megabytes at most where payloads are as usual. Never to be changed: a copy that was cut short goes
/// on where it stood, by counting.
const RECORDS: usize = 1_024;
/// Whoever copies. Two that do so at once write the same, so that they need no names of their own.
const COPIER: NodeId = NodeId::from_bytes([0xff; 16]);
/// Names that are written at once.
const NAMES: usize = 5_000;

/// Why a chain cannot be copied.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The keyspace that is to be copied has another schema.
    #[error("keyspace {keyspace} has schema version {found}; versions 1 to 3 are copied")]
    Version {
        /// The keyspace.
        keyspace: String,
        /// Version that it has; 0 for none.
        found: i32,
    },
    /// The two have not the same number of slots.
    #[error(
        "keyspace {keyspace} has {from} slots, the new one {to}: apply the new schema with `--slots {from}`"
    )]
    Slots {
        /// The keyspace that is to be copied.
        keyspace: String,
        /// Its slots.
        from: u32,
        /// Slots of the new one.
        to: u32,
    },
    /// An engine has not given up its slots.
    #[error(
        "the engine at {address} has not given up slot {slot}: stop every engine of the earlier release; start one that was killed \
         once more, and stop it"
    )]
    Owned {
        /// Where devices reach it.
        address: String,
        /// The slot.
        slot: u32,
    },
    /// Records of journals are on their way to owners.
    #[error(
        "{waiting} chunks of journals wait in keyspace {keyspace}: let its engines take them in, and stop them"
    )]
    Waiting {
        /// The keyspace.
        keyspace: String,
        /// How many.
        waiting: usize,
    },
    /// Engines have worked on the new keyspace.
    #[error("slot {slot} of the new keyspace is in use: copy into one that is new")]
    InUse {
        /// The slot.
        slot: u32,
    },
    /// A record fits no log.
    #[error("a record of slot {slot} cannot be copied: {error}")]
    Unfit {
        /// The slot.
        slot: u32,
        /// Why.
        error: Unfit,
    },
    /// A store did not answer, or what it has cannot be read.
    #[error("{0}; run the same command again: it goes on where it stopped")]
    Store(#[from] StoreError),
}

/// Records that were copied, and slots that have some.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Copied {
    /// Slots with records.
    pub slots: u32,
    /// Records in the log of the new keyspace.
    pub records: u64,
}

/// Copies the records of a chain into the log of an empty keyspace, with the key that it masks card numbers with, and all names.
/// Every slot is then [unmade](SlotRow::UNMADE): rebuild next. Operators' constraints are not copied.
///
/// # Errors
/// [`MigrateError`].
pub fn migrate(
    from: &Earlier,
    to: &dyn SharedStore,
    told: &mut dyn FnMut(usize, usize),
) -> Result<Copied, MigrateError> {
    from.may_go_to(to.slots())?;
    if let Some(key) = from.chain_key()? {
        to.chain_key(key)?;
    }
    for names in from.names()?.chunks(NAMES) {
        to.write_names(names)?;
    }
    let mut by_slot: BTreeMap<u32, Vec<StoreId>> = BTreeMap::new();
    for store in from.stores()? {
        by_slot
            .entry(slot_of(store, to.slots()))
            .or_default()
            .push(store);
    }
    let (mut copied, slots) = (Copied::default(), by_slot.len());
    for (done, (slot, stores)) in (1..).zip(by_slot) {
        copied.records += Copy { from, to, slot }.run(&stores)?;
        copied.slots += 1;
        told(done, slots);
    }
    Ok(copied)
}

/// The copy of one slot.
struct Copy<'a> {
    from: &'a Earlier,
    to: &'a dyn SharedStore,
    slot: u32,
}

impl Copy<'_> {
    fn run(&self, stores: &[StoreId]) -> Result<u64, MigrateError> {
        let mut places = Vec::new();
        for store in stores {
            places.extend(self.from.places(*store)?);
        }
        places.sort_unstable();
        // A record lies in each hour of its events.
        places.dedup_by_key(|place| place.position);
        if places.is_empty() {
            return Ok(0);
        }
        let mut row = self.to.slot(self.slot)?;
        if row.applied != 0 && row.applied != SlotRow::UNMADE {
            return Err(MigrateError::InUse { slot: self.slot });
        }
        row = self.change(
            &row,
            Change::Acquire {
                owner: COPIER,
                address: "migrate".to_owned(),
            },
        )?;
        let pieces = places.chunks(RECORDS);
        let done = usize::try_from(row.flush).unwrap_or(usize::MAX);
        for piece in pieces.skip(done) {
            row = self.commit(&row, piece)?;
        }
        self.change(
            &row,
            Change::Release {
                applied: SlotRow::UNMADE,
            },
        )?;
        Ok(u64::try_from(places.len()).unwrap_or(u64::MAX))
    }

    fn commit(&self, row: &SlotRow, piece: &[Place]) -> Result<SlotRow, MigrateError> {
        let records: Vec<Record> = self.from.records(piece)?;
        let commit = Commit {
            slot: self.slot,
            flush: row.flush + 1,
            epoch: row.epoch,
            records,
            ..Commit::default()
        };
        let slot = self.slot;
        let log = commit.to_log();
        let log = log.map_err(|error| MigrateError::Unfit { slot, error })?;
        let before = (row.flush > 0).then_some(&row.seal);
        self.to.write_log((slot, commit.flush), &log, before)?;
        let change = Change::Commit {
            after: row.flush,
            applied: SlotRow::UNMADE,
            seal: log.seal,
        };
        self.change(row, change)
    }

    // Whatever became of it, the row tells.
    fn change(&self, row: &SlotRow, change: Change) -> Result<SlotRow, MigrateError> {
        let wanted = Conditional {
            slot: self.slot,
            epoch: row.epoch,
            change,
        };
        let decided = self.to.decide(&wanted);
        let is = self.to.slot(self.slot)?;
        match (wanted.applied_to(row).as_ref() == Some(&is), decided) {
            (true, _) => Ok(is),
            (false, Err(error)) => Err(error.into()),
            (false, Ok(Decided::Applied | Decided::Refused(_))) => {
                Err(MigrateError::InUse { slot: self.slot })
            }
        }
    }
}
