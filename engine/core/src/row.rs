//! The state of stores, terminals, SKUs and sums as rows: what actors are activated from and passivated to.
//!
//! Every row is absolute: writing it twice changes nothing, and the last one written is right.

use thiserror::Error;
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::record::Record;

/// Sums over transactions. Wide enough that no lifetime of a chain overflows them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Completed transactions.
    pub transactions: u64,
    /// Lines that are not void.
    pub lines: u64,
    /// Quantity of those lines in 1e-5 units.
    pub quantity: i128,
    /// Sum of their extended amounts in minor units.
    pub net: i128,
    /// Discounts given, in minor units, positive.
    pub discount: i128,
    /// Taxes, in minor units.
    pub tax: i128,
}

/// A store: fixed at registration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreRow {
    /// ISO 4217 number of its currency.
    pub currency: u16,
    /// IANA name of its time zone.
    pub zone: String,
    /// When it was registered, in us since 1970-01-01 UTC.
    pub registered_at_us: i64,
    /// Journal position up to which the store's rows hold every record.
    pub applied: u64,
    /// What was rung up in training mode.
    pub training: Totals,
}

/// How far one epoch of a terminal has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochProgress {
    /// Which epoch.
    pub epoch: u32,
    /// The sequence number that comes next.
    pub next_seq: u64,
    /// Digest of the event before it; 0 when there is none.
    pub digest: u64,
}

/// A terminal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TerminalRow {
    /// Its lives, oldest first.
    pub epochs: Vec<EpochProgress>,
    /// When it last sent events that were new, in us since 1970-01-01 UTC.
    pub last_seen_us: i64,
    /// Largest event time so far, by its own clock.
    pub last_event_at_us: i64,
    /// Sums of all its sales, voids and training left out.
    pub totals: Totals,
    /// The business day that `shift` sums up, in days since 1970-01-01.
    pub shift_day: u16,
    /// Sums of the latest business day.
    pub shift: Totals,
    /// Events that were applied.
    pub applied: u64,
    /// Events that came again under another sequence number (by event id).
    pub duplicates: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Events that were quarantined.
    pub quarantined: u64,
    /// Every flag that one of its events ever had.
    pub flags: u32,
}

/// Where a movement stands in the order of a SKU's events.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MoveKey {
    /// Event time in us since 1970-01-01 UTC.
    pub at_us: i64,
    /// The terminal's epoch.
    pub epoch: u32,
    /// The event's sequence number.
    pub seq: u64,
    /// The terminal.
    pub terminal: u64,
    /// The line within the event.
    pub line: u16,
}

/// The stock of one SKU in one store. Level = counted + moved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SkuRow {
    /// The count that the level starts from; `None` when it was never counted.
    pub counted: Option<(MoveKey, i64)>,
    /// Sum of the movements after the count, in 1e-5 units.
    pub moved: i64,
    /// Reserved for customers, in 1e-5 units.
    pub reserved: i64,
    /// Largest key of a movement so far.
    pub last_move: MoveKey,
    /// Event time of the newest count or movement.
    pub as_of_us: i64,
    /// Bits of `sku_flag`.
    pub flags: u32,
    /// Unit of measure last seen.
    pub unit: u8,
}

/// What a sum is split by.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Dim {
    /// The store as a whole; `key` is 0.
    Store = 0,
    /// A SKU; `key` is its id.
    Sku = 1,
    /// A category; `key` is its number.
    Category = 2,
    /// A tender; `key` is its key (SPEC.md).
    Tender = 3,
    /// An operator; `key` is the opaque reference.
    Operator = 4,
}

impl Dim {
    /// The dimension with this number on disk.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Store),
            1 => Some(Self::Sku),
            2 => Some(Self::Category),
            3 => Some(Self::Tender),
            4 => Some(Self::Operator),
            _ => None,
        }
    }

    /// The number on disk.
    #[expect(clippy::as_conversions, reason = "a repr(u8) enum's own number")]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Which hour of which business day of which store a sum belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RollupKey {
    /// The store.
    pub store: u32,
    /// What it is split by.
    pub dim: Dim,
    /// Business day in days since 1970-01-01.
    pub day: u16,
    /// Start of the store's local hour, in us since 1970-01-01 UTC.
    pub hour_us: i64,
    /// Which SKU, category, tender or operator.
    pub key: u64,
}

