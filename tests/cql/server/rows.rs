//! Commits in, rows and answers out.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use scylla::value::{CqlDate, CqlVarint};
use till_core::Dim;
use till_protocol::id::StoreId;
use till_scylla::schema::{self, SchemaRequest};
use till_scylla::{CqlError, ScyllaStore};
use till_storage::cluster::{Commit, SharedStore as _};
use till_storage::query::FactReader;
use till_storage::testing::conformance::{self, Fixture, Lacks, filled};
use till_storage::testing::suite::{self, Stand, retry_of, workload_of};
use till_storage::views::{FlushBatch, StoreError, Views};

use crate::world::World;

/// Tables in a keyspace of their own.
pub(crate) struct Cluster {
    pub(crate) store: ScyllaStore,
    pub(crate) views: Arc<dyn Views>,
    pub(crate) facts: Arc<dyn FactReader>,
    pub(crate) world: World,
    /// Number of the last flush.
    flush: Cell<u64>,
}

impl Cluster {
    pub(crate) fn new(test: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let world = World::new(&format!("{test}{number}"));
        let request = SchemaRequest {
            replication: Some(1),
            slots: Some(1),
        };
        schema::apply(&world.cql, request).unwrap();
        let store = ScyllaStore::open(Arc::new(world.another())).unwrap();
        Self {
            views: store.views(),
            facts: store.facts(),
            store,
            world,
            flush: Cell::new(0),
        }
    }

    /// Commits as an owner does, and writes the rows.
    pub(crate) fn commit(&self, commit: &Commit) -> Result<(), StoreError> {
        let log = commit.to_log().unwrap();
        let of = (commit.slot, commit.flush);
        self.store.write_log(of, &log, None)?;
        self.store.project(&[Arc::new(commit.clone())])
    }

    /// Every row of a statement.
    pub(crate) fn select<R>(&self, cql: &str) -> Vec<R>
    where
        R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f> + Send + 'static,
    {
        let client = Arc::clone(self.world.cql.client());
        let cql = cql.replace("FROM ", &format!("FROM {}.", self.world.keyspace()));
        let found = self.world.cql.wait(async move {
            let answer = client.session().query_unpaged(cql, ()).await;
            let answer = answer.map_err(|error| CqlError::statement("a test's query", error))?;
            let answer = answer.into_rows_result().unwrap();
            Ok::<_, CqlError>(answer.rows::<R>().unwrap().map(Result::unwrap).collect())
        });
        found.unwrap()
    }

    /// Everything in a table, with the timestamps of its rows.
    fn dump(&self, table: &str, column: &str) -> Vec<String> {
        let cells = self.select::<(String, i64)>(&format!(
            "SELECT toJson({column}), WRITETIME({column}) FROM {table}"
        ));
        let mut rows: Vec<String> = cells
            .iter()
            .map(|(cell, stamp)| format!("{cell} at {stamp}"))
            .collect();
        rows.sort();
        rows
    }
}

impl Fixture for Cluster {
    fn views(&self) -> &dyn Views {
        self.views.as_ref()
    }

    fn write(&self, flush: &FlushBatch) -> Result<(), StoreError> {
        self.flush.set(self.flush.get() + 1);
        let commit = Commit {
            flush: self.flush.get(),
            epoch: 1,
            rows: flush.clone(),
            ..Commit::default()
        };
        Self::commit(self, &commit)
    }

    fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn reopen(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn restart(&mut self) {
        self.store = ScyllaStore::open(Arc::new(self.world.another())).unwrap();
        (self.views, self.facts) = (self.store.views(), self.store.facts());
    }

    fn lacks(&self) -> Lacks {
        Lacks {
            checkpoint: true,
            whole_flushes: true,
        }
    }
}

impl Stand for Cluster {
    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        Self::commit(self, commit)
    }

    fn views(&self) -> &dyn Views {
        self.views.as_ref()
    }

    fn facts(&self) -> &dyn FactReader {
        self.facts.as_ref()
    }
}

#[test]
fn the_tables_pass_the_suite_of_every_store_of_rows() {
    conformance::run(|| Cluster::new("conform")).unwrap();
}

#[test]
fn every_query_is_answered_as_in_the_model() {
    suite::run(|| Cluster::new("queries")).unwrap();
}

// A column of each table that every row has, and that is not part of its key.
const COLUMNS: [(&str, &str); 15] = [
    ("slot_log", "body"),
    ("run_index", "last_seq"),
    ("transactions", "position"),
    ("lines", "quantity_e5"),
    ("stock_moves", "quantity_e5"),
    ("audit", "what"),
    ("stores", "applied"),
    ("terminals", "applied"),
    ("levels", "quantity_e5"),
    ("rollups", "transactions"),
    ("hour_index", "numbers"),
    ("event_ids", "content"),
    ("quarantine", "position"),
    ("telemetry", "kind"),
    ("levels", "moved_e5"),
];

