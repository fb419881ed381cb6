//! Records and rows packed into parts that a cell of the store holds, and back: chunks of an inbox, and the rows of a commit
//! until they are projected. All numbers are little-endian.
//!
//! A part is 48 bytes of header and a chunk of the body:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | `TLOG` |
//! | 4 | 1 | version, 1 |
//! | 5 | 3 | zero |
//! | 8 | 4 | slot |
//! | 12 | 4 | number of this part, from 0 |
//! | 16 | 8 | flush |
//! | 24 | 8 | epoch of the owner that wrote it |
//! | 32 | 4 | number of parts |
//! | 36 | 4 | bytes of the chunk |
//! | 40 | 4 | zero |
//! | 44 | 4 | CRC-32C of bytes 0..44 and the chunk |
//!
//! The chunks in order are the body: number of records u32, then each record as an entry of the journal (`DESIGN.md`,
//! section 4); then, for each table that has rows, its number u8, their count u32, and the rows by key as {key bytes u16,
//! row bytes u32, key, row} as [`crate::pack`] writes them. 0xFFFFFFFF in the place of a row's length: it is deleted.
//!
//! The digest is SHA-256 over all parts in order. The checksum of a part says which part is broken; the digest says that they are
//! the ones that were written together.

pub(super) mod read;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use till_core::Record;

use super::commit::{Commit, RECORDS_MAX};
use crate::journal::{Prepared, TooLarge};
use crate::num::{narrow, size32};
use crate::pack::{Key, Row, Table};
use crate::views::FlushBatch;

pub(super) use read::decode;

/// Most bytes of a part: one cell of the store, well below what a coordinator likes to hold.
pub const PART_BYTES_MAX: usize = 128 << 10;
/// Most parts: 2 GiB, twice what an engine may be set to hold uncommitted, as the rows of all that may be of one slot. A commit
/// that does not fit would never be made.
pub const PARTS_MAX: u32 = 16_384;

/// Stamp of every write of a part. A part has one content, so that no clock has to say which write of it is the newest.
pub const PART_STAMP: i64 = 1;
/// Stamp of the deletion of parts: it wins over every write of one, also over one that arrives later.
pub const PART_DELETE_STAMP: i64 = 2;

const HEADER_BYTES: usize = 48;
const CHUNK_BYTES_MAX: usize = PART_BYTES_MAX - HEADER_BYTES;
const MAGIC: [u8; 4] = *b"TLOG";
const VERSION: u8 = 1;
// In the place of a row's length: the row goes.
const DELETED: u32 = u32::MAX;

/// Records and rows as parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartSet {
    /// The parts by number.
    pub parts: Vec<Bytes>,
    /// SHA-256 of all of them in order.
    pub digest: [u8; 32],
}

/// Which parts are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PartSetKey {
    /// The slot.
    pub slot: u32,
    /// Number of the flush, or of the chunk.
    pub flush: u64,
    /// Epoch in which the flush was committed; 0 for a chunk.
    pub epoch: u64,
    /// Number of parts.
    pub parts: u32,
    /// Digest of all parts.
    pub digest: [u8; 32],
}

/// A commit that does not fit.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unfit {
    /// A record is too large for an entry.
    #[error("{0}")]
    Record(#[from] TooLarge),
    /// More records than a flush has positions.
    #[error("{records} records in one flush; the limit is {RECORDS_MAX}")]
    Records {
        /// How many.
        records: usize,
    },
    /// More bytes than parts may have.
    #[error("a flush of {bytes} bytes needs more than {PARTS_MAX} parts")]
    Bytes {
        /// How many.
        bytes: usize,
    },
}

/// Why what was read is not what was committed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum LogError {
    /// The seal of a flush below the last one was not found.
    #[error("flush {flush} has no seal")]
    Unsealed {
        /// Its number.
        flush: u64,
    },
    /// The rows of the slot are to be made of its log.
    #[error(
        "its rows are being rebuilt, or were not to the end: run `tillstream rebuild --scylla` until that succeeds"
    )]
    Unmade,
    /// Records of a flush were not found, or others than it had.
    #[error("{found} of {records} records of flush {flush} are there")]
    Records {
        /// Its number.
        flush: u64,
        /// How many there should be.
        records: u32,
        /// How many were found.
        found: u32,
    },
    /// A part was not found.
    #[error("part {part} of {parts} is missing")]
    Missing {
        /// Its number.
        part: u32,
        /// How many there should be.
        parts: u32,
    },
    /// A part that the row does not know of.
    #[error("part {part} was found; the slot's row says that there are {parts}")]
    Surplus {
        /// Its number.
        part: u32,
        /// How many there should be.
        parts: u32,
    },
    /// A part was written by a newer version.
    #[error("part {part} has version {version}; this software reads {VERSION}")]
    Newer {
        /// Its number.
        part: u32,
        /// Its version.
        version: u8,
    },
    /// A part whose bytes are not those that were written.
    #[error("part {part} is damaged")]
    Damaged {
        /// Its number.
        part: u32,
    },
    /// A whole part of another slot, flush or epoch, or under another number.
    #[error("part {part} says {what} {found} instead of {wanted}")]
    Foreign {
        /// The number under which it lay.
        part: u32,
        /// Which field differs.
        what: &'static str,
        /// What the part says.
        found: u64,
        /// What the slot's row says.
        wanted: u64,
    },
    /// Whole parts that together are not what was committed.
    #[error("the parts are whole, and are not what was committed")]
    Digest,
    /// What was committed cannot be read: an entry or row of a newer version, or a fault of the software that wrote it.
    #[error("what was committed cannot be read: {what}, at byte {at}")]
    Content {
        /// What does not fit.
        what: &'static str,
        /// Place in the body.
        at: usize,
    },
}

