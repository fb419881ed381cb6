//! A commit as its log, and back: its records, each an entry of the journal's format, and the rows after them as
//! [parts](super::parts). The records are kept: they are the truth of the slot. The rows are there until they are projected.
//!
//! What a commit makes true is its **seal**, 92 bytes, all numbers little-endian:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `TSEA` |
//! | 4 | 1 | version, 1 |
//! | 5 | 3 | zero |
//! | 8 | 8 | epoch of the owner that wrote the log |
//! | 16 | 4 | number of records |
//! | 20 | 4 | number of parts of the rows |
//! | 24 | 32 | SHA-256 over slot u32, flush u64, epoch u64, and the records in order |
//! | 56 | 32 | SHA-256 over the parts in order; zero where there are none |
//! | 88 | 4 | CRC-32C of bytes 0..88 |
//!
//! The slot's row has the seal of the last flush; those of the flushes before lie beside their records. A checksum could take
//! other content for the same once in so many commits; an owner whose conditional write has an unknown outcome knows its own
//! commit by the digests.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use till_core::Record;

use super::commit::{Commit, RECORDS_MAX};
use super::parts::read::entry_of;
use super::parts::{LogError, PartSetKey, Unfit};
use crate::journal::Prepared;
use crate::num::{narrow, u32_at, u64_at};
use crate::views::FlushBatch;

/// What the row of a slot says of a flush: which log is its content.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Seal {
    /// Epoch in which it was committed: its log lies under it.
    pub epoch: u64,
    /// Number of its records.
    pub records: u32,
    /// Number of parts of its rows.
    pub parts: u32,
    /// SHA-256 of the records.
    pub records_digest: [u8; 32],
    /// SHA-256 of the parts.
    pub rows_digest: [u8; 32],
}

impl Seal {
    /// Bytes of an encoded seal.
    pub const BYTES: usize = 92;

    const MAGIC: [u8; 4] = *b"TSEA";
    const VERSION: u8 = 1;

    /// The seal as it stands in the store.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0_u8; Self::BYTES];
        out[..4].copy_from_slice(&Self::MAGIC);
        out[4] = Self::VERSION;
        out[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..20].copy_from_slice(&self.records.to_le_bytes());
        out[20..24].copy_from_slice(&self.parts.to_le_bytes());
        out[24..56].copy_from_slice(&self.records_digest);
        out[56..88].copy_from_slice(&self.rows_digest);
        let crc = crc32c::crc32c(&out[..88]);
        out[88..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a seal back; `None` for bytes that are none of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().ok()?;
        let is_whole = crc32c::crc32c(&bytes[..88]) == u32_at(bytes, 88);
        if bytes[..4] != Self::MAGIC || bytes[4] != Self::VERSION || !is_whole {
            return None;
        }
        let digest = |at: usize| bytes.get(at..at + 32)?.try_into().ok();
        Some(Self {
            epoch: u64_at(bytes, 8),
            records: u32_at(bytes, 16),
            parts: u32_at(bytes, 20),
            records_digest: digest(24)?,
            rows_digest: digest(56)?,
        })
    }
}

/// The log of a flush: what is written before the flush is committed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    /// The records by number.
    pub records: Vec<Bytes>,
    /// The parts of the rows by number.
    pub rows: Vec<Bytes>,
    /// What is to be committed.
    pub seal: Seal,
}

/// A log as it was found: records and parts with their numbers, in any order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FoundLog {
    /// The records.
    pub records: Vec<(u32, Bytes)>,
    /// The parts of the rows.
    pub rows: Vec<(u32, Bytes)>,
}

impl From<Log> for FoundLog {
    fn from(log: Log) -> Self {
        Self {
            records: (0..).zip(log.records).collect(),
            rows: (0..).zip(log.rows).collect(),
        }
    }
}

fn digest_of(slot: u32, flush: u64, epoch: u64) -> Sha256 {
    Sha256::new()
        .chain_update(slot.to_le_bytes())
        .chain_update(flush.to_le_bytes())
        .chain_update(epoch.to_le_bytes())
}

pub(super) fn encode(commit: &Commit) -> Result<Log, Unfit> {
    let count = commit.records.len();
    if count >= RECORDS_MAX {
        return Err(Unfit::Records { records: count });
    }
    let mut digest = digest_of(commit.slot, commit.flush, commit.epoch);
    let mut records = Vec::with_capacity(count);
    for record in &commit.records {
        let entry = Prepared::new(record)?;
        let mut bytes = BytesMut::with_capacity(entry.bytes());
        bytes.extend_from_slice(&entry.front);
        bytes.extend_from_slice(&entry.payload);
        bytes.extend_from_slice(&entry.tail);
        digest.update(&bytes);
        records.push(bytes.freeze());
    }
    let (rows, rows_digest) = match commit.rows.rows() {
        0 => (Vec::new(), [0; 32]),
        _ => {
            let rows = super::parts::encode(commit, &[])?;
            (rows.parts, rows.digest)
        }
    };
    let seal = Seal {
        epoch: commit.epoch,
        records: narrow(count),
        parts: narrow(rows.len()),
        records_digest: digest.finalize().into(),
        rows_digest,
    };
    Ok(Log {
        records,
        rows,
        seal,
    })
}

/// The records of a flush, as its seal has them.
///
/// # Errors
/// [`LogError`] says what is missing or damaged.
pub fn records_of(
    (slot, flush): (u32, u64),
    seal: &Seal,
    found: &[(u32, Bytes)],
) -> Result<Vec<Record>, LogError> {
    let mut entries: Vec<&(u32, Bytes)> = found.iter().collect();
    entries.sort_unstable_by_key(|(number, _)| *number);
    let is_whole = (0..)
        .zip(&entries)
        .all(|(wanted, (number, _))| *number == wanted);
    if !is_whole || narrow(entries.len()) != seal.records {
        return Err(LogError::Records {
            flush,
            records: seal.records,
            found: narrow(entries.len()),
        });
    }
    let mut digest = digest_of(slot, flush, seal.epoch);
    let mut records = Vec::with_capacity(entries.len());
    for (number, bytes) in entries {
        digest.update(bytes);
        let wrong = |what| LogError::Content {
            what,
            at: crate::num::size32(*number),
        };
        let (record, size) = entry_of(bytes).map_err(wrong)?;
        if size != bytes.len() {
            return Err(wrong("an entry"));
        }
        records.push(record);
    }
    let digest: [u8; 32] = digest.finalize().into();
    match digest == seal.records_digest {
        true => Ok(records),
        false => Err(LogError::Digest),
    }
}

pub(super) fn decode(
    (slot, flush): (u32, u64),
    seal: &Seal,
    found: &FoundLog,
) -> Result<Commit, LogError> {
    let records = records_of((slot, flush), seal, &found.records)?;
    let rows = match seal.parts {
        0 => FlushBatch::default(),
        parts => {
            let key = PartSetKey {
                slot,
                flush,
                epoch: seal.epoch,
                parts,
                digest: seal.rows_digest,
            };
            super::parts::decode(&key, &found.rows)?.rows
        }
    };
    Ok(Commit {
        slot,
        flush,
        epoch: seal.epoch,
        records,
        rows,
    })
}

#[cfg(test)]
mod tests;
