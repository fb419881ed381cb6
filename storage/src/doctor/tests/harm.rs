//! Every byte of a small journal is harmed in turn: the start, the doctor and salvage say the same, and keep what is whole.

use till_core::Record;

use super::records;
use crate::disk::SimDisk;
use crate::doctor::{HOLE_BYTES_MAX, doctor, salvage};
use crate::journal::doctoring::{FileKind, GroupHeader, SegmentHeader};
use crate::journal::testing::{SMALL, all, dir, open, segment, write_groups};
use crate::journal::{GROUP_HEADER_BYTES, Lsn, OpenError, SegmentInfo};

/// Bytes of an entry of `records`: prefix, head, payload, one verdict.
const ENTRY: u64 = 16 + 56 + 600 + 12;

struct Journal {
    disk: SimDisk,
    records: Vec<(Lsn, Record)>,
    segments: Vec<SegmentInfo>,
    /// Where the last group starts and ends.
    last: (u64, u64),
}

// Three segments, one record a group, ended by a crash: nothing is written behind the last group.
fn crashed() -> Journal {
    let disk = SimDisk::new(0);
    let sent = records(14);
    let groups: Vec<&[Record]> = sent.chunks(1).collect();
    write_groups(&disk, &groups);
    let opened = open(&disk.copy()).unwrap();
    let records = all(&opened.journal);
    let segments = opened.journal.segments();
    let last = records.last().unwrap().0.get();
    assert_eq!((records.len(), segments.len()), (14, 3));
    Journal {
        disk,
        records,
        segments,
        last: (last - GROUP_HEADER_BYTES, last + ENTRY),
    }
}

impl Journal {
    fn end_of(&self, number: usize) -> u64 {
        let next = self.segments.get(number + 1);
        next.map_or(self.last.1, |next| next.start.get())
    }

    fn harmed(&self, start: Lsn, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let harmed = self.disk.copy();
        harm(&harmed, start, change);
        harmed
    }

    fn without(&self, lost: impl Fn(u64) -> bool) -> Vec<(Lsn, Record)> {
        let mut kept = self.records.clone();
        kept.retain(|(lsn, _)| !lost(lsn.get()));
        kept
    }
}

fn harm(disk: &SimDisk, start: Lsn, change: impl FnOnce(&mut Vec<u8>)) {
    let path = segment(start.get());
    let mut bytes = disk.bytes(&path).unwrap();
    change(&mut bytes);
    disk.put(&path, &bytes);
}

fn kept(disk: &SimDisk) -> Vec<(Lsn, Record)> {
    all(&open(&disk.copy()).unwrap().journal)
}

#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    stopped: u64,
    cut: u64,
    unused: u64,
}

#[test]
fn every_harmed_byte_stops_the_start_or_is_the_torn_end_and_salvage_keeps_the_rest() {
    let journal = crashed();
    let mut seen = Seen::default();
    let mut below = 0;
    for (number, info) in journal.segments.iter().enumerate() {
        let (start, end) = (info.start.get(), journal.end_of(number));
        let bytes = journal.disk.bytes(&segment(start)).unwrap().len();
        let is_last = number + 1 == journal.segments.len();
        below += (if is_last { journal.last.0 } else { end }) - start;
        for offset in 0..bytes {
            let at_lsn = start + u64::try_from(offset).unwrap();
            let harmed = journal.harmed(info.start, |bytes| bytes[offset] ^= 0x41);
            if !is_last && at_lsn >= end {
                // Behind the last group of a sealed segment nothing is read.
                seen.unused += 1;
                assert!(doctor(&harmed, &dir(), Lsn::ZERO).unwrap().is_sound());
                assert_eq!(kept(&harmed), journal.records, "byte {at_lsn}");
            } else if is_last && at_lsn >= journal.last.0 {
                seen.cut += 1;
                cut(&journal, &harmed, at_lsn);
            } else {
                seen.stopped += 1;
                stopped(&journal, &harmed, at_lsn);
            }
        }
    }
    assert_eq!(seen.stopped, below);
    assert!(seen.cut >= journal.last.1 - journal.last.0 && seen.unused > 0);
}

