//! A chain of an earlier release, copied into a new keyspace.
//!
//! Up to schema version 3 a record lay in each hour that its events touch, and the log of a flush was deleted. Since version 4 the
//! log is kept, by slot and flush. So all records are read in the order of their positions and committed anew, some at a time; from
//! that log every fact and row is made ([`rebuild`](till_storage::cluster::rebuild)). The earlier keyspace is only read.

mod earlier;

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;
use till_core::Record;
use till_protocol::id::StoreId;
use till_storage::cluster::{
    Change, Commit, NodeId, SharedStore, SlotRow, Unfit, change_slot, slot_of,
};
use till_storage::views::StoreError;

use crate::schema::{self, SchemaError};
use crate::session::Cql;
use crate::store::ScyllaStore;

pub use earlier::Earlier;
use earlier::{EarlierPlace, Mark};

/// Records of one commit: some megabytes where their frames are large. Never to be changed: a copy that was cut short goes on where it
/// stood, by counting.
const RECORDS: usize = 64;
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
        "{waiting} chunks of journals wait in keyspace {keyspace}: let its engines take them in, release what is stranded \
         (`tillstream quarantine list --stranded`), and stop them"
    )]
    Waiting {
        /// The keyspace.
        keyspace: String,
        /// How many.
        waiting: usize,
    },
    /// Engines have worked on the new keyspace.
    #[error("slot {slot} of the new keyspace is in use: copy into one that no engine has used")]
    InUse {
        /// The slot.
        slot: u32,
    },
    /// An engine was started on the new keyspace.
    #[error(
        "the new keyspace masks codes with a key of its own: copy into one that no engine has used"
    )]
    OtherKey,
    /// An engine has worked on the keyspace that is copied.
    #[error(
        "an engine has worked on keyspace {keyspace} while it was copied: stop it, and copy again into a keyspace that is new"
    )]
    Moved {
        /// The keyspace that is copied.
        keyspace: String,
    },
    /// The new keyspace is not as it should be.
    #[error(transparent)]
    Schema(#[from] SchemaError),
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

/// A chain on its way into an empty keyspace. Nobody else opens that before [`end`](Self::end).
#[derive(Debug)]
pub struct Migration {
    from: Earlier,
    to: Arc<ScyllaStore>,
    /// How far the slots of the earlier keyspace were when it began.
    began: Vec<Mark>,
}

impl Migration {
    /// Begins to copy, or goes on.
    ///
    /// # Errors
    /// [`MigrateError`] where one keyspace has the wrong number of slots, or engines have worked on the new one. Nothing has
    /// changed then.
    pub fn begin(from: Earlier, to: &Arc<Cql>) -> Result<Self, MigrateError> {
        let (slots, is_begun) = schema::copy_target(to, &from.keyspace())?;
        let began = from.may_go_to(slots)?;
        let store = ScyllaStore::with_slots(Arc::clone(to), slots)?;
        if !is_begun {
            if let Some(row) = store.all_slots()?.iter().find(|row| row.flush > 0) {
                return Err(MigrateError::InUse { slot: row.slot });
            }
            let (theirs, ours) = (from.chain_key()?, store.known_chain_key()?);
            if ours.is_some() && ours != theirs {
                return Err(MigrateError::OtherKey);
            }
            schema::begin_copy(to, &from.keyspace()).map_err(StoreError::from)?;
        }
        Ok(Self {
            from,
            to: Arc::new(store),
            began,
        })
    }

    /// The new keyspace.
    pub const fn store(&self) -> &Arc<ScyllaStore> {
        &self.to
    }

    /// Copies the records into the log of the new keyspace, with the key that masks codes, and all names. Every slot is then
    /// [unmade](SlotRow::UNMADE): rebuild next. Operators' constraints are not copied.
    ///
    /// # Errors
    /// [`MigrateError`].
    pub fn copy(&self, told: &mut dyn FnMut(u64, u64)) -> Result<Copied, MigrateError> {
        let (from, to) = (&self.from, self.to.as_ref());
        if let Some(key) = from.chain_key()? {
            to.chain_key(key)?;
        }
        for names in from.names()?.chunks(NAMES) {
            to.write_names(names)?;
        }
        let mut by_slot: BTreeMap<u32, Vec<StoreId>> = BTreeMap::new();
        for store in from.stores()? {
            let slot = slot_of(store, to.slots());
            by_slot.entry(slot).or_default().push(store);
        }
        let (mut copied, slots) = (
            Copied::default(),
            u64::try_from(by_slot.len()).unwrap_or(u64::MAX),
        );
        for (done, (slot, stores)) in (1..).zip(by_slot) {
            copied.records += Copy { from, to, slot }.run(&stores)?;
            copied.slots += 1;
            told(done, slots);
        }
        if from.may_go_to(to.slots())? != self.began {
            return Err(MigrateError::Moved {
                keyspace: from.keyspace(),
            });
        }
        Ok(copied)
    }

    /// All rows are rebuilt: engines may come.
    ///
    /// # Errors
    /// [`MigrateError::Store`].
    pub fn end(self) -> Result<(), MigrateError> {
        schema::end_copy(self.to.tables().cql()).map_err(StoreError::from)?;
        Ok(())
    }
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
        let pieces = places.chunks(RECORDS);
        let done = usize::try_from(row.flush).unwrap_or(usize::MAX);
        let copied = u64::try_from(places.len()).unwrap_or(u64::MAX);
        if row.applied == row.flush && done == pieces.len() {
            // A rebuild has come by.
            return Ok(copied);
        }
        row = self.change(
            &row,
            Change::Acquire {
                owner: COPIER,
                address: "migrate".to_owned(),
            },
        )?;
        for piece in pieces.skip(done) {
            row = self.commit(&row, piece)?;
        }
        self.change(
            &row,
            Change::Release {
                applied: SlotRow::UNMADE,
            },
        )?;
        Ok(copied)
    }

    fn commit(&self, row: &SlotRow, piece: &[EarlierPlace]) -> Result<SlotRow, MigrateError> {
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

    fn change(&self, row: &SlotRow, change: Change) -> Result<SlotRow, MigrateError> {
        let is = change_slot(self.to, row, change)?;
        is.ok_or(MigrateError::InUse { slot: self.slot })
    }
}
