use std::collections::BTreeSet;
use std::time::Duration;

use till_storage::cluster::{
    Change, Conditional, Constraint, Constraints, NodeId, NodeRow, SharedStore as _,
};
use till_storage::testing::MemoryCluster;

use super::fleet::Fleet;
use super::{engines, ranges};

fn node(number: u8, heartbeat: u64) -> NodeRow {
    NodeRow {
        node: NodeId::from_bytes([number; 16]),
        address: format!("10.0.0.{number}:7880"),
        heartbeat,
        lease: Duration::from_millis(300),
        started_us: i64::from(number),
        is_leaving: false,
        lag: Duration::ZERO,
        moves: 0,
    }
}

#[test]
fn slots_are_told_as_ranges() {
    assert_eq!(ranges(&[]), [""; 0]);
    assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), ["0-2", "5", "7-8"]);
}

#[test]
fn an_engine_is_named_by_its_address_or_the_beginning_of_its_node_id() {
    let store = MemoryCluster::new(4);
    store.heartbeat(&node(0x11, 1)).unwrap();
    store.heartbeat(&node(0x12, 1)).unwrap();
    let fleet = Fleet::of(&store).unwrap();
    assert_eq!(
        fleet.address_of("10.0.0.17:7880").unwrap(),
        "10.0.0.17:7880"
    );
    assert_eq!(fleet.address_of("1212").unwrap(), "10.0.0.18:7880");
    for name in ["12", "10.0.0.99:7880", "ffff"] {
        let error = fleet.address_of(name).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("shards list"),
            "{error}"
        );
    }
    let error = fleet.address_of("1").unwrap_err().to_string();
    assert!(error.contains("give more of it"), "{error}");
}

#[test]
fn an_engine_without_a_new_heartbeat_is_dead_and_a_cordoned_one_takes_nothing() {
    let store = MemoryCluster::new(4);
    store.heartbeat(&node(1, 1)).unwrap();
    store.heartbeat(&node(2, 1)).unwrap();
    store.heartbeat(&node(3, 1)).unwrap();
    store
        .constraint(&Constraint::Drain {
            address: node(3, 0).address,
            is_cordoned: true,
        })
        .unwrap();
    let mut fleet = Fleet::of(&store).unwrap();
    store.heartbeat(&node(1, 2)).unwrap();
    store.heartbeat(&node(3, 2)).unwrap();
    fleet.must_live("10.0.0.1:7880").unwrap();
    assert!(fleet.is_another_alive("10.0.0.3:7880").unwrap());
    assert!(!fleet.is_another_alive("10.0.0.1:7880").unwrap());
    let error = fleet.must_live("10.0.0.2:7880").unwrap_err().to_string();
    assert!(
        error.contains("10.0.0.2:7880") && error.contains("300ms"),
        "{error}"
    );
}

#[test]
fn the_list_has_a_row_for_each_engine_and_none_for_lives_that_are_over() {
    let store = MemoryCluster::new(4);
    let over = NodeRow {
        started_us: 0,
        address: node(1, 0).address,
        ..node(9, 1)
    };
    let mut constraints = Constraints::default();
    constraints.cordoned.insert(node(2, 0).address);
    let nodes = [node(1, 1), node(2, 1), node(3, 1), over];
    for slot in [0, 1, 3] {
        let taken = Conditional {
            slot,
            epoch: 0,
            change: Change::Acquire {
                owner: node(1, 0).node,
                address: node(1, 0).address,
            },
        };
        store.decide(&taken).unwrap();
    }
    let silent = BTreeSet::from([node(3, 0).node]);
    let rows = engines(&store.all_slots().unwrap(), &nodes, &constraints, &silent);
    let notes: Vec<_> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (text("address"), text("state"), row["serves"].to_string())
        })
        .collect();
    let wanted = [
        ("10.0.0.1:7880", "serving", r#"["0-1","3"]"#),
        ("10.0.0.2:7880", "cordoned", "[]"),
        ("10.0.0.3:7880", "silent", "[]"),
    ];
    let wanted =
        wanted.map(|(at, state, slots)| (at.to_owned(), state.to_owned(), slots.to_owned()));
    assert_eq!(notes, wanted);
}
