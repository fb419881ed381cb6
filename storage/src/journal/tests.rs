//! What the journal promises, over a disk that has bad days.

mod damage;
mod journal_run;
mod leaving;
mod lingering;
mod look;
mod model;
mod names;
mod stopping;
mod stops;

use std::sync::Arc;

use proptest::prelude::*;
use till_core::Record;

use super::testing::{
    SMALL, Witness, all, append_each, dir, names, open, record, segment, write_groups,
};
use super::{
    Journal, JournalConfig, Lsn, OpenError, Prepared, State, SyncConfig, SyncError, Syncer,
};
use crate::disk::SimDisk;

const T: u64 = (3 << 32) | 7;

fn records(count: u64, bytes: usize) -> Vec<Record> {
    (1..=count).map(|seq| record(T, seq, bytes)).collect()
}

/// Waits for another thread, for more turns than any machine needs.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("this has not come about: {what}");
}

fn found(disk: &SimDisk) -> Vec<Record> {
    let opened = open(disk).unwrap();
    all(&opened.journal).into_iter().map(|(_, r)| r).collect()
}

#[test]
fn what_was_appended_is_read_back_in_order_and_by_place() {
    let disk = SimDisk::new(0);
    let sent = records(40, 700);
    let (witness, closed) = append_each(open(&disk).unwrap(), &sent);
    closed.unwrap();
    let opened = open(&disk).unwrap();
    assert!(opened.closed_cleanly && opened.cut.is_none());
    assert_eq!(all(&opened.journal).len(), 40);
    let told = witness.told.lock().unwrap().clone();
    for ((lsn, seq), record) in told.iter().zip(&sent) {
        assert_eq!(*seq, record.head.first_seq);
        assert_eq!(&opened.journal.read(*lsn).unwrap(), record);
        assert_eq!(opened.journal.read_head(*lsn).unwrap(), record.head);
    }
    assert!(opened.journal.segments().len() > 3, "segments were crossed");
    let tail: Vec<Lsn> = opened
        .journal
        .records(told[30].0)
        .map(|item| item.unwrap().0)
        .collect();
    let wanted: Vec<Lsn> = told[30..].iter().map(|(lsn, _)| *lsn).collect();
    assert_eq!(tail, wanted);
}

#[test]
fn a_crash_at_any_sync_loses_no_acked_record_and_doubles_none() {
    for seed in [0, 1, 2, 77] {
        for freeze in 1.. {
            let disk = SimDisk::new(seed);
            disk.freeze_at_sync(freeze);
            let sent = records(12, 600);
            let acked = match open(&disk) {
                Ok(opened) => append_each(opened, &sent).0.acked(),
                Err(_) => Vec::new(),
            };
            let struck = disk.is_frozen();
            let after = disk.crash();
            let found = found(&after);
            assert!(found.len() >= acked.len(), "seed {seed} sync {freeze}");
            assert_eq!(found, sent[..found.len()], "seed {seed} sync {freeze}");
            // What was recovered can be built upon, and survives the next crash.
            let more = vec![record(T, 100, 10)];
            let (witness, _) = append_each(open(&after).unwrap(), &more);
            assert_eq!(witness.acked(), [100]);
            let again = self::found(&after.crash());
            assert_eq!(again.len(), found.len() + 1, "seed {seed} sync {freeze}");
            if !struck {
                assert!(freeze > 20, "the run has many syncs");
                break;
            }
        }
    }
}

#[test]
fn a_second_crash_during_recovery_loses_nothing_either() {
    for seed in 1..6 {
        let disk = SimDisk::new(seed);
        disk.freeze_at_sync(9);
        let sent = records(12, 600);
        let acked = append_each(open(&disk).unwrap(), &sent).0.acked();
        for freeze in 1..8 {
            let after = disk.crash();
            after.freeze_at_sync(freeze);
            let _first = open(&after);
            let found = found(&after.crash());
            assert!(found.len() >= acked.len(), "seed {seed} sync {freeze}");
            assert_eq!(found, sent[..found.len()]);
        }
    }
}

#[test]
fn a_log_cut_anywhere_in_its_last_group_keeps_all_groups_before_it() {
    let disk = SimDisk::new(0);
    let sent = records(3, 200);
    let starts = write_groups(&disk, &[&sent[..1], &sent[1..2], &sent[2..]]);
    let whole = disk.bytes(&segment(0)).unwrap();
    let from = usize::try_from(starts[2].get()).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for length in from..end {
        let torn = disk.copy();
        torn.put(&segment(0), &whole[..length]);
        let opened = open(&torn).unwrap();
        assert_eq!(all(&opened.journal).len(), 2, "cut at {length}");
        assert_eq!(opened.cut.is_some(), length > from, "cut at {length}");
        drop(opened);
        assert_eq!(found(&torn).len(), 2);
        // A second opening has nothing left to cut.
        assert!(open(&torn).unwrap().cut.is_none());
    }
}

