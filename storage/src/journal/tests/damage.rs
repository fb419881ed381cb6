//! Every bit that can flip, and every place where a file can end.

use std::path::PathBuf;
use std::sync::Arc;

use till_core::Record;

use super::super::testing::{SMALL, all, dir, open, record, segment, write_groups};
use super::super::{Cut, Journal, Lsn, OpenError, Opened, ReadError, SegmentInfo, segment_name};
use super::journal_run::JournalRun;
use crate::disk::SimDisk;

/// A journal of several segments with several groups each, of which some hold several records.
struct Sample {
    disk: SimDisk,
    segments: Vec<SegmentInfo>,
    records: Vec<(Lsn, Record)>,
    /// Where its last group of records begins.
    last: Lsn,
    /// Where that ends.
    end: Lsn,
}

impl Sample {
    fn new(is_closed: bool) -> Self {
        let disk = SimDisk::new(0);
        let mut journal_run = JournalRun::new(Arc::new(disk.clone()));
        journal_run.open().unwrap();
        let groups = [
            &[40, 300][..],
            &[1_200],
            &[900, 10],
            &[1_500],
            &[80],
            &[700],
        ];
        for sizes in groups.iter().chain(&groups[..2]) {
            journal_run.commit(sizes).unwrap();
        }
        let last = journal_run.journal().end();
        journal_run.commit(&[120, 20, 250]).unwrap();
        let end = journal_run.journal().end();
        match is_closed {
            true => journal_run.close().unwrap(),
            false => journal_run.fall(),
        }
        let looked = Journal::look(Arc::new(disk.clone()), &dir()).unwrap();
        let segments = looked.journal.segments();
        assert!(segments.len() >= 3 && last > segments[segments.len() - 1].start);
        Self {
            records: all(&looked.journal),
            disk,
            segments,
            last,
            end,
        }
    }

    /// The records that begin before an LSN.
    fn before(&self, at_lsn: Lsn) -> &[(Lsn, Record)] {
        let count = self.records.partition_point(|(lsn, _)| *lsn < at_lsn);
        &self.records[..count]
    }

    fn newest(&self) -> &SegmentInfo {
        &self.segments[self.segments.len() - 1]
    }

    fn file(&self, info: &SegmentInfo) -> (PathBuf, Vec<u8>) {
        let path = segment(info.start.get());
        let bytes = self.disk.bytes(&path).unwrap();
        (path, bytes)
    }

    fn same_files(&self, disk: &SimDisk) -> bool {
        let mut paths = self.segments.iter().map(|info| segment(info.start.get()));
        paths.all(|path| disk.bytes(&path) == self.disk.bytes(&path))
    }

    /// Opens a disk where the rows hold every record before `known`.
    fn open(disk: &SimDisk, known: Lsn) -> Result<Opened, OpenError> {
        Journal::open_known(Arc::new(disk.clone()), &dir(), SMALL, known)
    }
}

fn wide(at_lsn: usize) -> u64 {
    u64::try_from(at_lsn).unwrap()
}

// What may be said of a segment whose bytes are not those that were written. Never anything about another one.
fn names_the_place(error: &OpenError, info: &SegmentInfo, at_lsn: Lsn) -> bool {
    match error {
        OpenError::Damaged(damage) => {
            damage.segment == segment_name(info.start) && damage.at <= at_lsn
        }
        OpenError::Foreign(path) => *path == segment(info.start.get()),
        OpenError::Newer { .. } => at_lsn.since(info.start) < 64,
        OpenError::Missing { from, .. } => *from <= at_lsn.get() && *from > info.start.get(),
        OpenError::LostEnd { end, .. } => *end <= at_lsn.get(),
        _ => false,
    }
}

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    cut: u64,
    unused: u64,
}

impl Tally {
    const fn all(&self) -> u64 {
        self.refused + self.cut + self.unused
    }
}

