//! Heartbeats of the device itself.

pub mod v1;
