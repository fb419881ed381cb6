//! A year of a chain: how long questions about it take, and a bare loop over the driver for the rows of the largest.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlVarint};
use till_core::{Space, StoreRow, Totals};
use till_protocol::id::{SkuId, StoreId};
use till_protocol::time::Day;
use till_scylla::schema::{SchemaRequest, apply};
use till_scylla::{Client, Cql, CqlError, Purpose, ScyllaStore};
use till_storage::cluster::{Commit, SharedStore as _};
use till_storage::query::{Bound, By, SalesQuery, Sources, sales};
use till_storage::views::FlushBatch;
use tokio::task::JoinSet;

use super::{ROUNDS, SLOTS, again, connect};

/// Stores of the chain.
const STORES: u32 = 457;
/// Categories that each store sells on each day.
const CATEGORIES: u64 = 40;
/// A SKU that each store sells on each day.
const SKU: &str = "4006381333931";
/// 1 January 2026, and the day behind that year.
const YEAR: [u16; 2] = [20_454, 20_819];

/// As the store reads them: partitions side by side, and rows of a page.
const IN_FLIGHT: usize = 16;
const PAGE_ROWS: i32 = 2_000;
/// Rows that are written at once.
const ROWS_MAX: usize = 200;
const SUMS: &str = "currency_code, transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor, \
                    returns_net_minor, moved_e5";

/// What is read of a row.
const ASKED: &str =
    "store, key, transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor";

type Sum = (
    String,
    i64,
    i64,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
);

/// Asks about the year that a keyspace holds, once it is written there.
pub(crate) fn ask(address: &str, keyspace: &str) -> Result<(), Box<dyn Error>> {
    let cql = Arc::new(connect(address, keyspace)?);
    let request = SchemaRequest {
        replication: Some(1),
        slots: Some(SLOTS),
    };
    apply(&cql, request)?;
    let store = ScyllaStore::open(Arc::new(connect(address, keyspace)?))?;
    let name = store.views().name(Space::Sku, SkuId::of_code(SKU).get())?;
    if name.is_none() {
        let started = Instant::now();
        fill(&cql, &store)?;
        println!("a year written in {:.0} s", started.elapsed().as_secs_f64());
    }
    let asked = [
        (By::Category, None),
        (By::Store, None),
        (By::Day, None),
        (By::Store, Some(SKU)),
    ];
    for round in 1..=ROUNDS {
        for (by, sku) in asked {
            let (rows, took) = time(&store, by, sku)?;
            let (by, of) = (by.name(), sku.unwrap_or("all SKUs"));
            println!("round {round}: {of} by {by}: {rows} rows, {took:.2} s");
        }
        let (rows, took) = bare_categories(&cql)?;
        let took = took.as_secs_f64();
        println!("round {round}: a bare loop over {rows} rows of categories: {took:.2} s");
    }
    Ok(())
}

fn time(store: &ScyllaStore, by: By, sku: Option<&str>) -> Result<(usize, f64), Box<dyn Error>> {
    let (views, facts) = (store.views(), store.facts());
    let sources = Sources {
        views: views.as_ref(),
        facts: facts.as_ref(),
        now_us: 0,
    };
    let [from, to] = YEAR.map(|day| Some(Bound::Day(Day::new(day))));
    let query = SalesQuery {
        from,
        to,
        by,
        store: None,
        sku: sku.map(SkuId::of_code),
    };
    let started = Instant::now();
    let answer = sales(&sources, &query)?;
    Ok((answer.rows.len(), started.elapsed().as_secs_f64()))
}

fn days() -> impl Iterator<Item = CqlDate> {
    let [first, end] = YEAR;
    (first..end).map(|day| CqlDate((1 << 31) + u32::from(day)))
}

fn stores() -> impl Iterator<Item = i32> {
    (1..).take(usize::try_from(STORES).unwrap_or(0))
}

// Sums of the size that a day's have.
fn sum(seed: u64) -> Sum {
    let dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    let wide = |number: u64| {
        let number = u32::try_from(number).unwrap_or(0);
        CqlVarint::from_signed_bytes_be(number.to_be_bytes().to_vec())
    };
    let lines = dice.cast_signed() % 500 + 1;
    (
        "USD".to_owned(),
        lines / 2 + 1,
        lines,
        wide(dice * 1_000),
        wide(dice * 30),
        wide(dice % 1_000),
        wide(dice * 2),
        wide(dice % 300),
        wide(0),
    )
}

