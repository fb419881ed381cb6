//! What is whole is kept at its place, and what is lost is named.

use std::sync::Arc;

use till_core::Record;

use super::mend::mend;
use super::{DoctorError, doctor, salvage};
use crate::disk::{Disk as _, SimDisk};
use crate::journal::doctoring::EntryPrefix;
use crate::journal::testing::{SMALL, all, append_each, dir, open, record, segment, write_groups};
use crate::journal::{BaseError, GROUP_HEADER_BYTES, Journal, Lsn, OpenError, write_base};

const T: u64 = (3 << 32) | 7;

fn records(count: u64) -> Vec<Record> {
    (1..=count).map(|seq| record(T, seq, 600)).collect()
}

fn written(count: u64) -> (SimDisk, Vec<(Lsn, Record)>) {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(count))
        .1
        .unwrap();
    let all = all(&open(&disk).unwrap().journal);
    (disk, all)
}

#[test]
fn a_sound_journal_is_left_alone() {
    let (disk, before) = written(20);
    let report = salvage(&disk, &dir(), Lsn::ZERO).unwrap();
    assert!(report.is_sound() && report.moved.is_empty() && report.lost.is_empty());
    assert_eq!(report.records, 20);
    assert_eq!(all(&open(&disk).unwrap().journal), before);
}

#[test]
fn salvage_keeps_every_whole_record_at_its_place_and_names_the_lost_ones() {
    let (disk, before) = written(20);
    let lsns: Vec<u64> = before.iter().map(|(lsn, _)| lsn.get()).collect();
    for (number, at_lsn) in lsns.iter().enumerate().take(19) {
        // In the header of the group, its entry's lengths, its head, its payload.
        for shift in [-20_i64, 1, 9, 30, 400] {
            let wounded = disk.copy();
            let start = open(&disk).unwrap().journal.segments();
            let start = start
                .iter()
                .rfind(|info| info.start.get() < *at_lsn)
                .unwrap()
                .start;
            let byte = at_lsn.saturating_add_signed(shift) - start.get();
            wounded.flip_bit(&segment(start.get()), usize::try_from(byte).unwrap() * 8);
            let Err(OpenError::Damaged(_)) = open(&wounded) else {
                panic!("record {number} shift {shift}: damage was not seen");
            };
            let report = salvage(&wounded, &dir(), Lsn::ZERO).unwrap();
            assert_eq!(report.wounds.len(), 1, "{report:?}");
            assert_eq!(report.moved.len(), 1);
            let kept = all(&open(&wounded).unwrap().journal);
            let mut wanted = before.clone();
            if shift >= 0 {
                wanted.remove(number);
            }
            assert_eq!(kept, wanted, "record {number} shift {shift}");
            let seq = u64::try_from(number).unwrap() + 1;
            if shift >= 0 && number > 0 {
                let lost: Vec<(u64, u64)> = report
                    .lost
                    .iter()
                    .filter(|lost| lost.certain)
                    .map(|lost| (lost.first, lost.last))
                    .collect();
                assert_eq!(lost, [(seq, seq)], "record {number} shift {shift}");
            }
            assert!(doctor(&wounded, &dir(), Lsn::ZERO).unwrap().is_sound());
        }
    }
}

#[test]
fn a_lost_header_costs_no_record() {
    let (disk, before) = written(20);
    let second = open(&disk).unwrap().journal.segments()[1].start;
    for byte in [0, 20, 35, 61] {
        let wounded = disk.copy();
        wounded.flip_bit(&segment(second.get()), byte * 8);
        assert!(open(&wounded).is_err());
        let report = salvage(&wounded, &dir(), Lsn::ZERO).unwrap();
        assert!(!report.is_sound() && report.lost.is_empty(), "{report:?}");
        assert_eq!(all(&open(&wounded).unwrap().journal), before);
    }
}

#[test]
fn a_missing_segment_becomes_a_hole_and_the_rest_opens() {
    let (disk, before) = written(20);
    let segments = open(&disk).unwrap().journal.segments();
    for gone in &segments[..segments.len() - 1] {
        let wounded = disk.copy();
        wounded.remove(&segment(gone.start.get())).unwrap();
        let report = salvage(&wounded, &dir(), Lsn::ZERO).unwrap();
        assert_eq!(report.missing, [(gone.start, gone.end)]);
        let kept = all(&open(&wounded).unwrap().journal);
        let mut wanted = before.clone();
        wanted.retain(|(lsn, _)| *lsn < gone.start || *lsn >= gone.end);
        assert_eq!(kept, wanted);
    }
}

