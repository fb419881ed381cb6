use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use till_core::{Outcome, Record, RecordHead, RecordKind, Space, Verdict};

use super::{LogError, PART_BYTES_MAX, PartSet, PartSetKey, Unfit};
use crate::cluster::Commit;
use crate::testing::conformance::sample;

fn record(number: u64, payload: Vec<u8>) -> Record {
    let verdicts = (0..u32::try_from(number % 3).unwrap())
        .map(|index| Verdict {
            index,
            outcome: Outcome::Quarantined,
            reason: 201,
            flags: 1 << index,
        })
        .collect();
    Record {
        head: RecordHead {
            kind: RecordKind::Batch,
            family: 1,
            version: 1,
            terminal: number << 32 | 4,
            epoch: 2,
            first_seq: number,
            count: 3,
            skip: 0,
            received_at_us: -1,
            digest: !number,
        },
        payload: Bytes::from(payload),
        verdicts,
    }
}

pub(in crate::cluster) fn commit(payloads: &[usize], rows: std::ops::Range<u32>) -> Commit {
    let records = payloads.iter().zip(1_u64..).map(|(bytes, number)| {
        let byte = u8::try_from(number % 251).unwrap();
        record(number, vec![byte; *bytes])
    });
    let mut commit = Commit {
        slot: 7,
        flush: 12,
        epoch: 3,
        records: records.collect(),
        ..Commit::default()
    };
    for number in rows {
        commit.rows.append(sample(number).unwrap());
    }
    commit
}

fn key(commit: &Commit, log: &PartSet) -> PartSetKey {
    PartSetKey {
        slot: commit.slot,
        flush: commit.flush,
        epoch: commit.epoch,
        parts: u32::try_from(log.parts.len()).unwrap(),
        digest: log.digest,
    }
}

fn numbered(log: &PartSet) -> Vec<(u32, Bytes)> {
    (0..).zip(log.parts.iter().cloned()).collect()
}

#[test]
fn a_commit_of_many_parts_reads_back_in_any_order() {
    let commit = commit(&[10, 400_000, 0, 700], 1..40);
    let log = commit.to_parts().unwrap();
    assert_eq!(log.parts.len(), 4);
    assert!(log.parts.iter().all(|part| part.len() <= PART_BYTES_MAX));
    let mut parts = numbered(&log);
    parts.reverse();
    let read = Commit::from_parts(&key(&commit, &log), &parts).unwrap();
    assert_eq!(read, commit.clone().settled());
    assert_eq!(read.to_parts().unwrap(), log);
    let later = Commit { epoch: 4, ..commit };
    assert_ne!(later.to_parts().unwrap().digest, log.digest);
}

#[test]
fn of_two_rows_for_a_key_the_later_one_is_kept_and_of_two_names_both() {
    let mut commit = commit(&[], 1..2);
    commit.rows.append(sample(1).unwrap());
    commit.rows.terminals[1].1.flags = 99;
    commit.rows.quarantine[1].1 = None;
    commit.rows.names[1].2 = "another".to_owned();
    let log = commit.to_parts().unwrap();
    let read = Commit::from_parts(&key(&commit, &log), &numbered(&log)).unwrap();
    assert_eq!(read.rows.terminals.len(), 1);
    assert_eq!(read.rows.terminals[0].1.flags, 99);
    assert_eq!(read.rows.quarantine.len(), 1);
    assert_eq!(read.rows.quarantine[0].1, None);
    let names: Vec<&str> = read.rows.names.iter().map(|row| row.2.as_str()).collect();
    assert_eq!(names, ["code 1", "another"]);
    assert_eq!(read, commit.settled());
}

#[test]
fn every_flipped_byte_is_noticed_and_named() {
    let commit = commit(&[5, 90], 1..3);
    let log = commit.to_parts().unwrap();
    let key = key(&commit, &log);
    let whole = &log.parts[0];
    for at in 0..whole.len() {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 0x40;
        let error = Commit::from_parts(&key, &[(0, Bytes::from(bytes))]).unwrap_err();
        let expected = if at == 4 {
            LogError::Newer {
                part: 0,
                version: 0x41,
            }
        } else {
            LogError::Damaged { part: 0 }
        };
        assert_eq!(error, expected, "byte {at}");
    }
    for cut in 0..whole.len() {
        let error = Commit::from_parts(&key, &[(0, whole.slice(..cut))]).unwrap_err();
        assert_eq!(error, LogError::Damaged { part: 0 }, "cut at {cut}");
    }
}

