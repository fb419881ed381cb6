//! Partitions that one request writes: those of one replica. A request costs client and server about as much as a row, and most
//! partitions of a sparse flush have one row. Rows of several tables that have one partition key (a quarter of an hour of a store)
//! go together: the server writes them as one.

use std::sync::Arc;

use scylla::cluster::ClusterState;
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use uuid::Uuid;

use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::rows::{BYTES_MAX, Chunk, Packed, ROWS_MAX};

/// Partitions of one batch: above it Cassandra warns that its coordinator is given too much (`unlogged_batch_across_partitions`).
const PARTITIONS_MAX: usize = 10;

/// Bytes of a batch of several partitions, as Cassandra counts them: it refuses one above 50 KiB (`batch_size_fail_threshold`) where
/// its settings are as they come. A batch of one partition is never refused.
const SERVER_BYTES_MAX: usize = 40 << 10;
/// What a cell takes there beside its value. Measured on Cassandra 5 it is below.
const CELL_BYTES: usize = 20;

/// Partitions that are written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    chunks: Vec<Chunk>,
    partitions: usize,
    rows: usize,
    bytes: usize,
    server_bytes: usize,
}

/// Where a partition's first copy lies: node and shard.
pub(super) type Replica = (Uuid, u32);

/// Where a partition lies: the replica that has its first copy, and its token.
pub(super) type Place = (Option<Replica>, i64);

/// Where partitions of a keyspace lie now.
pub(super) struct Places<'a> {
    state: Arc<ClusterState>,
    keyspace: &'a str,
}

impl<'a> Places<'a> {
    pub(super) fn of(client: &'a Client) -> Self {
        Self {
            state: client.session().get_cluster_state(),
            keyspace: client.keyspace().name(),
        }
    }

    /// Where the partition lies that a statement speaks of with these values.
    pub(super) fn find(
        &self,
        (table, statement): (&str, &PreparedStatement),
        values: &impl SerializeRow,
    ) -> Place {
        let Ok(Some(token)) = statement.calculate_token(values) else {
            return (None, 0);
        };
        let endpoints = self.state.get_token_endpoints(self.keyspace, table, token);
        let first = endpoints.iter().find(|(node, _)| node.is_connected());
        let replica = first.map(|(node, shard)| (node.host_id, *shard));
        (replica, token.value())
    }
}

/// Puts partitions of one replica together, as many as a batch may have.
pub(super) fn group(client: &Client, chunks: Vec<Chunk>) -> Vec<Group> {
    let places = Places::of(client);
    let placed = chunks.into_iter().map(|chunk| {
        let first = chunk.rows.first();
        let place = first.map(|row| places.find((chunk.name, &chunk.statement), row));
        (place.unwrap_or_default(), chunk)
    });
    let mut placed: Vec<(Place, Chunk)> = placed.collect();
    placed.sort_by_key(|(place, _)| *place);
    let mut groups: Vec<Group> = Vec::new();
    let mut last = None;
    for (place, chunk) in placed {
        let rows = chunk.rows.len();
        let bytes = chunk.rows.iter().map(Packed::bytes).sum();
        let server_bytes = bytes + rows * chunk.columns() * CELL_BYTES;
        let is_new = last != Some(place);
        let is_near = last.is_some_and(|last: Place| last.0 == place.0);
        last = Some(place);
        let partitions = usize::from(is_new);
        match groups.last_mut() {
            Some(group) if is_near && group.has_room(partitions, rows, (bytes, server_bytes)) => {
                group.add(chunk, partitions, (bytes, server_bytes));
            }
            _ => {
                let mut group = Group::default();
                group.add(chunk, 1, (bytes, server_bytes));
                groups.push(group);
            }
        }
    }
    groups
}

impl Group {
    const fn has_room(
        &self,
        partitions: usize,
        rows: usize,
        (bytes, server_bytes): (usize, usize),
    ) -> bool {
        self.partitions + partitions <= PARTITIONS_MAX
            && self.rows + rows <= ROWS_MAX
            && self.bytes + bytes <= BYTES_MAX
            && self.server_bytes + server_bytes <= SERVER_BYTES_MAX
    }

    fn add(&mut self, chunk: Chunk, partitions: usize, (bytes, server_bytes): (usize, usize)) {
        self.partitions += partitions;
        self.rows += chunk.rows.len();
        self.bytes += bytes;
        self.server_bytes += server_bytes;
        self.chunks.push(chunk);
    }

    /// Writes all of it.
    pub(super) async fn put(self, client: &Client) -> Result<(), CqlError> {
        let session = client.session();
        let name = self.chunks.first().map_or("", |chunk| chunk.name);
        let done = match self.chunks.as_slice() {
            [
                Chunk {
                    statement, rows, ..
                },
            ] if let [row] = rows.as_slice() => {
                session.execute_unpaged(statement, row).await.map(drop)
            }
            chunks => {
                let statements = chunks.iter().flat_map(|chunk| {
                    let statement = BatchStatement::from(chunk.statement.clone());
                    std::iter::repeat_n(statement, chunk.rows.len())
                });
                let statements = statements.collect();
                let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
                batch.set_is_idempotent(true);
                batch.set_execution_profile_handle(Some(client.profile(Purpose::Ingest).clone()));
                let rows: Vec<&Packed> = chunks.iter().flat_map(|chunk| &chunk.rows).collect();
                session.batch(&batch, rows.as_slice()).await.map(drop)
            }
        };
        done.map_err(|error| CqlError::statement(name, error))
    }
}
