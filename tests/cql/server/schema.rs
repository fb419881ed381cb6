use std::collections::HashMap;
use std::thread;

use till_scylla::schema::{self, SchemaError, SchemaRequest, State, VERSION};

use crate::world::World;

const SMALL: SchemaRequest = SchemaRequest {
    replication: Some(1),
    slots: Some(8),
};

#[test]
fn applied_again_it_changes_nothing_and_says_what_is_there() {
    let world = World::new("repeat");
    let before = schema::status(&world.cql).unwrap();
    assert_eq!(before.state(), State::Absent);
    assert!(!before.exists && !before.is_usable());
    let first = schema::apply(&world.cql, SMALL).unwrap();
    let again = schema::apply(&world.cql, SMALL).unwrap();
    let unasked = schema::apply(&world.cql, SchemaRequest::default()).unwrap();
    for status in [
        &first,
        &again,
        &unasked,
        &schema::status(&world.cql).unwrap(),
    ] {
        assert_eq!(status.state(), State::Current);
        assert_eq!(status.version, Some(VERSION));
        assert_eq!((status.replication, status.slots), (Some(1), Some(8)));
        assert_eq!(status.applied_at_ms, first.applied_at_ms);
        assert!(status.missing.is_empty() && status.slots_missing == 0);
    }
    assert_eq!(schema::check(&world.cql).unwrap(), 8);
}

