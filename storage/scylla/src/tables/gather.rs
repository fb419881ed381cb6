//! Rows of many tables at once: what lies in one partition is asked for together, and all partitions side by side.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scylla::policies::load_balancing::{NodeIdentifier, SingleTargetLoadBalancingPolicy};
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use till_core::{ReadSet, Space};
use till_protocol::id::{EventId, StoreId, TerminalId};
use till_storage::cluster::Found;
use till_storage::views::StoreError;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::group::{Places, Replica};
use super::read::{Asked, Cells, damaged, page};
use super::statements::Reads;
use super::write::finished;
use super::{IN_FLIGHT, Tables};
use crate::client::Client;
use crate::error::CqlError;
use crate::rows::{
    EventIdCells, Id64, LevelRow, NameRow, RollupCells, StoreCells, TerminalCells, bucket_of_sku,
    date, dim_cell, part_of_store, signed, space_cell,
};

/// Keys of one partition that one statement asks for. ScyllaDB takes a hundred.
const KEYS_MAX: usize = 64;
/// Partitions that one statement asks for: few enough that a server reads them side by side.
const PARTITIONS_MAX: usize = 16;
/// Longest time in which no statement is answered. Shards wait for these rows with all of their terminals: where the store is
/// silent, they have to know it long before a reader of tables gives a page up.
const SILENCE: Duration = Duration::from_secs(3);

/// What one statement asks for.
#[derive(Debug)]
enum Ask {
    Store(StoreId),
    Terminal(TerminalId),
    Levels(StoreId, i32, Vec<Id64>),
    Sums(StoreDay, Vec<(i8, i64, Id64)>),
    /// Each is a partition of its own: those of one replica are asked for together.
    EventIds(Option<Replica>, Vec<EventId>),
    Names(Option<Replica>, Space, Vec<u64>),
}

/// The partition of a sum: store and day.
type StoreDay = (u32, u16);

fn asks_of(read_set: &ReadSet) -> Vec<Ask> {
    let mut asks: Vec<Ask> = Vec::new();
    asks.extend(read_set.stores.iter().copied().map(Ask::Store));
    asks.extend(read_set.terminals.iter().copied().map(Ask::Terminal));
    let mut levels: BTreeMap<(StoreId, i32), Vec<Id64>> = BTreeMap::new();
    for (store, sku) in &read_set.skus {
        let partition = (*store, bucket_of_sku(sku.get()));
        levels.entry(partition).or_default().push(Id64(sku.get()));
    }
    for ((store, bucket), skus) in levels {
        let some = skus.chunks(KEYS_MAX);
        asks.extend(some.map(|some| Ask::Levels(store, bucket, some.to_vec())));
    }
    let mut sums: BTreeMap<StoreDay, Vec<(i8, i64, Id64)>> = BTreeMap::new();
    for key in &read_set.rollups {
        let within = (dim_cell(key.dim), key.hour_us, Id64(key.key));
        sums.entry((key.store, key.day)).or_default().push(within);
    }
    for (of, keys) in sums {
        let some = keys.chunks(KEYS_MAX);
        asks.extend(some.map(|some| Ask::Sums(of, some.to_vec())));
    }
    asks
}

// What is a partition of its own each, by replica.
fn asks_by_replica(client: &Client, reads: &Reads, read_set: &ReadSet) -> Vec<Ask> {
    let places = Places::of(client);
    let mut ids: BTreeMap<Option<Replica>, Vec<EventId>> = BTreeMap::new();
    for id in &read_set.event_ids {
        let place = places.find(("event_ids", &reads.event_id), &(id.to_bytes().to_vec(),));
        ids.entry(place.0).or_default().push(*id);
    }
    let mut names: BTreeMap<(Option<Replica>, Space), Vec<u64>> = BTreeMap::new();
    for (space, id) in &read_set.names {
        let place = places.find(("names", &reads.name), &(space_cell(*space), Id64(*id)));
        names.entry((place.0, *space)).or_default().push(*id);
    }
    let ids = ids.iter().flat_map(|(replica, ids)| {
        let some = ids.chunks(PARTITIONS_MAX);
        some.map(|some| Ask::EventIds(*replica, some.to_vec()))
    });
    let names = names.iter().flat_map(|((replica, space), ids)| {
        let some = ids.chunks(PARTITIONS_MAX);
        some.map(|some| Ask::Names(*replica, *space, some.to_vec()))
    });
    ids.chain(names).collect()
}

