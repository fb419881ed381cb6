//! Facts, derived rows and the ownership of slots in ScyllaDB, or in Apache Cassandra 5 by the subset of CQL that both know.
//!
//! What is committed here survives the loss of any engine node. This crate decides nothing: what a flush holds comes from
//! the engine, and who may commit it from the protocol in `till_storage::cluster`.

mod client; // a connected cluster
mod config; // where it is
mod constraints; // what operators want
mod error; // what can go wrong
mod handoff; // records that wait for an owner
pub mod migrate; // a chain of an earlier release, copied
mod retry; // what the driver may send again
mod rows; // the rows of every table
pub mod schema; // the tables
mod server; // ScyllaDB or Cassandra
mod session; // connecting, and waiting for it
mod slots; // who serves what
mod store; // all of it, as engines share it
mod tables; // commits in, rows and facts out
mod tls; // authorities

pub use client::{Client, Purpose};
pub use config::{CONNECT_TIMEOUT, Credentials, Keyspace, ScyllaConfig, ScyllaConfigError};
pub use error::{CqlError, Tried};
pub use server::{Dialect, Server};
pub use session::Cql;
pub use store::ScyllaStore;
pub use tables::{Tables, Written};
