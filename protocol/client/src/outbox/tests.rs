use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use till_protocol::id::{StoreId, TillId};

use super::files::Files;
use super::*;

pub(super) mod names;
mod power;
use crate::frame;
use crate::testing::frame_of_moves;

const TERMINAL: u64 = (7 << 32) | 1;

fn config() -> DiskConfig {
    DiskConfig {
        file_bytes: 600,
        ..DiskConfig::default()
    }
}

fn open(folder: &Path) -> DiskOutbox {
    DiskOutbox::open_with(Files::default(), folder, TERMINAL, config()).unwrap()
}

fn sync(outbox: &mut dyn Outbox) {
    if let Some(job) = outbox.sync_job().unwrap() {
        outbox.synced(job.run()).unwrap();
    }
}

/// Appends `frames` frames of two events each.
fn fill(outbox: &mut dyn Outbox, frames: u64) {
    for _ in 0..frames {
        let first = outbox.standing().last + 1;
        outbox.append(frame_of_moves(first, 2, first), 2).unwrap();
    }
}

fn contents(outbox: &mut dyn Outbox) -> Vec<Stored> {
    let standing = outbox.standing();
    let mut all = Vec::new();
    let mut seq = standing.committed + 1;
    while seq <= standing.last {
        let stored = outbox.frame_of(seq).unwrap().unwrap();
        seq = stored.last() + 1;
        all.push(stored);
    }
    all
}

fn both(test: impl Fn(&mut dyn Outbox)) {
    test(&mut MemoryOutbox::new(MemoryConfig::default()));
    let dir = tempfile::tempdir().unwrap();
    test(&mut open(dir.path()));
}

#[test]
fn frames_come_back_as_they_were_given() {
    both(|outbox| {
        fill(outbox, 20);
        for first in (1..=39).step_by(2) {
            let stored = outbox.frame_of(first + 1).unwrap().unwrap();
            assert_eq!((stored.first, stored.count), (first, 2));
            assert_eq!(stored.bytes, frame_of_moves(first, 2, first));
        }
        assert_eq!(outbox.frame_of(41).unwrap(), None);
    });
}

#[test]
fn the_frame_of_the_last_committed_event_stays_for_its_digest() {
    both(|outbox| {
        fill(outbox, 20);
        sync(outbox);
        outbox.commit(24).unwrap();
        assert!(outbox.frame_of(24).unwrap().is_some());
        assert_eq!(contents(outbox).len(), 8);
        outbox.commit(40).unwrap();
        assert!(outbox.frame_of(40).unwrap().is_some());
        assert_eq!(outbox.standing().pending_bytes, 0);
    });
}

#[test]
fn a_frame_that_does_not_follow_is_not_taken() {
    both(|outbox| {
        fill(outbox, 1);
        let error = outbox.append(frame_of_moves(9, 2, 9), 2).unwrap_err();
        assert!(matches!(
            error,
            OutboxError::OutOfOrder {
                first: 9,
                expected: 3
            }
        ));
        assert_eq!(outbox.standing().last, 2);
    });
}

#[test]
fn a_new_epoch_renumbers_from_one_and_cuts_a_frame_in_two() {
    both(|outbox| {
        fill(outbox, 5);
        outbox.begin_epoch(Epoch::FIRST, 4).unwrap();
        let standing = outbox.standing();
        assert_eq!((standing.epoch, standing.last), (Some(Epoch::FIRST), 7));
        assert_eq!((standing.durable, standing.committed), (7, 0));
        let kept = contents(outbox);
        let ranges: Vec<_> = kept
            .iter()
            .map(|stored| (stored.first, stored.count))
            .collect();
        assert_eq!(ranges, [(1, 1), (2, 2), (4, 2), (6, 2)]);
        // The second event of the frame at 3 carried the number 4.
        assert_eq!(
            frame::digest(&kept[0].bytes, 0),
            frame::digest(&frame_of_moves(3, 2, 3), 1)
        );
        assert_eq!(
            frame::digest(&kept[3].bytes, 1),
            frame::digest(&frame_of_moves(9, 2, 9), 1)
        );
    });
}

