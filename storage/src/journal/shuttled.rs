//! A journal that is written to, read and dropped from the front, in whatever order these take turns.

use std::sync::Arc;

use shuttle::thread;

use super::testing::{dir, open, record};
use super::{Journal, Lsn, Prepared, ReadError, SyncStats, Writer, write_base};
use crate::disk::SimDisk;
use crate::journal::BaseError;

/// Orders of turns that are tried.
const ORDERS: usize = 2_000;

const TERMINAL: u64 = 3 << 32 | 7;

// One group for each record; every second one begins a segment.
fn write(writer: &mut Writer, numbers: std::ops::RangeInclusive<u64>) {
    for number in numbers {
        let entry = Prepared::new(&record(TERMINAL, number, 1_700)).unwrap();
        let stats = SyncStats::default();
        writer.commit(&[&entry], &mut Vec::new(), &stats).unwrap();
    }
}

// Everything that was durable when it began, without a gap, or an error that says that its segment has left.
fn read(journal: &Journal, durable: u64) {
    let mut next = None;
    for item in journal.records(journal.start()) {
        match item {
            Ok((_, record)) => {
                let seq = record.head.first_seq;
                assert_eq!(seq, next.unwrap_or(seq), "a record is missing");
                next = Some(seq + 1);
            }
            Err(error) => return assert!(matches!(error, ReadError::NotThere(_)), "{error}"),
        }
    }
    assert!(next.is_some_and(|next| next > durable), "an early end");
}

fn look(journal: &Journal) {
    let end = journal.end();
    let infos = journal.segments();
    for pair in infos.windows(2) {
        assert!(pair[0].sealed && pair[0].end == pair[1].start, "{infos:?}");
    }
    let last = infos.last().unwrap();
    assert!(
        !last.sealed && last.end >= last.start && last.end >= end,
        "{infos:?}"
    );
}

#[test]
fn readers_find_all_that_is_durable_while_segments_come_and_go() {
    shuttle::check_random(
        || {
            let disk = SimDisk::new(0);
            let mut opened = open(&disk).unwrap();
            write(&mut opened.writer, 1..=4);
            let journal = opened.journal;
            let border = journal.segments().last().unwrap().start;
            let mut writer = opened.writer;
            let writes = thread::spawn(move || {
                write(&mut writer, 5..=8);
            });
            let reads = thread::spawn({
                let journal = journal.clone();
                move || {
                    look(&journal);
                    read(&journal, 4);
                    look(&journal);
                }
            });
            let drops = thread::spawn({
                let (journal, disk) = (journal.clone(), Arc::new(disk.clone()));
                move || {
                    let none = std::iter::empty::<Result<_, BaseError>>();
                    write_base(disk.as_ref(), &dir(), border, none).unwrap();
                    journal.drop_before(border).unwrap();
                    assert_eq!(journal.start(), border);
                }
            });
            for thread in [writes, reads, drops] {
                thread.join().unwrap();
            }
            read(&journal, 8);
            assert!(journal.read(Lsn::new(64)).is_err());
        },
        ORDERS,
    );
}
