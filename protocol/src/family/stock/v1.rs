//! Stock, version 1.
//!
//! # Warning
//! Frozen. Do not change, reorder, add or remove a field: golden bytes hold every one. A new shape is `v2`.

use rkyv::{Archive, Deserialize, Serialize};

use crate::family::{Reference, Text};

/// A frame's worth of stock events.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Batch {
    /// One per event.
    pub moves: Vec<Move>,
    /// Event ids, reservations, approvers.
    pub refs: Vec<Reference>,
    /// Texts of the events.
    pub texts: Vec<Text>,
    /// UTF-8 bytes of all texts, in order.
    pub text: Vec<u8>,
}

/// What happened to the stock of one SKU: 32 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Move {
    /// When it happened by the device's clock, in us since 1970-01-01 UTC.
    pub at: i64,
    /// Of what.
    pub sku: u64,
    /// How much, in 1e-5 of `unit`. The kind says how it counts.
    pub quantity: i64,
    /// The device's offset from UTC at `at`, in minutes.
    pub offset_min: i16,
    /// One of [`kind`].
    pub kind: u8,
    /// Unit of measure: one of [`unit`](crate::quantity::unit).
    pub unit: u8,
    /// The chain's reason code; 0 = not stated.
    pub reason: u16,
    /// Bits of [`flag`].
    pub flags: u16,
}

/// Kinds of [`Move`].
pub mod kind {
    /// Came in from a supplier: the level rises by the quantity.
    pub const RECEIVED: u8 = 1;
    /// Correction: the level changes by the signed quantity.
    pub const ADJUSTED: u8 = 2;
    /// Counted: the level *is* the quantity at that time.
    pub const COUNTED: u8 = 3;
    /// Left for another store: the level falls by the quantity.
    pub const TRANSFER_OUT: u8 = 4;
    /// Came from another store: the level rises by the quantity.
    pub const TRANSFER_IN: u8 = 5;
    /// Broken, spoiled or stolen: the level falls by the quantity.
    pub const WASTE: u8 = 6;
    /// Reserved for a customer: reserved rises, the level stays.
    pub const RESERVED: u8 = 7;
    /// Set free again: reserved falls, the level stays.
    pub const RELEASED: u8 = 8;
    /// Largest kind of this version.
    pub const MAX: u8 = RELEASED;
}

/// Bits of [`Move::flags`].
pub mod flag {
    /// Done in training mode: kept apart from stock.
    pub const TRAINING: u16 = 1;
    /// All bits of this version.
    pub const ALL: u16 = TRAINING;
}