#[test]
fn the_doctor_changes_nothing_and_tells_a_torn_end_from_damage() {
    let disk = SimDisk::new(0);
    let sent = records(3);
    let starts = write_groups(&disk, &[&sent[..1], &sent[1..2], &sent[2..]]);
    disk.flip_bit(
        &segment(0),
        usize::try_from(starts[2].get() + 100).unwrap() * 8,
    );
    let before = disk.bytes(&segment(0)).unwrap();
    let report = doctor(&disk, &dir(), Lsn::ZERO).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.torn.unwrap().offset, starts[2].get());
    assert_eq!(disk.bytes(&segment(0)).unwrap(), before);
    assert_eq!(all(&open(&disk).unwrap().journal).len(), 2);
}

#[test]
fn a_broken_length_costs_one_record_of_its_group() {
    let disk = SimDisk::new(0);
    let sent = records(31);
    write_groups(&disk, &[&sent[..30], &sent[30..]]);
    let before = all(&open(&disk.copy()).unwrap().journal);
    let segments = open(&disk.copy()).unwrap().journal.segments();
    let start = segments.iter().rfind(|info| info.start < before[0].0);
    let start = start.unwrap().start;
    for number in [0, 3, 28] {
        let at_lsn = usize::try_from(before[number].0.since(start)).unwrap();
        for bit in (at_lsn * 8..(at_lsn + 16) * 8).step_by(5) {
            let wounded = disk.copy();
            wounded.flip_bit(&segment(start.get()), bit);
            let Err(OpenError::Damaged(damage)) = open(&wounded) else {
                panic!("record {number} bit {bit}: damage was not seen");
            };
            let report = salvage(&wounded, &dir(), Lsn::ZERO).unwrap();
            let mut wanted = before.clone();
            wanted.remove(number);
            assert_eq!(report.records, 30, "record {number} bit {bit}");
            let kept = all(&open(&wounded).unwrap().journal);
            assert_eq!(kept, wanted, "record {number} bit {bit}");
            assert_eq!(damage.lost, report.lost);
            let certain = report.lost.iter().filter(|lost| lost.certain);
            let lost: Vec<(u64, u64)> = certain.map(|lost| (lost.first, lost.last)).collect();
            let seq = u64::try_from(number).unwrap() + 1;
            let named = if number == 0 {
                vec![]
            } else {
                vec![(seq, seq)]
            };
            assert_eq!(lost, named, "record {number} bit {bit}");
        }
    }
}

#[test]
fn whole_records_are_found_between_broken_lengths_and_behind_a_broken_header() {
    let disk = SimDisk::new(0);
    let sent = records(21);
    let starts = write_groups(&disk, &[&sent[..10], &sent[10..20], &sent[20..]]);
    let before = all(&open(&disk.copy()).unwrap().journal);
    let lsns: Vec<u64> = before.iter().map(|(lsn, _)| lsn.get()).collect();
    // Both lengths of one entry, so that nothing says where the next one begins; an entry and the one behind it; the last
    // of a group and the header of the next.
    let harms = [
        vec![lsns[2], lsns[2] + 8],
        vec![lsns[4], lsns[5] + 9],
        vec![lsns[9], lsns[9] + 8, starts[1].get() + 1],
    ];
    for (harm, lost) in harms.iter().zip([vec![2], vec![4, 5], vec![9]]) {
        let wounded = disk.copy();
        let segments = open(&disk.copy()).unwrap().journal.segments();
        for at_lsn in harm {
            let info = segments
                .iter()
                .rfind(|info| info.start.get() <= *at_lsn)
                .unwrap();
            let byte = usize::try_from(at_lsn - info.start.get()).unwrap();
            wounded.flip_bit(&segment(info.start.get()), byte * 8 + 3);
        }
        salvage(&wounded, &dir(), Lsn::ZERO).unwrap();
        let mut wanted = before.clone();
        wanted.retain(|(lsn, _)| !lost.iter().any(|number| lsns[*number] == lsn.get()));
        assert_eq!(all(&open(&wounded).unwrap().journal), wanted, "{lost:?}");
        assert!(doctor(&wounded, &dir(), Lsn::ZERO).unwrap().is_sound());
    }
}

#[test]
fn a_range_longer_than_a_group_can_be_is_filled_with_several_to_its_end() {
    let from = Lsn::new(64);
    for length in [200, 1 << 27, (1 << 32) - 1, 1 << 32, (5 << 32) + 77] {
        let to = from.plus(length);
        let mut at = from;
        for (head, body) in mend(from, to, &[0; 100]) {
            assert_eq!(head.lsn, at);
            assert_eq!(head.entries, 1);
            let hole = EntryPrefix::decode(&body, u64::from(head.body_bytes)).unwrap();
            assert!(hole.is_hole() && hole.bytes == head.body_bytes);
            at = head.end();
        }
        assert_eq!(at, to, "{length} bytes");
    }
}

fn base(disk: &SimDisk, lsn: Lsn) -> std::path::PathBuf {
    let rows = records(2).into_iter().map(Ok::<_, BaseError>);
    write_base(disk, &dir(), lsn, rows).unwrap();
    dir().join(format!("base-{:020}.till", lsn.get()))
}

