//! A keyspace of schema version 1 to 3, as far as a copy needs it.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use till_core::{Record, RecordHead, Space, Verdict};
use till_protocol::id::StoreId;
use till_storage::views::StoreError;
use uuid::Uuid;

use super::MigrateError;
use crate::client::{Client, Purpose};
use crate::error::CqlError;
use crate::rows::{signed, space_of};
use crate::session::Cql;
use crate::slots::{key_of, rows_of};

/// Statements that are under way at most.
const IN_FLIGHT: usize = 64;
/// Partitions of the table of stores.
const STORE_PARTS: i32 = 16;

/// Where a record lies: by position, then by where it is found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct EarlierPlace {
    pub(super) position: u64,
    store: i32,
    hour: i32,
}

/// A keyspace of an earlier release. It is only read.
#[derive(Debug)]
pub struct Earlier {
    cql: Arc<Cql>,
    version: i32,
    slots: u32,
    hours: PreparedStatement,
    positions: PreparedStatement,
    record: PreparedStatement,
}

type RecordCells = (Bytes, Bytes, Bytes);
type SlotCells = (i32, i64, i64, Option<Uuid>, Option<String>);
/// How far a slot is: its number, epoch and flush.
pub(super) type Mark = (i32, i64, i64);

impl Earlier {
    /// Opens it.
    ///
    /// # Errors
    /// [`MigrateError::Version`] for a keyspace that is none of an earlier release.
    pub fn open(cql: Arc<Cql>) -> Result<Self, MigrateError> {
        let status = crate::schema::status(&cql).map_err(StoreError::from)?;
        let (version, keyspace) = (status.version.unwrap_or(0), status.keyspace.clone());
        let other = MigrateError::Version {
            keyspace,
            found: version,
        };
        let Some(slots) = status.slots.filter(|_| (1..=3).contains(&version)) else {
            return Err(other);
        };
        let client = Arc::clone(cql.client());
        let prepared = cql.wait(async move {
            let read = async |table, columns: &str, rest: &str| {
                let cql = format!("SELECT {columns} FROM {} {rest}", client.table(table));
                client.prepare(Purpose::Read, table, &cql).await
            };
            let of_hour = "WHERE store = ? AND hour = ?";
            let one = "WHERE store = ? AND hour = ? AND position = ?";
            Ok::<_, CqlError>((
                read("record_hours", "hour", "WHERE store = ?").await?,
                read("records", "position", of_hour).await?,
                read("records", "head, verdicts, payload", one).await?,
            ))
        });
        let (hours, positions, record) = prepared.map_err(StoreError::from)?;
        Ok(Self {
            cql,
            version,
            slots,
            hours,
            positions,
            record,
        })
    }

    /// Version of its schema.
    pub const fn version(&self) -> i32 {
        self.version
    }

    /// Its name.
    pub(super) fn keyspace(&self) -> String {
        self.cql.client().keyspace().name().to_owned()
    }

    // All rows of a statement that is used once.
    fn all<R>(
        &self,
        table: &'static str,
        cql: String,
        values: impl SerializeRow + Send + Sync + 'static,
    ) -> Result<Vec<R>, StoreError>
    where
        R: for<'f, 'm> scylla::deserialize::row::DeserializeRow<'f, 'm> + Send + 'static,
    {
        let client = Arc::clone(self.cql.client());
        let found = self.cql.wait(async move {
            let statement = client.prepare(Purpose::Read, table, &cql).await?;
            rows_of::<R>(&client, table, &statement, values).await
        });
        Ok(found?)
    }

    fn table(&self, name: &str) -> String {
        self.cql.client().table(name)
    }

    /// Whether it may be copied into a keyspace with so many slots: its engines have committed and written all they had.
    /// Gives how far its slots are.
    pub(super) fn may_go_to(&self, slots: u32) -> Result<Vec<Mark>, MigrateError> {
        if slots != self.slots {
            return Err(MigrateError::Slots {
                keyspace: self.keyspace(),
                from: self.slots,
                to: slots,
            });
        }
        let mut marks = Vec::new();
        let slots = self.table("slots");
        let owners = format!("SELECT slot, epoch, flush, owner, address FROM {slots}");
        for (slot, epoch, flush, owner, address) in self.all::<SlotCells>("slots", owners, ())? {
            if owner.is_some() {
                return Err(MigrateError::Owned {
                    address: address.unwrap_or_default(),
                    slot: slot.cast_unsigned(),
                });
            }
            marks.push((slot, epoch, flush));
        }
        marks.sort_unstable();
        let list = format!(
            "SELECT slot FROM {} WHERE part = 0",
            self.table("handover_list")
        );
        match self.all::<(i32,)>("handover_list", list, ())?.len() {
            0 => Ok(marks),
            waiting => Err(MigrateError::Waiting {
                keyspace: self.keyspace(),
                waiting,
            }),
        }
    }