#[test]
fn a_commit_that_is_written_again_changes_nothing_and_an_older_one_no_derived_row() {
    let cluster = Cluster::new("again");
    let commits = workload_of(5, 80);
    assert!(commits.len() > 2, "one flush would prove nothing");
    for commit in &commits {
        cluster.commit(commit).unwrap();
    }
    let dumps = || COLUMNS.map(|(table, column)| cluster.dump(table, column));
    let (before, rows) = (dumps(), filled(cluster.views.as_ref()).unwrap());
    assert!(before[2].len() > 20, "there is trade in the tables");
    for commit in commits.iter().rev() {
        cluster.commit(commit).unwrap();
    }
    assert_eq!(dumps(), before);
    assert_eq!(filled(cluster.views.as_ref()).unwrap(), rows);
}

#[test]
fn an_event_that_was_decided_again_stands_as_it_was_decided_last() {
    let cluster = Cluster::new("retried");
    let commits = retry_of();
    let outcomes = || {
        cluster.select::<(i64, String, Option<i32>, bool)>(
            "SELECT seq, outcome, reason, counts FROM transactions",
        )
    };
    for commit in &commits[..2] {
        cluster.commit(commit).unwrap();
    }
    let before = outcomes();
    assert_eq!(before[0], (1, "applied".to_owned(), None, true));
    assert_eq!((before[1].1.as_str(), before[1].3), ("quarantined", false));
    assert!(before[1].2.is_some());
    let after = [
        (1, "applied".to_owned(), None, true),
        (2, "applied".to_owned(), None, true),
    ];
    for commit in commits.iter().chain(commits.iter().rev()) {
        cluster.commit(commit).unwrap();
    }
    assert_eq!(outcomes(), after);
    let mut told = cluster.select::<(i64, String)>("SELECT seq, what FROM audit");
    told.sort();
    let told: Vec<_> = told
        .iter()
        .map(|(seq, what)| (*seq, what.as_str()))
        .collect();
    assert_eq!(
        told,
        [(0, "registered"), (2, "quarantined"), (2, "released")]
    );
}

/// Sums by what they are of.
type Sums = BTreeMap<(i32, u16, i64), [i128; 4]>;

pub(crate) fn number(cell: &CqlVarint) -> i128 {
    let bytes = cell.as_signed_bytes_be_slice();
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [sign; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    i128::from_be_bytes(whole)
}

pub(crate) fn day(date: CqlDate) -> u16 {
    u16::try_from(date.0 - (1 << 31)).unwrap()
}

#[test]
fn transactions_and_lines_that_count_add_up_to_the_sums() {
    let cluster = Cluster::new("sums");
    for commit in workload_of(6, 200) {
        cluster.commit(&commit).unwrap();
    }
    let mut found = (Sums::new(), Sums::new());
    let transactions = cluster.select::<(i32, CqlDate, CqlVarint, CqlVarint, CqlVarint, bool)>(
        "SELECT store, day, net_minor, discount_minor, tax_minor, counts FROM transactions",
    );
    for (store, date, net, discount, tax, counts) in &transactions {
        if *counts {
            let sum = found.0.entry((*store, day(*date), 0)).or_default();
            let parts = [1, number(net), number(discount), number(tax)];
            (0..4).for_each(|at| sum[at] += parts[at]);
        }
    }
    assert!(transactions.iter().any(|row| !row.5), "voids and training");
    let lines = cluster.select::<(i32, CqlDate, i64, i64, i64, bool)>(
        "SELECT store, day, blobAsBigint(sku), quantity_e5, net_minor, counts FROM lines",
    );
    for (store, date, sku, quantity, net, counts) in lines {
        if counts {
            let sum = found.1.entry((store, day(date), sku)).or_default();
            let parts = [1, i128::from(quantity), i128::from(net), 0];
            (0..4).for_each(|at| sum[at] += parts[at]);
        }
    }
    let mut expected = (Sums::new(), Sums::new());
    for store in 1..=3 {
        let id = StoreId::new(store).unwrap();
        let store = i32::try_from(store).unwrap();
        let views = cluster.views.as_ref();
        let add = |sums: &mut Sums, day, key, parts: [i128; 4]| {
            let sum = sums.entry((store, day, key)).or_default();
            (0..4).for_each(|at| sum[at] += parts[at]);
        };
        views
            .rollups(id, Dim::Store, 0..=u16::MAX, &mut |key, row| {
                let sums = row.totals;
                let parts = [
                    i128::from(sums.transactions),
                    sums.net,
                    sums.discount,
                    sums.tax,
                ];
                add(&mut expected.0, key.day, 0, parts);
                ControlFlow::Continue(())
            })
            .unwrap();
        views
            .rollups(id, Dim::Sku, 0..=u16::MAX, &mut |key, row| {
                let sums = row.totals;
                if sums.lines > 0 {
                    let parts = [i128::from(sums.lines), sums.quantity, sums.net, 0];
                    add(&mut expected.1, key.day, key.key.cast_signed(), parts);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert!(expected.0.len() > 5 && expected.1.len() > 20);
    assert_eq!(found, expected);
}

#[test]
fn rows_that_are_asked_for_together_are_what_they_are_one_by_one() {
    let cluster = Cluster::new("at_once");
    let store = ScyllaStore::open(Arc::new(cluster.world.another())).unwrap();
    conformance::rows_at_once(&store).unwrap();
}
