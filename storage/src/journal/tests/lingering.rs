//! Groups that wait for company.

use till_core::Record;

use super::{found, records, wait_until};
use crate::disk::SimDisk;
use crate::journal::testing::{Witness, open};
use crate::journal::{GroupSync, Prepared, SyncConfig, Syncer};

#[test]
fn a_group_that_lingers_is_written_when_the_journal_is_closed() {
    let disk = SimDisk::new(0);
    let witness = Witness::default();
    let config = SyncConfig {
        linger_us: u32::MAX,
        ..SyncConfig::default()
    };
    let group = GroupSync::new(open(&disk).unwrap().writer, config, witness.clone());
    let appender = group.appender();
    let append = |record: &Record| {
        let prepared = Prepared::new(record).unwrap();
        appender.append(prepared, record.head.first_seq).unwrap();
    };
    let records = records(4, 100);
    records[..2].iter().for_each(append);
    let syncer = Syncer::drive(group).unwrap();
    wait_until("two that come together do not wait", || {
        witness.acked().len() == 2
    });
    append(&records[2]);
    append(&records[3]);
    drop(appender);
    syncer.close().unwrap();
    assert_eq!(witness.acked(), [1, 2, 3, 4]);
    assert_eq!(found(&disk.crash()), records);
}
