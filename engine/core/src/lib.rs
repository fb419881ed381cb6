//! Decides what a batch of till events means for one shard.
//!
//! This crate is deterministic: the same inputs give the same outputs, byte for byte. It performs no I/O, reads no clock
//! and draws no random numbers; callers hand in the time with every input, and [`Rows`] and [`Names`] to look things up.

mod record;
mod row;

pub use record::{Outcome, Record, RecordError, RecordHead, RecordKind, Verdict};
pub use row::{
    Claim, Dim, EpochMark, EventIdRow, MoveKey, Names, QuarantineKey, QuarantineRow, RollupKey,
    RollupRow, Rows, RowsError, SkuRow, Space, StoreRow, TerminalRow, Totals,
};