/// The parts of some records and of the rows of a commit.
pub(super) fn encode(commit: &Commit, records: &[Record]) -> Result<PartSet, Unfit> {
    let body = body_of(&commit.rows, records)?;
    let parts = narrow(body.len().div_ceil(CHUNK_BYTES_MAX));
    if parts > PARTS_MAX {
        return Err(Unfit::Bytes { bytes: body.len() });
    }
    let mut key = PartSetKey {
        slot: commit.slot,
        flush: commit.flush,
        epoch: commit.epoch,
        parts,
        digest: [0; 32],
    };
    let mut digest = Sha256::new();
    let mut out = Vec::with_capacity(size32(parts));
    for (number, chunk) in (0..parts).zip(body.chunks(CHUNK_BYTES_MAX)) {
        let mut part = header(&key, number, chunk).to_vec();
        part.extend_from_slice(chunk);
        digest.update(&part);
        out.push(Bytes::from(part));
    }
    key.digest = digest.finalize().into();
    Ok(PartSet {
        parts: out,
        digest: key.digest,
    })
}

fn header(key: &PartSetKey, number: u32, chunk: &[u8]) -> [u8; HEADER_BYTES] {
    let mut out = [0_u8; HEADER_BYTES];
    out[..4].copy_from_slice(&MAGIC);
    out[4] = VERSION;
    out[8..12].copy_from_slice(&key.slot.to_le_bytes());
    out[12..16].copy_from_slice(&number.to_le_bytes());
    out[16..24].copy_from_slice(&key.flush.to_le_bytes());
    out[24..32].copy_from_slice(&key.epoch.to_le_bytes());
    out[32..36].copy_from_slice(&key.parts.to_le_bytes());
    out[36..40].copy_from_slice(&narrow(chunk.len()).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[..44]), chunk);
    out[44..].copy_from_slice(&crc.to_le_bytes());
    out
}

fn body_of(rows: &FlushBatch, records: &[Record]) -> Result<Vec<u8>, Unfit> {
    if records.len() >= RECORDS_MAX {
        return Err(Unfit::Records {
            records: records.len(),
        });
    }
    let mut out = Vec::with_capacity(4_096);
    out.extend(narrow(records.len()).to_le_bytes());
    for record in records {
        let entry = Prepared::new(record)?;
        out.extend_from_slice(&entry.front);
        out.extend_from_slice(&entry.payload);
        out.extend_from_slice(&entry.tail);
    }
    put_table(&mut out, Table::Stores, packed(&rows.stores));
    put_table(&mut out, Table::Terminals, packed(&rows.terminals));
    put_table(&mut out, Table::Skus, packed(&rows.skus));
    put_table(&mut out, Table::Rollups, packed(&rows.rollups));
    put_table(&mut out, Table::EventIds, packed(&rows.event_ids));
    let quarantine = rows.quarantine.iter().map(|(key, row)| {
        let row = row.as_ref().map(Row::to_row);
        ((key.to_key(), Vec::new()), row)
    });
    put_table(&mut out, Table::Quarantine, quarantine.collect());
    let names = rows.names.iter().map(|(space, id, name)| {
        let row = name.to_row();
        (((*space, *id).to_key(), row.clone()), Some(row))
    });
    put_table(&mut out, Table::Names, names.collect());
    Ok(out)
}

// The bytes of a key, and what tells two rows of one key apart: names are told apart by the name as well.
type PackedKey = (Vec<u8>, Vec<u8>);

fn packed<K: Key, R: Row>(rows: &[(K, R)]) -> Vec<(PackedKey, Option<Vec<u8>>)> {
    let rows = rows.iter();
    rows.map(|(key, row)| ((key.to_key(), Vec::new()), Some(row.to_row())))
        .collect()
}

// Rows by key, of two for one the later. They mostly come in that order.
fn put_table(out: &mut Vec<u8>, table: Table, mut rows: Vec<(PackedKey, Option<Vec<u8>>)>) {
    if rows.is_empty() {
        return;
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    // Of two that are equal the first is kept: it takes the later row.
    rows.dedup_by(|(later, row), (first, kept)| {
        let is_same = later == first;
        if is_same {
            *kept = row.take();
        }
        is_same
    });
    out.push(table.number());
    out.extend(narrow(rows.len()).to_le_bytes());
    for ((key, _), row) in rows {
        let key_bytes = u16::try_from(key.len()).unwrap_or(u16::MAX);
        out.extend(key_bytes.to_le_bytes());
        let row_bytes = row.as_ref().map_or(DELETED, |row| narrow(row.len()));
        out.extend(row_bytes.to_le_bytes());
        out.extend(key);
        out.extend(row.unwrap_or_default());
    }
}

#[cfg(test)]
pub(super) mod tests;