#[test]
fn a_restart_finds_everything_that_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(dir.path());
    fill(&mut outbox, 20);
    sync(&mut outbox);
    outbox.commit(18).unwrap();
    let (before, all) = (outbox.standing(), contents(&mut outbox));
    drop(outbox);
    let mut outbox = open(dir.path());
    assert_eq!(outbox.standing(), before);
    assert_eq!(contents(&mut outbox), all);
    fill(&mut outbox, 1);
    assert_eq!(outbox.standing().last, 42);
}

/// Version 2 says twelve bytes more than version 1.
#[test]
fn a_file_of_either_version_is_read() {
    for (version, more) in [(1_u32, 0), (2, 12)] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("gen-0000000001");
        fs::create_dir(&folder).unwrap();
        let mut body = version.to_le_bytes().to_vec();
        body.extend(3_u32.to_le_bytes());
        for number in [TERMINAL, 1, 0] {
            body.extend(number.to_le_bytes());
        }
        body.extend(vec![2; more]);
        let mut file = b"TOB1".to_vec();
        for number in [1, u32::try_from(body.len()).unwrap(), 0] {
            file.extend(number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc32c::crc32c(&file), &body);
        file.extend(crc.to_le_bytes());
        file.extend(body);
        fs::write(folder.join("00000000000000000001.out"), file).unwrap();
        let mut outbox = open(dir.path());
        assert_eq!(outbox.standing().epoch, Epoch::new(3).ok());
        fill(&mut outbox, 1);
        drop(outbox);
        assert_eq!(open(dir.path()).standing().last, 2);
    }
}

#[test]
fn only_what_was_synced_may_be_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(dir.path());
    fill(&mut outbox, 2);
    assert_eq!(outbox.standing().durable, 0);
    let job = outbox.sync_job().unwrap().unwrap();
    fill(&mut outbox, 1);
    outbox.synced(job.run()).unwrap();
    assert_eq!(outbox.standing().durable, 4);
    sync(&mut outbox);
    assert_eq!(outbox.standing().durable, 6);
    assert!(outbox.sync_job().unwrap().is_none());
}

#[test]
fn an_outbox_that_failed_does_not_say_that_nothing_is_left_to_sync() {
    let dir = tempfile::tempdir().unwrap();
    let files = crashing(1_000);
    let steps = files.steps.clone().unwrap();
    let mut outbox = DiskOutbox::open_with(files, dir.path(), TERMINAL, config()).unwrap();
    fill(&mut outbox, 1);
    let job = outbox.sync_job().unwrap().unwrap();
    steps.store(0, Ordering::Relaxed);
    outbox.synced(job.run()).unwrap_err();
    let job = outbox.sync_job();
    assert!(matches!(job, Err(OutboxError::Poisoned { .. })), "{job:?}");
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path());
    let second = DiskOutbox::open_with(Files::default(), dir.path(), TERMINAL, config());
    assert!(matches!(second, Err(OutboxError::Locked { .. })));
}

#[test]
fn another_terminal_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let other =
        till_protocol::id::TerminalId::new(StoreId::new(7).unwrap(), TillId::new(2).unwrap());
    let opened = DiskOutbox::open(dir.path(), other, config());
    assert!(matches!(opened, Err(OutboxError::Foreign { .. })));
}