// Turns each bit of a segment over, looks at what a start says of it, and turns it back.
fn flip_all(sample: &Sample, info: &SegmentInfo, known: Lsn, tally: &mut Tally) {
    let (path, bytes) = sample.file(info);
    let is_newest = !info.sealed;
    let proved = if sample.end < info.end {
        sample.end
    } else {
        sample.last
    };
    let mut disk = sample.disk.copy();
    for bit in 0..bytes.len() * 8 {
        let at_lsn = info.start.plus(wide(bit / 8));
        disk.flip_bit(&path, bit);
        match Sample::open(&disk, known) {
            Err(error) => {
                assert!(names_the_place(&error, info, at_lsn), "bit {bit}: {error}");
                assert!(at_lsn < info.end, "bit {bit}: {error}");
                tally.refused += 1;
                disk.flip_bit(&path, bit);
            }
            Ok(opened) => {
                // Behind the groups of a sealed segment lies nothing that is ever read; behind the newest it is cut.
                let is_unused = at_lsn >= info.end;
                let at = if is_unused { info.end } else { proved };
                assert!(at_lsn >= at, "bit {bit} was not seen");
                let cut = opened.cut.as_ref().map(|cut| cut.at);
                assert_eq!(cut, is_newest.then_some(at), "bit {bit} was cut in silence");
                let kept = if is_unused { sample.end } else { at };
                assert_eq!(all(&opened.journal), sample.before(kept), "bit {bit}");
                match is_unused {
                    true => tally.unused += 1,
                    false => tally.cut += 1,
                }
                disk = sample.disk.copy();
            }
        }
    }
    assert!(
        sample.same_files(&disk),
        "a start that is refused has changed something"
    );
}

#[test]
fn every_flipped_bit_of_every_segment_is_seen() {
    let sample = Sample::new(false);
    let mut tally = Tally::default();
    for info in &sample.segments {
        flip_all(&sample, info, Lsn::ZERO, &mut tally);
    }
    let last = sample.end.since(sample.last);
    assert_eq!(
        tally.cut,
        last * 8,
        "all of the last group, and nothing else"
    );
    println!("{} flips: {tally:?}", tally.all());
}

#[test]
fn every_flipped_bit_is_damage_where_the_rows_or_a_clean_end_prove_the_last_group() {
    let sample = Sample::new(false);
    let mut tally = Tally::default();
    flip_all(&sample, sample.newest(), sample.end, &mut tally);
    assert_eq!(tally.cut, 0);
    let closed = Sample::new(true);
    let watermark = closed.newest().end.since(closed.end);
    flip_all(&closed, closed.newest(), Lsn::ZERO, &mut tally);
    assert_eq!(tally.cut, watermark * 8, "the closing mark alone");
    println!("{} flips: {tally:?}", tally.all());
}

// A file that ends early, as it is found after a bad copy, and one whose end is zeros, as a file system leaves it; each with
// the first byte that is not as it was written.
fn cuts(bytes: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..bytes.len()).flat_map(|length| {
        let mut zeros = bytes.to_vec();
        zeros[length..].fill(0);
        let changed = (length..bytes.len()).find(|at| bytes[*at] != 0);
        let changed = changed.unwrap_or(bytes.len());
        [(length, bytes[..length].to_vec()), (changed, zeros)]
    })
}

#[test]
fn every_cut_of_a_sealed_segment_is_seen() {
    let sample = Sample::new(false);
    let mut tally = Tally::default();
    let sealed = sample.segments.iter().filter(|info| info.sealed);
    for info in sealed {
        let (path, bytes) = sample.file(info);
        let disk = sample.disk.copy();
        for (length, left) in cuts(&bytes) {
            let at_lsn = info.start.plus(wide(length));
            disk.put(&path, &left);
            match open(&disk) {
                Err(error) => {
                    assert!(names_the_place(&error, info, at_lsn), "{length}: {error}");
                    assert_eq!(disk.bytes(&path), Some(left), "{length}");
                    tally.refused += 1;
                }
                Ok(opened) => {
                    assert!(at_lsn >= info.end, "a cut at {length} was not seen");
                    assert_eq!(all(&opened.journal), sample.records, "{length}");
                    tally.unused += 1;
                }
            }
        }
    }
    println!("{} cuts: {tally:?}", tally.all());
}

