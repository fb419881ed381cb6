//! Segments that leave while somebody reads them, or that do not leave.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::stopping::StoppingDisk;
use super::{T, records, write_base};
use crate::disk::{Disk as _, SimDisk};
use crate::doctor::doctor;
use crate::journal::testing::{SMALL, all, append_each, dir, open, segment};
use crate::journal::{DropError, Journal, Lsn, OpenError, ReadError};

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
fn a_segment_that_leaves_just_before_it_is_opened_is_not_there() {
    let (disk, journal) = kept();
    let border = journal.segments()[1].start;
    drop(journal);
    let (pausing, pause) = StoppingDisk::pausing(&disk, segment(0));
    let journal = Journal::open(Arc::new(pausing), &dir(), SMALL)
        .unwrap()
        .journal;
    pause.is_armed.store(true, Ordering::Release);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| journal.records(Lsn::new(64)).next());
        pause.reached.wait();
        scope.spawn(|| journal.drop_before(border).unwrap());
        while journal.start() < border {
            std::thread::yield_now();
        }
        pause.over.wait();
        let read = reading.join().unwrap();
        assert!(
            matches!(read, Some(Err(ReadError::NotThere(_)))),
            "{read:?}"
        );
    });
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

#[test]
fn a_gap_that_the_base_stands_in_for_stops_no_start() {
    let (disk, journal) = kept();
    let segments = journal.segments();
    // What a removal that failed left behind: the first segment is there, and those after it are not.
    for gone in [1..2, 1..3, 2..3] {
        let harmed = disk.copy();
        for one in &segments[gone.clone()] {
            harmed.remove(&segment(one.start.get())).unwrap();
        }
        assert!(doctor(&harmed, &dir(), Lsn::ZERO).unwrap().is_sound());
        let opened = open(&harmed).unwrap();
        let start = segments[gone.end].start;
        assert_eq!(opened.journal.start(), start, "{gone:?}");
        assert!(opened.cut.is_none() && opened.journal.segments().len() > 1);
        assert!(all(&opened.journal).iter().all(|(lsn, _)| *lsn > start));
        append_each(opened, &records(5, 900)).1.unwrap();
        let later = open(&harmed).unwrap().journal;
        let last = later.segments().last().unwrap().start;
        write_base(&harmed, later.end(), records(1, 10)).unwrap();
        later.drop_before(last).unwrap();
        assert_eq!(open(&harmed).unwrap().journal.start(), last);
    }
}

#[test]
fn a_gap_behind_the_base_stops_the_start() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(20, 900))
        .1
        .unwrap();
    let segments = open(&disk).unwrap().journal.segments();
    write_base(&disk, segments[1].start.plus(200), records(1, 10)).unwrap();
    disk.remove(&segment(segments[1].start.get())).unwrap();
    let report = doctor(&disk, &dir(), Lsn::ZERO).unwrap();
    assert_eq!(report.missing, [(segments[1].start, segments[1].end)]);
    assert!(matches!(open(&disk), Err(OpenError::Missing { .. })));
}
