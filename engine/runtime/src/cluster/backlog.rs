//! Records that are in a journal and in no commit of the node that wrote it: put into the inbox of whoever has their slot now.
//!
//! Where it is not known whether a record was committed, it is handed over: what is known and equal is dropped there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::Receiver;
use thiserror::Error;
use till_core::{Record, RecordHead, Verdict};
use till_storage::cluster::{Handover, NodeId, SharedStore, slot_of};
use till_storage::disk::Disk;
use till_storage::journal::{Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

use super::Cluster;
use super::inbox::{Inbox, Taken};
use crate::engine::Engine;
use crate::note;

/// Bytes of records that are handed over in one piece.
const PIECE_BYTES: usize = 1 << 20;
/// Bytes of records that wait for their pieces to be full, of all slots. There may be thousands of slots; beyond this, pieces are
/// handed over as they are.
const HELD_BYTES: usize = 32 << 20;
/// Time between two looks for what waits.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// Time that a commit of what was taken in gets; it is taken in again if that is over.
pub(super) const COMMITTED_WITHIN: Duration = Duration::from_secs(30);
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

/// What was handed over.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HandedOver {
    /// Records.
    pub records: u64,
    /// Pieces that they are in.
    pub pieces: u64,
}

/// Hands records of a journal over to the owners of their slots, in the order of the journal.
///
/// The pieces are numbered from `first` on. One life of a node gives no number to two contents: the same records once more,
/// under the same numbers, change nothing.
///
/// # Errors
/// [`HandoverError`]; what was handed over before stays so, and the same call may be made again.
pub fn hand_over(
    store: &dyn SharedStore,
    from: NodeId,
    first: u64,
    records: &mut dyn Iterator<Item = Result<(Lsn, Record), ReadError>>,
) -> Result<HandedOver, HandoverError> {
    let mut pieces = Pieces::new();
    let mut done = HandedOver::default();
    let mut numbered = || {
        let number = first.saturating_add(done.pieces);
        done.pieces += 1;
        number
    };
    let (mut records_done, mut held) = (0, 0);
    for item in records {
        let (_, record) = item?;
        let Some(of) = store_of(&record.head) else {
            continue;
        };
        let slot = slot_of(of, store.slots());
        records_done += 1;
        let (bytes, piece) = pieces.entry(slot).or_default();
        let record = alone(record);
        let size = bytes_of(&record);
        *bytes += size;
        held += size;
        piece.push(record);
        if *bytes >= PIECE_BYTES {
            held -= std::mem::take(bytes);
            let records = std::mem::take(piece);
            put(store, (slot, from, numbered()), records)?;
        }
        if held >= HELD_BYTES {
            held = 0;
            for (slot, records) in filled(std::mem::take(&mut pieces)) {
                put(store, (slot, from, numbered()), records)?;
            }
        }
    }
    for (slot, records) in filled(pieces) {
        put(store, (slot, from, numbered()), records)?;
    }
    done.records = records_done;
    Ok(done)
}

// A payload is a slice of what was read of the journal at a time, and would hold all of it.
fn alone(record: Record) -> Record {
    Record {
        payload: Bytes::copy_from_slice(&record.payload),
        ..record
    }
}

fn bytes_of(record: &Record) -> usize {
    let verdicts = size_of::<Verdict>() * record.verdicts.len();
    RecordHead::BYTES + record.payload.len() + verdicts
}

/// Records that wait for their pieces to be full, with their bytes, by slot.
type Pieces = BTreeMap<u32, (usize, Vec<Record>)>;

fn filled(pieces: Pieces) -> impl Iterator<Item = (u32, Vec<Record>)> {
    let all = pieces
        .into_iter()
        .map(|(slot, (_, records))| (slot, records));
    all.filter(|(_, records)| !records.is_empty())
}

fn put(
    store: &dyn SharedStore,
    (slot, from, number): (u32, NodeId, u64),
    records: Vec<Record>,
) -> Result<(), StoreError> {
    store.hand_over(&Handover {
        slot,
        from,
        number,
        records,
    })
}

/// Where the journal of a data folder is committed up to; its start where nothing says so.
pub fn committed_mark(data_dir: &Path) -> Lsn {
    marked(fs::read_to_string(data_dir.join(MARK)).ok())
}

fn marked(text: Option<String>) -> Lsn {
    let text = text.unwrap_or_default();
    Lsn::new(text.trim().parse().unwrap_or(0))
}

/// Remembers where the journal is committed up to. Lost, it costs that more is handed over than need be.
pub(super) struct Mark {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    written: u64,
}

