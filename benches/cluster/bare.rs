//! A bare loop over the driver: rows that are encoded already, in batches of one partition.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scylla::deserialize::row::{ColumnIterator, DeserializeRow};
use scylla::deserialize::{DeserializationError, TypeCheckError};
use scylla::frame::response::result::ColumnSpec;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::SerializationError;
use scylla::serialize::row::{RowSerializationContext, SerializeRow};
use scylla::serialize::writers::RowWriter;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use till_scylla::schema::{Table, tables};
use till_scylla::{Client, Cql, CqlError, Purpose};
use tokio::task::JoinSet;

/// As `project` does it, which puts partitions of one replica together besides.
const ROWS_MAX: usize = 200;
const BYTES_MAX: usize = 48 << 10;
const IN_FLIGHT: usize = 64;

/// Tables whose rows flushes write whole, with a column that every row has: it was written when the flush's number says.
const DERIVED: [(&str, &str); 5] = [
    ("stores", "applied"),
    ("terminals", "applied"),
    ("levels", "moved_e5"),
    ("rollups", "moved_e5"),
    ("days_due", "flush"),
];
/// Tables that no commit's rows are in.
const OTHERS: [&str; 12] = [
    "schema_version",
    "settings",
    "slots",
    "nodes",
    "constraints",
    "cordoned",
    "slot_log",
    "slot_rows",
    "handoff",
    "handoff_list",
    "chain_days",
    "sku_days",
];

/// A row as its cells.
#[derive(Clone, Debug)]
struct Raw(Vec<Option<Box<[u8]>>>);

impl<'f, 'm> DeserializeRow<'f, 'm> for Raw {
    fn type_check(_: &[ColumnSpec<'_>]) -> Result<(), TypeCheckError> {
        Ok(())
    }

    fn deserialize(row: ColumnIterator<'f, 'm>) -> Result<Self, DeserializationError> {
        let cells = row.map(|cell| Ok(cell?.slice.map(|slice| slice.as_slice().into())));
        Ok(Self(cells.collect::<Result<_, DeserializationError>>()?))
    }
}

impl SerializeRow for Raw {
    fn serialize(
        &self,
        _: &RowSerializationContext<'_>,
        writer: &mut RowWriter<'_>,
    ) -> Result<(), SerializationError> {
        for cell in &self.0 {
            let to = writer.make_cell_writer();
            let _proof = match cell {
                Some(value) => to.set_value(value).map_err(SerializationError::new)?,
                None => to.set_unset(),
            };
        }
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Rows of one partition.
#[derive(Clone, Debug)]
struct Chunk {
    table: usize,
    rows: Vec<Raw>,
}

/// Rows that are ready to be written.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    chunks: Vec<Chunk>,
    rows: u64,
}

impl Rows {
    /// How many rows there are.
    pub(crate) const fn len(&self) -> u64 {
        self.rows
    }

    /// Takes in the derived rows that a flush has written.
    pub(crate) fn add_derived(&mut self, source: &Cql, flush: i64) -> Result<(), Box<dyn Error>> {
        for (number, table) in tables().iter().enumerate() {
            let derived = DERIVED.iter().find(|(name, _)| *name == table.name);
            if let Some((_, column)) = derived {
                let stamp = format!(", WRITETIME({column})");
                let mut rows = read(source, table, &stamp)?;
                let stamp = Some(Box::from(flush.to_be_bytes()));
                rows.retain_mut(|row| row.0.pop() == Some(stamp.clone()));
                self.add(number, table, rows);
            }
        }
        Ok(())
    }

    /// Takes in the rows of all other tables.
    pub(crate) fn add_facts(&mut self, source: &Cql) -> Result<(), Box<dyn Error>> {
        for (number, table) in tables().iter().enumerate() {
            let name = table.name.as_str();
            let is_derived = DERIVED.iter().any(|(derived, _)| *derived == name);
            if !is_derived && !OTHERS.contains(&name) {
                let rows = read(source, table, "")?;
                self.add(number, table, rows);
            }
        }
        Ok(())
    }

    /// Takes in the rows of all tables that commits write, as they are.
    pub(crate) fn add_all(&mut self, source: &Cql) -> Result<(), Box<dyn Error>> {
        for (number, table) in tables().iter().enumerate() {
            if !OTHERS.contains(&table.name.as_str()) {
                let rows = read(source, table, "")?;
                self.add(number, table, rows);
            }
        }
        Ok(())
    }

    fn add(&mut self, number: usize, table: &Table, rows: Vec<Raw>) {
        let key = partition_of(&table.key);
        let mut partitions: HashMap<Vec<_>, Vec<Raw>> = HashMap::new();
        for row in rows {
            self.rows += 1;
            let key = row.0.iter().take(key).cloned().collect();
            partitions.entry(key).or_default().push(row);
        }
        for rows in partitions.into_values() {
            self.deal(number, rows);
        }
    }

