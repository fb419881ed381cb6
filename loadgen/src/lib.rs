//! A simulated chain, file replay and load, each with an oracle that checks the engine's answers.
//!
//! Everything here talks to an engine as a device or a person would: events over QUIC, questions over the admin port.
//! Nothing here reads the engine's files or links its code, so that a mistake is not made twice in the same way. Expected
//! sums are kept by arithmetic of its own, and a run counts as reconciled only when every one of them is equal.

pub mod admin;
pub mod bench;
pub mod cli;
pub mod engine;
pub mod fleet;
pub mod oracle;
pub mod replay;
pub mod wire;
pub mod workload;
