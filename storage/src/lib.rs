//! Keeps what the tills sent: the journal, the facts in it, and the traits of every store of derived rows.
//!
//! A record is handed on only with proof that a sync covers it ([`journal::Durable`]). This crate never changes a byte
//! that it has acknowledged, never cuts damaged bytes away in silence, and touches files through [`disk::Disk`] alone.
//! `DESIGN.md` has the layout of every file and what each sync buys.

pub mod disk;
pub mod journal;

mod index;

pub mod facts;

pub mod memory;
pub mod pack;
pub mod views;

pub mod base;
pub mod doctor;
pub mod names;
pub mod query;
pub mod rebuild;

pub mod cluster;

mod num;
mod planted;
mod sync;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