#[test]
fn applied_from_two_places_at_once_it_is_there_once() {
    let world = World::new("both");
    let others = [world.another(), world.another()];
    let applied: Vec<_> = thread::scope(|scope| {
        let both = others
            .each_ref()
            .map(|cql| scope.spawn(move || schema::apply(cql, SMALL)));
        both.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for status in applied {
        assert_eq!(status.unwrap().state(), State::Current);
    }
    // A table that was made twice would take writes of one id and not be found under the other.
    let table = format!("{}.names", world.keyspace());
    world.run(&format!(
        "INSERT INTO {table} (space, id, name) VALUES (1, 0x01, 'a')"
    ));
    assert_eq!(schema::check(&world.cql).unwrap(), 8);
}

#[test]
fn more_copies_than_nodes_are_refused_and_nothing_is_made() {
    let world = World::new("copies");
    let nodes = schema::status(&world.cql).unwrap().nodes;
    let request = SchemaRequest {
        replication: Some(nodes + 1),
        slots: None,
    };
    let error = schema::apply(&world.cql, request).unwrap_err();
    assert!(matches!(error, SchemaError::TooFewNodes { .. }), "{error}");
    assert!(!schema::status(&world.cql).unwrap().exists);
    let none = SchemaRequest {
        replication: Some(0),
        slots: None,
    };
    let error = schema::apply(&world.cql, none).unwrap_err();
    assert!(matches!(error, SchemaError::NoCopies), "{error}");
}

#[test]
fn another_number_of_copies_than_the_keyspace_has_is_refused() {
    let world = World::new("others");
    world.run(&format!(
        "CREATE KEYSPACE {} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': 2}}",
        world.keyspace(),
        world.cql.client().datacenter()
    ));
    let error = schema::apply(&world.cql, SMALL).unwrap_err();
    let SchemaError::Replication { fixed, wanted, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((fixed, wanted), (2, 1));
}

#[test]
fn a_newer_schema_is_left_alone() {
    let world = World::new("newer");
    schema::apply(&world.cql, SMALL).unwrap();
    let table = format!("{}.schema_version", world.keyspace());
    let next = VERSION + 1;
    world.run(&format!(
        "UPDATE {table} SET version = {next}, min_reader = {VERSION} WHERE part = 'tables' IF EXISTS"
    ));
    let status = schema::status(&world.cql).unwrap();
    assert_eq!(status.state(), State::Newer);
    assert!(status.is_usable(), "it says that this program may read it");
    let error = schema::apply(&world.cql, SMALL).unwrap_err();
    assert!(matches!(error, SchemaError::Newer { .. }), "{error}");
    world.run(&format!(
        "UPDATE {table} SET min_reader = {next} WHERE part = 'tables' IF EXISTS"
    ));
    let error = schema::check(&world.cql).unwrap_err();
    let SchemaError::Newer { found, known, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((found, known), (next, VERSION));
}

#[test]
fn version_4_is_brought_up_to_date_in_place() {
    let world = World::new("fourth");
    schema::apply(&world.cql, SMALL).unwrap();
    let keyspace = world.keyspace();
    for table in ["log_start", "slot_base"] {
        world.run(&format!("DROP TABLE {keyspace}.{table}"));
    }
    world.run(&format!(
        "UPDATE {keyspace}.schema_version SET version = 4, min_reader = 4 WHERE part = 'tables' IF EXISTS"
    ));
    let status = schema::status(&world.cql).unwrap();
    assert_eq!((status.state(), status.version), (State::Older, Some(4)));
    let error = schema::check(&world.cql).unwrap_err();
    assert!(matches!(error, SchemaError::Older { .. }), "{error}");
    let status = schema::apply(&world.cql, SchemaRequest::default()).unwrap();
    assert_eq!(
        (status.state(), status.version),
        (State::Current, Some(VERSION))
    );
    world.run(&format!(
        "SELECT dropped FROM {keyspace}.log_start WHERE slot = 0"
    ));
    world.store();
}

#[test]
fn a_schema_of_the_time_before_the_log_was_kept_is_left_alone() {
    let world = World::new("outdated");
    schema::apply(&world.cql, SMALL).unwrap();
    let keyspace = world.keyspace();
    world.run(&format!(
        "UPDATE {keyspace}.schema_version SET version = 3, min_reader = 1 WHERE part = 'tables' IF EXISTS"
    ));
    let status = schema::status(&world.cql).unwrap();
    assert_eq!((status.state(), status.version), (State::Older, Some(3)));
    for error in [
        schema::check(&world.cql).unwrap_err(),
        schema::apply(&world.cql, SchemaRequest::default()).unwrap_err(),
    ] {
        assert!(matches!(error, SchemaError::Outdated { .. }), "{error}");
    }
    let status = schema::status(&world.cql).unwrap();
    assert_eq!(status.version, Some(3));
}

#[test]
fn what_is_a_time_series_goes_by_time_and_what_is_for_engines_says_so() {
    let world = World::new("telemetry");
    schema::apply(&world.cql, SMALL).unwrap();
    let keyspace = world.keyspace();
    world.run(&format!(
        "INSERT INTO {keyspace}.telemetry (terminal, day, at_us, epoch, seq, kind) \
         VALUES (1, '2026-11-21', 5, 1, 1, 'door')"
    ));
    let left = format!(
        "SELECT TTL(kind) FROM {keyspace}.telemetry WHERE terminal = 1 AND day = '2026-11-21' \
         AND at_us = 5 AND epoch = 1 AND seq = 1"
    );
    let left = world.first::<(Option<i32>,)>(&left).unwrap().0.unwrap();
    assert!((34_000_000..=34_560_000).contains(&left), "{left} s");
    let about = |table: &str| {
        let asked = format!(
            "SELECT comment, compaction FROM system_schema.tables \
             WHERE keyspace_name = '{keyspace}' AND table_name = '{table}'"
        );
        world
            .first::<(String, HashMap<String, String>)>(&asked)
            .unwrap()
    };
    let (_, compaction) = about("telemetry");
    assert!(compaction["class"].ends_with("TimeWindowCompactionStrategy"));
    assert!(about("slot_log").0.starts_with("For engines only"));
    assert_eq!(about("transactions").0, "");
}

#[test]
fn the_number_of_slots_is_fixed() {
    let world = World::new("slots");
    for wanted in [0, 1_000_000] {
        let request = SchemaRequest {
            replication: Some(1),
            slots: Some(wanted),
        };
        let error = schema::apply(&world.cql, request).unwrap_err();
        assert!(matches!(error, SchemaError::SlotsRange { .. }), "{error}");
    }
    schema::apply(&world.cql, SMALL).unwrap();
    let request = SchemaRequest {
        slots: Some(16),
        ..SMALL
    };
    let error = schema::apply(&world.cql, request).unwrap_err();
    let SchemaError::Slots { fixed, wanted, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((fixed, wanted), (8, 16));
}

#[test]
fn a_keyspace_of_something_else_is_left_alone() {
    let world = World::new("foreign");
    let keyspace = world.keyspace();
    world.run(&format!(
        "CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', '{}': 1}}",
        world.cql.client().datacenter()
    ));
    world.run(&format!(
        "CREATE TABLE {keyspace}.slots (a int PRIMARY KEY)"
    ));
    for error in [
        schema::apply(&world.cql, SMALL).unwrap_err(),
        schema::check(&world.cql).unwrap_err(),
    ] {
        assert!(matches!(error, SchemaError::Foreign { .. }), "{error}");
    }
}

#[test]
fn what_was_lost_is_named_and_made_again() {
    let world = World::new("lost");
    let error = schema::check(&world.cql).unwrap_err();
    assert!(matches!(error, SchemaError::Missing { .. }), "{error}");
    schema::apply(&world.cql, SMALL).unwrap();
    let keyspace = world.keyspace();
    world.run(&format!("DROP TABLE {keyspace}.names"));
    world.run(&format!(
        "DELETE FROM {keyspace}.slots WHERE slot = 3 IF EXISTS"
    ));
    let status = schema::status(&world.cql).unwrap();
    assert_eq!(status.state(), State::Incomplete);
    assert_eq!(
        (status.missing.as_slice(), status.slots_missing),
        (&["names".to_owned()][..], 1)
    );
    let error = schema::check(&world.cql).unwrap_err().to_string();
    assert!(
        error.contains("names") && error.contains("schema apply"),
        "{error}"
    );
    let healed = schema::apply(&world.cql, SMALL).unwrap();
    assert_eq!(healed.state(), State::Current);
}
