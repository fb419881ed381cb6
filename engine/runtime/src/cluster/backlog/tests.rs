use bytes::Bytes;
use till_core::{RecordHead, RecordKind};
use till_storage::testing::MemoryCluster;

use super::*;

const RECORD_BYTES: usize = CHUNK_BYTES / 2;

// Record number so much of a journal, of a store.
fn record(number: u64, store: u64) -> Record {
    Record {
        head: RecordHead {
            kind: RecordKind::Batch,
            family: 1,
            version: 1,
            terminal: store << 32 | 1,
            epoch: 1,
            first_seq: number,
            count: 1,
            skip: 0,
            received_at_us: 0,
            digest: 0,
        },
        payload: Bytes::from_static(&[0; RECORD_BYTES]),
        verdicts: Vec::new(),
    }
}

fn all(store: &MemoryCluster) -> Vec<Handoff> {
    let mut chunks = store.waiting().unwrap();
    chunks.sort_by_key(|(_, _, number)| *number);
    let read = |(slot, from, number)| store.handed_off(slot, from, number).unwrap().unwrap();
    chunks.into_iter().map(read).collect()
}

#[test]
fn a_journal_of_many_slots_is_handed_off_in_order_and_with_little_in_memory() {
    const STORES: u64 = 200;
    let store = MemoryCluster::new(4_096);
    let from = NodeId::from_bytes([7; 16]);
    let bytes = || {
        all(&store)
            .iter()
            .flat_map(|chunk| chunk.records.iter().map(|one| one.payload.len()))
            .sum::<usize>()
    };
    let mut given = 0;
    let mut records = (1..=3 * STORES).map(|number| {
        assert!(given - bytes() <= HELD_BYTES, "{given} bytes were given");
        given += RECORD_BYTES;
        Ok((Lsn::new(number), record(number, number % STORES + 1)))
    });
    let done = hand_off(&store, from, 100, &mut records).unwrap();
    drop(records);
    let chunks = all(&store);
    assert_eq!(done.records, 3 * STORES);
    assert_eq!(done.chunks, u64::try_from(chunks.len()).unwrap());
    let numbers: Vec<u64> = chunks.iter().map(|chunk| chunk.number).collect();
    assert_eq!(numbers, (100..100 + done.chunks).collect::<Vec<_>>());
    for of in 1..=STORES {
        let records = chunks.iter().flat_map(|chunk| &chunk.records);
        let of_one = records.filter(|one| one.head.terminal >> 32 == of);
        let order: Vec<u64> = of_one.map(|one| one.head.first_seq).collect();
        assert!(
            order.len() == 3 && order.is_sorted(),
            "store {of}: {order:?}"
        );
    }
    // The same once more is the same.
    let mut again =
        (1..=3 * STORES).map(|number| Ok((Lsn::new(number), record(number, number % STORES + 1))));
    hand_off(&store, from, 100, &mut again).unwrap();
    assert_eq!(all(&store), chunks);
}
