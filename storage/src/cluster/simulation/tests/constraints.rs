//! What operators constrain comes to pass, and costs nobody his slots.

use super::super::rng::Rng;
use super::super::world::{Event, SlotWorld};
use super::super::{MS, SECOND, quiet};
use super::size;
use crate::cluster::Constraint;

fn started(seed: u64) -> SlotWorld {
    let (nodes, slots) = size(seed);
    let mut world = quiet(seed, nodes, slots);
    for node in 0..nodes {
        world.at(0, Event::Start(node));
    }
    world
}

fn epochs(world: &SlotWorld) -> Vec<u64> {
    world.store.slots.iter().map(|row| row.epoch).collect()
}

#[test]
fn constraints_are_met_without_a_long_pause_and_then_nothing_moves_any_more() {
    let (mut longest, mut latest) = (0, 0);
    for seed in 0..24 {
        let mut world = started(seed);
        world.run(20 * SECOND);
        world.pauses.clear();
        let mut rng = Rng::new(seed ^ 0x3157);
        for _ in 0..3 {
            let count = 1 + rng.below(usize::try_from(world.plan.slots).unwrap());
            world.constraint(&mut rng, count, SECOND);
        }
        let mut met_at = None;
        for tenth in 1..=200 {
            world.run(20 * SECOND + tenth * 100 * MS);
            let since = met_at.unwrap_or(tenth * 100 * MS);
            met_at = world.misdealt().is_none().then_some(since);
        }
        assert_eq!(world.oracle.error, None, "seed {seed}");
        let Some(since) = met_at else {
            panic!("seed {seed}: {:?}", world.misdealt());
        };
        latest = latest.max(since);
        let pause = world.pauses.iter().max().copied().unwrap_or(0);
        assert!(pause < SECOND, "seed {seed}: a slot paused for {pause} us");
        longest = longest.max(pause);
        let before = epochs(&world);
        world.run(52 * SECOND);
        assert_eq!(epochs(&world), before, "seed {seed}: a slot moved again");
        assert_eq!(world.misdealt(), None, "seed {seed}");
    }
    println!("met after at most {latest} us, longest pause of a slot {longest} us");
}

#[test]
fn slots_of_a_dead_node_are_served_in_time_whatever_the_constraints() {
    let mut longest = 0;
    for seed in 0..24 {
        let mut world = started(seed);
        let mut rng = Rng::new(seed ^ 0x3157);
        let count = 1 + rng.below(usize::try_from(world.plan.slots).unwrap());
        world.constraint(&mut rng, count, SECOND);
        // Some of these are still to be met when it happens.
        let crash = 20 * SECOND + seed * 37 * MS;
        for (slot, early) in (0..8).zip([5, 20, 80, 320, 640, 1_280, 2_560, 4_000]) {
            let address = Some(rng.below(world.plan.nodes).to_string());
            let slot = slot % world.plan.slots;
            world.at(
                crash - early * MS,
                Event::Constraint(Constraint::Place { slot, address }),
            );
        }
        world.at(crash, Event::Crash(0, None));
        world.run(crash - 8 * SECOND);
        world.pauses.clear();
        world.run(crash + world.plan.lease + 2 * SECOND);
        assert_eq!(world.oracle.error, None, "seed {seed}");
        let closed: Vec<_> = world.closed.iter().collect();
        assert!(
            closed.is_empty(),
            "seed {seed}: not served again: {closed:?}"
        );
        longest = longest.max(world.pauses.iter().max().copied().unwrap_or(0));
        world.run(crash + 16 * SECOND);
        assert_eq!(world.misdealt(), None, "seed {seed}");
    }
    println!("longest pause of a slot: {longest} us");
}

#[test]
fn a_cordoned_node_gives_everything_up_and_has_its_share_again_afterwards() {
    let mut world = quiet(1, 3, 16);
    for node in 0..3 {
        world.at(0, Event::Start(node));
    }
    world.run(15 * SECOND);
    let drain = |address: usize, is_cordoned| {
        let address = address.to_string();
        Event::Constraint(Constraint::Drain {
            address,
            is_cordoned,
        })
    };
    world.at(15 * SECOND, drain(0, true));
    world.run(25 * SECOND);
    assert_eq!(super::shares(&world)[0], 0);
    assert_eq!(world.misdealt(), None);
    // When nobody else is left, it serves all the same.
    world.at(25 * SECOND, drain(1, true));
    world.at(25 * SECOND, Event::Crash(2, None));
    world.run(40 * SECOND);
    assert_eq!(super::shares(&world), [8, 8]);
    world.at(40 * SECOND, drain(0, false));
    world.run(55 * SECOND);
    assert_eq!(super::shares(&world), [16, 0]);
    assert_eq!(world.oracle.error, None);
}