// The last group, or zeros behind it: cut, told, and the doctor calls it torn.
fn cut(journal: &Journal, harmed: &SimDisk, at_lsn: u64) {
    let report = doctor(harmed, &dir(), Lsn::ZERO).unwrap();
    assert!(report.is_sound() && report.torn.is_some(), "byte {at_lsn}");
    let opened = open(&harmed.copy()).unwrap();
    assert!(opened.cut.is_some(), "byte {at_lsn} was cut in silence");
    let is_in_it = at_lsn < journal.last.1;
    let wanted = journal.without(|lsn| is_in_it && lsn > journal.last.0);
    assert_eq!(all(&opened.journal), wanted, "byte {at_lsn}");
}

fn stopped(journal: &Journal, harmed: &SimDisk, at_lsn: u64) {
    let Err(OpenError::Damaged(damage)) = open(&harmed.copy()) else {
        panic!("byte {at_lsn} did not stop the start as damage");
    };
    assert!(damage.to_string().contains("--salvage"), "byte {at_lsn}");
    let report = salvage(harmed, &dir(), Lsn::ZERO).unwrap();
    assert!(!report.is_sound() && report.moved.len() == 1);
    let hit = |lsn: u64| lsn <= at_lsn && at_lsn < lsn + ENTRY;
    assert_eq!(kept(harmed), journal.without(hit), "byte {at_lsn}");
    // Whose record it was is said by its neighbours; the first one has none before it.
    let lost: Vec<u64> = report
        .lost
        .iter()
        .filter(|one| one.certain)
        .map(|one| one.first)
        .collect();
    let number = journal.records.iter().position(|(lsn, _)| hit(lsn.get()));
    let wanted: Vec<u64> = number
        .filter(|number| *number > 0)
        .map(|number| journal.records[number].1.head.first_seq)
        .into_iter()
        .collect();
    assert_eq!(lost, wanted, "byte {at_lsn}");
    assert_eq!(damage.lost, report.lost, "byte {at_lsn}");
    assert!(doctor(harmed, &dir(), Lsn::ZERO).unwrap().is_sound());
}

#[test]
fn a_segment_that_is_cut_short_anywhere_is_seen_or_ends_before_what_the_rows_know() {
    let journal = crashed();
    let mut seen = Seen::default();
    for (number, info) in journal.segments.iter().enumerate() {
        let (start, end) = (info.start.get(), journal.end_of(number));
        let is_last = number + 1 == journal.segments.len();
        for length in 0..4_096_usize {
            let border = start + u64::try_from(length).unwrap();
            let harmed = journal.harmed(info.start, |bytes| bytes.truncate(length));
            let gone = |lsn: u64| lsn > start && lsn < end && lsn + ENTRY > border;
            if border >= end {
                seen.unused += 1;
                assert_eq!(kept(&harmed), journal.records, "length {length}");
            } else if is_last && length >= 64 {
                seen.cut += 1;
                let opened = open(&harmed.copy()).unwrap();
                // At the border of two groups there is nothing to cut, and nothing inside the journal to show the loss: its
                // end does.
                let whole = journal
                    .records
                    .iter()
                    .any(|(lsn, _)| lsn.get() + ENTRY == border);
                assert_eq!(
                    opened.cut.is_none(),
                    whole || length == 64,
                    "length {length}"
                );
                assert!(opened.end.get() < end, "length {length}");
                assert_eq!(all(&opened.journal), journal.without(gone));
            } else {
                seen.stopped += 1;
                assert!(open(&harmed.copy()).is_err(), "length {length}");
                assert!(!salvage(&harmed, &dir(), Lsn::ZERO).unwrap().is_sound());
                assert_eq!(kept(&harmed), journal.without(gone), "length {length}");
            }
        }
    }
    let last = journal.segments[2].start.get();
    assert_eq!(seen.stopped, last + 64);
    assert_eq!(seen.cut, journal.last.1 - last - 64);
}

