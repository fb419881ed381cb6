//! What is whole is kept at its place, and what is lost is named.

use till_core::Record;

use super::{doctor, salvage};
use crate::disk::{Disk as _, SimDisk};
use crate::journal::testing::{all, append_each, dir, open, record, segment, write_groups};
use crate::journal::{Lsn, OpenError};

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
    let places: Vec<u64> = before.iter().map(|(lsn, _)| lsn.get()).collect();
    for (number, place) in places.iter().enumerate().take(19) {
        // In the header of the group, its entry's lengths, its head, its payload.
        for shift in [-20_i64, 1, 9, 30, 400] {
            let wounded = disk.copy();
            let start = open(&disk).unwrap().journal.segments();
            let start = start
                .iter()
                .rfind(|info| info.start.get() < *place)
                .unwrap()
                .start;
            let byte = place.saturating_add_signed(shift) - start.get();
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

mod harm;