// What is left where a file ends at a place: the groups that end before it, and what a start says of the rest.
fn expected_cut(sample: &Sample, opened: &Opened, from: Lsn) {
    assert_eq!(all(&opened.journal), sample.before(from));
    let cut = opened.cut.as_ref();
    assert!(cut.is_none_or(|cut| cut.at == from && cut.bytes > 0));
}

#[test]
fn every_cut_of_the_newest_segment_is_torn_or_refused_as_the_rows_know() {
    let sample = Sample::new(false);
    let info = *sample.newest();
    let (path, bytes) = sample.file(&info);
    let groups = group_starts(&sample, &info);
    let mut tally = Tally::default();
    for (length, left) in cuts(&bytes) {
        let at_lsn = info.start.plus(wide(length));
        let is_whole = at_lsn >= info.end;
        let disk = sample.disk.copy();
        disk.put(&path, &left);
        // Rows that hold all but the last group: only that one may be cut.
        match Sample::open(&disk, sample.last) {
            Err(error) => {
                assert!(at_lsn < sample.last, "{length}: {error}");
                assert!(names_the_place(&error, &info, at_lsn), "{length}: {error}");
                assert_eq!(disk.bytes(&path), Some(left.clone()), "{length}");
                tally.refused += 1;
            }
            Ok(opened) => {
                assert!(
                    at_lsn >= sample.last || is_whole,
                    "a cut at {length} was not seen"
                );
                let from = if is_whole { info.end } else { sample.last };
                assert_eq!(opened.cut.is_some(), !is_whole && at_lsn > sample.last);
                expected_cut(&sample, &opened, from);
                tally.cut += u64::from(!is_whole);
                tally.unused += u64::from(is_whole);
            }
        }
        // Where no rows know more, the journal goes on behind its last whole group, and says so unless it ends there.
        disk.put(&path, &left);
        match Sample::open(&disk, Lsn::ZERO) {
            Err(error) => assert!(length < 64, "{length}: {error}"),
            Ok(opened) if is_whole => expected_cut(&sample, &opened, info.end),
            Ok(opened) => {
                let after = groups.partition_point(|start| *start <= at_lsn);
                let from = groups[after.saturating_sub(1)];
                assert_eq!(opened.cut.is_some(), at_lsn > from, "{length}");
                expected_cut(&sample, &opened, from);
            }
        }
    }
    println!("{} cuts: {tally:?}", tally.all());
}

fn group_starts(sample: &Sample, info: &SegmentInfo) -> Vec<Lsn> {
    let mut starts = vec![sample.last];
    for (lsn, _) in &sample.records {
        let (_, bytes) = sample.file(info);
        let offset = lsn.since(info.start).checked_sub(48);
        let offset = offset.map(|offset| usize::try_from(offset).unwrap());
        if *lsn > info.start
            && let Some(offset) = offset
            && bytes[offset..].starts_with(b"TGRP")
        {
            starts.push(info.start.plus(wide(offset)));
        }
    }
    starts.sort();
    starts.dedup();
    starts
}

#[test]
fn a_cut_says_where_and_how_much() {
    let sample = Sample::new(false);
    let (path, bytes) = sample.file(sample.newest());
    let torn = usize::try_from(sample.last.since(sample.newest().start)).unwrap() + 56;
    let disk = sample.disk.copy();
    disk.put(&path, &bytes[..torn]);
    let said = Cut {
        at: sample.last,
        segment: segment_name(sample.newest().start),
        bytes: 56,
    };
    let looked = Journal::look(Arc::new(disk.clone()), &dir()).unwrap();
    assert_eq!(looked.torn, Some(said.clone()));
    assert_eq!(open(&disk).unwrap().cut, Some(said));
}

