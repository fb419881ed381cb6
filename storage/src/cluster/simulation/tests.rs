use std::collections::BTreeSet;
use std::sync::Mutex;

use super::{Mistake, judge};

const SEEDS: u64 = 2_000;
const SEEDS_TO_FIND: u64 = 400;

fn one_seed() -> Option<u64> {
    std::env::var("TILL_SEED").ok()?.parse().ok()
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = one_seed() {
        let world = judge(seed, None);
        return assert_eq!(world.err(), None, "seed {seed}");
    }
    let seen = Mutex::new((BTreeSet::new(), 0, 0_u64));
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let seen = &seen;
            scope.spawn(move || {
                for seed in (thread..SEEDS).step_by(2) {
                    let world = judge(seed, None);
                    let world = world.unwrap_or_else(|error| {
                        panic!("TILL_SEED={seed} replays this: {error}");
                    });
                    let mut seen = seen.lock().unwrap();
                    seen.0.extend(world.oracle.seen);
                    seen.1 += world.store.slots.iter().map(|row| row.flush).sum::<u64>();
                    seen.2 += world.steps;
                }
            });
        }
    });
    let (seen, flushes, steps) = seen.into_inner().unwrap();
    println!("{SEEDS} seeds, {flushes} flushes, {steps} steps: {seen:?}");
    for sight in [
        "crashed",
        "paused",
        "suspended",
        "resumed",
        "unknown",
        "fenced",
        "lost a race",
        "released",
    ] {
        assert!(seen.contains(sight), "no seed had: {sight}");
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 0..20 {
        let [first, second] =
            [0, 1].map(|_| judge(seed, None).map(|world| (world.steps, world.store.slots)));
        assert_eq!(first, second);
    }
}

#[test]
fn every_planted_mistake_is_found() {
    for mistake in [
        Mistake::CommitWithoutEpoch,
        Mistake::AcquireWithoutEpoch,
        Mistake::UnknownIsSuccess,
        Mistake::RowsBeforeCommit,
        Mistake::NoRestore,
        Mistake::StampByClock,
        Mistake::CommitBeforeRows,
        Mistake::WallClockLease,
        Mistake::ServeSuspended,
        Mistake::DeleteLogEarly,
        Mistake::TellBeforeCommit,
        Mistake::ForgetBacklog,
    ] {
        let found =
            (0..SEEDS_TO_FIND).find_map(|seed| Some((seed, judge(seed, Some(mistake)).err()?)));
        match found {
            Some((seed, error)) => println!("{mistake:?}: seed {seed} {error}"),
            None => panic!("{mistake:?} was not found by {SEEDS_TO_FIND} seeds"),
        }
    }
}