#[test]
fn what_is_missing_or_foreign_is_named() {
    let commit = commit(&[300_000], 1..2);
    let log = commit.to_parts().unwrap();
    let right = key(&commit, &log);
    let parts = numbered(&log);
    let read =
        |key: &PartSetKey, parts: &[(u32, Bytes)]| Commit::from_parts(key, parts).unwrap_err();
    assert_eq!(
        read(&right, &[parts[0].clone(), parts[2].clone()]),
        LogError::Missing { part: 1, parts: 3 }
    );
    let fewer = PartSetKey { parts: 2, ..right };
    assert_eq!(
        read(&fewer, &parts),
        LogError::Surplus { part: 2, parts: 2 }
    );
    let foreign = |what, found, wanted| LogError::Foreign {
        part: 0,
        what,
        found,
        wanted,
    };
    for (key, error) in [
        (PartSetKey { slot: 8, ..right }, foreign("slot", 7, 8)),
        (PartSetKey { flush: 13, ..right }, foreign("flush", 12, 13)),
        (PartSetKey { epoch: 4, ..right }, foreign("epoch", 3, 4)),
    ] {
        assert_eq!(read(&key, &parts), error);
    }
    let swapped = [
        (0, log.parts[1].clone()),
        (1, log.parts[0].clone()),
        parts[2].clone(),
    ];
    assert_eq!(read(&right, &swapped), foreign("number", 1, 0));
    let other = PartSetKey {
        digest: [1; 32],
        ..right
    };
    assert_eq!(read(&other, &parts), LogError::Digest);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut large = commit(&[2 << 20], 0..0);
    assert!(matches!(large.to_parts(), Err(Unfit::Record(_))));
    large.records.clear();
    let log = large.to_parts().unwrap();
    assert_eq!(log.parts.len(), 1);
    let read = Commit::from_parts(&key(&large, &log), &numbered(&log)).unwrap();
    assert_eq!(read, large);
}

#[test]
fn the_bytes_of_a_log_are_frozen() {
    let mut commit = commit(&[3], 1..2);
    commit.epoch = 2;
    commit.rows.quarantine[0].1 = None;
    let log = commit.to_parts().unwrap();
    let hex = log.parts[0].iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    assert_eq!(hex, include_str!("golden.txt").trim_end());
    assert_eq!(log.digest[..4], DIGEST_STARTS);
}

const DIGEST_STARTS: [u8; 4] = [0x36, 0xe8, 0xaf, 0x1a];

proptest! {
    #[test]
    fn any_commit_reads_back(
        slot: u32,
        flush in 1_u64..u64::MAX,
        epoch: u64,
        records in prop::collection::vec((0_u64..1 << 31, prop::collection::vec(any::<u8>(), 0..900)), 0..20),
        rows in prop::collection::vec(1_u32..30, 0..12),
        name in "[a-z]{0,12}",
        flip: prop::sample::Index,
    ) {
        let records = records.into_iter().map(|(number, payload)| record(number, payload));
        let mut commit = Commit { slot, flush, epoch, records: records.collect(), ..Commit::default() };
        for number in rows {
            commit.rows.append(sample(number).unwrap());
        }
        commit.rows.names.push((Space::Tender, 3, name));
        let log = commit.to_parts().unwrap();
        let key = key(&commit, &log);
        let mut parts = numbered(&log);
        prop_assert_eq!(Commit::from_parts(&key, &parts).unwrap(), commit.settled());
        let mut bytes = parts[0].1.to_vec();
        let at = flip.index(bytes.len());
        bytes[at] ^= 1;
        parts[0].1 = Bytes::from(bytes);
        prop_assert!(Commit::from_parts(&key, &parts).is_err());
    }
}