#[test]
fn salvage_keeps_a_last_group_whose_bytes_end_in_zeros() {
    let journal = crashed();
    // The last byte of a verdict is zero, so that the last written byte lies before the end of the group.
    let (start, hit) = (journal.segments[2].start, journal.records[10].0);
    let offset = usize::try_from(hit.since(start)).unwrap() + 200;
    let harmed = journal.harmed(start, |bytes| bytes[offset] ^= 1);
    let report = salvage(&harmed, &dir(), Lsn::ZERO).unwrap();
    assert!(
        report.torn.is_none() && report.wounds.len() == 1,
        "{report:?}"
    );
    assert_eq!(kept(&harmed), journal.without(|lsn| lsn == hit.get()));
}

#[test]
fn a_damaged_group_before_a_torn_one_is_damage_and_only_the_end_is_torn() {
    let journal = crashed();
    let start = journal.segments[2].start.get();
    let [.., (before, _), (last, _)] = &journal.records[..] else {
        panic!("there are two");
    };
    // The header or the entry of the last but one, and the entry of the last one.
    for first in [
        before.get() - 40,
        before.get() - 1,
        before.get() + 5,
        before.get() + 300,
    ] {
        let harmed = journal.harmed(Lsn::new(start), |bytes| {
            for at_lsn in [first, last.get() + 100] {
                bytes[usize::try_from(at_lsn - start).unwrap()] ^= 1;
            }
        });
        let Err(OpenError::Damaged(damage)) = open(&harmed.copy()) else {
            panic!("byte {first}: damage was not seen");
        };
        assert!(damage.proof.contains("was written after it"));
        // The header of the last one proves the one before it, and nothing proves the last one.
        let report = salvage(&harmed, &dir(), Lsn::ZERO).unwrap();
        assert!(
            report.wounds.len() == 1 && report.torn.is_some(),
            "{report:?}"
        );
        let is_whole = first < before.get();
        let named: Vec<u64> = report.lost.iter().map(|lost| lost.first).collect();
        assert_eq!(named.contains(&13), !is_whole, "byte {first}: {report:?}");
        let lost = |lsn| lsn == last.get() || (!is_whole && lsn == before.get());
        assert_eq!(kept(&harmed), journal.without(lost), "byte {first}");
    }
}

#[test]
fn what_the_rows_hold_is_no_torn_end() {
    let journal = crashed();
    let (start, last) = (journal.segments[2].start, journal.records[13].0);
    let offset = usize::try_from(last.since(start)).unwrap() + 200;
    let harmed = journal.harmed(start, |bytes| bytes[offset] ^= 1);
    let open_known = |disk: &SimDisk, known| {
        let disk = std::sync::Arc::new(disk.copy());
        crate::journal::Journal::open_known(disk, &dir(), SMALL, known)
    };
    // Rows that end before it know nothing of it.
    let before = Lsn::new(journal.last.0);
    assert!(open_known(&harmed, before).unwrap().cut.is_some());
    assert!(doctor(&harmed, &dir(), before).unwrap().torn.is_some());
    let known = Lsn::new(journal.last.1);
    let Err(OpenError::Damaged(damage)) = open_known(&harmed, known) else {
        panic!("the damage was cut off");
    };
    assert!(damage.to_string().contains("the rows hold"), "{damage}");
    let report = salvage(&harmed, &dir(), known).unwrap();
    assert!(
        report.torn.is_none() && report.wounds.len() == 1,
        "{report:?}"
    );
    assert_eq!(report.lost.first().unwrap().first, 14);
    assert_eq!(kept(&harmed), journal.without(|lsn| lsn == last.get()));
    // Where it was there is a hole: the journal is as long as before.
    assert!(open_known(&harmed, known).unwrap().end >= known);
}