#[test]
fn every_flipped_bit_is_seen_and_below_the_last_group_it_stops_the_start() {
    let disk = SimDisk::new(0);
    let sent = records(3, 40);
    let starts = write_groups(&disk, &[&sent[..1], &sent[1..2], &sent[2..]]);
    let whole = disk.bytes(&segment(0)).unwrap();
    let end = whole.iter().rposition(|byte| *byte != 0).unwrap() + 8;
    for bit in 0..end * 8 {
        let flipped = disk.copy();
        flipped.flip_bit(&segment(0), bit);
        let at_lsn = u64::try_from(bit / 8).unwrap();
        match open(&flipped) {
            Err(OpenError::Damaged(damage)) => {
                assert!(at_lsn < starts[2].get(), "bit {bit}: {damage}");
                assert!(damage.to_string().contains("--salvage"));
            }
            Err(OpenError::Foreign(_) | OpenError::Newer { .. }) => assert!(at_lsn < 64),
            Err(other) => panic!("bit {bit}: {other}"),
            Ok(opened) => {
                assert!(at_lsn >= starts[2].get(), "bit {bit} was not seen");
                let found = all(&opened.journal).len();
                assert!(opened.cut.is_some(), "bit {bit} was cut in silence");
                assert!(found >= 2, "bit {bit}");
            }
        }
    }
}

#[test]
fn after_a_clean_close_damage_of_the_last_group_stops_the_start_too() {
    let disk = SimDisk::new(0);
    let (_, closed) = append_each(open(&disk).unwrap(), &records(2, 40));
    closed.unwrap();
    let at_lsn = all(&open(&disk).unwrap().journal)[1].0;
    disk.flip_bit(&segment(0), usize::try_from(at_lsn.get() + 90).unwrap() * 8);
    let Err(OpenError::Damaged(damage)) = open(&disk) else {
        panic!("damage was not seen");
    };
    assert_eq!((damage.lost[0].terminal, damage.lost[0].first), (T, 2));
    assert!(
        damage
            .to_string()
            .contains("terminal 3-7 epoch 1 seq 2 to 2")
    );
}

#[test]
fn damage_names_the_sequences_between_its_neighbours() {
    let disk = SimDisk::new(0);
    let sent = records(9, 300);
    let groups: Vec<&[Record]> = sent.chunks(1).collect();
    let starts = write_groups(&disk, &groups);
    let mut bytes = disk.bytes(&segment(0)).unwrap();
    let from = usize::try_from(starts[3].get()).unwrap();
    let to = usize::try_from(starts[5].get()).unwrap();
    bytes[from..to].fill(0);
    disk.put(&segment(0), &bytes);
    let Err(OpenError::Damaged(damage)) = open(&disk) else {
        panic!("damage was not seen");
    };
    assert_eq!(damage.offset, starts[3].get());
    assert_eq!((damage.lost[0].first, damage.lost[0].last), (4, 5));
}

#[test]
fn a_missing_misnamed_or_foreign_segment_stops_the_start() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(20, 900))
        .1
        .unwrap();
    let segments = open(&disk).unwrap().journal.segments();
    let second = segments[1].start.get();
    let bytes = disk.bytes(&segment(second)).unwrap();

    let missing = disk.copy();
    crate::disk::Disk::remove(&missing, &segment(second)).unwrap();
    let error = open(&missing).unwrap_err();
    assert!(
        matches!(error, OpenError::Missing { from, .. } if from == second),
        "{error}"
    );

    let first = disk.copy();
    crate::disk::Disk::remove(&first, &segment(0)).unwrap();
    assert!(matches!(
        open(&first),
        Err(OpenError::Missing { from: 0, .. })
    ));

    let misnamed = disk.copy();
    misnamed.put(&segment(second + 1), &bytes);
    assert!(matches!(open(&misnamed), Err(OpenError::Misplaced { .. })));

    let foreign = disk.copy();
    foreign.put(&dir().join("notes.till"), b"hello");
    assert!(matches!(open(&foreign), Err(OpenError::Foreign(_))));

    let other = SimDisk::new(0);
    crate::disk::Disk::salt(&other);
    append_each(open(&other).unwrap(), &records(20, 900))
        .1
        .unwrap();
    let mixed = disk.copy();
    mixed.put(&segment(second), &other.bytes(&segment(second)).unwrap());
    assert!(matches!(open(&mixed), Err(OpenError::OtherLog(_))));
}

