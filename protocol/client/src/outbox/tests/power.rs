//! What a power cut and a stubborn file system leave: no gap, nothing that comes back, nothing that is skipped.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::Ordering;

use super::*;

/// The files of the only generation, in order.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let last = last_file(folder);
    let mut files: Vec<_> = fs::read_dir(last.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// What chance keeps of what was never synced.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// The first half of the bytes of each file, or none.
    keeps_half: bool,
    /// Every first, and every second change of a name.
    keeps_names: [bool; 2],
}

impl Luck {
    fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self {
            keeps_half: bits & 1 != 0,
            keeps_names: [bits & 2 != 0, bits & 4 != 0],
        })
    }
}

fn cut_power(folder: &Path, files: &Files, luck: Luck) {
    let mut names = files.names.as_ref().unwrap().lock().unwrap();
    names.forget(|change| !luck.keeps_names[change % 2]);
    if folder.exists() {
        cut_bytes(folder, files, luck.keeps_half);
    }
}

/// Takes away what was never synced: all of it, or the second half.
fn cut_bytes(folder: &Path, files: &Files, keep_half: bool) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            cut_bytes(&path, files, keep_half);
            continue;
        }
        let meta = fs::metadata(&path).unwrap();
        let synced = files.synced.lock().unwrap().get(&meta.ino()).copied();
        let safe = synced.unwrap_or(0).min(meta.len());
        let kept = match keep_half {
            true => safe.midpoint(meta.len()),
            false => safe,
        };
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(kept).unwrap();
    }
}

/// Fills, syncs and commits over many files. Gives the last event that it was told to be durable, and the last one that
/// it has begun to commit.
fn a_busy_hour(folder: &Path, files: &Files) -> (u64, u64) {
    let (mut durable, mut committed) = (0, 0);
    let mut hour = || -> Result<(), OutboxError> {
        let mut outbox = DiskOutbox::open_with(files.clone(), folder, TERMINAL, config())?;
        for round in 0..4 {
            for _ in 0..3 {
                let first = outbox.standing().last + 1;
                outbox.append(frame_of_moves(first, 2, first), 2)?;
            }
            if let Some(job) = outbox.sync_job()? {
                outbox.synced(job.run())?;
            }
            durable = outbox.standing().durable;
            committed = durable - 3 * (round % 2);
            outbox.commit(committed)?;
        }
        Ok(())
    };
    hour().ok();
    (durable, committed)
}

fn assert_whole(folder: &Path, durable: u64, committed: u64, what: &str) {
    let mut outbox = open(folder);
    let standing = outbox.standing();
    assert!(standing.last >= durable, "{what}: {standing:?}, {durable}");
    assert!(
        standing.committed <= committed,
        "{what}: {standing:?}, {committed}"
    );
    for stored in contents(&mut outbox) {
        assert_eq!(
            stored.bytes,
            frame_of_moves(stored.first, 2, stored.first),
            "{what}"
        );
    }
    fill(&mut outbox, 1);
    assert_eq!(outbox.standing().last, standing.last + 2, "{what}");
}

/// Steps that something takes when nothing fails.
fn steps_of(act: impl FnOnce(&Path, &Files)) -> i64 {
    let many = 1_000_000;
    let files = crashing(many);
    let dir = tempfile::tempdir().unwrap();
    act(&dir.path().join("till"), &files);
    many - files.steps.unwrap().load(Ordering::Relaxed)
}

#[test]
fn a_power_cut_between_any_two_steps_leaves_no_gap() {
    let steps = steps_of(|folder, files| assert_eq!(a_busy_hour(folder, files), (24, 21)));
    assert!(steps > 40, "the hour has only {steps} steps");
    for (steps, luck) in (0..=steps).flat_map(|steps| Luck::all().map(move |luck| (steps, luck))) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("till");
        let files = crashing(steps);
        let (durable, committed) = a_busy_hour(&folder, &files);
        cut_power(&folder, &files, luck);
        assert_whole(
            &folder,
            durable,
            committed,
            &format!("step {steps}, {luck:?}"),
        );
    }
}

