//! Rows in records: table u8, then rows as {key bytes u16 LE, row bytes u32 LE, key, row}.

use bytes::Bytes;
use till_core::{Record, RecordHead, RecordKind};

use super::FoldError;
use crate::pack::{Key, Row, Table};
use crate::views::FlushBatch;

/// Bytes of rows that one record gathers: well below what an entry may have, and enough that heads do not matter.
pub(super) const RECORD_BYTES: usize = 64 << 10;

/// Rows of one table on their way into records.
pub(super) struct Packer {
    table: Table,
    payload: Vec<u8>,
    count: u32,
}

impl Packer {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            payload: vec![table.number()],
            count: 0,
        }
    }

    /// Adds a row; gives a record once enough are gathered.
    pub(super) fn add(&mut self, key: &impl Key, row: &impl Row) -> Option<Record> {
        let (key, row) = (key.to_key(), row.to_row());
        let key_bytes = u16::try_from(key.len()).unwrap_or(u16::MAX);
        let row_bytes = u32::try_from(row.len()).unwrap_or(u32::MAX);
        self.payload.extend(key_bytes.to_le_bytes());
        self.payload.extend(row_bytes.to_le_bytes());
        self.payload.extend(key);
        self.payload.extend(row);
        self.count += 1;
        if self.payload.len() < RECORD_BYTES {
            return None;
        }
        self.take()
    }

    /// The record of what is left.
    pub(super) fn take(&mut self) -> Option<Record> {
        if self.count == 0 {
            return None;
        }
        let payload = std::mem::replace(&mut self.payload, vec![self.table.number()]);
        let count = std::mem::take(&mut self.count);
        Some(Record {
            head: RecordHead {
                kind: RecordKind::BaseRow,
                family: 0,
                version: 1,
                terminal: 0,
                epoch: 0,
                first_seq: 0,
                count,
                skip: 0,
                received_at_us: 0,
                digest: 0,
            },
            payload: Bytes::from(payload),
            verdicts: Vec::new(),
        })
    }
}

/// Adds the rows of a record to a flush.
pub(super) fn decode(record: &Record, flush: &mut FlushBatch) -> Result<(), FoldError> {
    if record.head.kind != RecordKind::BaseRow || record.head.version != 1 {
        return Err(wrong("its kind or version"));
    }
    let Some((table, mut rest)) = record.payload.split_first() else {
        return Err(wrong("it is empty"));
    };
    let table = Table::from_u8(*table).ok_or_else(|| wrong("its table"))?;
    let mut count = 0_u64;
    while !rest.is_empty() {
        let (key, row, after) = split(rest).ok_or_else(|| wrong("a row that is cut short"))?;
        rest = after;
        count += 1;
        put(flush, table, key, row).ok_or_else(|| wrong(table.name()))?;
    }
    if count != u64::from(record.head.count) {
        return Err(wrong("its number of rows"));
    }
    Ok(())
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (key_bytes, rest) = bytes.split_first_chunk::<2>()?;
    let (row_bytes, rest) = rest.split_first_chunk::<4>()?;
    let row_bytes = usize::try_from(u32::from_le_bytes(*row_bytes)).ok()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_bytes)))?;
    let (row, rest) = rest.split_at_checked(row_bytes)?;
    Some((key, row, rest))
}

fn put(flush: &mut FlushBatch, table: Table, key: &[u8], row: &[u8]) -> Option<()> {
    fn both<K: Key, R: Row>(key: &[u8], row: &[u8]) -> Option<(K, R)> {
        Some((K::from_key(key)?, R::unpack(row)?))
    }
    match table {
        Table::Stores => flush.stores.push(both(key, row)?),
        Table::Terminals => flush.terminals.push(both(key, row)?),
        Table::Skus => flush.skus.push(both(key, row)?),
        Table::Rollups => flush.rollups.push(both(key, row)?),
        Table::EventIds => flush.event_ids.push(both(key, row)?),
        Table::Quarantine => {
            let (key, row) = both(key, row)?;
            flush.quarantine.push((key, Some(row)));
        }
        Table::Names => {
            let ((space, id), name) = both(key, row)?;
            flush.names.push((space, id, name));
        }
    }
    Some(())
}

fn wrong(what: &str) -> FoldError {
    FoldError::Row {
        cause: what.to_owned(),
    }
}
