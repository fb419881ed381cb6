//! The wire contract between tills and Tillstream.
//!
//! This crate says what a device may send and what the engine answers, byte by byte. It is pure: it performs no I/O,
//! reads no clock and draws no random numbers.

pub mod family;
pub mod id;
