use bytes::Bytes;

use super::{FoundLog, Seal};
use crate::cluster::parts::tests::commit;
use crate::cluster::{Commit, LogError};

#[test]
fn a_commit_is_read_back_from_its_log_in_any_order() {
    let commit = commit(&[10, 400_000, 0, 700], 1..40);
    let log = commit.to_log().unwrap();
    assert_eq!((log.records.len(), log.seal.records), (4, 4));
    let seal = log.seal;
    assert_eq!(Seal::decode(&seal.encode()), Some(seal));
    let mut found = FoundLog::from(log);
    found.records.reverse();
    found.rows.reverse();
    let read = Commit::from_log((7, 12), &seal, &found).unwrap();
    assert_eq!(read, commit.clone().settled());
    let records = super::records_of((7, 12), &seal, &found.records).unwrap();
    assert_eq!(records, commit.records);
    // Another owner's log is another one, though it says the same.
    let other = Commit { epoch: 4, ..commit };
    let other = other.to_log().unwrap().seal;
    assert_ne!(other.records_digest, seal.records_digest);
}

#[test]
fn a_commit_without_rows_has_no_parts() {
    let commit = commit(&[10], 1..1);
    let log = commit.to_log().unwrap();
    assert_eq!((log.seal.parts, log.rows.len()), (0, 0));
    let (seal, found) = (log.seal, FoundLog::from(log));
    assert_eq!(Commit::from_log((7, 12), &seal, &found), Ok(commit));
}

#[test]
fn a_record_that_is_missing_foreign_or_damaged_is_named() {
    let commit = commit(&[10, 20, 30], 1..2);
    let log = commit.to_log().unwrap();
    let (seal, found) = (log.seal, FoundLog::from(log));
    let read =
        |records: Vec<(u32, Bytes)>| super::records_of((7, 12), &seal, &records).unwrap_err();
    let lacks = |found| LogError::Records {
        flush: 12,
        records: 3,
        found,
    };
    let all = &found.records;
    assert_eq!(read(all[..2].to_vec()), lacks(2));
    assert_eq!(
        read([&all[..], &[(3, all[0].1.clone())]].concat()),
        lacks(4)
    );
    assert_eq!(
        read([&all[1..], &[(3, all[0].1.clone())]].concat()),
        lacks(3)
    );
    let swapped = vec![(1, all[0].1.clone()), (0, all[1].1.clone()), all[2].clone()];
    assert_eq!(read(swapped), LogError::Digest);
    for at in 0..all[1].1.len() {
        let mut bytes = all[1].1.to_vec();
        bytes[at] ^= 0x40;
        let mut records = all.clone();
        records[1].1 = Bytes::from(bytes);
        let error = read(records);
        assert!(
            matches!(error, LogError::Content { at: 1, .. }),
            "{at}: {error}"
        );
    }
    let other = Seal { epoch: 4, ..seal };
    let error = super::records_of((7, 12), &other, all).unwrap_err();
    assert_eq!(error, LogError::Digest);
}

#[test]
fn every_flipped_byte_of_a_seal_is_noticed() {
    let seal = commit(&[10], 1..2).to_log().unwrap().seal;
    let bytes = seal.encode();
    for at in 0..bytes.len() {
        let mut flipped = bytes;
        flipped[at] ^= 0x40;
        assert_eq!(Seal::decode(&flipped), None, "byte {at}");
    }
    assert_eq!(Seal::decode(&bytes[1..]), None);
}

// The bytes of a seal and of a log's records never change.
#[test]
fn a_seal_is_written_as_ever() {
    let seal = commit(&[10, 20], 1..3).to_log().unwrap().seal;
    let text: String = seal
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(text, include_str!("golden.txt").trim());
}
