//! A keyspace that another one is being copied into: nobody else uses it until it has everything.

use std::sync::Arc;

use super::ask::settle;
use super::error::SchemaError;
use super::state::{self, COPIED_FROM, State};
use crate::client::Client;
use crate::error::CqlError;
use crate::session::Cql;

/// The number of slots of a keyspace that `from` may be copied into, and whether that was begun before.
///
/// # Errors
/// [`SchemaError::Copied`] where another keyspace is being copied there; as [`check`](super::check) else.
pub(crate) fn copy_target(cql: &Cql, from: &str) -> Result<(u32, bool), SchemaError> {
    let client = Arc::clone(cql.client());
    let mut status = cql.wait(async move { state::read(&client).await })?;
    let begun = status.copied_from.take_if(|begun| begun.as_str() == from);
    let slots = status.usable()?;
    Ok((slots, begun.is_some() && status.state() == State::Current))
}

/// Keeps everybody else out until [`end_copy`].
///
/// # Errors
/// [`CqlError`] when the cluster does not answer.
pub(crate) fn begin_copy(cql: &Cql, from: &str) -> Result<(), CqlError> {
    let (client, from) = (Arc::clone(cql.client()), from.to_owned());
    cql.wait(async move {
        let table = client.table("settings");
        let set = format!("INSERT INTO {table} (name, value) VALUES (?, ?) IF NOT EXISTS");
        settle(&client, "note the copy", &set, (COPIED_FROM, from)).await
    })
}

/// Everything was copied, and all rows are made.
///
/// # Errors
/// [`CqlError`] when the cluster does not answer.
pub(crate) fn end_copy(cql: &Cql) -> Result<(), CqlError> {
    let client: Arc<Client> = Arc::clone(cql.client());
    cql.wait(async move {
        let table = client.table("settings");
        let gone = format!("DELETE FROM {table} WHERE name = ? IF EXISTS");
        settle(&client, "note the end of the copy", &gone, (COPIED_FROM,)).await
    })
}