fn fill(cql: &Cql, store: &ScyllaStore) -> Result<(), Box<dyn Error>> {
    let row = StoreRow {
        currency: 840,
        zone: "UTC".to_owned(),
        registered_at_us: 0,
        applied: 0,
        training: Totals::default(),
    };
    let ids = (1..=STORES).map(StoreId::new);
    let rows = ids.map(|id| Ok((id?, row.clone())));
    let rows = FlushBatch {
        stores: rows.collect::<Result<_, Box<dyn Error>>>()?,
        ..FlushBatch::default()
    };
    let commits = [Arc::new(Commit {
        flush: 1,
        epoch: 1,
        rows,
        ..Commit::default()
    })];
    again(|| store.project(&commits))?;
    let traded = stores().flat_map(|store| [0_i8, 2].map(|dim| (store, dim)));
    let traded = traded.map(|(store, dim)| days().map(move |day| (store, dim, day)).collect());
    write(cql, "rollup_days", "store, dim, day", traded)?;
    let sku = SkuId::of_code(SKU).get().to_be_bytes().to_vec();
    for (dim, keys) in [(0_i8, 1), (2, CATEGORIES)] {
        let partitions = days().map(|day| {
            let rows = stores().flat_map(|store| (0..keys).map(move |key| (store, key)));
            let rows = rows.map(|(store, key)| {
                let blob = key.to_be_bytes().to_vec();
                let seed =
                    u64::from(day.0) * 100_000 + u64::from(store.cast_unsigned()) * 100 + key;
                let (a, b, c, d, e, f, g, h, i) = sum(seed);
                (day, dim, store, blob, a, b, c, d, e, f, g, h, i)
            });
            rows.collect()
        });
        write(
            cql,
            "chain_days",
            &format!("day, dim, store, key, {SUMS}"),
            partitions,
        )?;
    }
    let of_sku = days().map(|day| {
        let rows = stores().map(|store| {
            let seed = u64::from(day.0) * 1_000 + u64::from(store.cast_unsigned());
            let (a, b, c, d, e, f, g, h, i) = sum(seed);
            (sku.clone(), 2026, day, store, a, b, c, d, e, f, g, h, i)
        });
        rows.collect()
    });
    write(
        cql,
        "sku_days",
        &format!("sku, year, day, store, {SUMS}"),
        of_sku,
    )?;
    // Last: what is asked for whether the year is there.
    let name = vec![(1_i8, sku.clone(), SKU)];
    write(cql, "names", "space, id, name", [name].into_iter())
}

// Writes partitions, some side by side.
fn write<R: SerializeRow + Send + Sync + 'static>(
    cql: &Cql,
    table: &'static str,
    columns: &str,
    partitions: impl Iterator<Item = Vec<R>>,
) -> Result<(), Box<dyn Error>> {
    let client = Arc::clone(cql.client());
    let marks = vec!["?"; columns.split(',').count()].join(", ");
    let insert = format!(
        "INSERT INTO {} ({columns}) VALUES ({marks})",
        client.table(table)
    );
    let prepared = Arc::clone(&client);
    let statement =
        cql.wait(async move { prepared.prepare(Purpose::Ingest, table, &insert).await })?;
    for mut rows in partitions {
        let (client, statement) = (Arc::clone(&client), statement.clone());
        cql.wait(async move {
            let mut under_way = JoinSet::new();
            while !rows.is_empty() {
                let some = rows.split_off(rows.len().saturating_sub(ROWS_MAX));
                let (client, same) = (Arc::clone(&client), BatchStatement::from(statement.clone()));
                under_way.spawn(async move {
                    let batch = vec![same; some.len()];
                    let mut batch = Batch::new_with_statements(BatchType::Unlogged, batch);
                    batch.set_is_idempotent(true);
                    let profile = client.profile(Purpose::Ingest).clone();
                    batch.set_execution_profile_handle(Some(profile));
                    let done = client.session().batch(&batch, some).await;
                    done.map_err(|error| CqlError::statement(table, error))
                });
            }
            while let Some(done) = under_way.join_next().await {
                done.unwrap_or(Err(CqlError::Stopped))?;
            }
            Ok::<_, CqlError>(())
        })?;
    }
    Ok(())
}

// Pages of all categories of all days, counted and not decoded.
fn bare_categories(cql: &Cql) -> Result<(usize, Duration), Box<dyn Error>> {
    let client = Arc::clone(cql.client());
    let started = Instant::now();
    let rows = cql.wait(async move {
        let select = format!(
            "SELECT {ASKED} FROM {} WHERE day = ? AND dim = 2",
            client.table("chain_days")
        );
        let mut statement = client.prepare(Purpose::Read, "chain_days", &select).await?;
        statement.set_page_size(PAGE_ROWS);
        let (mut under_way, mut rows) = (JoinSet::new(), 0);
        for day in days() {
            if under_way.len() >= IN_FLIGHT
                && let Some(done) = under_way.join_next().await
            {
                rows += done.unwrap_or(Err(CqlError::Stopped))?;
            }
            let (client, statement) = (Arc::clone(&client), statement.clone());
            under_way.spawn(async move { count(&client, &statement, day).await });
        }
        while let Some(done) = under_way.join_next().await {
            rows += done.unwrap_or(Err(CqlError::Stopped))?;
        }
        Ok::<_, CqlError>(rows)
    })?;
    Ok((rows, started.elapsed()))
}

async fn count(
    client: &Client,
    statement: &PreparedStatement,
    day: CqlDate,
) -> Result<usize, CqlError> {
    const WHAT: &str = "a bare page";
    let (mut from, mut rows) = (PagingState::start(), 0);
    loop {
        let session = client.session();
        let answer = session.execute_single_page(statement, (day,), from).await;
        let (answer, next) = answer.map_err(|error| CqlError::statement(WHAT, error))?;
        let answer = answer.into_rows_result();
        rows += answer
            .map_err(|error| CqlError::answer(WHAT, error))?
            .rows_num();
        match next {
            PagingStateResponse::HasMorePages { state } => from = state,
            PagingStateResponse::NoMorePages => return Ok(rows),
        }
    }
}
