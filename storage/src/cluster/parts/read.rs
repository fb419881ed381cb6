//! PartSet read back: nothing is believed before it is proved.

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};
use till_core::Record;

use super::{DELETED, HEADER_BYTES, LogError, MAGIC, PartSetKey, VERSION};
use crate::cluster::Commit;
use crate::journal::format::{EntryPrefix, record_of};
use crate::num::{size32, u32_at, u64_at, wide};
use crate::pack::{Key, Row, Table};
use crate::views::FlushBatch;

pub(in crate::cluster) fn decode(
    key: &PartSetKey,
    parts: &[(u32, Bytes)],
) -> Result<Commit, LogError> {
    if let Some((part, _)) = parts.iter().find(|(part, _)| *part >= key.parts) {
        return Err(LogError::Surplus {
            part: *part,
            parts: key.parts,
        });
    }
    let mut digest = Sha256::new();
    let mut body = BytesMut::new();
    for number in 0..key.parts {
        let found = parts.iter().find(|(part, _)| *part == number);
        let (_, part) = found.ok_or(LogError::Missing {
            part: number,
            parts: key.parts,
        })?;
        body.extend_from_slice(chunk_of(key, number, part)?);
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    if digest != key.digest {
        return Err(LogError::Digest);
    }
    let mut reader = PartsReader {
        body: body.freeze(),
        at: 0,
    };
    let records = reader.records()?;
    let mut rows = FlushBatch::default();
    while reader.at < reader.body.len() {
        reader.table(&mut rows)?;
    }
    Ok(Commit {
        slot: key.slot,
        flush: key.flush,
        epoch: key.epoch,
        records,
        rows,
    })
}

/// The chunk of the body in a part that proves to be the right one.
fn chunk_of<'a>(key: &PartSetKey, number: u32, part: &'a [u8]) -> Result<&'a [u8], LogError> {
    let damaged = LogError::Damaged { part: number };
    let Some((head, chunk)) = part.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged);
    };
    if head[..4] != MAGIC {
        return Err(damaged);
    }
    // Before the checksum: a newer version may have another one.
    if head[4] != VERSION {
        return Err(LogError::Newer {
            part: number,
            version: head[4],
        });
    }
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[..44]), chunk);
    if crc != u32_at(head, 44) || size32(u32_at(head, 36)) != chunk.len() {
        return Err(damaged);
    }
    let says = [
        ("slot", u64::from(u32_at(head, 8)), u64::from(key.slot)),
        ("flush", u64_at(head, 16), key.flush),
        ("epoch", u64_at(head, 24), key.epoch),
        ("parts", u64::from(u32_at(head, 32)), u64::from(key.parts)),
        ("number", u64::from(u32_at(head, 12)), u64::from(number)),
    ];
    match says.into_iter().find(|(_, found, wanted)| found != wanted) {
        Some((what, found, wanted)) => Err(LogError::Foreign {
            part: number,
            what,
            found,
            wanted,
        }),
        None => Ok(chunk),
    }
}

/// The record of the entry that bytes begin with, and how many of them it is.
///
/// # Errors
/// What is wrong with it.
pub fn entry_of(bytes: &Bytes) -> Result<(Record, usize), &'static str> {
    let prefix = EntryPrefix::decode(bytes, wide(bytes.len()))
        .filter(|prefix| !prefix.is_hole() && prefix.proves(bytes))
        .ok_or("an entry")?;
    let size = size32(prefix.bytes);
    let record = record_of(&bytes.slice(..size), &prefix).ok_or("a record")?;
    Ok((record, size))
}

struct PartsReader {
    body: Bytes,
    at: usize,
}

impl PartsReader {
    fn wrong(&self, what: &'static str) -> LogError {
        LogError::Content { what, at: self.at }
    }

    fn take(&mut self, bytes: usize, what: &'static str) -> Result<Bytes, LogError> {
        let end = self.at.checked_add(bytes);
        let end = end.filter(|end| *end <= self.body.len());
        let end = end.ok_or_else(|| self.wrong(what))?;
        let taken = self.body.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn records(&mut self) -> Result<Vec<Record>, LogError> {
        let count = u32_at(&self.take(4, "the number of records")?, 0);
        let mut records = Vec::new();
        for _ in 0..count {
            let (record, bytes) =
                entry_of(&self.body.slice(self.at..)).map_err(|what| self.wrong(what))?;
            records.push(record);
            self.at += bytes;
        }
        Ok(records)
    }

    fn table(&mut self, rows: &mut FlushBatch) -> Result<(), LogError> {
        let head = self.take(5, "a table")?;
        let number = head.first().copied().unwrap_or(0);
        let table = Table::from_u8(number).ok_or_else(|| self.wrong("a table"))?;
        for _ in 0..u32_at(&head, 1) {
            let lengths = self.take(6, "the lengths of a row")?;
            let key_bytes = crate::num::u16_at(&lengths, 0);
            let row_bytes = u32_at(&lengths, 2);
            let key = self.take(usize::from(key_bytes), "a key")?;
            let row = match row_bytes {
                DELETED => None,
                bytes => Some(self.take(size32(bytes), "a row")?),
            };
            put(rows, table, &key, row.as_deref()).ok_or_else(|| self.wrong(table.name()))?;
        }
        Ok(())
    }
}

fn put(rows: &mut FlushBatch, table: Table, key: &[u8], row: Option<&[u8]>) -> Option<()> {
    fn both<K: Key, R: Row>(key: &[u8], row: Option<&[u8]>) -> Option<(K, R)> {
        Some((K::from_key(key)?, R::unpack(row?)?))
    }
    match table {
        Table::Stores => rows.stores.push(both(key, row)?),
        Table::Terminals => rows.terminals.push(both(key, row)?),
        Table::Skus => rows.skus.push(both(key, row)?),
        Table::Rollups => rows.rollups.push(both(key, row)?),
        Table::EventIds => rows.event_ids.push(both(key, row)?),
        Table::Quarantine => {
            let row = match row {
                None => None,
                Some(row) => Some(Row::unpack(row)?),
            };
            rows.quarantine.push((Key::from_key(key)?, row));
        }
        Table::Names => {
            let ((space, id), name) = both(key, row)?;
            rows.names.push((space, id, name));
        }
    }
    Some(())
}