// What a disk does that puts a write where it does not belong: the last group lies on the one before, or behind the room that
// it should have filled. Neither is torn: a crash does not do that.
#[test]
fn a_group_that_the_disk_put_elsewhere_is_damage() {
    let sample = Sample::new(false);
    let info = *sample.newest();
    let (path, bytes) = sample.file(&info);
    let [last, end] = [sample.last, sample.end];
    let [last, end] = [last, end].map(|at| usize::try_from(at.since(info.start)).unwrap());
    let room = bytes.len() - end;
    for landed in (64..last).chain(end..end + room - (end - last)) {
        let mut strayed = bytes.clone();
        strayed[last..end].fill(0);
        strayed[landed..landed + end - last].copy_from_slice(&bytes[last..end]);
        let disk = sample.disk.copy();
        disk.put(&path, &strayed);
        let error = open(&disk).unwrap_err();
        let OpenError::Damaged(damage) = &error else {
            panic!("{landed}: {error}");
        };
        assert!(damage.at <= info.start.plus(wide(landed.min(last))));
        let looked = Journal::look(Arc::new(disk.clone()), &dir());
        assert_eq!(looked.unwrap_err().to_string(), error.to_string());
        assert_eq!(disk.bytes(&path), Some(strayed), "{landed}");
    }
}

#[test]
fn a_first_group_that_the_disk_put_into_another_file_is_not_read_for_what_was_there() {
    let sample = Sample::new(true);
    let journal = Journal::look(Arc::new(sample.disk.clone()), &dir()).unwrap();
    let journal = journal.journal;
    let mut overlaid = 0;
    for from in &sample.segments {
        let (_, strange) = sample.file(from);
        let said = u32::from_le_bytes(strange[64 + 24..64 + 28].try_into().unwrap());
        let end = 64 + 48 + usize::try_from(said).unwrap();
        for into in sample
            .segments
            .iter()
            .filter(|into| into.start != from.start)
        {
            let (path, sound) = sample.file(into);
            let mut bytes = sound.clone();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[64..end].copy_from_slice(&strange[64..end]);
            sample.disk.put(&path, &bytes);
            for (lsn, record) in &sample.records {
                let is_there = *lsn >= into.start && *lsn < into.end;
                if is_there && lsn.since(into.start) < wide(end) {
                    overlaid += 1;
                    let (read, head) = (journal.read(*lsn), journal.read_head(*lsn));
                    assert!(matches!(read, Err(ReadError::Damaged { .. })), "{lsn}");
                    assert!(matches!(head, Err(ReadError::Damaged { .. })), "{lsn}");
                } else {
                    assert_eq!(&journal.read(*lsn).unwrap(), record);
                    assert_eq!(journal.read_head(*lsn).unwrap(), record.head);
                }
            }
            sample.disk.put(&path, &sound);
        }
    }
    assert!(overlaid >= sample.segments.len(), "{overlaid}");
}

// The index of the segment that grows is brought up to date several times a second: it once read the segment from its start each time.
#[test]
fn records_from_the_start_of_a_group_are_found_without_what_lies_before_it() {
    let disk = SimDisk::new(0);
    let groups: Vec<Record> = (1..=6).map(|seq| record(1, seq, 300)).collect();
    let groups: Vec<&[Record]> = groups.chunks(2).collect();
    let starts = write_groups(&disk, &groups);
    let journal = open(&disk).unwrap().journal;
    let path = segment(0);
    disk.flip_bit(&path, 8 * (usize::try_from(starts[0].get()).unwrap() + 200));
    let found = |from: Lsn| -> Vec<u64> {
        let records = journal.records(from).map_while(Result::ok);
        records.map(|(_, record)| record.head.first_seq).collect()
    };
    assert_eq!(found(starts[1]), [3, 4, 5, 6]);
    assert_eq!(found(starts[2]), [5, 6]);
    let none: [u64; 0] = [];
    assert_eq!(found(starts[1].plus(1)), none, "no group begins there");
    assert_eq!(found(starts[0]), none);
}
