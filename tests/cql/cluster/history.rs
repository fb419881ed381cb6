//! A file of transaction lines, replayed into the tables and compared with them by plain CQL.
//!
//! TILL_LINES says how many lines; the gate takes few.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::value::{CqlDate, CqlVarint, Row};
use serde_json::Value;
use till_protocol::code::Reason;
use till_protocol::id::SkuId;
use till_tests::json_of;

use crate::sums;
use crate::world::World;

const LINES: u64 = 12_000;
const LINES_OF_RECEIPT: u64 = 3;
const STORES: u64 = 50;
const TILLS: u64 = 4;
const SKUS: u64 = 2_000;
const DAYS: u64 = 60;
/// 2026-01-01, in days since 1970-01-01.
const FIRST_DAY: u64 = 20_454;
const E5: i128 = 100_000;

/// Sums by store, day and SKU: lines, quantity in 1e-5, net amount in cents.
type Sums = BTreeMap<(i32, u64, i64), [i128; 3]>;

fn add(sums: &mut Sums, key: (i32, u64, i64), part: [i128; 3]) {
    let sum = sums.entry(key).or_default();
    for (to, part) in sum.iter_mut().zip(part) {
        *to += part;
    }
}

/// Writes receipts of three lines each, spread over stores, tills, days and SKUs as by chance, and sums them up.
fn write_file(path: &Path, receipts: u64) -> Result<Sums> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(
        file,
        "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount"
    )?;
    let mut sums = Sums::new();
    for number in 0..receipts {
        // A till's receipts rise in time, as those of a real file do.
        let (store, till) = (1 + number % STORES, 1 + number / STORES % TILLS);
        let minute = DAYS * 12 * 60 * number / receipts;
        let (day, minute) = (minute / (12 * 60), minute % (12 * 60));
        let (month, of_month) = match day {
            0..31 => (1, 1 + day),
            31..59 => (2, day - 30),
            _ => (3, day - 58),
        };
        for line in 0..LINES_OF_RECEIPT {
            let chance = (number * LINES_OF_RECEIPT + line + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let sku = format!("sku-{}", (chance >> 33) % SKUS);
            let (pieces, cents) = (1 + (chance >> 20) % 4, 100 + (chance >> 40) % 900);
            writeln!(
                file,
                "{store},{till},R{number},2026-{month:02}-{of_month:02}T{:02}:{:02}:{:02}Z,{sku},{pieces},{}.{:02}",
                8 + minute / 60,
                minute % 60,
                number % 60,
                cents / 100,
                cents % 100,
            )?;
            let key = SkuId::of_code(&sku).get().cast_signed();
            let part = [1, i128::from(pieces) * E5, i128::from(cents)];
            add(
                &mut sums,
                (i32::try_from(store)?, FIRST_DAY + day, key),
                part,
            );
        }
    }
    file.flush()?;
    Ok(sums)
}

fn wide(cell: &CqlVarint) -> Result<i128> {
    let bytes = cell.as_signed_bytes_be_slice();
    let first = *bytes.first().context("an empty number")?;
    let mut whole = [if first & 0x80 == 0 { 0 } else { 0xff }; 16];
    let from = whole.len().checked_sub(bytes.len()).context("too wide")?;
    whole[from..].copy_from_slice(bytes);
    Ok(i128::from_be_bytes(whole))
}

fn day_of(date: CqlDate) -> u64 {
    u64::from(date.0) - (1 << 31)
}

/// Gives every row of a statement to `each`.
async fn every<R>(session: &Session, cql: &str, mut each: impl FnMut(R) -> Result<()>) -> Result<()>
where
    R: for<'f, 'm> DeserializeRow<'f, 'm> + 'static,
{
    let rows = session.query_iter(cql, ()).await?.rows_stream::<R>()?;
    let mut rows = std::pin::pin!(rows);
    while let Some(row) = rows.try_next().await? {
        each(row)?;
    }
    Ok(())
}

