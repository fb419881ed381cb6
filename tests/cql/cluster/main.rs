//! Engines that share a store, as real processes against a real CQL server; tests/cql/run starts one and says which tests need
//! what of it.
//!
//! Each test has a keyspace of its own. Those that lose something all end with the same look: whatever was killed, stopped or
//! lost, derived rows are what the facts add up to.

#![expect(clippy::print_stdout, reason = "the log of a test")]

mod absent;
mod cql;
mod crashes;
mod history;
mod losses;
mod lossy;
mod nodes;
mod operate;
mod pauses;
mod rebuild;
mod snapshot;
mod sums;
mod world;
