//! A segment's name is durable before anything in it is acknowledged.

use crate::disk::SimDisk;
use crate::journal::testing::{all, append_each, dir, open, record};

/// The process ended between the name of the first segment and the sync of its folder, and the power failed in the next run:
/// without a sync at the start, the whole segment was gone with everything acknowledged in it.
#[test]
fn a_name_that_a_process_left_unsynced_is_durable_before_the_first_ack() {
    let records: Vec<_> = (1..=3).map(|seq| record(7, seq, 100)).collect();
    let disk = SimDisk::new(0);
    // The first sync is that of the segment, the second that of the folder.
    disk.fail_sync(2);
    open(&disk).unwrap_err();
    assert_eq!(
        crate::journal::testing::names(&disk).len(),
        1,
        "{}",
        dir().display()
    );
    let (witness, closed) = append_each(open(&disk).unwrap(), &records);
    closed.unwrap();
    assert_eq!(witness.acked(), [1, 2, 3]);
    let found = all(&open(&disk.crash()).unwrap().journal);
    let found: Vec<_> = found.into_iter().map(|(_, record)| record).collect();
    assert_eq!(found, records);
}