impl Tables {
    /// Rows of many tables at once, each key once. Sixty-four statements are under way at a time.
    ///
    /// # Errors
    /// [`StoreError`] when one of them cannot be read.
    pub fn rows_of(&self, read_set: &ReadSet) -> Result<Found, StoreError> {
        let mut asks = asks_of(read_set);
        asks.extend(asks_by_replica(self.cql.client(), &self.reads, read_set));
        let found = Found::nothing_of(read_set);
        if asks.is_empty() {
            return Ok(found);
        }
        let client = Arc::clone(self.cql.client());
        let reads = Arc::clone(&self.reads);
        self.cql.wait(gather(client, reads, asks, found))
    }
}

async fn gather(
    client: Arc<Client>,
    reads: Arc<Reads>,
    asks: Vec<Ask>,
    mut found: Found,
) -> Result<Found, StoreError> {
    let mut under_way = JoinSet::new();
    for ask in asks {
        if under_way.len() >= IN_FLIGHT
            && let Some(rows) = next(&mut under_way, SILENCE).await?
        {
            put(&mut found, rows)?;
        }
        let (client, reads) = (Arc::clone(&client), Arc::clone(&reads));
        under_way.spawn(async move { answer(&client, &reads, ask).await });
    }
    while let Some(rows) = next(&mut under_way, SILENCE).await? {
        put(&mut found, rows)?;
    }
    Ok(found)
}

// What is answered next; nothing where nothing is under way.
async fn next<T: 'static>(
    under_way: &mut JoinSet<Result<T, CqlError>>,
    silence: Duration,
) -> Result<Option<T>, StoreError> {
    let done = timeout(silence, under_way.join_next()).await;
    let done = done.map_err(|_| StoreError::Failed {
        table: "rows",
        cause: format!("no statement was answered within {silence:?}"),
    })?;
    Ok(done.map(finished).transpose()?)
}

/// Rows of one table.
enum Rows {
    Stores(Vec<StoreCells>),
    Terminals(Vec<TerminalCells>),
    Levels(StoreId, Vec<LevelRow>),
    Sums(Vec<RollupCells>),
    EventIds(Vec<EventIdCells>),
    Names(Space, Vec<NameRow>),
}

async fn answer(client: &Client, reads: &Reads, ask: Ask) -> Result<Rows, CqlError> {
    Ok(match ask {
        Ask::Store(store) => {
            let key = (part_of_store(store), signed(store.get()));
            Rows::Stores(all(client, &reads.store, "stores", key).await?)
        }
        Ask::Terminal(terminal) => {
            let store = signed(terminal.store().get());
            let key = (store, terminal.to_u64().cast_signed());
            Rows::Terminals(all(client, &reads.terminal, "terminals", key).await?)
        }
        Ask::Levels(store, bucket, skus) => {
            let keys = (signed(store.get()), bucket, skus);
            let rows = all(client, &reads.levels_of, "levels", keys).await?;
            Rows::Levels(store, rows)
        }
        Ask::Sums((store, day), keys) => {
            let keys = (signed(store), date(day), keys);
            Rows::Sums(all(client, &reads.rollups_of, "rollups", keys).await?)
        }
        Ask::EventIds(replica, ids) => {
            let keys: Vec<_> = ids.iter().map(|id| id.to_bytes().to_vec()).collect();
            let asked = at(&reads.event_ids_of, replica);
            match all(client, &asked, "event_ids", (keys.clone(),)).await {
                Ok(rows) => Rows::EventIds(rows),
                Err(_) => {
                    let keys = keys.into_iter().map(|key| (key,));
                    Rows::EventIds(one_by_one(client, &reads.event_id, "event_ids", keys).await?)
                }
            }
        }
        Ask::Names(replica, space, ids) => {
            let keys: Vec<_> = ids.into_iter().map(Id64).collect();
            let (asked, space_key) = (at(&reads.names_of, replica), space_cell(space));
            match all(client, &asked, "names", (space_key, keys.clone())).await {
                Ok(rows) => Rows::Names(space, rows),
                Err(_) => {
                    let keys = keys.into_iter().map(|id| (space_key, id));
                    let rows = one_by_one(client, &reads.name, "names", keys).await?;
                    Rows::Names(space, rows)
                }
            }
        }
    })
}