impl Mark {
    pub(super) fn of(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        Self {
            disk,
            path: data_dir.join(MARK),
            written: 0,
        }
    }

    /// What the last life has written.
    pub(super) fn read(&self) -> Lsn {
        marked(note::read(self.disk.as_ref(), &self.path).ok().flatten())
    }

    pub(super) fn write(&mut self, upto: u64) {
        if upto <= self.written {
            return;
        }
        match note::write(self.disk.as_ref(), &self.path, &format!("{upto}\n")) {
            Ok(()) => self.written = upto,
            Err(error) => tracing::debug!(%error, "the mark of what is committed was not written"),
        }
    }
}

impl Cluster {
    /// Hands over what the journal had at the start of this life and no commit has, then takes in what others hand over,
    /// until told to stop.
    pub(super) fn tend(&self, engine: &Arc<Engine>, tender: &mut Tender, stopped: &Receiver<()>) {
        while stopped
            .recv_timeout(LOOK)
            .is_err_and(|error| error.is_timeout())
        {
            if let Some(taken) = self.tend_turn(engine, tender) {
                let flushed = engine.flush.flush(COMMITTED_WITHIN);
                self.taken_in(taken, flushed.map(|_| ()));
            }
        }
        if tender.left.is_none() {
            self.write_mark(&mut tender.mark);
        } else {
            self.parting.keeps.store(true, Ordering::Release);
        }
    }

    /// One look: what was taken in, where that is anything. It is then committed, with
    /// [`flush`](crate::flush::FlushDoor::flush), before [`Self::taken_in`].
    pub(super) fn tend_turn(&self, engine: &Engine, tender: &mut Tender) -> Option<Taken> {
        #[cfg(feature = "planted")]
        if till_core::planted::is("drop-backlog") {
            tender.left = None;
        }
        if let Some((range, number)) = tender.left {
            match self.submit(engine, range, number, &|_, _, _| true) {
                Ok(0) => tender.left = None,
                Ok(records) => {
                    tracing::info!(
                        records,
                        "what the journal had and no commit has was handed over"
                    );
                    tender.left = None;
                }
                Err(error) => {
                    tracing::debug!(%error, "not handed over yet");
                    return None;
                }
            }
        }
        self.write_mark(&mut tender.mark);
        match self.take_in(engine, &mut tender.inbox) {
            Ok(taken) => Some(taken).filter(|taken| !taken.is_empty()),
            Err(error) => {
                tracing::debug!(%error, "what waits for this node was not taken in yet");
                None
            }
        }
    }

    fn write_mark(&self, mark: &mut Mark) {
        let upto = self.committed_upto();
        #[cfg(feature = "planted")]
        let upto = if till_core::planted::is("mark-ahead") {
            u64::MAX
        } else {
            upto
        };
        mark.write(upto);
        self.marked.store(mark.written, Ordering::Release);
    }

    /// Place up to which the next start finds everything committed or handed over.
    pub(crate) fn marked(&self) -> Lsn {
        Lsn::new(self.marked.load(Ordering::Acquire))
    }

    /// Hands over the records of a stretch of the journal that pass: by slot, store and place. Its pieces are numbered from
    /// `number` on, so that the same once more is the same to those who take it in.
    pub(super) fn submit(
        &self,
        engine: &Engine,
        (from, to): (Lsn, Lsn),
        number: u64,
        wanted: &dyn Fn(u32, &Record, u64) -> bool,
    ) -> Result<u64, HandoverError> {
        if from >= to {
            return Ok(0);
        }
        let slots = self.store.slots();
        let passes = |item: &Result<(Lsn, Record), ReadError>| match item {
            Ok((lsn, record)) => store_of(&record.head)
                .is_some_and(|store| wanted(slot_of(store, slots), record, lsn.get())),
            Err(_) => true,
        };
        let mut records = engine.journal.records_between(from, to).filter(passes);
        let done = hand_over(self.store.as_ref(), self.me, number, &mut records);
        self.note_handover(engine, number, done.as_ref().err());
        Ok(done?.records)
    }
}

/// What looks after records that are in no commit.
pub(crate) struct Tender {
    /// What the journal had at the start and is not handed over yet, and the number of its first piece.
    left: Option<((Lsn, Lsn), u64)>,
    mark: Mark,
    inbox: Inbox,
}

impl Tender {
    pub(super) fn new(cluster: &Cluster, range: (Lsn, Lsn), mark: Mark) -> Self {
        Self {
            left: Some((range, cluster.numbers())),
            mark,
            inbox: Inbox::default(),
        }
    }
}

#[cfg(test)]
mod tests;
