//! Every place where a run can end, one after another.

use std::sync::Arc;

use super::journal_run::{Ended, JournalRun};
use super::stopping::StoppingDisk;
use crate::disk::SimDisk;

/// What a crash leaves of that which was not synced.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kept {
    /// The sectors that the seed of the disk draws; none with seed 0.
    Some,
    /// The same, and all names: a file system may write those ahead of contents.
    Names,
    /// Everything: the process alone has ended.
    Everything,
}

impl Kept {
    pub(super) fn crash(self, disk: &SimDisk) -> SimDisk {
        match self {
            Self::Some => disk.crash(),
            Self::Names => disk.crash_after_names(),
            Self::Everything => disk.copy(),
        }
    }
}

// Rotation, a clean end, restarts, a base, retention, and a second base in place of the first.
fn a_long_run(journal_run: &mut JournalRun) -> Result<(), Ended> {
    journal_run.open()?;
    for sizes in [
        &[40, 900, 10][..],
        &[700],
        &[1_500, 300],
        &[2_600],
        &[5_000],
    ] {
        journal_run.commit(sizes)?;
    }
    journal_run.close()?;
    journal_run.open()?;
    journal_run.commit(&[600, 20])?;
    journal_run.retain(1)?;
    journal_run.commit(&[1_900, 1_900])?;
    journal_run.commit(&[800])?;
    journal_run.fall();
    journal_run.open()?;
    journal_run.commit(&[3_000])?;
    journal_run.retain(2)?;
    journal_run.commit(&[10, 10, 10])?;
    journal_run.close()
}

// What a start and the first work after it do.
fn a_short_run(journal_run: &mut JournalRun) -> Result<(), Ended> {
    journal_run.open()?;
    journal_run.commit(&[300, 20])?;
    journal_run.commit(&[3_700])?;
    journal_run.retain(1)?;
    journal_run.close()
}

#[derive(Debug, Default)]
struct Tried {
    stops: u32,
    second_stops: u32,
}

// Lives, ends after so many operations, is found, and goes on. False when the epoch was over before.
fn stop_after(operations: u64, (kept, seed): (Kept, u64), tried: &mut Tried) -> bool {
    let disk = SimDisk::new(seed);
    let stopping = StoppingDisk::after(&disk, operations);
    let mut journal_run = JournalRun::new(Arc::new(stopping.clone()));
    let ended = a_long_run(&mut journal_run);
    assert_eq!(ended.is_err(), stopping.has_stopped());
    let told = format!("{kept:?} ({seed}) after {operations} operations");
    journal_run.fall();
    let left = kept.crash(&disk);
    let found = journal_run.check(&left.copy(), &told);
    tried.stops += 1;
    for second in 0.. {
        let again = left.copy();
        let stopping = StoppingDisk::after(&again, second);
        let mut next = JournalRun::resumed(Arc::new(stopping.clone()), found.clone());
        let _ended = a_short_run(&mut next);
        next.fall();
        next.check(&kept.crash(&again), &format!("{told}, then after {second}"));
        tried.second_stops += 1;
        if !stopping.has_stopped() {
            break;
        }
    }
    stopping.has_stopped()
}

#[test]
fn a_stop_between_any_two_operations_loses_nothing_that_was_acked() {
    let mut tried = Tried::default();
    let whole = [Kept::Some, Kept::Names, Kept::Everything].map(|kept| (kept, 0));
    let parts = (1..=4).map(|seed| (Kept::Some, seed));
    for kept in whole.into_iter().chain(parts) {
        let stops = (0..).take_while(|operations| stop_after(*operations, kept, &mut tried));
        let stops = stops.count();
        assert!(stops > 80, "{stops}");
    }
    println!(
        "{} crashes of a run, {} of the start after it and its first work",
        tried.stops, tried.second_stops
    );
}
