use till_core::{Record, RecordHead, RecordKind};
use till_storage::cluster::{Handoff, NodeId, SharedStore as _};

use crate::world::opened;

#[test]
fn what_was_replayed_does_not_wait_again_when_its_write_comes_late() {
    let (_world, store) = opened("late");
    let head = RecordHead {
        kind: RecordKind::Tombstones,
        family: 4,
        version: 1,
        terminal: (3 << 32) | 1,
        epoch: 1,
        first_seq: 1,
        count: 1,
        skip: 0,
        received_at_us: 7,
        digest: 0,
    };
    let record = Record {
        head,
        payload: bytes::Bytes::from_static(b"as it came"),
        verdicts: Vec::new(),
    };
    let from = NodeId::from_bytes([5; 16]);
    let chunk = |number| Handoff {
        slot: 3,
        from,
        number,
        records: vec![record.clone()],
    };
    store.hand_off(&chunk(1)).unwrap();
    store.hand_off(&chunk(2)).unwrap();
    assert_eq!(store.waiting().unwrap(), [(3, from, 1), (3, from, 2)]);
    let there = store.handed_off(3, from, 1).unwrap();
    assert_eq!(there, Some(chunk(1)));
    store.taken_in(3, from, 1).unwrap();
    store.hand_off(&chunk(1)).unwrap();
    assert_eq!(store.waiting().unwrap(), [(3, from, 2)]);
    assert!(store.handed_off(3, from, 1).unwrap().is_none());
}