    /// The key that card numbers are masked with.
    pub(super) fn chain_key(&self) -> Result<Option<[u8; 32]>, StoreError> {
        let cql = format!(
            "SELECT value FROM {} WHERE name = 'chain_key'",
            self.table("settings")
        );
        let found = self.all::<(String,)>("settings", cql, ())?;
        let key = found.first().map(|(text,)| key_of(text)).transpose();
        Ok(key?)
    }

    /// All names.
    pub(super) fn names(&self) -> Result<Vec<(Space, u64, String)>, StoreError> {
        let cql = format!("SELECT space, id, name FROM {}", self.table("names"));
        let found = self.all::<(i8, i64, String)>("names", cql, ())?;
        let names = found.into_iter().map(|(space, id, name)| {
            let space =
                space_of(space).ok_or_else(|| damaged("names", format!("space {space}")))?;
            Ok((space, id.cast_unsigned(), name))
        });
        names.collect()
    }

    /// All stores.
    pub(super) fn stores(&self) -> Result<Vec<StoreId>, StoreError> {
        let mut stores = Vec::new();
        for part in 0..STORE_PARTS {
            let cql = format!("SELECT store FROM {} WHERE part = ?", self.table("stores"));
            for (store,) in self.all::<(i32,)>("stores", cql, (part,))? {
                let id = StoreId::new(store.cast_unsigned());
                stores.push(id.map_err(|error| damaged("stores", error.to_string()))?);
            }
        }
        Ok(stores)
    }

    /// Where the records of a store lie, in no order; one that lies in two hours comes twice.
    pub(super) fn places(&self, store: StoreId) -> Result<Vec<EarlierPlace>, StoreError> {
        let client = Arc::clone(self.cql.client());
        let (hours, positions) = (self.hours.clone(), self.positions.clone());
        let store = signed(store.get());
        let found = self.cql.wait(async move {
            let hours = rows_of::<(i32,)>(&client, "record_hours", &hours, (store,)).await?;
            let places = stream::iter(hours).map(|(hour,)| {
                let (client, positions) = (Arc::clone(&client), positions.clone());
                async move {
                    let key = (store, hour);
                    let rows = rows_of::<(i64,)>(&client, "records", &positions, key).await?;
                    let place = move |(position,): (i64,)| EarlierPlace {
                        position: position.cast_unsigned(),
                        store,
                        hour,
                    };
                    Ok::<_, CqlError>(rows.into_iter().map(place).collect::<Vec<_>>())
                }
            });
            places.buffer_unordered(IN_FLIGHT).try_concat().await
        });
        Ok(found?)
    }

    /// Records, in the order of their places.
    pub(super) fn records(&self, places: &[EarlierPlace]) -> Result<Vec<Record>, StoreError> {
        let client = Arc::clone(self.cql.client());
        let (statement, places) = (self.record.clone(), places.to_vec());
        let found = self.cql.wait(async move {
            let records = stream::iter(places)
                .map(|place| one(Arc::clone(&client), statement.clone(), place));
            records.buffered(IN_FLIGHT).try_collect::<Vec<_>>().await
        });
        let found: Vec<RecordCells> = found?;
        found.into_iter().map(read).collect()
    }
}

async fn one(
    client: Arc<Client>,
    statement: PreparedStatement,
    place: EarlierPlace,
) -> Result<RecordCells, CqlError> {
    let key = (place.store, place.hour, place.position.cast_signed());
    let found = rows_of::<RecordCells>(&client, "records", &statement, key).await?;
    let gone = || CqlError::answer("records", format!("{place:?} is gone"));
    found.into_iter().next().ok_or_else(gone)
}

fn read((head, verdicts, payload): RecordCells) -> Result<Record, StoreError> {
    let broken = |cause: String| damaged("records", cause);
    let head = RecordHead::decode(&head).map_err(|error| broken(error.to_string()))?;
    let (verdicts, rest) = verdicts.as_chunks::<{ Verdict::BYTES }>();
    if !rest.is_empty() {
        return Err(broken("verdicts are cut short".to_owned()));
    }
    let verdicts = verdicts.iter().map(Verdict::decode);
    let verdicts: Result<Vec<_>, _> = verdicts.collect();
    Ok(Record {
        head,
        payload,
        verdicts: verdicts.map_err(|error| broken(error.to_string()))?,
    })
}

fn damaged(table: &'static str, cause: String) -> StoreError {
    StoreError::Damaged { table, cause }
}
