//! Decides what a batch of till events means for one shard.
//!
//! This crate is deterministic: the same inputs give the same outputs, byte for byte. It performs no I/O, reads no clock
//! and draws no random numbers; callers hand in the time with every input, and [`Rows`] and [`Names`] to look things up.
//!
//! A live shard is driven by [`Shard::hello`], [`Shard::handle`] and [`Shard::take_dirty`]. Each batch is prefetched, decided and
//! applied: `prefetch` brings in all that it needs and is the one step that can fail, `decide` is a pure function and changes
//! nothing, `apply` does what the record says and cannot fail. Recovery and rebuild ([`Shard::replay`]) and retries
//! ([`Shard::retry`]) end in the same `apply`. Where rows are on other machines, [`Shard::read_standing`] and
//! [`Shard::read_touched`] name those of many batches, to be fetched at once.

#![forbid(unsafe_code)]

pub mod contribution;
pub mod event;
pub mod flag;
pub mod invariant;
pub mod ledger;
pub mod zone;

mod counters;
mod dirty;
mod hash;
#[cfg(feature = "planted")]
pub mod planted;
mod read_set;
mod recent;
mod record;
mod rollup;
mod row;
mod shard;
mod sku;
mod store;
mod table;
mod terminal;

pub use contribution::Contributor;
pub use counters::Counters;
pub use dirty::Dirty;
pub use invariant::{InvariantId, Violations};
pub use read_set::ReadSet;
pub use record::{Outcome, Record, RecordError, RecordHead, RecordKind, Verdict};
pub use row::{
    Claim, Dim, EpochProgress, EventIdRow, MoveKey, Names, QuarantineKey, QuarantineRow, RollupKey,
    RollupRow, Rows, RowsError, SkuRow, Space, StoreRow, TerminalRow, Totals,
};
pub use shard::{
    Frame, Handled, HandshakeState, Hello, HelloError, Origin, Replayed, RetryError, SessionKey,
    Shard, ShardConfig,
};
pub use store::{RegisterError, Registration};
pub use terminal::{EPOCHS_MAX, Window};
pub use zone::{LocalHour, UnknownZone, Zone};
