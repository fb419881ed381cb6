//! Segments that leave while somebody reads them, or that do not leave.

use super::{T, records, write_base};
use crate::disk::SimDisk;
use crate::journal::testing::{append_each, open, segment};
use crate::journal::{DropError, Journal, Lsn, ReadError};

// A journal of several segments, with a base at its end.
fn kept() -> (SimDisk, Journal) {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(20, 900))
        .1
        .unwrap();
    let journal = open(&disk).unwrap().journal;
    assert!(journal.segments().len() > 3);
    write_base(&disk, journal.end(), records(1, 10)).unwrap();
    (disk, journal)
}

#[test]
fn records_whose_segment_left_are_an_error_and_no_early_end() {
    let (_disk, journal) = kept();
    let segments = journal.segments();
    let border = segments[2].start;
    let mut reading = journal.records(journal.start());
    assert_eq!(reading.next().unwrap().unwrap().1.head.terminal, T);
    assert_eq!(journal.drop_before(border).unwrap().len(), 2);
    // What is left of its first segment it still holds open.
    let ended = reading.find_map(Result::err);
    assert!(
        matches!(ended, Some(ReadError::NotThere(at)) if at < border),
        "{ended:?}"
    );
    assert!(reading.next().is_none());
    for from in [Lsn::ZERO, Lsn::new(64), segments[1].start] {
        let first = journal.records_between(from, border).next();
        assert!(
            matches!(first, Some(Err(ReadError::NotThere(at))) if at == from),
            "{first:?}"
        );
    }
    let rest = journal.records(journal.start()).map(|item| item.unwrap().0);
    assert!(rest.into_iter().all(|lsn| lsn > border));
}

#[test]
fn a_segment_that_cannot_be_removed_stays_and_so_do_those_behind_it() {
    let (disk, journal) = kept();
    let segments = journal.segments();
    disk.refuse_removal(Some(&segment(0)));
    // However often it is tried, and however far.
    for border in [segments[1].start, segments[2].start, segments[3].start] {
        let refused = journal.drop_before(border);
        assert!(matches!(refused, Err(DropError::Io { .. })), "{refused:?}");
        assert_eq!(journal.segments(), segments);
    }
    assert_eq!(
        open(&disk.copy()).unwrap().journal.segments().len(),
        segments.len()
    );
    disk.refuse_removal(None);
    assert_eq!(journal.drop_before(segments[3].start).unwrap().len(), 3);
    assert_eq!(journal.start(), segments[3].start);
    let opened = open(&disk.crash()).unwrap();
    assert_eq!(opened.journal.start(), segments[3].start);
}