#[test]
fn a_full_disk_pauses_the_journal_and_room_lets_it_go_on() {
    let disk = SimDisk::new(0);
    let config = JournalConfig {
        reserve_bytes: 1_000,
        ..SMALL
    };
    let opened = Journal::open(Arc::new(disk.clone()), &dir(), config).unwrap();
    disk.limit_bytes(Some(disk.used_bytes() + 100));
    let witness = Witness::default();
    let commit = SyncConfig {
        full_retry_ms: 1,
        ..SyncConfig::default()
    };
    let syncer = Syncer::start(opened.writer, commit, witness.clone()).unwrap();
    let (stats, appender) = (syncer.stats(), syncer.appender());
    for record in records(12, 900) {
        let seq = record.head.first_seq;
        appender
            .append(Prepared::new(&record).unwrap(), seq)
            .unwrap();
    }
    let reserves = || names(&disk).contains(&"reserve".to_owned());
    wait_until("it is full and has given its reserve away", || {
        stats.state() == State::Full && !reserves()
    });
    assert!(witness.acked().len() < 12);
    disk.limit_bytes(None);
    wait_until("all is acknowledged", || witness.acked().len() >= 12);
    assert_eq!(stats.state(), State::Running);
    assert!(reserves());
    drop(appender);
    syncer.close().unwrap();
    assert_eq!(found(&disk.crash()), records(12, 900));
}

#[test]
fn closing_on_a_full_disk_says_what_was_not_written() {
    let disk = SimDisk::new(0);
    let opened = open(&disk).unwrap();
    disk.limit_bytes(Some(disk.used_bytes()));
    let (witness, closed) = append_each(opened, &records(12, 900));
    assert!(matches!(closed, Err(SyncError::Full { .. })));
    assert!(found(&disk.crash()).len() >= witness.acked().len());
}

#[test]
fn a_failed_sync_poisons_the_journal_and_acks_nothing_of_its_group() {
    let disk = SimDisk::new(0);
    let opened = open(&disk).unwrap();
    disk.fail_sync(disk.syncs() + 3);
    let (witness, closed) = append_each(opened, &records(6, 100));
    assert!(matches!(closed, Err(SyncError::Poisoned { .. })));
    assert_eq!(witness.acked(), [1, 2]);
    assert!(witness.poison.lock().unwrap().is_some());
    // The bytes that the failed sync left in memory alone are written again before they are trusted.
    let restarted = open(&disk).unwrap();
    assert_eq!(all(&restarted.journal).len(), 3);
    drop(restarted);
    assert_eq!(found(&disk.crash()).len(), 3);
}

#[test]
fn a_sync_that_fails_for_want_of_room_poisons_and_is_never_tried_again() {
    let mut poisoned = 0;
    for failing in 1.. {
        let disk = SimDisk::new(0);
        let opened = open(&disk).unwrap();
        let number = disk.syncs() + failing;
        disk.fail_sync_for_room(number);
        let (witness, closed) = append_each(opened, &records(12, 900));
        if disk.syncs() < number {
            closed.unwrap();
            assert_eq!(witness.acked().len(), 12);
            break;
        }
        assert!(
            matches!(closed, Err(SyncError::Poisoned { .. })),
            "sync {failing}: {closed:?}"
        );
        assert_eq!(disk.syncs(), number, "nothing is synced after it");
        assert!(witness.poison.lock().unwrap().is_some());
        assert!(found(&disk.crash()).len() >= witness.acked().len());
        poisoned += 1;
    }
    // A sync for each group, two for each new segment, one for the closing mark.
    assert!(poisoned > 15, "{poisoned}");
}

#[test]
fn a_group_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::new(0);
    let sent = vec![record(T, 1, 10), record(T, 2, 1 << 20), record(T, 3, 10)];
    append_each(open(&disk).unwrap(), &sent).1.unwrap();
    assert_eq!(found(&disk), sent);
    let sizes: Vec<u64> = open(&disk)
        .unwrap()
        .journal
        .segments()
        .iter()
        .map(|info| info.end.since(info.start))
        .collect();
    assert!(sizes[1] > 1 << 20 && sizes.len() >= 2, "{sizes:?}");
    assert!(Prepared::new(&record(T, 4, 1 << 21)).is_err());
}

