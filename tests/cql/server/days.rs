//! Sums of days: those of their hours, whoever made them and when.

use std::collections::BTreeMap;

use scylla::value::{CqlDate, CqlVarint};
use till_storage::cluster::SharedStore as _;
use till_storage::query::Sources;
use till_storage::testing::conformance;
use till_storage::testing::suite::{answers, workload_of};

use crate::rows::{Cluster, day, number};

/// By store, day, dimension and key: the sums that the tables have in columns.
type Sums = BTreeMap<(i32, u16, i32, i64), [i128; 8]>;
/// The columns.
type Cells = (
    i64,
    i64,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
    CqlVarint,
);
const COLUMNS: &str = "transactions, lines, quantity_e5, net_minor, discount_minor, tax_minor, returns_net_minor, moved_e5";
const SKU: i32 = 1;

fn add(sums: &mut Sums, key: (i32, CqlDate, i32, i64), cells: &Cells) {
    let (store, date, dim, key) = key;
    let sum = sums.entry((store, day(date), dim, key)).or_default();
    let (transactions, lines, ..) = cells;
    let parts = [
        i128::from(*transactions),
        i128::from(*lines),
        number(&cells.2),
        number(&cells.3),
        number(&cells.4),
        number(&cells.5),
        number(&cells.6),
        number(&cells.7),
    ];
    (0..8).for_each(|at| sum[at] += parts[at]);
}

// Key and sums of each row; `part` is a column of the key.
fn rows_of(
    cluster: &Cluster,
    (table, part, key): (&str, &str, &str),
) -> Vec<((i32, CqlDate, i32, i64), Cells)> {
    type Row = (
        i32,
        CqlDate,
        i32,
        i64,
        i64,
        i64,
        CqlVarint,
        CqlVarint,
        CqlVarint,
        CqlVarint,
        CqlVarint,
        CqlVarint,
    );
    let asked = format!(
        "SELECT store, day, CAST({part} AS int), blobAsBigint({key}), {COLUMNS} FROM {table}"
    );
    let rows = cluster.select::<Row>(&asked).into_iter();
    let rows = rows.map(|row| {
        let (store, date, part, key, transactions, lines, a, b, c, d, e, f) = row;
        let cells = (transactions, lines, a, b, c, d, e, f);
        ((store, date, part, key), cells)
    });
    rows.collect()
}

fn hours(cluster: &Cluster) -> Sums {
    let mut sums = Sums::new();
    for (key, cells) in rows_of(cluster, ("rollups", "dim", "key")) {
        add(&mut sums, key, &cells);
    }
    sums
}

fn days(cluster: &Cluster) -> Sums {
    let mut sums = Sums::new();
    for (key, cells) in rows_of(cluster, ("chain_days", "dim", "key")) {
        assert_ne!(key.2, SKU, "SKUs have a table of their own");
        add(&mut sums, key, &cells);
    }
    for ((store, date, _, sku), cells) in rows_of(cluster, ("sku_days", "year", "sku")) {
        add(&mut sums, (store, date, SKU, sku), &cells);
    }
    sums
}

fn sum_all(cluster: &Cluster, applied: u64) {
    for due in cluster.store.days_due(0).unwrap() {
        cluster.store.sum_day(0, &due, applied).unwrap();
    }
}

#[test]
fn sums_of_days_are_what_their_hours_add_up_to() {
    let cluster = Cluster::new("days");
    conformance::days(&cluster.store).unwrap();
    assert_eq!(days(&cluster), hours(&cluster));
}

#[test]
fn the_tables_of_days_follow_what_comes_late_and_change_no_answer() {
    let cluster = Cluster::new("late_days");
    let commits = workload_of(7, 200);
    let (first, late) = commits.split_at(commits.len() / 2);
    let ask = || {
        let sources = Sources {
            views: cluster.views.as_ref(),
            facts: cluster.facts.as_ref(),
            now_us: 0,
        };
        answers(&sources).unwrap()
    };
    for commits in [first, late] {
        for commit in commits {
            cluster.commit(commit).unwrap();
        }
        let applied = commits.last().unwrap().flush;
        let due = cluster.store.days_due(0).unwrap();
        assert!(due.len() > 5, "{} days are due", due.len());
        assert!(due.iter().all(|one| one.flush <= applied));
        assert_ne!(days(&cluster), hours(&cluster), "nothing was summed yet");
        let before = ask();
        let (half, _) = due.split_at(due.len() / 2);
        for one in half {
            cluster.store.sum_day(0, one, applied).unwrap();
        }
        assert_eq!(ask(), before, "some days are summed, others are due");
        sum_all(&cluster, applied);
        assert_eq!(cluster.store.days_due(0).unwrap(), []);
        assert_eq!(days(&cluster), hours(&cluster));
        assert_eq!(ask(), before, "all days are summed");
    }
    let first: i128 = hours(&cluster).values().map(|sums| sums[1]).sum();
    assert!(first > 100, "there is trade in the tables");
}

#[test]
fn an_engine_that_comes_late_changes_no_newer_sum_and_hides_no_change() {
    let cluster = Cluster::new("fenced_days");
    let commits = workload_of(8, 200);
    for commit in &commits {
        cluster.commit(commit).unwrap();
    }
    let applied = commits.last().unwrap().flush;
    let due = cluster.store.days_due(0).unwrap();
    // The stamp of an engine that has lost the slot: it saw no more than the first flush.
    for one in &due {
        cluster.store.sum_day(0, one, 1).unwrap();
    }
    let left = cluster.store.days_due(0).unwrap();
    let newer: Vec<_> = due.iter().filter(|one| one.flush > 1).copied().collect();
    assert_eq!(left, newer, "what it did not know of stays due");
    assert!(left.len() > 5);
    sum_all(&cluster, applied);
    let expected = hours(&cluster);
    assert_eq!(days(&cluster), expected);
    // What it has read long ago arrives at last.
    let keyspace = cluster.world.keyspace();
    for ((store, date, dim, key), _) in expected {
        let date = till_protocol::time::Day::new(date);
        let (table, columns, values) = match dim {
            SKU => {
                let (year, ..) = date.civil();
                let values = format!("bigintAsBlob({key}), {year}, '{date}', {store}");
                ("sku_days", "sku, year, day, store", values)
            }
            _ => {
                let values = format!("'{date}', {dim}, {store}, bigintAsBlob({key})");
                ("chain_days", "day, dim, store, key", values)
            }
        };
        cluster.world.run(&format!(
            "INSERT INTO {keyspace}.{table} ({columns}, lines, net_minor) VALUES ({values}, 7, 7) USING TIMESTAMP 1"
        ));
    }
    assert_eq!(days(&cluster), hours(&cluster));
}
