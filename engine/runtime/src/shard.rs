//! A shard decides: what devices say comes through its mailbox to the core, and what the core says goes to the journal.

pub(crate) mod actor;
pub(crate) mod crash;
pub(crate) mod handle;
mod handoff;
mod handshake;
mod leave;
mod mailbox;
pub(crate) mod message;
pub(crate) mod offer;
mod prefetch;
mod sights;
pub(crate) mod sketch;
pub(crate) mod state;
pub(crate) mod supervisor;
pub(crate) mod waiting;
