//! Facts, derived rows and the ownership of slots in ScyllaDB, or in Apache Cassandra 5 by the subset of CQL that both know.
//!
//! What is committed here survives the loss of any engine node. This crate decides nothing: what a flush holds comes from
//! the engine, and who may commit it from the protocol in `till_storage::cluster`.
