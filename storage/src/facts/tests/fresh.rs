//! Segments that have just begun or just been sealed, and those that left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use till_core::Record;

use super::{compare, facts, receipts, some_batches};
use crate::disk::{Disk as _, SimDisk};
use crate::facts::indexes::{HELD_MAX, Index};
use crate::facts::{Facts, FactsConfig, FactsError};
use crate::journal::testing::{dir, open};
use crate::journal::{
    BaseError, Journal, Prepared, SyncStats, Writer, index_name, lock, write_base,
};

// Commits groups by hand until the journal has `segments` of them.
fn grow(writer: &mut Writer, journal: &Journal, sent: &mut Vec<Record>, segments: usize) {
    let stats = SyncStats::default();
    while journal.segments().len() < segments {
        let record = Prepared::new(&sent.remove(0)).unwrap();
        writer.commit(&[&record], &mut Vec::new(), &stats).unwrap();
    }
}

#[test]
fn a_segment_that_begins_while_facts_are_looked_up_is_found_once() {
    let disk = SimDisk::new(0);
    let opened = open(&disk).unwrap();
    let (journal, mut writer) = (opened.journal, opened.writer);
    let mut sent = some_batches();
    let stats = SyncStats::default();
    let first = Prepared::new(&sent.remove(0)).unwrap();
    writer.commit(&[&first], &mut Vec::new(), &stats).unwrap();
    let facts = facts(journal.clone());
    // A look-up sees the segments, and before it goes on the journal begins another one, whose first group is durable.
    for segments in 2..5 {
        let (seen, durable) = journal.shared().snapshot();
        grow(&mut writer, &journal, &mut sent, segments);
        while facts.indexes.take_in(&seen, durable).unwrap().is_some() {}
        compare(&facts);
    }
    assert!(journal.segments().len() >= 4);
    // The files have not learned anything wrong either.
    drop(writer);
    let again = Facts::new(open(&disk).unwrap().journal, FactsConfig::default());
    assert_eq!(again.catch_up().unwrap(), 0);
    compare(&again);
}

#[test]
fn the_end_that_comes_with_the_segments_lies_in_the_last_of_them() {
    let disk = SimDisk::new(0);
    let opened = open(&disk).unwrap();
    let (journal, mut writer) = (opened.journal, opened.writer);
    let watched = journal.clone();
    let done = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&done);
    let watcher = std::thread::spawn(move || {
        while !ended.load(Ordering::Acquire) {
            let (segments, durable) = watched.shared().snapshot();
            let last = segments.last().unwrap();
            assert!(last.end.is_none() && last.start <= durable);
            // A segment begins where the one before it ends, so this is also before the next one.
            let now = watched.shared().snapshot().0;
            let next = now.iter().find(|one| one.start > last.start);
            assert!(next.is_none_or(|next| durable <= next.start));
        }
    });
    let mut sent: Vec<Record> = some_batches().into_iter().cycle().take(3_000).collect();
    grow(&mut writer, &journal, &mut sent, 300);
    done.store(true, Ordering::Release);
    watcher.join().unwrap();
}

fn indexes_on(disk: &SimDisk) -> usize {
    let names = disk.list(&dir()).unwrap();
    names.iter().filter(|name| name.ends_with(".idx")).count()
}

fn held(facts: &Facts) -> usize {
    let state = lock(&facts.indexes.state);
    let sealed = state.sealed.values();
    sealed
        .filter(|one| matches!(one.index, Index::Held(_)))
        .count()
}

#[test]
fn facts_are_found_while_a_full_disk_has_no_room_for_indexes() {
    let disk = SimDisk::new(0);
    let mut sent = some_batches();
    let mut opened = open(&disk).unwrap();
    let journal = opened.journal.clone();
    let facts = facts(journal.clone());
    grow(&mut opened.writer, &journal, &mut sent, HELD_MAX + 4);
    let sealed = journal.segments().len() - 1;
    // Trimming the segments gives room back; not enough for the smallest index.
    let trimmed: u64 = journal
        .segments()
        .iter()
        .filter(|one| one.sealed)
        .map(|one| 4_096 - one.end.since(one.start))
        .sum();
    disk.limit_bytes(Some(disk.used_bytes() - trimmed));
    assert!(matches!(
        facts.catch_up(),
        Err(FactsError::Unwritten { .. })
    ));
    assert_eq!(indexes_on(&disk), 0);
    compare(&facts);
    assert_eq!(facts.received().unwrap().len(), sealed);
    assert_eq!(held(&facts), HELD_MAX, "memory has a bound");
    disk.limit_bytes(None);
    assert_eq!(facts.catch_up().unwrap(), sealed);
    assert_eq!((indexes_on(&disk), held(&facts)), (sealed, 0));
    compare(&facts);
    assert_eq!(facts.catch_up().unwrap(), 0);
}