#[test]
fn the_doctor_calls_no_journal_sound_that_does_not_open() {
    let (disk, _) = written(20);
    let segments = open(&disk).unwrap().journal.segments();
    let (second, end) = (segments[1].start, segments.last().unwrap().end);

    let path = base(&disk, end);
    assert!(doctor(&disk, &dir(), Lsn::ZERO).unwrap().is_sound());
    let length = disk.bytes(&path).unwrap().len();
    for byte in (0..length).step_by(97) {
        let broken = disk.copy();
        broken.flip_bit(&path, byte * 8);
        assert!(matches!(open(&broken.copy()), Err(OpenError::Base(_))));
        let refused = doctor(&broken, &dir(), Lsn::ZERO);
        assert!(
            matches!(refused, Err(DoctorError::Open(OpenError::Base(_)))),
            "byte {byte}: {refused:?}"
        );
    }

    let other = SimDisk::new(0);
    crate::disk::Disk::salt(&other);
    append_each(open(&other).unwrap(), &records(20)).1.unwrap();
    let mixed = disk.copy();
    let path = segment(second.get());
    mixed.put(&path, &other.bytes(&path).unwrap());
    assert!(matches!(open(&mixed.copy()), Err(OpenError::OtherLog(_))));
    let refused = doctor(&mixed, &dir(), Lsn::ZERO);
    assert!(
        matches!(refused, Err(DoctorError::Open(OpenError::OtherLog(_)))),
        "{refused:?}"
    );

    let kind = disk.copy();
    let rows = records(1).into_iter().map(Ok::<_, BaseError>);
    write_base(&kind, std::path::Path::new("aside"), second, rows).unwrap();
    let base = std::path::PathBuf::from(format!("aside/base-{:020}.till", second.get()));
    kind.put(&path, &kind.bytes(&base).unwrap());
    assert!(matches!(open(&kind.copy()), Err(OpenError::Foreign(_))));
    let refused = doctor(&kind, &dir(), Lsn::ZERO);
    assert!(
        matches!(refused, Err(DoctorError::Open(OpenError::Foreign(_)))),
        "{refused:?}"
    );
}

#[test]
fn a_base_without_any_segment_is_no_sound_journal_and_goes_on_after_salvage() {
    let (disk, _) = written(20);
    let segments = open(&disk).unwrap().journal.segments();
    let end = segments.last().unwrap().end;
    base(&disk, end);
    for one in &segments {
        disk.remove(&segment(one.start.get())).unwrap();
    }
    assert!(matches!(open(&disk.copy()), Err(OpenError::Missing { .. })));
    let report = salvage(&disk, &dir(), Lsn::ZERO).unwrap();
    assert_eq!(report.missing, [(end, end)]);
    assert!(doctor(&disk, &dir(), Lsn::ZERO).unwrap().is_sound());
    let opened = open(&disk).unwrap();
    assert_eq!(opened.journal.start(), end);
    assert!(opened.end > end && all(&opened.journal).is_empty());
}

#[test]
fn a_journal_that_ends_before_what_was_durable_is_refused_as_it_is() {
    let (disk, before) = written(20);
    let segments = open(&disk).unwrap().journal.segments();
    let last = segments.last().unwrap();
    let known = last.end;
    assert_eq!(doctor(&disk, &dir(), known).unwrap().end, known);

    // Cut at the border of the last two groups; without its last segment; without any.
    let border = before.last().unwrap().0.get() - GROUP_HEADER_BYTES;
    let cut = disk.copy();
    let mut bytes = cut.bytes(&segment(last.start.get())).unwrap();
    let from = usize::try_from(border - last.start.get()).unwrap();
    bytes[from..].fill(0);
    cut.put(&segment(last.start.get()), &bytes);
    let short = disk.copy();
    short.remove(&segment(last.start.get())).unwrap();
    let none = disk.copy();
    for one in &segments {
        none.remove(&segment(one.start.get())).unwrap();
    }
    for (lost, end) in [(cut, border), (short, last.start.get()), (none, 0)] {
        let names = lost.list(&dir()).unwrap();
        let files = || names.iter().map(|name| lost.bytes(&dir().join(name)));
        let held: Vec<_> = files().collect();
        let opened = Journal::open_known(Arc::new(lost.clone()), &dir(), SMALL, known);
        let Err(OpenError::LostEnd { end: at, known: up }) = opened else {
            panic!("{opened:?}");
        };
        assert_eq!((at, up), (end, known.get()));
        for report in [doctor(&lost, &dir(), known), salvage(&lost, &dir(), known)] {
            let report = report.unwrap();
            assert_eq!(report.end, Lsn::new(end));
            assert!(report.is_sound() && report.moved.is_empty());
        }
        assert_eq!(lost.list(&dir()).unwrap(), names);
        assert_eq!(files().collect::<Vec<_>>(), held);
    }
}

mod harm;
