//! Records of the past on several threads: one reads the journal, each fold applies the records of its stores.

use std::panic::resume_unwind;

use crossbeam::channel::{Sender, bounded};
use till_core::Record;
use till_protocol::id::StoreId;

use super::{Fold, Progress, store_of};
use crate::base::FoldError;
use crate::journal::{Journal, Lsn};

/// Records that are handed off at once.
const CHUNK_RECORDS: usize = 64;
/// Chunks that may wait for a fold.
const CHUNKS_MAX: usize = 16;

/// What a replay comes to.
#[derive(Debug)]
pub struct Replayed<'a> {
    /// The folds, in the order in which they were given.
    pub folds: Vec<Fold<'a>>,
    /// Records that were read.
    pub records: u64,
}

/// [`replay`], or [`replay_here`] for whoever must find everything in the same order each time.
pub type Replay = for<'a> fn(
    &Journal,
    (Lsn, Lsn),
    Vec<Fold<'a>>,
    &dyn Fn(StoreId) -> usize,
    Progress<'_>,
) -> Result<Replayed<'a>, FoldError>;

type Chunk = Vec<(Lsn, Record)>;

/// Gives each record that begins in `from..to` to the fold of its store, `fold_of`, in the order of the journal. The folds
/// work side by side: what a store holds depends on its own records alone.
///
/// # Errors
/// [`FoldError`] of the reader or of one of the folds.
pub fn replay<'a>(
    journal: &Journal,
    (from, to): (Lsn, Lsn),
    folds: Vec<Fold<'a>>,
    fold_of: &dyn Fn(StoreId) -> usize,
    progress: Progress<'_>,
) -> Result<Replayed<'a>, FoldError> {
    std::thread::scope(|scope| {
        let mut ways = Vec::with_capacity(folds.len());
        let mut threads = Vec::with_capacity(folds.len());
        for mut fold in folds {
            let (send, chunks) = bounded::<Chunk>(CHUNKS_MAX);
            ways.push(Way {
                send,
                chunk: Chunk::new(),
            });
            threads.push(scope.spawn(move || {
                for (lsn, record) in chunks.into_iter().flatten() {
                    fold.apply(lsn, &record)?;
                }
                Ok::<_, FoldError>(fold)
            }));
        }
        let read = deal(journal, (from, to), &mut ways, fold_of, progress);
        drop(ways);
        let mut folds = Vec::with_capacity(threads.len());
        for thread in threads {
            folds.push(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        let records = read?;
        Ok(Replayed { folds, records })
    })
}

/// As [`replay`], in the thread of the caller.
///
/// # Errors
/// See [`replay`].
pub fn replay_here<'a>(
    journal: &Journal,
    (from, to): (Lsn, Lsn),
    mut folds: Vec<Fold<'a>>,
    fold_of: &dyn Fn(StoreId) -> usize,
    progress: Progress<'_>,
) -> Result<Replayed<'a>, FoldError> {
    let mut records = 0;
    for item in journal.records_between(from, to) {
        let (lsn, record) = item?;
        records += 1;
        progress(lsn);
        let fold = store_of(&record.head).and_then(|store| folds.get_mut(fold_of(store)));
        if let Some(fold) = fold {
            fold.apply(lsn, &record)?;
        }
    }
    Ok(Replayed { folds, records })
}

struct Way {
    send: Sender<Chunk>,
    chunk: Chunk,
}

impl Way {
    // False when the fold has ended: its error is found when it is waited for.
    fn send(&mut self) -> bool {
        let chunk = std::mem::replace(&mut self.chunk, Chunk::with_capacity(CHUNK_RECORDS));
        chunk.is_empty() || self.send.send(chunk).is_ok()
    }
}

fn deal(
    journal: &Journal,
    (from, to): (Lsn, Lsn),
    ways: &mut [Way],
    fold_of: &dyn Fn(StoreId) -> usize,
    progress: Progress<'_>,
) -> Result<u64, FoldError> {
    let mut records = 0;
    for item in journal.records_between(from, to) {
        let (lsn, record) = item?;
        records += 1;
        progress(lsn);
        let way = store_of(&record.head).and_then(|store| ways.get_mut(fold_of(store)));
        let Some(way) = way else {
            continue;
        };
        way.chunk.push((lsn, record));
        if way.chunk.len() >= CHUNK_RECORDS && !way.send() {
            return Ok(records);
        }
    }
    for way in ways {
        // One that has ended tells why when it is waited for.
        let _ended = way.send();
    }
    Ok(records)
}
