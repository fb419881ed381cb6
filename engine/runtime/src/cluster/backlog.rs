//! Records that are in a journal and in no commit of the node that wrote it: put into the inbox of whoever has their slot now.
//!
//! Where it is not known whether a record was committed, it is handed off: what is known and equal is dropped there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, RecvTimeoutError, Select};
use thiserror::Error;
use till_core::{Record, RecordHead, Verdict};
use till_storage::cluster::{Handoff, NodeId, SharedStore, slot_of};
use till_storage::disk::Disk;
use till_storage::journal::{Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::StoreError;

use crate::cluster::inbox::{Inbox, ReplayedHandoff};
use crate::cluster::node::Cluster;
use crate::cluster::note;
use crate::lifecycle::engine::Engine;
use crate::planted;
use crate::publish::door::Wait;

/// Bytes of records that are handed off in one piece.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of records that wait for their pieces to be full, of all slots. There may be thousands of slots; beyond this, chunks are
/// handed off as they are.
const HELD_BYTES: usize = 32 << 20;
/// Time between two looks for what waits.
const LOOK: Duration = Duration::from_millis(500);
/// Time that a commit of what was replayed gets; it is replayed again if that is over.
const COMMITTED_WITHIN: Duration = Duration::from_secs(30);
/// The file that says up to where a journal is committed.
const COMMITTED_LSN_FILE: &str = "committed";

/// Why records were not handed off.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandoffError {
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The shared store does not take them.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was handed off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HandedOff {
    /// Records.
    pub records: u64,
    /// Pieces that they are in.
    pub chunks: u64,
}

/// Hands records of a journal over to the owners of their slots, in the order of the journal.
///
/// The chunks are numbered from `first` on. One incarnation of a node gives no number to two contents: the same records once more,
/// under the same numbers, change nothing.
///
/// # Errors
/// [`HandoffError`]; what was handed off before stays so, and the same call may be made again.
pub fn hand_off(
    store: &dyn SharedStore,
    from: NodeId,
    first: u64,
    records: &mut dyn Iterator<Item = Result<(Lsn, Record), ReadError>>,
) -> Result<HandedOff, HandoffError> {
    let mut chunks = Chunks::new();
    let mut done = HandedOff::default();
    let mut numbered = || {
        let number = first.saturating_add(done.chunks);
        done.chunks += 1;
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
        let (bytes, chunk) = chunks.entry(slot).or_default();
        let record = alone(record);
        let size = bytes_of(&record);
        *bytes += size;
        held += size;
        chunk.push(record);
        if *bytes >= CHUNK_BYTES {
            held -= std::mem::take(bytes);
            let records = std::mem::take(chunk);
            put(store, (slot, from, numbered()), records)?;
        }
        if held >= HELD_BYTES {
            held = 0;
            for (slot, records) in filled(std::mem::take(&mut chunks)) {
                put(store, (slot, from, numbered()), records)?;
            }
        }
    }
    for (slot, records) in filled(chunks) {
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
type Chunks = BTreeMap<u32, (usize, Vec<Record>)>;

fn filled(chunks: Chunks) -> impl Iterator<Item = (u32, Vec<Record>)> {
    let all = chunks
        .into_iter()
        .map(|(slot, (_, records))| (slot, records));
    all.filter(|(_, records)| !records.is_empty())
}

fn put(
    store: &dyn SharedStore,
    (slot, from, number): (u32, NodeId, u64),
    records: Vec<Record>,
) -> Result<(), StoreError> {
    store.hand_off(&Handoff {
        slot,
        from,
        number,
        records,
    })
}

/// Where the journal of a data folder is committed up to; its start where nothing says so.
pub fn committed_lsn_file(data_dir: &Path) -> Lsn {
    is_written(fs::read_to_string(data_dir.join(COMMITTED_LSN_FILE)).ok())
}

fn is_written(text: Option<String>) -> Lsn {
    let text = text.unwrap_or_default();
    Lsn::new(text.trim().parse().unwrap_or(0))
}

/// Remembers where the journal is committed up to. Lost, it costs that more is handed off than need be.
pub(super) struct CommittedLsnFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    written: u64,
}

impl CommittedLsnFile {
    pub(super) fn of(disk: Arc<dyn Disk>, data_dir: &Path) -> Self {
        Self {
            disk,
            path: data_dir.join(COMMITTED_LSN_FILE),
            written: 0,
        }
    }

    /// What the last life has written.
    pub(super) fn read(&self) -> Lsn {
        is_written(note::read(self.disk.as_ref(), &self.path).ok().flatten())
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
    fn write_committed_lsn(&self, committed_lsn: &mut CommittedLsnFile) {
        let upto = match planted::is("mark-ahead") {
            false => self.committed_upto(),
            true => u64::MAX,
        };
        committed_lsn.write(upto);
        self.is_written
            .store(committed_lsn.written, Ordering::Release);
    }

    /// LSN up to which the next start finds everything committed or handed off.
    pub(crate) fn is_written(&self) -> Lsn {
        Lsn::new(self.is_written.load(Ordering::Acquire))
    }

    /// Hands off the records of a range of LSNs that pass: by slot, store and place. Its chunks are numbered from
    /// `number` on, so that the same once more is the same to those who take it in.
    pub(super) fn submit(
        &self,
        engine: &Engine,
        (from, to): (Lsn, Lsn),
        number: u64,
        wanted: &dyn Fn(u32, &Record, u64) -> bool,
    ) -> Result<u64, HandoffError> {
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
        let done = hand_off(self.store.as_ref(), self.me, number, &mut records);
        self.note_handoff(engine, number, done.as_ref().err());
        Ok(done?.records)
    }
}

/// What a journal had at the start, and no commit may have.
pub(crate) struct Backlog {
    /// What is not handed off yet, and the number of its first chunk.
    left: Option<((Lsn, Lsn), u64)>,
    committed_lsn: CommittedLsnFile,
}

impl Backlog {
    pub(super) fn new(
        cluster: &Cluster,
        range: (Lsn, Lsn),
        committed_lsn: CommittedLsnFile,
    ) -> Self {
        let left = Some((range, cluster.numbers()));
        Self {
            left,
            committed_lsn,
        }
    }
}

/// Looks after records that are in no commit: hands off what the journal had at the start of this incarnation, then replays what
/// others hand off.
pub(crate) struct Tender {
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    backlog: Backlog,
    inbox: Inbox,
    /// What was replayed, the flush that commits it, and until when that is waited for.
    taken: Option<(ReplayedHandoff, Wait, Duration)>,
}

impl Tender {
    pub(super) fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>, backlog: Backlog) -> Self {
        Self {
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
            backlog,
            inbox: Inbox::default(),
            taken: None,
        }
    }

    /// Starts the thread. It ends when `stopped` is without its other end.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(super) fn start(mut self, stopped: Receiver<()>) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("backlog".to_owned());
        thread.spawn(move || {
            while !self.wait(&stopped) {
                self.turn();
            }
            self.end();
        })
    }

    // Waits for the next look, or for the flush. True: it is time to end.
    fn wait(&self, stopped: &Receiver<()>) -> bool {
        let Some((_, flush, until)) = &self.taken else {
            return stopped.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout);
        };
        let mut news = Select::new();
        news.recv(&flush.0);
        let left = until.saturating_sub(self.cluster.now());
        // The next turn finds what has come of it, and whether it is late.
        let _ready = news.ready_timeout(left);
        false
    }

    /// One look; or one at the flush that commits what was replayed with the last look.
    pub(crate) fn turn(&mut self) {
        if let Some((taken, flush, until)) = self.taken.take() {
            match flush.look_until(self.cluster.now() >= until, COMMITTED_WITHIN) {
                None => self.taken = Some((taken, flush, until)),
                Some(flushed) => self.cluster.taken_in(taken, flushed.map(|_| ())),
            }
            return;
        }
        if !self.hand_off() {
            return;
        }
        self.cluster
            .write_committed_lsn(&mut self.backlog.committed_lsn);
        match self.cluster.take_in(&self.engine, &mut self.inbox) {
            Ok(taken) if taken.is_empty() => {}
            Ok(taken) => match self.engine.flush.begin(COMMITTED_WITHIN) {
                Ok(flush) => {
                    let until = self.cluster.now().saturating_add(COMMITTED_WITHIN);
                    self.taken = Some((taken, flush, until));
                }
                Err(error) => self.cluster.taken_in(taken, Err(error)),
            },
            Err(error) => {
                tracing::debug!(%error, "what waits for this node was not taken in yet");
            }
        }
    }

    // True: nothing is left of what the journal had at the start.
    fn hand_off(&mut self) -> bool {
        if planted::is("drop-backlog") {
            self.backlog.left = None;
        }
        let Some((range, number)) = self.backlog.left else {
            return true;
        };
        let done = self
            .cluster
            .submit(&self.engine, range, number, &|_, _, _| true);
        match done {
            Ok(0) => {}
            Ok(records) => {
                tracing::info!(
                    records,
                    "what the journal had and no commit has was handed off"
                );
            }
            Err(error) => {
                tracing::debug!(%error, "not handed off yet");
                return false;
            }
        }
        self.backlog.left = None;
        true
    }

    fn end(&mut self) {
        if self.backlog.left.is_none() {
            self.cluster
                .write_committed_lsn(&mut self.backlog.committed_lsn);
        } else {
            self.cluster.parting.keeps.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests;