/// The sums that stand in the tables, and those of the lines there.
async fn sums_in(session: &Session) -> Result<(Sums, Sums)> {
    let (mut told, mut found) = (Sums::new(), Sums::new());
    let sums =
        "SELECT store, day, dim, blobAsBigint(key), lines, quantity_e5, net_minor FROM rollups";
    type Sum = (i32, CqlDate, i8, i64, i64, CqlVarint, CqlVarint);
    every(
        session,
        sums,
        |(store, day, dim, sku, lines, quantity, net): Sum| {
            if dim == 1 {
                let part = [i128::from(lines), wide(&quantity)?, wide(&net)?];
                add(&mut told, (store, day_of(day), sku), part);
            }
            Ok(())
        },
    )
    .await?;
    let lines = "SELECT store, day, blobAsBigint(sku), quantity_e5, net_minor, counts FROM lines";
    type Line = (i32, CqlDate, i64, i64, i64, bool);
    every(
        session,
        lines,
        |(store, day, sku, quantity, net, counts): Line| {
            let part = [1, i128::from(quantity), i128::from(net)];
            ensure!(counts, "a line does not count");
            add(&mut found, (store, day_of(day), sku), part);
            Ok(())
        },
    )
    .await?;
    Ok((told, found))
}

/// Tables that a second replay leaves as they are, with a column that says when a row was written.
const TABLES: [(&str, &str); 7] = [
    ("transactions", "position"),
    ("lines", "quantity_e5"),
    ("levels", "moved_e5"),
    ("rollups", "moved_e5"),
    ("event_ids", "content"),
    ("stores", "zone"),
    ("audit", "what"),
];

/// How many rows each table has, and a sum over what is in them and when it was written.
async fn prints(session: &Session) -> Result<Vec<(u64, u64)>> {
    let mut prints = Vec::new();
    for (table, column) in TABLES {
        let (mut rows, mut print) = (0, 0_u64);
        // A store's row also says how far its records go.
        let (what, stamp) = match table {
            "stores" => ("store, zone, currency, registered_at_us", String::new()),
            _ => ("*", format!(", WRITETIME({column})")),
        };
        let columns = match what {
            "*" => columns_of(session, table).await?,
            some => some.to_owned(),
        };
        let cql = format!("SELECT {columns}{stamp} FROM {table}");
        every(session, &cql, |row: Row| {
            let mut hash = DefaultHasher::new();
            format!("{row:?}").hash(&mut hash);
            (rows, print) = (rows + 1, print.wrapping_add(hash.finish()));
            Ok(())
        })
        .await?;
        prints.push((rows, print));
    }
    Ok(prints)
}

async fn columns_of(session: &Session, table: &str) -> Result<String> {
    let keyspace = session.get_keyspace().context("no keyspace")?;
    let cql = format!(
        "SELECT column_name FROM system_schema.columns WHERE keyspace_name = '{keyspace}' AND table_name = '{table}'"
    );
    let mut columns = Vec::new();
    every(session, &cql, |(column,): (String,)| {
        columns.push(column);
        Ok(())
    })
    .await?;
    Ok(columns.join(", "))
}

fn replay(words: &[&str]) -> Result<Value> {
    let begun = Instant::now();
    let (report, output) = json_of("tillload", words)?;
    ensure!(output.status.success(), "the replay failed: {report}");
    println!("replayed in {:.1?}: {report}", begun.elapsed());
    Ok(report)
}

/// Each code in the file is the name of its id, and nothing else is a name of goods.
fn codes_are_named(world: &World, file: &Path) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for line in fs::read_to_string(file)?.lines().skip(1) {
        let code = line.split(',').nth(4).context("no code")?;
        let id = SkuId::of_code(code).get().cast_signed();
        wanted.insert((id, code.to_owned()));
    }
    let text = format!(
        "SELECT space, blobAsBigint(id), name FROM {}.names",
        world.keyspace
    );
    let rows = world.cql.rows::<(i8, i64, String)>(&text)?;
    let skus = rows.into_iter().filter(|(space, ..)| *space == 1);
    let found: BTreeSet<_> = skus.map(|(_, id, name)| (id, name)).collect();
    ensure!(
        found == wanted,
        "{} names are there, of {} codes in the file",
        found.len(),
        wanted.len()
    );
    Ok(())
}