/// Sums of one hour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RollupRow {
    /// Sales, returns and exchanges.
    pub totals: Totals,
    /// The part of `totals.net` that went back to customers.
    pub returns_net: i128,
    /// Net movement of stock in 1e-5 units, sales included (SKU rows only).
    pub moved: i128,
}

/// The event that an event id stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EventIdRow {
    /// Terminal of the event.
    pub terminal: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Its sequence number.
    pub seq: u64,
    /// Content hash (SPEC.md).
    pub content: u64,
}

/// Names one quarantined event, or one line of it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct QuarantineKey {
    /// Terminal of the event.
    pub terminal: u64,
    /// Its epoch.
    pub epoch: u32,
    /// Its sequence number.
    pub seq: u64,
    /// Its line, or `u16::MAX` for the whole event.
    pub line: u16,
}

impl QuarantineKey {
    /// Of an event of a record.
    pub(crate) fn of(record: &Record, index: u32, line: u16) -> Self {
        Self {
            terminal: record.head.terminal,
            epoch: record.head.epoch,
            seq: record.head.first_seq + u64::from(index),
            line,
        }
    }
}

/// Why an event has no effect yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuarantineRow {
    /// The reason's code.
    pub reason: u16,
    /// When it was received, in us since 1970-01-01 UTC.
    pub received_at_us: i64,
    /// Journal position of its record.
    pub position: u64,
    /// The parked SKU, where it waits for one; else 0.
    pub sku: u64,
    /// The movement that waits, in 1e-5 units.
    pub quantity: i64,
}

/// Rows could not be read; the batch is not decided, and nothing has changed.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("could not read {table}: {cause}")]
pub struct RowsError {
    /// Which table.
    pub table: &'static str,
    /// What went wrong, in words.
    pub cause: String,
}

/// Where passivated state is found again.
pub trait Rows {
    /// A store's row.
    ///
    /// # Errors
    /// Returns [`RowsError`] when the store of rows cannot be read, as do all methods of this trait.
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError>;
    /// A terminal's row.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError>;
    /// The stock of a SKU.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError>;
    /// Sums of an hour.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError>;
    /// The event behind an event id.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError>;
    /// Whether an event, or a line of one, is in quarantine.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError>;
    /// For each of `counts` the net movement (1e-5 units) of its SKU by all *journalled and applied* movements whose key is
    /// greater than its own, in their order.
    ///
    /// Asked once for all counts of a batch that arrive late; answered from the facts, in one pass over them. `before` is the
    /// journal position of the record that is being applied: movements at or after it are not included.
    ///
    /// # Errors
    /// See [`Self::store`].
    fn moved_after(
        &self,
        store: StoreId,
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, RowsError>;
    /// Gives the *journalled* records that have events `first` to `last` of a terminal's epoch; it may give others besides.
    /// Asked only of what another engine hands off and is known here by its numbers. Of rows without facts nothing is known.
    ///
    /// # Errors
    /// See [`Self::store`]; passes on what `each` returns.
    fn records(
        &self,
        _terminal: TerminalId,
        _epoch: u32,
        _run: (u64, u64),
        _each: &mut dyn FnMut(&Record) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        Ok(())
    }
}

/// What an id of [`Names`] names.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Space {
    /// A SKU's code.
    Sku = 1,
    /// A tender's name.
    Tender = 2,
}

/// What a claim to a name comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// The id has no name yet.
    New,
    /// The id has this name already.
    Known,
    /// The id has another name: two names of one hash.
    Collision,
}

/// The names of ids, shared by all shards of a node.
pub trait Names: Sync {
    /// What a claim would come to. Changes nothing.
    ///
    /// # Errors
    /// Returns [`RowsError`] when names cannot be read.
    fn look_up(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError>;
    /// Gives an id its name, if it has none, for a record that brings it. Whether the id has this name now: of two shards that
    /// looked two names of one id up at the same instant, one is told no.
    fn claim(&self, space: Space, id: u64, name: &str) -> bool;
    /// Whether an id has a name.
    ///
    /// # Errors
    /// Returns [`RowsError`] when names cannot be read.
    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError>;
}
