//! The wire contract between tills and Tillstream.
//!
//! This crate says what a device may send and what the engine answers, byte by byte. It is pure: it performs no I/O,
//! reads no clock and draws no random numbers. `SPEC.md` beside it says the same for readers without Rust; tests hold the
//! two together.
//!
//! The modules stand in the order in which a frame meets them: chunks become frames ([`codec`]), frames become
//! [`Verified`](verified::Verified) batches, batches are read through a [`View`](view::View), and answers are [`reply`]
//! messages. Devices go the other way with a [`builder`].

pub mod code;
pub mod currency;
pub mod id;
pub mod limits;
pub mod money;
pub mod quantity;
pub mod time;

pub mod family;
pub mod layout;

pub mod card;
pub mod codec;
pub mod digest;
pub mod header;
pub mod reply;
pub mod verified;
pub mod view;

pub mod builder;
pub mod safe;