/// The only generation's last file.
fn last_file(folder: &Path) -> PathBuf {
    let generation = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let mut files: Vec<_> = fs::read_dir(generation)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_frames_before_it_stay() {
    let dir = tempfile::tempdir().unwrap();
    let open = |folder: &Path| {
        DiskOutbox::open_with(Files::default(), folder, TERMINAL, DiskConfig::default()).unwrap()
    };
    let mut outbox = open(dir.path());
    fill(&mut outbox, 2);
    let path = last_file(dir.path());
    let kept = fs::read(&path).unwrap().len();
    fill(&mut outbox, 1);
    drop(outbox);
    let bytes = fs::read(&path).unwrap();
    for cut in kept..bytes.len() {
        for garbage in [false, true] {
            let mut torn = bytes[..cut].to_vec();
            if garbage {
                torn.extend(bytes[cut..].iter().map(|byte| !byte));
            }
            fs::write(&path, &torn).unwrap();
            let mut outbox = open(dir.path());
            assert_eq!(
                outbox.standing().last,
                4,
                "cut at {cut} of {} ({garbage}), {kept} kept",
                bytes.len()
            );
            fill(&mut outbox, 1);
            drop(outbox);
            assert_eq!(open(dir.path()).standing().last, 6, "cut at {cut}");
        }
    }
}

#[test]
fn damage_below_what_was_synced_stops_the_start_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(dir.path());
    fill(&mut outbox, 1);
    sync(&mut outbox);
    let path = last_file(dir.path());
    let synced = fs::read(&path).unwrap().len();
    fill(&mut outbox, 1);
    drop(outbox);
    let bytes = fs::read(&path).unwrap();
    for at in 0..synced {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        let opened = DiskOutbox::open_with(Files::default(), dir.path(), TERMINAL, config());
        assert!(
            matches!(opened, Err(OutboxError::Damaged { .. })),
            "byte {at}: {opened:?}"
        );
    }
}

/// A file system that fails for good after so many steps, and forgets names when the power fails.
fn crashing(steps: i64) -> Files {
    Files {
        steps: Some(Arc::new(AtomicI64::new(steps))),
        names: Some(Arc::default()),
        ..Files::default()
    }
}

/// What a device does in a day; stops at the first step that fails. Returns what it may rely on: the last event that it
/// was told to be durable, and whether a new epoch was begun.
fn a_day(folder: &Path, files: &Files) -> (u64, Option<bool>) {
    let (mut durable, mut renewed) = (0, None);
    let mut day = || -> Result<(), OutboxError> {
        let mut outbox = DiskOutbox::open_with(files.clone(), folder, TERMINAL, config())?;
        let round = |outbox: &mut DiskOutbox, durable: &mut u64| {
            for _ in 0..4 {
                let first = outbox.standing().last + 1;
                outbox.append(frame_of_moves(first, 2, first), 2)?;
                if let Some(job) = outbox.sync_job()? {
                    outbox.synced(job.run())?;
                }
                *durable = outbox.standing().durable;
            }
            Ok::<_, OutboxError>(())
        };
        round(&mut outbox, &mut durable)?;
        outbox.commit(4)?;
        // From here on the result may be either life until the call returns.
        renewed = Some(false);
        outbox.begin_epoch(Epoch::FIRST, 5)?;
        renewed = Some(true);
        durable = outbox.standing().durable;
        round(&mut outbox, &mut durable)?;
        outbox.commit(8)?;
        Ok(())
    };
    day().ok();
    (durable, renewed)
}

/// Says where an outbox ends that had such a day. What it holds can be read, and it takes more.
fn assert_day(folder: &Path, (durable, renewed): (u64, Option<bool>), what: &str) -> u64 {
    let mut outbox = open(folder);
    let standing = outbox.standing();
    match (renewed, standing.epoch) {
        (None, None) => assert!(standing.last >= durable, "{what}"),
        (Some(false), None) => assert_eq!(standing.last, 8, "{what}"),
        (Some(false), Some(_)) => assert_eq!(standing.last, 4, "{what}"),
        (Some(true), Some(_)) => assert!(standing.last >= durable, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
    contents(&mut outbox);
    fill(&mut outbox, 1);
    standing.last
}

#[test]
fn a_crash_between_any_two_steps_loses_nothing_that_was_durable() {
    let whole = 400;
    let mut crashes = 0;
    for steps in 0..whole {
        let dir = tempfile::tempdir().unwrap();
        let day = a_day(dir.path(), &crashing(steps));
        if assert_day(dir.path(), day, &format!("step {steps}")) < 12 {
            crashes += 1;
        }
    }
    assert!(crashes > 30, "the day has only {crashes} steps");
}
