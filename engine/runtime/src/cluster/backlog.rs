//! Records that are in a journal and in no commit of the node that wrote it: handed over to whoever has their slot now, and
//! taken in there.
//!
//! Where it is not known whether a record was committed, it is handed over: what is known already falls out by its number.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use thiserror::Error;
use till_core::Record;
use till_protocol::id::StoreId;
use till_storage::cluster::{Handover, NodeId, SharedStore, slot_of};
use till_storage::journal::{Journal, Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

use super::Cluster;
use crate::engine::Engine;
use crate::shard_actor::adopt;

/// Bytes of payload that are handed over in one piece.
const PIECE_BYTES: usize = 1 << 20;
/// Time between two looks for what waits.
const LOOK: Duration = Duration::from_millis(500);
/// The file that says up to where a journal is committed.
const MARK: &str = "committed";

/// Why records were not handed over.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The shared store does not take them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Hands records of a journal over to the owners of their slots, in the order of the journal. Gives how many.
///
/// `numbers` rises with each piece, and never begins again in one life of a node.
///
/// # Errors
/// [`HandoverError`]; what was handed over before stays so, and the same call may be made again.
pub fn hand_over(
    store: &dyn SharedStore,
    from: NodeId,
    numbers: &mut dyn FnMut() -> u64,
    records: &mut dyn Iterator<Item = Result<(Lsn, Record), ReadError>>,
) -> Result<u64, HandoverError> {
    let mut pieces: BTreeMap<u32, (usize, Vec<Record>)> = BTreeMap::new();
    let mut count = 0;
    for item in records {
        let (_, record) = item?;
        let Some(of) = store_of(&record.head) else {
            continue;
        };
        let slot = slot_of(of, store.slots());
        count += 1;
        let (bytes, piece) = pieces.entry(slot).or_default();
        *bytes += record.payload.len();
        piece.push(record);
        if *bytes >= PIECE_BYTES {
            *bytes = 0;
            let records = std::mem::take(piece);
            put(store, (slot, from, numbers()), records)?;
        }
    }
    for (slot, (_, records)) in pieces {
        put(store, (slot, from, numbers()), records)?;
    }
    Ok(count)
}

fn put(
    store: &dyn SharedStore,
    (slot, from, number): (u32, NodeId, u64),
    records: Vec<Record>,
) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    store.hand_over(&Handover {
        slot,
        from,
        number,
        records,
    })
}

/// Where the journal of a data folder is committed up to; its start where nothing says so.
pub fn committed_mark(data_dir: &Path) -> Lsn {
    let text = fs::read_to_string(data_dir.join(MARK)).unwrap_or_default();
    Lsn::new(text.trim().parse().unwrap_or(0))
}

/// Remembers where the journal is committed up to. Lost, it costs that more is handed over than need be.
pub(super) struct Mark {
    path: PathBuf,
    written: u64,
}

impl Mark {
    pub(super) fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join(MARK),
            written: 0,
        }
    }

    pub(super) fn write(&mut self, upto: u64) {
        if upto <= self.written {
            return;
        }
        let new = self.path.with_extension("new");
        let written =
            fs::write(&new, format!("{upto}\n")).and_then(|()| fs::rename(&new, &self.path));
        match written {
            Ok(()) => self.written = upto,
            Err(error) => tracing::debug!(%error, "the mark of what is committed was not written"),
        }
    }
}

impl Cluster {
    /// Hands over what the journal had at the start of this life and no commit has, then takes in what others hand over,
    /// until told to stop.
    pub(super) fn tend(&self, engine: &Arc<Engine>, range: (Lsn, Lsn), stopped: &Receiver<()>) {
        let mut left = Some(range);
        let mut mark = Mark::of(&engine.config.data_dir);
        while stopped
            .recv_timeout(LOOK)
            .is_err_and(|error| error.is_timeout())
        {
            if let Some((from, to)) = left {
                match self.submit(&engine.journal, (from, to), &|_, _, _| true) {
                    Ok(0) => left = None,
                    Ok(records) => {
                        tracing::info!(
                            records,
                            "what the journal had and no commit has was handed over"
                        );
                        left = None;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "not handed over yet");
                        continue;
                    }
                }
            }
            mark.write(self.committed_upto());
            if let Err(error) = self.take_in(engine) {
                tracing::debug!(%error, "what waits for this node was not taken in yet");
            }
        }
        if left.is_none() {
            mark.write(self.committed_upto());
        }
    }

    /// Hands over the records of a stretch of the journal that pass: by slot, store and place.
    pub(super) fn submit(
        &self,
        journal: &Journal,
        (from, to): (Lsn, Lsn),
        wanted: &dyn Fn(u32, StoreId, u64) -> bool,
    ) -> Result<u64, HandoverError> {
        if from >= to {
            return Ok(0);
        }
        let slots = self.store.slots();
        let within = |item: &Result<(Lsn, Record), ReadError>| match item {
            Ok((lsn, _)) => *lsn < to,
            Err(_) => true,
        };
        let passes = |item: &Result<(Lsn, Record), ReadError>| match item {
            Ok((lsn, record)) => store_of(&record.head)
                .is_some_and(|store| wanted(slot_of(store, slots), store, lsn.get())),
            Err(_) => true,
        };
        let mut records = journal.records(from).take_while(within).filter(passes);
        let mut numbers = || self.next_number();
        hand_over(self.store.as_ref(), self.me, &mut numbers, &mut records)
    }

    // Takes in what waits for slots that this node has.
    fn take_in(&self, engine: &Engine) -> Result<(), StoreError> {
        for (slot, from, number) in self.store.waiting()? {
            if !self.has(slot) {
                continue;
            }
            let Some(handover) = self.store.handed_over(slot, from, number)? else {
                continue;
            };
            let records = handover.records.len();
            match adopt(engine, handover.records) {
                Ok(()) => {}
                Err(cause) => {
                    tracing::warn!(slot, %from, number, cause, "records that were handed over wait");
                    continue;
                }
            }
            if let Err(error) = engine.flush.flush(Duration::from_secs(30)) {
                tracing::debug!(slot, %error, "records that were handed over are not committed yet");
                continue;
            }
            if self.has(slot) {
                self.store.taken_in(slot, from, number)?;
                tracing::info!(slot, %from, records, "took in records of another journal");
            }
        }
        Ok(())
    }
}