#[test]
fn whatever_is_left_of_a_group_that_the_rows_hold_becomes_a_hole_that_opens() {
    let journal = crashed();
    let start = journal.segments[2].start;
    let from = usize::try_from(journal.last.0 - start.get()).unwrap();
    let known = Lsn::new(journal.last.1);
    let mut wounded = 0;
    // Up to a few bytes behind the header of the group, which does not stand: any number of them may be left.
    for length in 1..=100 {
        let harmed = journal.harmed(start, |bytes| {
            bytes[from..from + length].fill(7);
            bytes[from + length..].fill(0);
        });
        let report = salvage(&harmed, &dir(), known).unwrap();
        wounded += report.wounds.len();
        assert_eq!(kept(&harmed), journal.records[..13], "{length} bytes");
        assert!(doctor(&harmed, &dir(), known).unwrap().is_sound());
    }
    assert_eq!(wounded, 100);
}

#[test]
fn start_and_doctor_agree_on_any_harm() {
    let journal = crashed();
    let mut chance = 1_u64;
    let mut draw = |below: u64| {
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % below
    };
    let (mut sound, mut torn, mut damaged) = (0, 0, 0);
    for round in 0..3_000 {
        let harmed = journal.disk.copy();
        for _ in 0..=draw(3) {
            let info = &journal.segments[usize::try_from(draw(5)).unwrap().min(2)];
            let from = usize::try_from(draw(4_096)).unwrap();
            let length = [1, 4, 48, 512, 1_500][usize::try_from(draw(5)).unwrap()];
            let zeros = draw(2) == 0;
            harm(&harmed, info.start, |bytes| {
                let to = bytes.len().min(from + length);
                bytes[from..to]
                    .iter_mut()
                    .for_each(|byte| *byte = if zeros { 0 } else { !*byte });
            });
        }
        let report = doctor(&harmed, &dir(), Lsn::ZERO).unwrap();
        match open(&harmed.copy()) {
            Ok(opened) => {
                assert!(report.is_sound(), "round {round}: {report:?}");
                assert_eq!(report.torn.is_some(), opened.cut.is_some(), "round {round}");
                sound += u32::from(opened.cut.is_none());
                torn += u32::from(opened.cut.is_some());
            }
            Err(error) => {
                damaged += 1;
                assert!(!report.is_sound(), "round {round}: {error}");
                salvage(&harmed, &dir(), Lsn::ZERO).unwrap();
                let found = kept(&harmed);
                assert!(
                    found.iter().all(|one| journal.records.contains(one)),
                    "round {round}"
                );
                // A second run finds nothing to do.
                assert!(
                    doctor(&harmed, &dir(), Lsn::ZERO).unwrap().is_sound(),
                    "round {round}"
                );
            }
        }
    }
    assert!(
        sound > 50 && torn > 50 && damaged > 500,
        "{sound} {torn} {damaged}"
    );
}

#[test]
fn a_wide_gap_is_filled_with_segments_that_open() {
    // More is gone than one hole takes.
    let journal = crashed();
    let from = journal.segments[1].start;
    let far = from.plus(2 * HOLE_BYTES_MAX + 10);
    let disk = SimDisk::new(0);
    let first = journal.disk.bytes(&segment(0)).unwrap();
    let log = SegmentHeader::decode(&first).unwrap().log;
    disk.put(&segment(0), &first);
    let header = SegmentHeader {
        kind: FileKind::Segment,
        start: far,
        log,
        salt: 9,
        key: 0,
    };
    let digest = GroupHeader::watermark(far.plus(64), true).encode(9);
    disk.put(
        &segment(far.get()),
        &[&header.encode()[..], &digest].concat(),
    );
    assert!(matches!(open(&disk), Err(OpenError::Missing { .. })));
    let report = salvage(&disk, &dir(), Lsn::ZERO).unwrap();
    assert_eq!(report.missing, [(from, far)]);
    let opened = open(&disk).unwrap();
    assert!(opened.closed_cleanly && opened.journal.segments().len() == 4);
    assert_eq!(all(&opened.journal), journal.records[..5]);
}
