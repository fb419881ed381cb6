//! The journal of an engine that will never run again: what it has and no commit has goes to the engines that are left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use thiserror::Error;
use till_storage::cluster::{ChainId, NodeId, SharedStore, slot_of};
use till_storage::disk::StdDisk;
use till_storage::journal::Cut;
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

use crate::cluster::backlog::{HandoffError, committed_lsn_file, hand_off};
use crate::cluster::chain::{ChainError, chain_of};
use crate::cluster::identity::new_incarnation;
use crate::lifecycle::offline::{Look, OfflineError};

/// What was handed off.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submitted {
    /// As whose it waits in the store.
    pub from: NodeId,
    /// Records; each may hold many events, and each counts once however often it is submitted.
    pub records: u64,
    /// Pieces that they are in.
    pub chunks: u64,
    /// Slots whose owners take them in.
    pub slots: BTreeSet<u32>,
    /// Position in the journal up to which its engine had seen everything committed.
    pub committed: u64,
    /// Where the journal ends.
    pub end: u64,
    /// A group that a crash tore, and that nobody was told about: it is left out.
    pub torn: Option<Cut>,
}

/// Why a journal was not submitted. What was handed off before stays so; the same call may be made again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// There is no journal.
    #[error("{} is neither a data folder nor the journal in one", .0.display())]
    NoJournal(PathBuf),
    /// An engine has the folder open, or the journal is damaged.
    #[error(transparent)]
    Folder(#[from] OfflineError),
    /// The folder does not say whose chain it is of.
    #[error(
        "{} does not say which chain its journal is of: it has no file `chain`. Give the whole data folder, or put the file `chain` of another engine of the same chain there",
        .0.display()
    )]
    Unnamed(PathBuf),
    /// That file cannot be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The keyspace holds another chain, or none yet.
    #[error("{} is of another chain than this keyspace", .0.display())]
    Other(PathBuf),
    /// Journal or store failed on the way.
    #[error(transparent)]
    Handoff(#[from] HandoffError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

/// Hands everything over that a journal has above what its engine saw committed. `dir` is the data folder, or the journal
/// in it; nothing in either is changed but the lock.
///
/// The chunks are put under an id of their own. Under that of the dead engine they could meet pieces that it had numbered
/// itself; under one and the same for every repetition, a chunk that is written again could meet its own late deletion.
///
/// # Errors
/// [`SubmitError`]; an engine that has the folder open is one.
pub fn submit(store: &dyn SharedStore, dir: &Path) -> Result<Submitted, SubmitError> {
    let dir = data_dir(dir)?;
    let look = Look::open(&dir)?;
    same_chain(store, &dir)?;
    let journal = look.journal();
    let committed = committed_lsn_file(&dir);
    let from = new_incarnation().map_err(|_| SubmitError::Random)?;
    let mut slots = BTreeSet::new();
    let mut records = journal
        .records(committed.max(journal.start()))
        // The mark is the LSN of the last record that is committed.
        .filter(|item| !matches!(item, Ok((lsn, _)) if committed.get() > 0 && *lsn <= committed))
        .inspect(|item| {
            let record = item.as_ref().ok().map(|(_, record)| record);
            let of = record.and_then(|record| store_of(&record.head));
            slots.extend(of.map(|of| slot_of(of, store.slots())));
        });
    let done = hand_off(store, from, 1, &mut records)?;
    Ok(Submitted {
        from,
        records: done.records,
        chunks: done.chunks,
        slots,
        committed: committed.get(),
        end: journal.end().get(),
        torn: look.torn().cloned(),
    })
}

// The folder that holds the lock and the mark.
fn data_dir(dir: &Path) -> Result<PathBuf, SubmitError> {
    let none = || SubmitError::NoJournal(dir.to_path_buf());
    let whole = std::path::absolute(dir).map_err(|_| none())?;
    if whole.join("journal").is_dir() {
        return Ok(whole);
    }
    let is_journal = whole.is_dir() && whole.file_name().is_some_and(|name| name == "journal");
    let parent = whole.parent().filter(|_| is_journal);
    parent.map(Path::to_path_buf).ok_or_else(none)
}

fn same_chain(store: &dyn SharedStore, dir: &Path) -> Result<(), SubmitError> {
    let Some(of_folder) = chain_of(&StdDisk, dir)? else {
        return Err(SubmitError::Unnamed(dir.to_path_buf()));
    };
    let key = store.known_chain_key()?;
    match key.map(|key| ChainId::of(&key)) {
        Some(of_store) if of_store == of_folder => Ok(()),
        Some(_) | None => Err(SubmitError::Other(dir.to_path_buf())),
    }
}
