mod constraints;

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::world::{Event, SlotWorld};
use super::{MS, Mistake, SECOND, judge, quiet};

const SEEDS: u64 = 1_900;
const SEEDS_TO_FIND: u64 = 400;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// What all seeds together came to.
#[derive(Default)]
struct Sum {
    seen: BTreeSet<&'static str>,
    flushes: u64,
    steps: u64,
    broken: Vec<String>,
}

impl Sum {
    fn add(&mut self, seed: u64, world: Result<SlotWorld, String>) {
        match world {
            Ok(world) => {
                let flushes = world.store.slots.iter().map(|row| row.flush);
                self.flushes += flushes.sum::<u64>();
                self.steps += world.steps;
                self.seen.extend(world.oracle.seen);
            }
            Err(error) => self
                .broken
                .push(format!("TILL_SEED={seed} replays: {error}")),
        }
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("TILL_SEED") {
        let world = judge(seed, None);
        return assert_eq!(world.err(), None, "seed {seed}");
    }
    let seeds = number("TILL_SEEDS").unwrap_or(SEEDS);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let sum = &sum;
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(2) {
                    let world = judge(seed, None);
                    sum.lock().unwrap().add(seed, world);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    let (flushes, steps) = (sum.flushes, sum.steps);
    println!(
        "{seeds} seeds, {flushes} flushes, {steps} steps: {:?}",
        sum.seen
    );
    let first = &sum.broken[..sum.broken.len().min(8)];
    assert!(first.is_empty(), "{} seeds: {first:#?}", sum.broken.len());
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
        assert!(sum.seen.contains(sight), "no seed had: {sight}");
    }
}

#[test]
fn a_seed_gives_the_same_world_again() {
    for seed in 0..20 {
        let [first, second] = [0, 1].map(|_| {
            let world = judge(seed, None).map_err(|error| format!("seed {seed}: {error}"));
            world.map(|it| (it.steps, it.now, it.store.slots, it.pauses, it.oracle.seen))
        });
        assert!(first.is_ok(), "{first:?}");
        assert_eq!(first, second);
    }
}

#[test]
fn every_planted_mistake_is_found() {
    let mut missed = Vec::new();
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
        Mistake::NotifyBeforeCommit,
        Mistake::ForgetBacklog,
    ] {
        let found =
            (0..SEEDS_TO_FIND).find_map(|seed| Some((seed, judge(seed, Some(mistake)).err()?)));
        match found {
            Some((seed, error)) => println!("{mistake:?}: seed {seed} {error}"),
            None => missed.push(mistake),
        }
    }
    assert_eq!(missed, [], "not found by {SEEDS_TO_FIND} seeds");
}

fn shares(world: &SlotWorld) -> Vec<usize> {
    let processes = world.nodes.iter().filter_map(|node| node.process.as_ref());
    processes
        .map(|process| {
            process
                .hosts
                .values()
                .filter(|host| host.writer.is_open())
                .count()
        })
        .collect()
}

/// Nodes and slots of worlds whose timing is measured: with and without a remainder, also a large one.
const SIZES: [(usize, u32); 6] = [(2, 16), (3, 16), (4, 64), (4, 63), (5, 256), (6, 256)];

fn size(seed: u64) -> (usize, u32) {
    SIZES[usize::try_from(seed).unwrap() % SIZES.len()]
}

fn is_fair(world: &SlotWorld, slots: u32) -> bool {
    let shares = shares(world);
    let slots = usize::try_from(slots).unwrap();
    let fair = slots / shares.len()..=slots.div_ceil(shares.len());
    shares.iter().sum::<usize>() == slots && shares.iter().all(|share| fair.contains(share))
}

#[test]
fn slots_of_a_dead_node_are_served_within_a_lease_and_two_seconds() {
    let mut longest = 0;
    for seed in 0..48 {
        let (nodes, slots) = size(seed);
        let mut world = quiet(seed, nodes, slots);
        for node in 0..nodes {
            world.at(0, Event::Start(node));
        }
        let crash = 20 * SECOND + seed * 37 * MS;
        world.at(crash, Event::Crash(0, None));
        world.run(crash);
        world.pauses.clear();
        world.run(crash + world.plan.lease + 2 * SECOND);
        assert_eq!(world.oracle.error, None, "seed {seed}");
        let closed: Vec<_> = world.closed.iter().collect();
        assert!(
            closed.is_empty(),
            "seed {seed}: not served again: {closed:?}"
        );
        let least = usize::try_from(slots).unwrap() / nodes;
        assert!(world.pauses.len() >= least, "seed {seed}");
        assert_eq!(
            shares(&world).iter().sum::<usize>(),
            usize::try_from(slots).unwrap()
        );
        longest = longest.max(world.pauses.iter().max().copied().unwrap());
    }
    println!("longest takeover after a crash: {longest} us");
}

#[test]
fn nodes_that_join_have_their_shares_in_ten_seconds_and_no_slot_pauses_for_one() {
    let (mut longest, mut latest) = (0, 0);
    for seed in 0..48 {
        let (nodes, slots) = size(seed);
        // One node that joins all others, or all others that join one.
        let before = if seed % 4 < 3 { 1..nodes } else { 1..2 };
        let mut world = quiet(seed, nodes, slots);
        let join = 20 * SECOND + seed * 37 * MS;
        for node in 0..nodes {
            let start = if before.contains(&node) { 0 } else { join };
            world.at(start, Event::Start(node));
        }
        world.run(join);
        world.pauses.clear();
        let mut fair_at = None;
        for tenth in 1..=100 {
            world.run(join + tenth * 100 * MS);
            let since = fair_at.unwrap_or(tenth * 100 * MS);
            fair_at = is_fair(&world, slots).then_some(since);
        }
        assert_eq!(world.oracle.error, None, "seed {seed}");
        let Some(since) = fair_at else {
            panic!("seed {seed}: {:?} of {slots}", shares(&world));
        };
        latest = latest.max(since);
        let pause = world.pauses.iter().max().copied().unwrap();
        assert!(pause < SECOND, "seed {seed}: a slot paused for {pause} us");
        longest = longest.max(pause);
    }
    println!("fair after at most {latest} us, longest pause of a slot {longest} us");
}

#[test]
fn a_leaving_node_gives_everything_up() {
    let mut world = quiet(1, 2, 16);
    world.at(0, Event::Start(0));
    world.at(0, Event::Start(1));
    world.run(15 * SECOND);
    assert_eq!(shares(&world), [8, 8]);
    let now = world.nodes[0].clock(world.now);
    world.nodes[0].process.as_mut().unwrap().member.leave(now);
    world.run(25 * SECOND);
    assert_eq!(world.oracle.error, None);
    assert_eq!(shares(&world), [0, 16]);
}