/// Receipt 7 comes again with other amounts: it is quarantined once.
fn an_edited_receipt_is_quarantined(world: &World, words: &[&str], file: &Path) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let mut edited = Vec::new();
    for line in text.lines() {
        match line.rsplit_once(',') {
            _ if edited.is_empty() => edited.push(line.to_owned()),
            Some((before, _)) if line.contains(",R7,") => edited.push(format!("{before},99.99")),
            _ => {}
        }
    }
    let copy = file.with_extension("edited.csv");
    fs::write(&copy, edited.join("\n"))?;
    let (file, copy) = (file.to_str(), copy.to_str().context("a path")?);
    let words = words.iter();
    let words: Vec<&str> = words
        .map(|word| if Some(*word) == file { copy } else { word })
        .collect();
    let (store, till) = (1 + 7 % STORES, 1 + 7 / STORES % TILLS);
    let terminal = (store << 32 | till).cast_signed();
    let quarantined = (
        i32::try_from(store)?,
        terminal,
        i32::from(u16::MAX),
        i32::from(Reason::Conflict.code()),
    );
    for (conflicts, duplicates) in [(1, 0), (0, 1)] {
        let report = replay(&words)?;
        assert_eq!(report["conflicts"], conflicts);
        assert_eq!(report["duplicates"], duplicates);
        let text = format!(
            "SELECT store, terminal, line, reason FROM {}.quarantine",
            world.keyspace
        );
        let rows = world.cql.rows::<(i32, i64, i32, i32)>(&text)?;
        assert_eq!(rows, [quarantined]);
    }
    Ok(())
}

#[test]
fn a_file_is_exact_in_the_tables_and_comes_again_without_a_change() -> Result<()> {
    let lines = std::env::var("TILL_LINES").map_or(Ok(LINES), |lines| lines.parse())?;
    let receipts = lines / LINES_OF_RECEIPT;
    let world = World::new("file")?;
    let (server, keyspace) = (&world.server, &world.keyspace);
    let folder = tempfile::tempdir()?;
    let (file, data) = (folder.path().join("lines.csv"), folder.path().join("data"));
    let wanted = write_file(&file, receipts)?;
    let mut words = vec!["replay", "--spawn", "--json", "--store", "scylla"];
    words.extend(["--scylla", server, "--keyspace", keyspace]);
    words.extend(["--file", file.to_str().context("a path")?]);
    words.extend(["--data", data.to_str().context("a path")?]);
    let report = replay(&words)?;
    assert_eq!(report["receipts"], receipts);
    assert_eq!(report["duplicates"], 0);
    let runtime = tokio::runtime::Runtime::new()?;
    let session = runtime.block_on(async {
        let builder = SessionBuilder::new().known_node(server);
        let session = builder.use_keyspace(keyspace, false).build().await?;
        anyhow::Ok(session)
    })?;
    let (told, found) = runtime.block_on(sums_in(&session))?;
    ensure!(
        told == wanted,
        "the sums in the tables are not those of the file"
    );
    ensure!(
        found == wanted,
        "the lines in the tables are not those of the file"
    );
    let by_store = world.query(&["sales", "--by", "store"])?;
    for row in by_store.as_array().context("rows")? {
        let of_store = wanted
            .iter()
            .filter(|((store, ..), _)| row["store"] == *store);
        let net: i128 = of_store.map(|(_, sums)| sums[2]).sum();
        assert_eq!(
            row["net_minor"].as_i64().map(i128::from),
            Some(net),
            "{row}"
        );
    }
    let receipt = ["transaction", "--receipt", "R7"];
    let sales = world.query(&receipt)?;
    assert_eq!(sales.as_array().context("rows")?.len(), 1);
    let before = runtime.block_on(prints(&session))?;
    assert_eq!(
        (before[0].0, before[1].0),
        (receipts, receipts * LINES_OF_RECEIPT)
    );
    let report = replay(&words)?;
    assert_eq!(report["duplicates"], receipts);
    assert_eq!(runtime.block_on(prints(&session))?, before);
    assert_eq!(world.query(&receipt)?, sales);
    codes_are_named(&world, &file)?;
    an_edited_receipt_is_quarantined(&world, &words, &file)?;
    sums::equal_the_facts_but_for_repeats(&world)
}
