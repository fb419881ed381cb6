//! What one commit of a slot makes true.

use till_core::Record;

use crate::views::FlushBatch;

/// Bits of a position that count the records of one flush.
pub const INDEX_BITS: u32 = 24;

/// A flush of one slot: records, and the absolute rows after them. Flushes of a slot are numbered without gaps, through
/// all its owners, and each number is committed once.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Commit {
    /// The slot.
    pub slot: u32,
    /// Number of the flush; the first is 1.
    pub flush: u64,
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
}
