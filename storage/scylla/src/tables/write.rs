//! Commits into the tables.

use std::sync::Arc;

use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::Commit;
use till_storage::views::StoreError;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::Tables;
use super::group::group;
use super::read::Asked;
use crate::client::Client;
use crate::error::CqlError;
use crate::rows::{Chunk, Packer, derived_of, facts_of};

/// What a commit came to in the tables.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Rows of all tables.
    pub rows: u64,
    /// Statements that they took.
    pub statements: u64,
}

impl Tables {
    /// Writes every row of commits of a slot that follow each other. The rows are a pure function of them, each with a timestamp
    /// of its own: written again they change nothing, and written after a later commit they change no derived row. Stores come
    /// last: whoever sees how far a store's row is sees every other row up to there.
    ///
    /// # Errors
    /// [`StoreError::Failed`] when the cluster did not take every row; the call may be made again, by any engine.
    /// [`StoreError::Damaged`] when a record of a commit is none that this software writes.
    pub fn project(&self, commits: &[Arc<Commit>]) -> Result<Written, StoreError> {
        let to = &self.writes;
        let mut packer = Packer::default();
        self.note_registrations(commits);
        for commit in commits {
            let facts = facts_of(commit, |store| self.traits(commits, store))?;
            packer.add(&to.hours, facts.hours)?;
            packer.add(&to.hour_index, facts.hour_index)?;
            packer.add(&to.runs, facts.runs)?;
            packer.add(&to.receipts, facts.receipts)?;
            packer.add(&to.transactions, facts.transactions)?;
            packer.add(&to.lines, facts.lines)?;
            packer.add(&to.moves, facts.moves)?;
            packer.add(&to.telemetry, facts.telemetry)?;
            packer.add(&to.audit, facts.audit)?;
        }
        let derived = derived_of(commits);
        packer.add(&to.terminals, derived.terminals)?;
        packer.add(&to.levels, derived.levels)?;
        packer.add(&to.rollups, derived.rollups)?;
        packer.add(&to.rollup_days, derived.rollup_days)?;
        packer.add(&to.days_due, derived.days_due)?;
        packer.add(&to.event_ids, derived.event_ids)?;
        packer.add(&to.quarantine, derived.quarantine)?;
        packer.add(&to.gone, derived.gone)?;
        packer.add(&to.names, derived.names)?;
        let mut last = Packer::default();
        last.add(&to.stores, derived.stores)?;
        let (first, last) = (self.put(packer)?, self.put(last)?);
        Ok(Written {
            rows: first.rows + last.rows,
            statements: first.statements + last.statements,
        })
    }

    /// Deletes partitions, one after another.
    pub(super) fn delete<V: Asked>(
        &self,
        statement: &PreparedStatement,
        what: &'static str,
        keys: impl IntoIterator<Item = V>,
    ) -> Result<(), StoreError> {
        for key in keys {
            let (client, statement) = (Arc::clone(self.cql.client()), statement.clone());
            self.cql.wait(async move {
                let done = client.session().execute_unpaged(&statement, key).await;
                done.map_err(|error| CqlError::statement(what, error))
            })?;
        }
        Ok(())
    }

    pub(super) fn put(&self, packer: Packer) -> Result<Written, StoreError> {
        let (chunks, rows) = packer.finish();
        let statements = u64::try_from(chunks.len()).unwrap_or(u64::MAX);
        if !chunks.is_empty() {
            let client = Arc::clone(self.cql.client());
            let permits = Arc::clone(&self.permits);
            self.cql.wait(put_all(client, permits, chunks))?;
        }
        Ok(Written { rows, statements })
    }
}

// Those under way are given up when one fails: all of them may be sent again.
async fn put_all(
    client: Arc<Client>,
    permits: Arc<Semaphore>,
    chunks: Vec<Chunk>,
) -> Result<(), CqlError> {
    let mut under_way = JoinSet::new();
    for group in group(&client, chunks) {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.map_err(|_| CqlError::Stopped)?;
        let client = Arc::clone(&client);
        under_way.spawn(async move {
            let _until_done = permit;
            group.put(&client).await
        });
        while let Some(done) = under_way.try_join_next() {
            finished(done)?;
        }
    }
    while let Some(done) = under_way.join_next().await {
        finished(done)?;
    }
    Ok(())
}

pub(super) fn finished<T>(done: Result<Result<T, CqlError>, JoinError>) -> Result<T, CqlError> {
    done.unwrap_or(Err(CqlError::Stopped))
}
