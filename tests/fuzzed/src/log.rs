//! What a shared store has of a commit: parts, a seal, records; as any bytes that the store may give back.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use till_storage::cluster::{Commit, PartSetKey, Seal, records_of};

use crate::mending::{mend_entries, narrow, u32_at};

const SLOT: u32 = 7;
const FLUSH: u64 = 12;
const EPOCH: u64 = 2;

/// The body of a log, which is put into parts with right headers; with an odd first byte, one part as it stands, with nothing
/// but the digest right. The second byte says in how many parts it comes.
pub(crate) fn log(bytes: &[u8]) {
    let Some(([form, parts], body)) = bytes.split_first_chunk() else {
        return;
    };
    sealed(body);
    let parts = match form % 2 {
        1 => vec![Bytes::copy_from_slice(body)],
        _ => {
            let mut body = body.to_vec();
            if form % 4 == 2 {
                mend(&mut body);
            }
            split(&body, usize::from(*parts % 4) + 1)
        }
    };
    let mut digest = Sha256::new();
    for part in &parts {
        digest.update(part);
    }
    let key = PartSetKey {
        slot: SLOT,
        flush: FLUSH,
        epoch: EPOCH,
        parts: narrow(parts.len()),
        digest: digest.finalize().into(),
    };
    let parts: Vec<(u32, Bytes)> = (0..).zip(parts).collect();
    let Ok(commit) = Commit::from_parts(&key, &parts) else {
        return;
    };
    assert_eq!((commit.slot, commit.flush), (SLOT, FLUSH));
    said_again(commit.settled());
}

// Bytes as a seal, and as the only record of a log.
fn sealed(bytes: &[u8]) {
    if let Some(seal) = Seal::decode(bytes) {
        assert_eq!(seal.encode(), bytes);
    }
    let entry = Bytes::copy_from_slice(bytes);
    let digest = Sha256::new()
        .chain_update(SLOT.to_le_bytes())
        .chain_update(FLUSH.to_le_bytes())
        .chain_update(EPOCH.to_le_bytes())
        .chain_update(bytes);
    let seal = Seal {
        epoch: EPOCH,
        records: 1,
        records_digest: digest.finalize().into(),
        ..Seal::default()
    };
    let Ok(records) = records_of((SLOT, FLUSH), &seal, &[(0, entry)]) else {
        return;
    };
    let commit = Commit {
        slot: SLOT,
        flush: FLUSH,
        epoch: EPOCH,
        records,
        ..Commit::default()
    };
    // An entry has one form.
    let written = commit.to_log().map(|log| log.seal.records_digest);
    assert_eq!(written, Ok(seal.records_digest));
}

// A commit that was read is written as a log that says the same.
fn said_again(commit: Commit) {
    let written = commit.to_parts();
    assert!(written.is_ok(), "what was read cannot be written");
    let Ok(written) = written else { return };
    let key = PartSetKey {
        slot: SLOT,
        flush: FLUSH,
        epoch: EPOCH,
        parts: narrow(written.parts.len()),
        digest: written.digest,
    };
    let parts: Vec<(u32, Bytes)> = (0..).zip(written.parts).collect();
    assert_eq!(Commit::from_parts(&key, &parts), Ok(commit));
}

// Puts the checksums of the records right.
fn mend(body: &mut [u8]) {
    let records = usize::try_from(u32_at(body, 0)).unwrap_or(0).min(4);
    let mut at = 4;
    for _ in 0..records {
        let length = usize::try_from(u32_at(body.get(at..).unwrap_or_default(), 0)).unwrap_or(0);
        let end = at.saturating_add(length).min(body.len());
        let Some(entry) = body.get_mut(at..end) else {
            return;
        };
        at += mend_entries(entry).0;
    }
}

fn split(body: &[u8], parts: usize) -> Vec<Bytes> {
    let size = body.len().div_ceil(parts).max(1);
    let chunks: Vec<&[u8]> = body.chunks(size).collect();
    let count = narrow(chunks.len());
    let with_header = |(number, chunk): (u32, &&[u8])| {
        let mut part = b"TLOG\x01\0\0\0".to_vec();
        part.extend_from_slice(&SLOT.to_le_bytes());
        part.extend_from_slice(&number.to_le_bytes());
        part.extend_from_slice(&FLUSH.to_le_bytes());
        part.extend_from_slice(&EPOCH.to_le_bytes());
        part.extend_from_slice(&count.to_le_bytes());
        part.extend_from_slice(&narrow(chunk.len()).to_le_bytes());
        part.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&part), chunk);
        part.extend_from_slice(&crc.to_le_bytes());
        part.extend_from_slice(chunk);
        Bytes::from(part)
    };
    (0..).zip(&chunks).map(with_header).collect()
}
