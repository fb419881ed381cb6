//! Sensor, version 1.
//!
//! # Warning
//! Frozen. Do not change, reorder, add or remove a field: golden bytes hold every one. A new shape is `v2`.

use rkyv::{Archive, Deserialize, Serialize};

use crate::family::{Reference, Text};

/// A frame's worth of readings.
#[derive(Archive, Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Batch {
    /// One per event.
    pub readings: Vec<Reading>,
    /// Event ids.
    pub refs: Vec<Reference>,
    /// Texts of the events.
    pub texts: Vec<Text>,
    /// UTF-8 bytes of all texts, in order.
    pub text: Vec<u8>,
}

/// What a sensor read: 34 bytes.
#[derive(Archive, Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Reading {
    /// When, by the device's clock, in us since 1970-01-01 UTC.
    pub at: i64,
    /// What lies on the shelf; 0 = not stated.
    pub sku: u64,
    /// The value in 1e-3 of `unit`.
    pub value: i64,
    /// Which sensor of the device.
    pub sensor: u32,
    /// The device's offset from UTC at `at`, in minutes.
    pub offset_min: i16,
    /// One of [`kind`].
    pub kind: u8,
    /// Unit of measure: one of [`unit`](crate::quantity::unit).
    pub unit: u8,
    /// Zero.
    pub flags: u16,
}

/// Kinds of [`Reading`].
pub mod kind {
    /// Mass on a shelf.
    pub const MASS: u8 = 1;
    /// Pieces on a shelf.
    pub const COUNT: u8 = 2;
    /// Temperature.
    pub const TEMPERATURE: u8 = 3;
    /// Door open (1) or shut (0).
    pub const DOOR: u8 = 4;
    /// Charge of the battery.
    pub const BATTERY: u8 = 5;
    /// Largest kind of this version.
    pub const MAX: u8 = BATTERY;
}
