//! What is old goes from the log of a chain, with what is made of it; rows stay, and are made again from what is left.

use std::collections::BTreeSet;

use till_protocol::id::StoreId;
use till_scylla::ScyllaStore;
use till_storage::cluster::{
    Commit, Maintenance as _, RetainRequest, Retained, SharedStore as _, retain,
};
use till_storage::memory::MemoryViews;
use till_storage::testing::suite::timely_workload_of;
use till_storage::views::{StoreError, WriteViews};

use crate::rebuild::commit_all;
use crate::world::{World, applied, remake, rows_of};

/// Tables with a row, or a partition, for each record or event.
const FACTS: [&str; 6] = [
    "hours",
    "hour_index",
    "run_index",
    "receipt_index",
    "transactions",
    "lines",
];

fn drop_before(store: &ScyllaStore, before_us: i64, run: u8) -> Retained {
    let request = RetainRequest {
        before_us,
        run: [run; 16],
    };
    let mut scratch =
        |_| -> Result<Box<dyn WriteViews>, StoreError> { Ok(Box::new(MemoryViews::new())) };
    retain(store, request, &mut scratch, &mut |_| {}).unwrap()
}

fn count(world: &World, table: &str) -> i64 {
    let cql = format!("SELECT COUNT(*) FROM {}.{table}", world.keyspace());
    world.first::<(i64,)>(&cql).unwrap().0
}

/// Flushes that the records of all stores point to, as readers find them by hour.
fn flushes_found(store: &ScyllaStore) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for number in 1..=3 {
        let of = StoreId::new(number).unwrap();
        let facts = store.facts();
        facts
            .of_hours(of, 0, i64::MAX, &mut |fact| {
                found.insert(Commit::flush_of(fact.lsn.get()));
                Ok(())
            })
            .unwrap();
    }
    found
}

fn received(commits: &[Commit]) -> i64 {
    let records = commits.iter().flat_map(|commit| &commit.records);
    let received = records.map(|record| record.head.received_at_us);
    received.min().unwrap()
}

#[test]
fn what_is_old_goes_and_rows_are_made_again_from_what_is_left() {
    let world = applied("retained", 1);
    let commits = timely_workload_of(22, 200);
    let writer = world.store();
    commit_all(&writer, &commits);
    for commit in &commits {
        writer.project(&[commit.clone().into()]).unwrap();
    }
    let rows = rows_of(&writer);
    let mut left: Vec<i64> = FACTS.iter().map(|table| count(&world, table)).collect();
    let mut log = count(&world, "slot_log");
    for (run, part) in (1..).zip([2, 3]) {
        let store = world.store();
        let middle = commits.len() * part / 4;
        let cut = received(&commits[middle..]);
        let retained = drop_before(&store, cut, run);
        assert!(retained.records > 0, "{retained:?}");
        let start = store.log_start(0).unwrap();
        assert_eq!((start.cleared, start.before_us), (start.dropped, cut));
        let middle = u64::try_from(middle).unwrap();
        assert!((middle - 1..=middle).contains(&start.dropped), "{start:?}");
        let found = flushes_found(&store);
        assert_eq!(found.first(), Some(&(start.dropped + 1)), "{found:?}");
        for (table, before) in FACTS.iter().zip(&mut left) {
            let after = count(&world, table);
            assert!(0 < after && after < *before, "{table}: {after} of {before}");
            *before = after;
        }
        let after = count(&world, "slot_log");
        assert!(0 < after && after < log, "{after} of {log}");
        log = after;
        assert_eq!(rows_of(&store), rows, "rows stay");
        // A program that has seen nothing of it makes them again, and knows of which stores what is left is.
        remake(&world.store());
        assert!(rows_of(&store) == rows, "rows are made again");
        let made: Vec<i64> = FACTS.iter().map(|table| count(&world, table)).collect();
        assert_eq!(made, left, "facts are made of the records that are left");
        assert_eq!(flushes_found(&store), found);
    }
    let of = StoreId::new(1).unwrap();
    let (facts, start) = (writer.facts(), writer.log_start(0).unwrap());
    assert!(facts.is_whole(of, start.before_us).unwrap());
    assert!(!facts.is_whole(of, start.before_us - 1).unwrap());
    // The base of the first run has gone with the second.
    let bases = format!(
        "SELECT COUNT(*) FROM {}.slot_base WHERE slot = 0 AND id = 0x{} AND bucket = 0",
        world.keyspace(),
        "01".repeat(16)
    );
    assert_eq!(world.first::<(i64,)>(&bases), Some((0,)));
    let base = start.base.unwrap();
    let kept = writer.base_records(&base, 0, base.records).unwrap();
    assert_eq!(kept.len(), usize::try_from(base.records).unwrap());
}
