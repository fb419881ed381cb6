//! The tables: made, brought up to date, looked at.
//!
//! A version is a file of statements that never changes once released; a later version is a file of its own that changes the
//! one before. `schema_version` says which version the keyspace has, and from which version on a program can read it. A program
//! that finds a newer schema touches nothing.

mod apply;
mod ask;
mod copied;
mod error;
mod state;
mod text;

pub use apply::{SchemaRequest, apply};
pub(crate) use copied::{begin_copy, copy_target, end_copy};
pub use error::SchemaError;
pub use state::{State, Status};
pub use text::{Column, Table, Variables, statements, tables};

use crate::error::CqlError;
use crate::session::Cql;

/// Version of the schema that this program makes and knows.
pub const VERSION: i32 = 5;

/// The oldest program, by its [`VERSION`], that can work with the schema that this one makes.
pub const MIN_READER: i32 = 5;

/// The oldest version that is brought up to date in place. What is older is copied into a new keyspace.
pub const OLDEST: i32 = 4;

/// Looks at the keyspace; changes nothing.
///
/// # Errors
/// [`CqlError`] when the cluster does not answer.
pub fn status(cql: &Cql) -> Result<Status, CqlError> {
    let client = std::sync::Arc::clone(cql.client());
    cql.wait(async move { state::read(&client).await })
}

/// Whether this program can work with the keyspace as it is; the number of its slots. Asked before an engine starts.
///
/// # Errors
/// [`SchemaError::Missing`], [`SchemaError::Older`] or [`SchemaError::Newer`] say what has to be done.
pub fn check(cql: &Cql) -> Result<u32, SchemaError> {
    status(cql)?.usable()
}

#[cfg(test)]
mod tests;
