//! Records that wait for the owner of their slot, in CQL.
//!
//! What waits is listed only once all of it is written, and its pieces go only once it is not listed any more.

use bytes::Bytes;
use scylla::statement::prepared::PreparedStatement;
use till_storage::cluster::{Commit, Handoff, NodeId, PART_DELETE_STAMP, PART_STAMP, PartSetKey};
use till_storage::views::StoreError;
use uuid::Uuid;

use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::slots::{bigint, int, rows_of, unsigned};

/// The one partition of the list: it is empty but for the time after the loss of a node.
const LIST: i32 = 0;

// A chunk is written once and taken away once, and its number never has another content: a write that comes after that, as it
// lay in a coordinator that stood still, must not put back what was replayed.
const PUT: i64 = PART_STAMP;
const TAKEN: i64 = PART_DELETE_STAMP;

/// The statements, prepared.
#[derive(Debug)]
pub(crate) struct HandoffStatements {
    write: PreparedStatement,
    list: PreparedStatement,
    listed: PreparedStatement,
    one: PreparedStatement,
    read: PreparedStatement,
    unlist: PreparedStatement,
    delete: PreparedStatement,
}

impl HandoffStatements {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, CqlError> {
        let (body, list) = (client.table("handoff"), client.table("handoff_list"));
        let write =
            |cql: String| async move { client.prepare(Purpose::Ingest, "handoff", &cql).await };
        let read =
            |cql: String| async move { client.prepare(Purpose::Read, "handoff", &cql).await };
        let one = "WHERE part = ? AND slot = ? AND node = ? AND number = ?";
        Ok(Self {
            write: write(format!(
                "INSERT INTO {body} (slot, node, number, part, body) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP {PUT}"
            ))
            .await?,
            list: write(format!(
                "INSERT INTO {list} (part, slot, node, number, parts, digest) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP {PUT}"
            ))
            .await?,
            listed: read(format!("SELECT slot, node, number FROM {list} WHERE part = ?")).await?,
            one: read(format!("SELECT parts, digest FROM {list} {one}")).await?,
            read: read(format!(
                "SELECT part, body FROM {body} WHERE slot = ? AND node = ? AND number = ?"
            ))
            .await?,
            unlist: write(format!("DELETE FROM {list} USING TIMESTAMP {TAKEN} {one}")).await?,
            delete: write(format!(
                "DELETE FROM {body} USING TIMESTAMP {TAKEN} WHERE slot = ? AND node = ? AND number = ?"
            ))
            .await?,
        })
    }

    /// Puts records where the owner of their slot finds them.
    pub(crate) async fn put(&self, client: &Client, handoff: &Handoff) -> Result<(), StoreError> {
        let commit = Commit {
            slot: handoff.slot,
            flush: handoff.number,
            records: handoff.records.clone(),
            ..Commit::default()
        };
        let log = commit.to_parts().map_err(|error| StoreError::Failed {
            table: "handoff",
            cause: error.to_string(),
        })?;
        let node = Uuid::from_bytes(handoff.from.to_bytes());
        let (slot, number) = (int(handoff.slot)?, bigint(handoff.number)?);
        let session = client.session();
        let failed = |error| CqlError::statement("handoff", error);
        for (part, body) in (0_i32..).zip(&log.parts) {
            let values = (slot, node, number, part, body.as_ref());
            let done = session.execute_unpaged(&self.write, values).await;
            done.map_err(failed)?;
        }
        let parts = i32::try_from(log.parts.len()).unwrap_or(i32::MAX);
        let values = (LIST, slot, node, number, parts, log.digest.as_slice());
        session
            .execute_unpaged(&self.list, values)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// What waits.
    pub(crate) async fn all(&self, client: &Client) -> Result<Vec<(u32, NodeId, u64)>, CqlError> {
        let rows = rows_of::<(i32, Uuid, i64)>(client, "handoff", &self.listed, (LIST,)).await?;
        let rows = rows.into_iter().map(|(slot, node, number)| {
            let slot = u32::try_from(slot).map_err(|error| CqlError::answer("handoff", error))?;
            let node = NodeId::from_bytes(node.into_bytes());
            Ok((slot, node, unsigned("handoff", number)?))
        });
        rows.collect()
    }

    /// Records that wait.
    pub(crate) async fn get(
        &self,
        client: &Client,
        (slot, from, number): (u32, NodeId, u64),
    ) -> Result<Option<Handoff>, StoreError> {
        let node = Uuid::from_bytes(from.to_bytes());
        let key = (LIST, int(slot)?, node, bigint(number)?);
        let listed = rows_of::<(i32, Vec<u8>)>(client, "handoff", &self.one, key).await?;
        let Some((parts, digest)) = listed.into_iter().next() else {
            return Ok(None);
        };
        let key = (int(slot)?, node, bigint(number)?);
        let bodies = rows_of::<(i32, Vec<u8>)>(client, "handoff", &self.read, key).await?;
        let bodies: Vec<(u32, Bytes)> = bodies
            .into_iter()
            .filter_map(|(part, body)| Some((u32::try_from(part).ok()?, Bytes::from(body))))
            .collect();
        let key = PartSetKey {
            slot,
            flush: number,
            epoch: 0,
            parts: u32::try_from(parts).unwrap_or(0),
            digest: digest.try_into().unwrap_or_default(),
        };
        let commit = Commit::from_parts(&key, &bodies).map_err(|error| StoreError::Damaged {
            table: "handoff",
            cause: error.to_string(),
        })?;
        Ok(Some(Handoff {
            slot,
            from,
            number,
            records: commit.records,
        }))
    }

    /// Takes away what was replayed.
    pub(crate) async fn remove(
        &self,
        client: &Client,
        (slot, from, number): (u32, NodeId, u64),
    ) -> Result<(), CqlError> {
        let node = Uuid::from_bytes(from.to_bytes());
        let (slot, number) = (int(slot)?, bigint(number)?);
        let session = client.session();
        let failed = |error| CqlError::statement("handoff", error);
        let listed = (LIST, slot, node, number);
        session
            .execute_unpaged(&self.unlist, listed)
            .await
            .map_err(failed)?;
        session
            .execute_unpaged(&self.delete, (slot, node, number))
            .await
            .map_err(failed)?;
        Ok(())
    }
}
