//! Device, version 1.
//!
//! # Warning
//! Frozen. Do not change, reorder, add or remove a field: golden bytes hold every one. A new shape is `v2`.

use rkyv::{Archive, Deserialize, Serialize};

use crate::family::{Reference, Text};

/// A frame's worth of heartbeats.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Batch {
    /// One per event.
    pub signs: Vec<Sign>,
    /// Event ids.
    pub refs: Vec<Reference>,
    /// Texts of the events.
    pub texts: Vec<Text>,
    /// UTF-8 bytes of all texts, in order.
    pub text: Vec<u8>,
}

/// A heartbeat: 32 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Sign {
    /// When, by the device's clock, in us since 1970-01-01 UTC.
    pub at: i64,
    /// Events that wait in the device's outbox.
    pub backlog: u64,
    /// Time since the device started, in ms.
    pub uptime_ms: u64,
    /// A code of the maker's (fault, exit); 0 = none.
    pub code: u32,
    /// The device's offset from UTC at `at`, in minutes.
    pub offset_min: i16,
    /// One of [`kind`].
    pub kind: u8,
    /// Zero.
    pub flags: u8,
}

/// Kinds of [`Sign`].
pub mod kind {
    /// The device came up.
    pub const STARTED: u8 = 1;
    /// The device lives.
    pub const HEARTBEAT: u8 = 2;
    /// The device goes down in good order.
    pub const STOPPED: u8 = 3;
    /// Something is wrong with it.
    pub const FAULT: u8 = 4;
    /// Largest kind of this version.
    pub const MAX: u8 = FAULT;
}