#[test]
fn a_power_cut_leaves_one_of_two_epochs_and_all_of_it() {
    let steps = steps_of(|folder, files| assert_eq!(a_day(folder, files), (12, Some(true))));
    for (steps, luck) in (0..=steps).flat_map(|steps| Luck::all().map(move |luck| (steps, luck))) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("till");
        let files = crashing(steps);
        let day = a_day(&folder, &files);
        cut_power(&folder, &files, luck);
        assert_day(&folder, day, &format!("step {steps}, {luck:?}"));
    }
}

/// A crash leaves names that the disk does not have; whoever goes on from them has to see to it that it does.
#[test]
fn a_power_cut_after_a_crash_between_any_two_steps_takes_nothing_that_was_durable() {
    let steps = steps_of(|folder, files| {
        a_day(folder, files);
    });
    for (steps, luck) in (0..=steps).flat_map(|steps| Luck::all().map(move |luck| (steps, luck))) {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("outboxes").join("till");
        let crashed = crashing(steps);
        a_day(&folder, &crashed);
        let files = Files {
            steps: None,
            ..crashed
        };
        let mut outbox = DiskOutbox::open_with(files.clone(), &folder, TERMINAL, config()).unwrap();
        fill(&mut outbox, 1);
        sync(&mut outbox);
        let before = outbox.standing();
        drop(outbox);
        cut_power(&folder, &files, luck);
        let after = open(&folder).standing();
        assert_eq!(
            (after.epoch, after.last),
            (before.epoch, before.durable),
            "step {steps}, {luck:?}"
        );
    }
}

#[test]
fn a_file_that_can_not_be_deleted_stays_until_it_can_and_disturbs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::default();
    let mut outbox = DiskOutbox::open_with(files.clone(), dir.path(), TERMINAL, config()).unwrap();
    fill(&mut outbox, 20);
    sync(&mut outbox);
    let before = files_of(dir.path()).len();
    assert!(before > 4, "{before} files");
    files.keeps_files.store(true, Ordering::Relaxed);
    outbox.commit(30).unwrap();
    assert_eq!(files_of(dir.path()).len(), before);
    assert_eq!(outbox.standing().committed, 30);
    assert_eq!(contents(&mut outbox).len(), 5);
    for stored in contents(&mut outbox) {
        assert_eq!(stored.bytes, frame_of_moves(stored.first, 2, stored.first));
    }
    files.keeps_files.store(false, Ordering::Relaxed);
    outbox.commit(32).unwrap();
    assert!(files_of(dir.path()).len() < before);
    drop(outbox);
    assert_whole(dir.path(), 40, 32, "afterwards");
}

#[test]
fn what_an_interrupted_deletion_left_before_a_gap_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(dir.path());
    fill(&mut outbox, 20);
    sync(&mut outbox);
    let before = files_of(dir.path());
    let leftover = (before[0].clone(), fs::read(&before[0]).unwrap());
    outbox.commit(40).unwrap();
    drop(outbox);
    assert!(!leftover.0.exists());
    fs::write(&leftover.0, &leftover.1).unwrap();
    let outbox = open(dir.path());
    assert_eq!(
        (outbox.standing().last, outbox.standing().committed),
        (40, 40)
    );
    assert!(!leftover.0.exists());
}

#[test]
fn a_gap_among_what_is_not_committed_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut outbox = open(dir.path());
    fill(&mut outbox, 20);
    sync(&mut outbox);
    outbox.commit(2).unwrap();
    drop(outbox);
    let files = files_of(dir.path());
    for missing in [0, files.len() / 2] {
        let bytes = fs::read(&files[missing]).unwrap();
        fs::remove_file(&files[missing]).unwrap();
        let opened = DiskOutbox::open_with(Files::default(), dir.path(), TERMINAL, config());
        assert!(
            matches!(opened, Err(OutboxError::Damaged { .. })),
            "{opened:?}"
        );
        fs::write(&files[missing], bytes).unwrap();
    }
    assert_eq!(open(dir.path()).standing().last, 40);
}
