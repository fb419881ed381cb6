//! A keyspace of an earlier release is copied, and rebuilt.

use std::fmt::Write as _;
use std::sync::Arc;

use till_core::Space;
use till_scylla::ScyllaStore;
use till_scylla::migrate::{Earlier, MigrateError, Migration};
use till_scylla::schema::{self, SchemaError, SchemaRequest};
use till_storage::cluster::{Commit, SharedStore as _, SlotRow};
use till_storage::testing::MemoryCluster;
use till_storage::testing::suite::workload_of;

use crate::world::{World, applied, remake, rows_of};

const VERSION_3: &str = include_str!("v3.cql");
/// Hours that each record lies in, though its events may have one.
const HOURS: [i32; 2] = [498_685, 498_686];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

/// A keyspace as the release before has left it.
fn earlier(test: &str, commits: &[Commit]) -> World {
    let world = World::new(test);
    let k = world.keyspace();
    world.run(&format!(
        "CREATE KEYSPACE {k} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    ));
    let tables = VERSION_3.replace("CREATE TABLE ", &format!("CREATE TABLE {k}."));
    for table in tables.split_inclusive(";\n") {
        world.run(
            table
                .split_once("CREATE")
                .map(|(_, rest)| format!("CREATE{rest}"))
                .unwrap()
                .as_str(),
        );
    }
    let run = |cql: String| world.run(&cql.replace("INTO ", &format!("INTO {k}.")));
    run("INSERT INTO schema_version (part, version, min_reader, applied_at) VALUES ('tables', 3, 1, 0)".to_owned());
    run("INSERT INTO settings (name, value) VALUES ('slots', '1')".to_owned());
    run(format!(
        "INSERT INTO settings (name, value) VALUES ('chain_key', '{}')",
        "7a".repeat(32)
    ));
    run("INSERT INTO slots (slot, epoch, flush) VALUES (0, 2, 9)".to_owned());
    // Of two names of one id, one came from a device whose records were lost.
    run("INSERT INTO names (space, id, name) VALUES (1, -5, 'spoken of')".to_owned());
    for commit in commits {
        for (id, _) in &commit.rows.stores {
            let store = id.get();
            run(format!(
                "INSERT INTO stores (part, store) VALUES ({}, {store})",
                store % 16
            ));
            for hour in HOURS {
                run(format!(
                    "INSERT INTO record_hours (store, hour) VALUES ({store}, {hour})"
                ));
            }
        }
        for (index, record) in (0..).zip(&commit.records) {
            let position = Commit::position(commit.flush, index);
            let store = record.head.terminal >> 32;
            let verdicts: Vec<u8> = record
                .verdicts
                .iter()
                .flat_map(|one| one.encode())
                .collect();
            let [head, verdicts, payload] =
                [&record.head.encode()[..], &verdicts, &record.payload].map(hex);
            for hour in HOURS {
                run(format!(
                    "INSERT INTO records (store, hour, position, head, verdicts, payload) \
                     VALUES ({store}, {hour}, {position}, {head}, {verdicts}, {payload})"
                ));
            }
        }
    }
    world
}

fn begun(old: &World, new: &World) -> Result<Migration, MigrateError> {
    let from = Earlier::open(Arc::new(old.another())).unwrap();
    Migration::begin(from, &Arc::new(new.another()))
}

#[test]
fn a_chain_of_an_earlier_release_is_copied_and_rebuilt() {
    let commits = workload_of(11, 240);
    let wanted = MemoryCluster::new(1);
    for commit in &commits {
        wanted.project(&[Arc::new(commit.clone())]).unwrap();
    }
    let spoken = (Space::Sku, (-5_i64).cast_unsigned(), "spoken of".to_owned());
    wanted.write_names(&[spoken]).unwrap();
    let old = earlier("earlier", &commits);
    let refused = schema::apply(&old.cql, SchemaRequest::default());
    assert!(matches!(refused, Err(SchemaError::Outdated { .. })));

    let new = applied("copied", 1);
    let open = || ScyllaStore::open(Arc::new(new.another()));
    let records: usize = commits.iter().map(|commit| commit.records.len()).sum();
    let flushes = u64::try_from(records.div_ceil(64)).unwrap();
    assert!(flushes > 1, "{records} records are one flush");
    // Run once more it copies nothing twice.
    for _ in 0..2 {
        let migration = begun(&old, &new).unwrap();
        let copied = migration.copy(&mut |_, _| {}).unwrap();
        let wanted = (1, u64::try_from(records).unwrap());
        assert_eq!((copied.slots, copied.records), wanted);
        let row = migration.store().slot(0).unwrap();
        let unmade = (flushes, SlotRow::UNMADE, None);
        assert_eq!((row.flush, row.applied, row.owner), unmade);
        // Nobody else comes before it has ended.
        let early = open().unwrap_err().to_string();
        assert!(early.contains("schema migrate --from"), "{early}");
    }
    // It was cut short in the middle of a slot: it goes on behind what is there.
    new.run(&format!(
        "UPDATE {}.slots SET flush = 1, applied = -1 WHERE slot = 0 IF EXISTS",
        new.keyspace()
    ));
    let first = format!(
        "SELECT body FROM {}.slot_log WHERE slot = 0 AND bucket = 0 AND flush = 1 AND epoch = 0",
        new.keyspace()
    );
    let (seal,) = new.first::<(Vec<u8>,)>(&first).unwrap();
    new.run(&format!(
        "UPDATE {}.slots SET seal = {} WHERE slot = 0 IF EXISTS",
        new.keyspace(),
        hex(&seal)
    ));
    let migration = begun(&old, &new).unwrap();
    migration.copy(&mut |_, _| {}).unwrap();
    remake(migration.store().as_ref());
    // And once all is there.
    let migration = begun(&old, &new).unwrap();
    migration.copy(&mut |_, _| {}).unwrap();
    migration.end().unwrap();
    let store = open().unwrap();
    assert_eq!(rows_of(&store), rows_of(&wanted));
    assert_eq!(store.known_chain_key().unwrap(), Some([0x7a; 32]));
    let again = begun(&old, &new).unwrap_err();
    assert!(matches!(again, MigrateError::InUse { slot: 0 }), "{again}");
}

#[test]
fn what_cannot_be_copied_is_refused_before_anything_is_written() {
    let old = earlier("earlier_empty", &[]);
    let two = applied("two_slots", 2);
    let slots = begun(&old, &two).unwrap_err();
    assert!(slots.to_string().contains("--slots 1"), "{slots}");
    let store = two.store();
    assert_eq!(store.known_chain_key().unwrap(), None);

    // Another engine has begun there, and masks codes otherwise.
    let other = applied("other_key", 1);
    let store = other.store();
    store.chain_key([1; 32]).unwrap();
    let key = begun(&old, &other).unwrap_err();
    assert!(matches!(key, MigrateError::OtherKey), "{key}");

    let one = applied("one_slot", 1);
    let k = old.keyspace();
    let owned = "UPDATE slots SET owner = 6ab09bec-e68e-48d9-a5f8-97e6fb4c9b47, address = '10.0.0.9:7878' WHERE slot = 0";
    old.run(&owned.replace("slots", &format!("{k}.slots")));
    let owner = begun(&old, &one).unwrap_err();
    assert!(owner.to_string().contains("10.0.0.9:7878"), "{owner}");
    old.run(&format!("UPDATE {k}.slots SET owner = null WHERE slot = 0"));
    old.run(&format!(
        "INSERT INTO {k}.handover_list (part, slot, node, number) VALUES (0, 0, 6ab09bec-e68e-48d9-a5f8-97e6fb4c9b47, 1)"
    ));
    let waiting = begun(&old, &one).unwrap_err();
    assert!(waiting.to_string().contains("1 chunks"), "{waiting}");
    old.run(&format!("TRUNCATE {k}.handover_list"));

    // An engine of the earlier release goes on meanwhile.
    let migration = begun(&old, &one).unwrap();
    old.run(&format!("UPDATE {k}.slots SET flush = 10 WHERE slot = 0"));
    let moved = migration.copy(&mut |_, _| {}).unwrap_err();
    assert!(matches!(moved, MigrateError::Moved { .. }), "{moved}");

    // Of this release: nothing to copy.
    let none = Earlier::open(Arc::new(two.another())).unwrap_err();
    assert!(
        matches!(none, MigrateError::Version { found: 5, .. }),
        "{none}"
    );
}
