//! Small statements about the schema.

use std::time::Duration;

use scylla::deserialize::row::DeserializeRow;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::{Consistency, Statement};
use tokio::time::sleep;

use crate::client::{Client, Purpose};
use crate::error::CqlError;

/// Conditional statements of several that apply at once stand in each other's way; then they are sent again.
const TRIES: u32 = 5;

/// All rows of a short answer.
///
/// # Errors
/// [`CqlError`] when the cluster does not answer, or with other columns.
pub(super) async fn rows<R>(
    client: &Client,
    what: &'static str,
    statement: Statement,
    values: impl SerializeRow,
) -> Result<Vec<R>, CqlError>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    let answer = client.session().query_unpaged(statement, values).await;
    let answer: QueryResult = answer.map_err(|error| CqlError::statement(what, error))?;
    let rows = answer
        .into_rows_result()
        .map_err(|error| CqlError::answer(what, error))?;
    rows.rows::<R>()
        .map_err(|error| CqlError::answer(what, error))?
        .collect::<Result<Vec<R>, _>>()
        .map_err(|error| CqlError::answer(what, error))
}

/// A read.
pub(super) fn read(client: &Client, cql: String) -> Statement {
    let mut statement = Statement::new(cql);
    statement.set_execution_profile_handle(Some(client.profile(Purpose::Read).clone()));
    statement.set_is_idempotent(true);
    statement
}

/// A read that sees every conditional write that was answered, and ends those that were not.
pub(super) fn serial_read(client: &Client, cql: String) -> Statement {
    let mut statement = read(client, cql);
    statement.set_consistency(Consistency::LocalSerial);
    statement
}

/// A conditional write whose content is the same however often and by whomever it is sent; so it may be sent again when its
/// outcome is not known.
///
/// # Errors
/// [`CqlError::Statement`] when it was never answered.
pub(super) async fn settle(
    client: &Client,
    what: &'static str,
    cql: &str,
    values: impl SerializeRow,
) -> Result<(), CqlError> {
    let mut statement = Statement::new(cql);
    statement.set_execution_profile_handle(Some(client.profile(Purpose::Lwt).clone()));
    let mut tries = 0;
    loop {
        let answer = client.session().query_unpaged(statement.clone(), &values);
        match answer.await {
            Ok(_) => return Ok(()),
            Err(error) if tries >= TRIES => return Err(CqlError::statement(what, error)),
            Err(_) => tries += 1,
        }
        sleep(Duration::from_millis(50) * tries).await;
    }
}