#[test]
fn the_newest_segments_have_filters_and_dropped_ones_give_their_room_back() {
    let disk = SimDisk::new(0);
    let mut sent = some_batches();
    let mut opened = open(&disk).unwrap();
    let journal = opened.journal.clone();
    grow(&mut opened.writer, &journal, &mut sent, 5);
    let all = Facts::new(journal.clone(), FactsConfig::default());
    all.catch_up().unwrap();
    let sizes = filters(&all);
    assert!(sizes.len() == 4 && sizes.iter().all(|(bytes, _)| *bytes > 0));
    // Room for half of them.
    let room: usize = sizes[2..].iter().map(|(bytes, _)| bytes).sum();
    let config = FactsConfig {
        cache_bytes: 0,
        filter_bytes: room,
        ..FactsConfig::default()
    };
    let facts = Facts::new(journal.clone(), config);
    facts.catch_up().unwrap();
    let loaded = |facts: &Facts| filters(facts).iter().map(|(_, is)| *is).collect::<Vec<_>>();
    assert_eq!(loaded(&facts), [false, false, true, true]);
    // All that are left when segments go fit again, and so do new ones, for ever.
    for _ in 0..3 {
        let border = journal.segments()[2].start;
        let none = Vec::<Result<Record, BaseError>>::new();
        write_base(&disk, &dir(), border, none).unwrap();
        journal.drop_before(border).unwrap();
        facts.catch_up().unwrap();
        assert_eq!(loaded(&facts), [true, true]);
        let segments = journal.segments().len();
        grow(&mut opened.writer, &journal, &mut sent, segments + 2);
        facts.catch_up().unwrap();
        assert!(loaded(&facts).ends_with(&[true]), "{:?}", filters(&facts));
        let held = filters(&facts).into_iter().filter(|(_, is)| *is);
        assert!(held.map(|(bytes, _)| bytes).sum::<usize>() <= room);
        compare_receipts(&facts);
    }
}

// Bytes of each sealed segment's filter, and whether it is in memory.
fn filters(facts: &Facts) -> Vec<(usize, bool)> {
    let state = lock(&facts.indexes.state);
    let sealed = state.sealed.values();
    sealed
        .filter_map(|one| match &one.index {
            Index::File(file) => Some((file.filter_bytes(), file.has_filter())),
            Index::Held(_) | Index::Made(_) => None,
        })
        .collect()
}

fn compare_receipts(facts: &Facts) {
    for receipt in 1..41_u64 {
        let name = if receipt % 3 == 0 {
            format!("R-{receipt}")
        } else {
            receipt.to_string()
        };
        let found = facts.by_receipt(&name).unwrap().len();
        assert_eq!(found, receipts(facts.journal(), &name).len(), "{name}");
    }
}

#[test]
fn indexes_of_any_number_of_segments_keep_few_files_open() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk).unwrap();
    let journal = opened.journal.clone();
    let mut sent: Vec<Record> = some_batches().into_iter().cycle().take(2_000).collect();
    grow(&mut opened.writer, &journal, &mut sent, 150);
    // Room for a few pages, so that files are read again and again.
    let config = FactsConfig {
        cache_bytes: 0,
        filter_bytes: 1 << 20,
        ..FactsConfig::default()
    };
    let facts = Facts::new(journal.clone(), config);
    assert_eq!(facts.catch_up().unwrap(), 149);
    compare_receipts(&facts);
    let open_files = disk.open_files();
    assert!(open_files < 80, "{open_files} files are open");
    // The files of segments that left are closed.
    let border = journal.segments()[148].start;
    let none = Vec::<Result<Record, BaseError>>::new();
    write_base(&disk, &dir(), border, none).unwrap();
    journal.drop_before(border).unwrap();
    facts.catch_up().unwrap();
    compare_receipts(&facts);
    assert!(disk.open_files() < 8, "{} files", disk.open_files());
}

#[test]
fn an_index_that_cannot_be_opened_for_now_is_not_built_again() {
    let disk = SimDisk::new(0);
    let mut opened = open(&disk).unwrap();
    let journal = opened.journal.clone();
    let mut sent = some_batches();
    grow(&mut opened.writer, &journal, &mut sent, 5);
    Facts::new(journal.clone(), FactsConfig::default())
        .catch_up()
        .unwrap();
    let index = dir().join(index_name(journal.segments()[1].start));
    let before = disk.bytes(&index).unwrap();
    disk.refuse_opening(Some(&index));
    let facts = Facts::new(journal.clone(), FactsConfig::default());
    let refused = facts.catch_up();
    assert!(
        matches!(refused, Err(FactsError::Index { .. })),
        "{refused:?}"
    );
    assert_eq!(disk.bytes(&index).unwrap(), before);
    disk.refuse_opening(None);
    assert_eq!(facts.catch_up().unwrap(), 0);
    compare(&facts);
}
