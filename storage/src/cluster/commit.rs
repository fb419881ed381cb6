//! What one commit of a slot makes true.

use std::collections::BTreeMap;

use bytes::Bytes;
use till_core::Record;

use super::log::{self, FoundLog, Log, Seal};
use super::parts::{self, LogError, PartSet, PartSetKey, Unfit};
use crate::pack::{Key, Row as _};
use crate::views::FlushBatch;

/// Bits of a position that count the records of one flush.
pub const INDEX_BITS: u32 = 24;
/// Most records of one flush: each has a position of its own.
pub const RECORDS_MAX: usize = 1 << INDEX_BITS;

/// A flush of one slot: records, and the absolute rows after them. Flushes of a slot are numbered without gaps, through
/// all its owners, and each number is committed once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Commit {
    /// The slot.
    pub slot: u32,
    /// Number of the flush; the first is 1.
    pub flush: u64,
    /// The epoch of the owner that commits it: its log lies under it.
    pub epoch: u64,
    /// The records since the flush before, in the order of the owner's journal.
    pub records: Vec<Record>,
    /// The rows that changed since the flush before. Without a checkpoint: the flush's number is that.
    pub rows: FlushBatch,
}

impl Commit {
    /// The position of a record: by flush, then by its place in the flush. It stands where a single node has positions of
    /// its journal.
    pub const fn position(flush: u64, index: u32) -> u64 {
        // A u32 always fits; From is not const.
        #[expect(
            clippy::as_conversions,
            reason = "u32 to u64 widens; From is not const"
        )]
        let index = index as u64;
        (flush << INDEX_BITS) | index
    }

    /// The flush of a position.
    pub const fn flush_of(position: u64) -> u64 {
        position >> INDEX_BITS
    }

    /// The number of the record at a position within its flush.
    pub fn number_of(position: u64) -> u32 {
        u32::try_from(position & ((1 << INDEX_BITS) - 1)).unwrap_or(0)
    }

    /// The commit with its rows in the order of their keys and each key once, the later row of two. All rows of a flush
    /// are written with one stamp, so that two for one key would leave the store to choose. Names are a set: two for one
    /// id both stay.
    #[must_use]
    pub fn settled(mut self) -> Self {
        let rows = &mut self.rows;
        sort_and_dedup(&mut rows.stores);
        sort_and_dedup(&mut rows.terminals);
        sort_and_dedup(&mut rows.skus);
        sort_and_dedup(&mut rows.rollups);
        sort_and_dedup(&mut rows.event_ids);
        sort_and_dedup(&mut rows.quarantine);
        rows.names
            .sort_by_cached_key(|(space, id, name)| ((*space, *id).to_key(), name.to_row()));
        rows.names.dedup();
        rows.checkpoint = None;
        self
    }

    /// The log of this flush. The same commit always gives the same bytes; its rows
    /// are settled first.
    ///
    /// # Errors
    /// [`Unfit`] for a flush that is too large, or has a record that no entry of a journal could hold.
    pub fn to_log(&self) -> Result<Log, Unfit> {
        log::encode(self)
    }

    /// The settled commit that a log of a slot and flush holds.
    ///
    /// # Errors
    /// [`LogError`] says what is missing, damaged, foreign or of a newer version, and when the whole is not what was
    /// committed.
    pub fn from_log(of: (u32, u64), seal: &Seal, found: &FoundLog) -> Result<Self, LogError> {
        log::decode(of, seal, found)
    }

    /// Records and rows in parts, as an inbox has them.
    ///
    /// # Errors
    /// See [`Self::to_log`].
    pub fn to_parts(&self) -> Result<PartSet, Unfit> {
        parts::encode(self, &self.records)
    }

    /// The settled commit that parts hold. They come with their numbers, in any order.
    ///
    /// # Errors
    /// See [`Self::from_log`].
    pub fn from_parts(key: &PartSetKey, found: &[(u32, Bytes)]) -> Result<Self, LogError> {
        parts::decode(key, found)
    }
}

fn sort_and_dedup<K: Key, R>(rows: &mut Vec<(K, R)>) {
    // As shards give them, nearly always.
    let mut last = None;
    let rises = |(key, _): &(K, R)| {
        let key = Some(key.to_key());
        let is_above = last < key;
        last = key;
        is_above
    };
    if rows.iter().all(rises) {
        return;
    }
    let taken = std::mem::take(rows);
    let by_key: BTreeMap<Vec<u8>, (K, R)> = taken
        .into_iter()
        .map(|(key, row)| (key.to_key(), (key, row)))
        .collect();
    rows.extend(by_key.into_values());
}
