//! The way in: what whoever brings devices in has of a running engine, and what a session has of its shard.
//!
//! Nothing here knows how bytes come: QUIC does it in `till-gateway`, a simulator by hand.

pub(crate) mod check;
pub(crate) mod inlet;
pub(crate) mod intake;
pub(crate) mod placement;
pub(crate) mod registry;
pub(crate) mod screen;
pub(crate) mod session;
pub(crate) mod useless;
