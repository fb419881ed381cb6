//! The newest segment of a journal, as any bytes that a disk may give back.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use till_core::{Record, RecordHead, RecordKind};
use till_storage::disk::{Disk as _, SimDisk};
use till_storage::journal::{Journal, JournalConfig, Lsn, Opened, ReadError, SEGMENT_HEADER_BYTES};

use crate::mending::mend_groups;

const CONFIG: JournalConfig = JournalConfig {
    segment_bytes: JournalConfig::SEGMENT_BYTES_MIN,
    reserve_bytes: 0,
    durability: till_storage::journal::Durability::Disk,
    verify_threads: 1,
};

/// Places of a segment's header.
const SALT_AT: usize = 32;

/// Behind two records in a sealed segment: the bytes after the header of the newest one. The first byte says whether their
/// checksums are put right.
pub(crate) fn tail(bytes: &[u8]) {
    let Some((mended, tail)) = bytes.split_first() else {
        return;
    };
    static SAMPLE: LazyLock<Option<(SimDisk, Lsn)>> = LazyLock::new(sample);
    let Some((disk, newest)) = &*SAMPLE else {
        return;
    };
    let (disk, newest) = (disk.copy(), *newest);
    let path = dir().join(format!("{:020}.till", newest.get()));
    let Some(mut file) = disk.bytes(&path) else {
        return;
    };
    file.truncate(64);
    let salt = file.get(SALT_AT..).and_then(|rest| rest.first_chunk());
    let salt = salt.map_or(0, |salt| u64::from_le_bytes(*salt));
    file.extend_from_slice(tail);
    if mended % 2 == 1 {
        mend_groups(&mut file[64..], newest.get() + SEGMENT_HEADER_BYTES, salt);
    }
    disk.put(&path, &file);
    check(&disk, newest);
}

fn dir() -> PathBuf {
    PathBuf::from("journal")
}

fn open(disk: &SimDisk) -> Option<Opened> {
    Journal::open(Arc::new(disk.clone()), &dir(), CONFIG).ok()
}

fn record(seq: u64, bytes: usize) -> Record {
    Record {
        head: RecordHead {
            kind: RecordKind::Batch,
            family: 0,
            version: 0,
            terminal: 3 << 32 | 7,
            epoch: 1,
            first_seq: seq,
            count: 1,
            skip: 0,
            received_at_us: 1_000,
            digest: seq,
        },
        payload: Bytes::from(vec![1; bytes]),
        verdicts: Vec::new(),
    }
}

// A journal with two segments, and where the second one starts.
fn sample() -> Option<(SimDisk, Lsn)> {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk)?;
    opened.writer.state(&[record(1, 1_000)]).ok()?;
    opened.writer.state(&[record(2, 1_000)]).ok()?;
    opened.writer.state(&[record(3, 3_000)]).ok()?;
    let newest = opened.journal.segments().last()?.start;
    Some((disk, newest))
}

// Opened or refused, nothing of the sealed segment is lost; what was opened once is opened again and is the same.
fn check(disk: &SimDisk, newest: Lsn) {
    let before = files(disk);
    let looked = Journal::look(Arc::new(disk.clone()), &dir());
    assert_eq!(files(disk), before, "a look has changed something");
    let Some(opened) = open(disk) else {
        assert!(looked.is_err(), "a look takes what a start refuses");
        assert_eq!(files(disk), before, "a refused start has changed something");
        return;
    };
    let torn = looked.map(|looked| looked.torn);
    assert_eq!(torn.ok(), Some(opened.cut.clone()));
    let found = records(&opened.journal);
    assert_eq!(found.sealed, 2, "records of the sealed segment");
    let cut = opened.cut.as_ref().map_or(opened.end, |cut| cut.at);
    assert!(cut >= newest.plus(SEGMENT_HEADER_BYTES));
    drop(opened);
    let again = open(disk);
    assert!(again.is_some(), "what was opened is not opened again");
    let Some(mut again) = again else { return };
    assert!(again.cut.is_none());
    assert_eq!(records(&again.journal), found);
    assert!(again.writer.state(&[record(9, 10)]).is_ok());
    if !found.is_newer {
        assert_eq!(records(&again.journal).all, found.all + 1);
    }
}

fn files(disk: &SimDisk) -> Vec<(String, Option<Vec<u8>>)> {
    let names = disk.list(Path::new("journal")).unwrap_or_default();
    let file = |name: String| {
        let bytes = disk.bytes(&dir().join(&name));
        (name, bytes)
    };
    names.into_iter().map(file).collect()
}

#[derive(Debug, Default, Eq, PartialEq)]
struct Found {
    all: usize,
    sealed: usize,
    heads: Vec<(Lsn, RecordHead)>,
    /// Reading ended at a record of a kind that is not known.
    is_newer: bool,
}

fn records(journal: &Journal) -> Found {
    let mut found = Found::default();
    let newest = journal
        .segments()
        .last()
        .map_or(Lsn::ZERO, |info| info.start);
    for item in journal.records(journal.start()) {
        match item {
            Ok((lsn, record)) => {
                found.all += 1;
                found.sealed += usize::from(lsn < newest);
                assert!(journal.read(lsn).is_ok_and(|read| read == record));
                found.heads.push((lsn, record.head));
            }
            Err(error) => {
                assert!(matches!(error, ReadError::Newer(_)), "{error}");
                found.is_newer = true;
            }
        }
    }
    found
}