// A statement that is sent to the node that has what it asks for.
fn at(statement: &PreparedStatement, replica: Option<Replica>) -> PreparedStatement {
    let mut statement = statement.clone();
    let policy = replica.map(|(node, shard)| {
        SingleTargetLoadBalancingPolicy::new(NodeIdentifier::HostId(node), Some(shard))
    });
    statement.set_load_balancing_policy(policy);
    statement
}

// Where the node that has them does not answer, others that have them do.
async fn one_by_one<V: Asked, R: Cells>(
    client: &Client,
    statement: &PreparedStatement,
    what: &'static str,
    keys: impl Iterator<Item = V>,
) -> Result<Vec<R>, CqlError> {
    let mut rows = Vec::new();
    for key in keys {
        rows.extend(all(client, statement, what, key).await?);
    }
    Ok(rows)
}

// Every page: a row that is on none of them is not there.
async fn all<V: Asked, R: Cells>(
    client: &Client,
    statement: &PreparedStatement,
    what: &'static str,
    asked: V,
) -> Result<Vec<R>, CqlError> {
    let mut rows = Vec::new();
    let mut from = PagingState::start();
    loop {
        let (some, next) = page(client, statement, what, asked.clone(), from).await?;
        rows.extend(some);
        match next {
            Some(next) => from = next,
            None => return Ok(rows),
        }
    }
}

// Puts rows in their places.
fn put(found: &mut Found, rows: Rows) -> Result<(), StoreError> {
    match rows {
        Rows::Stores(rows) => {
            for cells in rows {
                let (key, row) = cells.read().ok_or_else(|| damaged("stores"))?;
                found.stores.insert(key, Some(row));
            }
        }
        Rows::Terminals(rows) => {
            for cells in rows {
                let (key, row) = cells.read().ok_or_else(|| damaged("terminals"))?;
                found.terminals.insert(key, Some(row));
            }
        }
        Rows::Levels(store, rows) => {
            for cells in rows {
                let (sku, row) = cells.read().ok_or_else(|| damaged("levels"))?;
                found.skus.insert((store, sku), Some(row));
            }
        }
        Rows::Sums(rows) => {
            for cells in rows {
                let (key, row) = cells.read().ok_or_else(|| damaged("rollups"))?;
                found.rollups.insert(key, Some(row));
            }
        }
        Rows::EventIds(rows) => {
            for cells in rows {
                let (id, row) = cells.read().ok_or_else(|| damaged("event_ids"))?;
                found.event_ids.insert(id.to_bytes(), Some(row));
            }
        }
        Rows::Names(space, rows) => {
            for row in rows {
                let name = found.names.entry((space, row.id.0)).or_default();
                // Where there are two, the smaller one, as in a single look-up.
                if name.as_ref().is_none_or(|known| row.name < *known) {
                    *name = Some(row.name);
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use till_protocol::id::SkuId;

    use super::*;

    #[test]
    fn no_statement_asks_for_levels_of_two_partitions() {
        let sku = |number| (StoreId::new(1).unwrap(), SkuId::from_u64(number));
        let read_set = ReadSet {
            skus: (0..=64).map(sku).collect(),
            ..ReadSet::default()
        };
        let asks = asks_of(&read_set);
        let is_apart = |ask: &Ask| match ask {
            Ask::Levels(_, bucket, skus) => skus.iter().all(|sku| bucket_of_sku(sku.0) == *bucket),
            _ => false,
        };
        assert!(asks.iter().all(is_apart), "{asks:?}");
        assert_eq!(asks.len(), 4);
    }

    #[test]
    fn a_store_that_is_silent_is_given_up() {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        clock.unwrap().block_on(async {
            let mut under_way: JoinSet<Result<u8, CqlError>> = JoinSet::new();
            assert!(next(&mut under_way, SILENCE).await.unwrap().is_none());
            under_way.spawn(async { Ok(7) });
            assert_eq!(next(&mut under_way, SILENCE).await.unwrap(), Some(7));
            under_way.spawn(std::future::pending());
            let silent = next(&mut under_way, Duration::from_millis(1)).await;
            assert!(
                matches!(silent, Err(StoreError::Failed { .. })),
                "{silent:?}"
            );
        });
    }
}
