use std::path::Path;

use till_core::{Record, RecordHead, RecordKind, StoreRow, Totals};
use till_protocol::id::StoreId;
use till_storage::disk::SimDisk;
use till_storage::journal::{Attempt, GroupSync, Journal, JournalConfig, Prepared, SyncConfig};

use super::*;

fn record(store: u64) -> Prepared {
    let head = RecordHead {
        kind: RecordKind::StoreRegistered,
        family: 0,
        version: 0,
        terminal: store << 32,
        epoch: 0,
        first_seq: 0,
        count: 0,
        skip: 0,
        received_at_us: 0,
        digest: 0,
    };
    let record = Record {
        head,
        payload: bytes::Bytes::from_static(b"\x48\x03UTC"),
        verdicts: Vec::new(),
    };
    Prepared::new(&record).unwrap()
}

fn rows(shard: usize, round: u64) -> Companion {
    let row = StoreRow {
        currency: 840,
        zone: "UTC".to_owned(),
        registered_at_us: 0,
        applied: 0,
        training: Totals::default(),
    };
    let dirty = Dirty {
        stores: vec![(StoreId::new(1).unwrap(), row)],
        ..Dirty::default()
    };
    Companion::Rows {
        shard,
        round,
        dirty: Box::new(dirty),
    }
}

/// Rows must never claim a record that came behind them in the same group: recovery would leave it out.
#[test]
fn rows_claim_the_records_before_them_and_no_later_one() {
    let disk = Arc::new(SimDisk::new(1));
    let opened = Journal::open(disk, Path::new("/j"), JournalConfig::default()).unwrap();
    let (parts, arrived) = crossbeam::channel::bounded(8);
    let figures = Arc::new(Figures::new());
    let sink = DurableSink::new(2, figures, parts, Arc::new(|_| {}), opened.end);
    let mut group = GroupSync::new(opened.writer, SyncConfig::default(), sink);
    let appender = group.appender();
    let registered = |shard| Companion::Registered { shard };
    appender.append(record(1), registered(0)).unwrap();
    appender.append(record(2), registered(1)).unwrap();
    appender.marker(rows(0, 1)).unwrap();
    appender.append(record(3), registered(0)).unwrap();
    appender.append(record(4), registered(1)).unwrap();
    appender.marker(rows(1, 1)).unwrap();
    assert_eq!(group.turn(), Ok(Attempt::Done));
    let first = arrived.try_recv().unwrap();
    let second = arrived.try_recv().unwrap();
    group.close().unwrap();
    let lsns: Vec<u64> = opened
        .journal
        .records(Lsn::ZERO)
        .map(|item| item.unwrap().0.get())
        .collect();
    let applied = |part: &Part| part.dirty.stores[0].1.applied;
    assert_eq!(lsns.len(), 4);
    // Shard 0 had record 1 and no more; what its rows hold ends before record 3 begins.
    assert_eq!((first.shard, applied(&first)), (0, lsns[0]));
    assert!(first.upto < lsns[2], "{first:?} {lsns:?}");
    // Shard 1 had records 2 and 4; nothing came behind its rows.
    assert_eq!((second.shard, applied(&second)), (1, lsns[3]));
    assert!(lsns[3] < second.upto, "{second:?} {lsns:?}");
}
