//! Makes journals and records for tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use till_core::{Outcome, Record, RecordHead, RecordKind, Verdict};

use super::{
    Durable, Journal, JournalConfig, Lsn, OpenError, Opened, Prepared, Sink, SyncConfig, SyncError,
    Syncer, lock,
};
use crate::disk::{Disk, SimDisk};
use crate::sync::Mutex;

/// The folder of every test's journal.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from("journal")
}

/// Small segments, so that tests cross their borders.
pub(crate) const SMALL: JournalConfig = JournalConfig {
    segment_bytes: 4_096,
    reserve_bytes: 0,
    durability: super::Durability::Disk,
    verify_threads: 1,
};

/// A record whose payload only the journal's tests can read.
pub(crate) fn record(terminal: u64, seq: u64, payload: usize) -> Record {
    let byte = u8::try_from(seq % 251).unwrap_or(0) | 1;
    Record {
        head: RecordHead {
            kind: RecordKind::Batch,
            family: 0,
            version: 0,
            terminal,
            epoch: 1,
            first_seq: seq,
            count: 1,
            skip: 0,
            received_at_us: 1_000,
            digest: seq,
        },
        payload: Bytes::from(vec![byte; payload]),
        verdicts: vec![Verdict {
            index: 0,
            outcome: Outcome::Applied,
            reason: 0,
            flags: 7,
        }],
    }
}

pub(crate) fn open(disk: &SimDisk) -> Result<Opened, OpenError> {
    open_on(disk)
}

/// As [`open`], on any disk.
pub(crate) fn open_on(disk: &(impl Disk + Clone + 'static)) -> Result<Opened, OpenError> {
    Journal::open(Arc::new(disk.clone()), &dir(), SMALL)
}

/// Remembers what it was told is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    pub(crate) told: Arc<Mutex<Vec<(Lsn, u64)>>>,
    pub(crate) through: Arc<Mutex<Lsn>>,
    pub(crate) poison: Arc<Mutex<Option<SyncError>>>,
}

impl Sink<u64> for Witness {
    fn durable(&mut self, durable: &Durable, group: &mut Vec<(Lsn, u64)>) {
        *lock(&self.through) = durable.through();
        lock(&self.told).append(group);
    }

    fn poisoned(&mut self, error: &SyncError) {
        *lock(&self.poison) = Some(error.clone());
    }
}

impl Witness {
    /// Numbers of the records that were acknowledged.
    pub(crate) fn acked(&self) -> Vec<u64> {
        lock(&self.told).iter().map(|(_, seq)| *seq).collect()
    }
}

/// Appends the records one group each, as far as the disk lets it.
pub(crate) fn append_each(opened: Opened, records: &[Record]) -> (Witness, Result<(), SyncError>) {
    let witness = Witness::default();
    let config = SyncConfig {
        group_records_max: 1,
        full_retry_ms: 1,
        ..SyncConfig::default()
    };
    let syncer = Syncer::start(opened.writer, config, witness.clone()).unwrap();
    let appender = syncer.appender();
    for record in records {
        let prepared = Prepared::new(record).unwrap();
        if appender.append(prepared, record.head.first_seq).is_err() {
            break;
        }
    }
    drop(appender);
    (witness, syncer.close())
}

/// All records of a journal.
pub(crate) fn all(journal: &Journal) -> Vec<(Lsn, Record)> {
    journal
        .records(journal.start())
        .map(|item| item.unwrap())
        .collect()
}

/// Writes the groups and drops the writer as a crash would, without a closing mark.
pub(crate) fn write_groups(disk: &SimDisk, groups: &[&[Record]]) -> Vec<Lsn> {
    let mut opened = open(disk).unwrap();
    let stats = super::SyncStats::default();
    let mut starts = Vec::new();
    for group in groups {
        let prepared: Vec<Prepared> = group.iter().map(|r| Prepared::new(r).unwrap()).collect();
        let entries: Vec<&Prepared> = prepared.iter().collect();
        starts.push(opened.writer.at());
        opened
            .writer
            .commit(&entries, &mut Vec::new(), &stats)
            .unwrap();
    }
    starts
}

/// Path of the segment that starts at a place.
pub(crate) fn segment(start: u64) -> PathBuf {
    dir().join(super::segment_name(Lsn::new(start)))
}

/// Names of the files in the folder.
pub(crate) fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("journal")).unwrap()
}
