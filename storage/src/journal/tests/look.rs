//! Looking at a journal writes nothing.

use std::sync::Arc;

use crate::disk::{Disk as _, SimDisk};
use crate::journal::testing::{all, append_each, dir, open, record, segment, write_groups};
use crate::journal::{Journal, OpenError};

// Every file of the folder, and what is in it.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let mut names = disk.list(&dir()).unwrap();
    names.sort();
    let bytes = |name: String| {
        let bytes = disk.bytes(&dir().join(&name)).unwrap();
        (name, bytes)
    };
    names.into_iter().map(bytes).collect()
}

#[test]
fn a_look_changes_no_byte_of_a_journal_that_a_crash_ended() {
    let records: Vec<_> = (1..=14).map(|seq| record(7, seq, 600)).collect();
    let disk = SimDisk::new(0);
    let groups: Vec<&[_]> = records.chunks(1).collect();
    let starts = write_groups(&disk, &groups);
    disk.put(&dir().join("00000000000000099999.new"), b"left over");
    let before = files(&disk);

    let look = |disk: &SimDisk| Journal::look(Arc::new(disk.clone()), &dir());
    let looked = look(&disk).unwrap();
    assert!(looked.torn.is_none());
    let found: Vec<_> = all(&looked.journal).into_iter().map(|(_, r)| r).collect();
    assert_eq!(found, records);
    assert_eq!(files(&disk), before, "without an opening mark, too");

    let last = *starts.last().unwrap();
    let segments = looked.journal.segments();
    let start = segments.last().unwrap().start;
    let byte = usize::try_from(last.since(start)).unwrap() + 100;
    disk.flip_bit(&segment(start.get()), byte * 8);
    let before = files(&disk);
    let looked = look(&disk).unwrap();
    assert_eq!(looked.torn.unwrap().at, last);
    assert_eq!(looked.journal.end(), last);
    assert_eq!(all(&looked.journal).len(), 13);
    assert_eq!(files(&disk), before, "the torn end stays");
}

#[test]
fn a_look_refuses_what_a_start_refuses() {
    let disk = SimDisk::new(0);
    let records: Vec<_> = (1..=14).map(|seq| record(7, seq, 600)).collect();
    append_each(open(&disk).unwrap(), &records).1.unwrap();
    disk.flip_bit(&segment(0), 300 * 8);
    let before = files(&disk);
    let refused = Journal::look(Arc::new(disk.clone()), &dir());
    assert!(matches!(refused, Err(OpenError::Damaged(_))), "{refused:?}");
    assert_eq!(files(&disk), before);
}
