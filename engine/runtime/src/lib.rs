//! The shell around the core: QUIC, shard actors, group commit, flush.
//!
//! This crate moves bytes between the world and [`till_core::Shard`]; it decides nothing about events. A device is
//! acknowledged only from a [`Durable`](till_storage::journal::Durable), nothing enters a mailbox without a permit, and a read
//! never waits for a shard.
//!
//! The modules stand in the order in which data meets them.

pub mod config;
mod pki;

mod commit; // records become durable
mod flush; // durable rows reach the views
mod gateway; // bytes become frames, frames become batches with a permit
mod published;
mod registry; // stores that are known before their tills speak
mod session; // what is to be said to a device
mod shard_actor; // batches meet their shard // figures that others may read at any time

mod data; // the folder: lock, journal, rows, recovery
mod engine;
mod offline;
mod supervisor;

pub use config::Config;
pub use data::{DataError, Holder, StartReport};
pub use engine::{Handle, Runtime, StartError};
pub use offline::{Offline, RetryReport};
pub use published::{Figures, HotKey, ShardFigures};