#[test]
fn a_marker_comes_behind_the_records_before_it() {
    let disk = SimDisk::new(0);
    let opened = open(&disk).unwrap();
    let witness = Witness::default();
    let syncer = Syncer::start(opened.writer, SyncConfig::default(), witness.clone());
    let syncer = syncer.unwrap();
    let appender = syncer.appender();
    appender
        .append(Prepared::new(&record(T, 1, 10)).unwrap(), 1)
        .unwrap();
    appender.marker(1_000).unwrap();
    drop(appender);
    syncer.close().unwrap();
    let told = witness.told.lock().unwrap().clone();
    assert_eq!(told.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 1_000]);
    assert!(told[0].0 < told[1].0);
    assert!(told[1].0 <= *witness.through.lock().unwrap());
}

fn write_base(disk: &SimDisk, lsn: Lsn, records: Vec<Record>) -> Result<(), super::BaseError> {
    super::write_base(disk, &dir(), lsn, records.into_iter().map(Ok))
}

#[test]
fn segments_leave_only_when_a_durable_base_stands_in_for_them() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(20, 900))
        .1
        .unwrap();
    let journal = open(&disk).unwrap().journal;
    let border = journal.segments()[2].start;
    assert!(journal.drop_before(border).is_err());
    let carried = records(3, 10);
    write_base(&disk, border, carried.clone()).unwrap();
    assert_eq!(journal.drop_before(border).unwrap().len(), 2);
    assert_eq!(journal.start(), border);
    let opened = open(&disk.crash()).unwrap();
    assert_eq!(opened.journal.base(), Some(border));
    assert!(all(&opened.journal).iter().all(|(lsn, _)| *lsn > border));
    let (lsn, base) = super::read_base(&disk, &dir()).unwrap().unwrap();
    let base: Vec<Record> = base.map(|item| item.unwrap()).collect();
    assert_eq!((lsn, base), (border, carried));
}

/// A disk that said it had synced, and had not, takes the end of the journal that a base was made of.
#[test]
fn a_journal_that_ends_before_its_base_has_lost_its_end() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(1, 10))
        .1
        .unwrap();
    let end = open(&disk).unwrap().journal.end();
    write_base(&disk, end.plus(1), records(2, 10)).unwrap();
    let opened = open(&disk).map(|opened| opened.journal.end());
    let known = end.get() + 1;
    assert!(
        matches!(opened, Err(OpenError::LostEnd { end: at, known: base }) if at == end.get() && base == known),
        "{opened:?}"
    );
}

#[test]
fn a_damaged_base_stops_the_start() {
    let disk = SimDisk::new(0);
    append_each(open(&disk).unwrap(), &records(1, 10))
        .1
        .unwrap();
    write_base(&disk, Lsn::new(64), records(2, 10)).unwrap();
    let path = dir().join(format!("base-{:020}.till", 64));
    let bytes = disk.bytes(&path).unwrap();
    for bit in 0..bytes.len() * 8 {
        let flipped = disk.copy();
        flipped.flip_bit(&path, bit);
        assert!(
            matches!(open(&flipped), Err(OpenError::Base(_))),
            "bit {bit}"
        );
    }
    for length in 0..bytes.len() {
        disk.put(&path, &bytes[..length]);
        assert!(
            matches!(open(&disk), Err(OpenError::Base(_))),
            "length {length}"
        );
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Reopen,
    Crash,
    TornCrash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0_usize..3_000, 1..8).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
        2 => (1_u64..12).prop_map(Step::TornCrash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_mix_of_appends_and_crashes_keeps_all_that_was_acked(
        seed in 0_u64..1_000,
        steps in prop::collection::vec(step(), 1..14),
    ) {
        let mut disk = SimDisk::new(seed);
        let mut kept: Vec<Record> = Vec::new();
        for step in steps {
            let (sizes, bad) = match step {
                Step::Append(sizes) => (sizes, None),
                Step::Reopen => (Vec::new(), None),
                Step::Crash => { disk = disk.crash(); continue; }
                Step::TornCrash(sync) => (vec![500, 1_500, 100, 900], Some(sync)),
            };
            if let Some(sync) = bad {
                disk.freeze_at_sync(disk.syncs() + sync);
            }
            let next = u64::try_from(kept.len()).unwrap() + 1;
            let sent: Vec<Record> = (next..).zip(sizes).map(|(seq, n)| record(T, seq, n)).collect();
            let acked = open(&disk).map(|o| append_each(o, &sent).0.acked().len()).unwrap_or(0);
            if bad.is_some() {
                disk = disk.crash();
            }
            let now = found(&disk);
            prop_assert!(now.len() >= kept.len() + acked);
            kept.extend(sent);
            prop_assert_eq!(&now[..], &kept[..now.len()]);
            kept = now;
        }
    }
}