    fn deal(&mut self, table: usize, rows: Vec<Raw>) {
        let chunk = |rows| Chunk { table, rows };
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for row in rows {
            let size: usize = row.0.iter().flatten().map(|cell| cell.len() + 4).sum();
            if batch.len() == ROWS_MAX || (bytes + size > BYTES_MAX && !batch.is_empty()) {
                self.chunks.push(chunk(std::mem::take(&mut batch)));
                bytes = 0;
            }
            bytes += size;
            batch.push(row);
        }
        self.chunks.push(chunk(batch));
    }

    /// Writes them all into a keyspace. Gives the time that it took.
    pub(crate) fn write(&self, target: &Cql) -> Result<Duration, Box<dyn Error>> {
        let client = Arc::clone(target.client());
        let statements = target.wait(async move {
            let mut statements = Vec::new();
            for table in tables() {
                let columns: Vec<&str> =
                    table.columns.iter().map(|one| one.name.as_str()).collect();
                let insert = format!(
                    "INSERT INTO {} ({}) VALUES ({})",
                    client.table(&table.name),
                    columns.join(", "),
                    vec!["?"; columns.len()].join(", ")
                );
                let prepared = client.prepare(Purpose::Ingest, "a bare row", &insert);
                statements.push(prepared.await?);
            }
            Ok::<_, CqlError>(statements)
        })?;
        let chunks = self.chunks.iter().filter_map(|chunk| {
            let statement = statements.get(chunk.table)?.clone();
            Some((statement, chunk.rows.clone()))
        });
        let chunks: Vec<(PreparedStatement, Vec<Raw>)> = chunks.collect();
        let client = Arc::clone(target.client());
        let started = Instant::now();
        target.wait(async move {
            let mut under_way = JoinSet::new();
            for (statement, rows) in chunks {
                if under_way.len() >= IN_FLIGHT
                    && let Some(done) = under_way.join_next().await
                {
                    done.unwrap_or(Err(CqlError::Stopped))?;
                }
                let client = Arc::clone(&client);
                under_way.spawn(async move {
                    let mut done = put(&client, &statement, &rows).await;
                    for _ in 1..super::TRIES {
                        if done.is_ok() {
                            break;
                        }
                        done = put(&client, &statement, &rows).await;
                    }
                    done
                });
            }
            while let Some(done) = under_way.join_next().await {
                done.unwrap_or(Err(CqlError::Stopped))?;
            }
            Ok::<_, CqlError>(())
        })?;
        Ok(started.elapsed())
    }
}

// Every row of a table, and one more cell of each.
fn read(source: &Cql, table: &Table, more: &str) -> Result<Vec<Raw>, Box<dyn Error>> {
    let columns: Vec<&str> = table.columns.iter().map(|one| one.name.as_str()).collect();
    let client = Arc::clone(source.client());
    let select = format!(
        "SELECT {}{more} FROM {}",
        columns.join(", "),
        client.table(&table.name)
    );
    Ok(source.wait(async move { all(&client, &select).await })?)
}

async fn all(client: &Client, select: &str) -> Result<Vec<Raw>, CqlError> {
    const WHAT: &str = "rows of a bench";
    let session = client.session();
    let mut found = Vec::new();
    let statement = client.prepare(Purpose::Read, WHAT, select).await?;
    let mut from = PagingState::start();
    loop {
        let answer = session.execute_single_page(&statement, (), from).await;
        let (answer, next) = answer.map_err(|error| CqlError::statement(WHAT, error))?;
        let rows = answer.into_rows_result();
        let rows = rows.map_err(|error| CqlError::answer(WHAT, error))?;
        let rows = rows.rows::<Raw>();
        for row in rows.map_err(|error| CqlError::answer(WHAT, error))? {
            found.push(row.map_err(|error| CqlError::answer(WHAT, error))?);
        }
        match next {
            PagingStateResponse::HasMorePages { state } => from = state,
            PagingStateResponse::NoMorePages => return Ok(found),
        }
    }
}

async fn put(client: &Client, statement: &PreparedStatement, rows: &[Raw]) -> Result<(), CqlError> {
    let session = client.session();
    let done = match rows {
        [row] => session.execute_unpaged(statement, row).await,
        rows => {
            let same = BatchStatement::from(statement.clone());
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, vec![same; rows.len()]);
            batch.set_is_idempotent(true);
            batch.set_execution_profile_handle(Some(client.profile(Purpose::Ingest).clone()));
            session.batch(&batch, rows).await
        }
    };
    done.map(drop)
        .map_err(|error| CqlError::statement("a bare batch", error))
}

// How many of the first columns make the partition.
fn partition_of(key: &str) -> usize {
    let inner = key.trim_start_matches('(');
    let end = if key.starts_with("((") { ')' } else { ',' };
    let first = inner.split(end).next().unwrap_or("");
    first.split(',').count()
}

/// Runs a statement.
pub(crate) fn run(cql: &Cql, statement: &str) -> Result<(), Box<dyn Error>> {
    let (client, statement) = (Arc::clone(cql.client()), statement.to_owned());
    cql.wait(async move {
        let answer = client.session().query_unpaged(statement, ()).await;
        answer
            .map(drop)
            .map_err(|error| CqlError::statement("a bench's statement", error))
    })?;
    Ok(())
}
