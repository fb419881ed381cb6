//! A share of the worlds that `cargo sim` runs, with every test run.

use till_simulation::{Options, run};

fn options(first_seed: u64, seeds: u64) -> Options {
    Options {
        first_seed,
        seeds,
        threads: 2,
        planted: None,
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    let report = run(options(0, 96));
    assert!(
        report.violations.is_empty(),
        "`cargo sim -- --first-seed SEED --seeds 1` replays: {:#?}",
        report.violations
    );
}

// In these worlds an engine starts when all others are done, and has events that no device has any more.
#[test]
fn a_world_waits_for_what_the_last_engine_hands_off() {
    for seed in [410, 1016] {
        assert_eq!(run(options(seed, 1)).violations, Vec::new());
    }
}

// An engine cannot read its journal while it gives a slot up that has frames which are handed off and not decided.
#[test]
fn devices_of_a_slot_that_is_given_up_are_not_told_of_what_its_next_owner_takes_in() {
    assert_eq!(run(options(995, 1)).violations, Vec::new());
}

// A shard of an engine that does not know yet that its slot is gone starts again, from rows of the next owner.
#[test]
fn a_shard_that_starts_again_leaves_the_rows_of_a_next_owner_alone() {
    assert_eq!(run(options(4_740_848_198, 1)).violations, Vec::new());
}

// A device that was put back sells on in the same epoch while the engine with its former events is away. What is handed off of one
// branch never goes on behind the other: a device would take its events before it for known.
#[test]
fn a_handoff_goes_on_behind_no_other_branch_of_its_epoch() {
    for seed in [4_740_848_105, 4_740_849_215] {
        assert_eq!(run(options(seed, 1)).violations, Vec::new());
    }
}

// A device starts again after it was sent away by one engine; the next one has less of its epoch than that has journalled.
#[test]
fn a_device_that_starts_again_keeps_its_epoch_while_an_engine_is_away() {
    assert_eq!(run(options(4_740_848_228, 1)).violations, Vec::new());
}

#[test]
fn a_seed_gives_the_same_world_again() {
    let [first, second] = [0, 1].map(|_| run(options(500, 12)).trace_hash());
    assert_eq!(first, second);
}

#[cfg(feature = "planted")]
#[test]
fn every_planted_mistake_is_found_within_its_budget() {
    let survivors: Vec<&str> = till_simulation::MISTAKES
        .iter()
        .filter(|mistake| {
            let report = run(Options {
                planted: Some(**mistake),
                ..options(0, mistake.budget)
            });
            let first = report.violations.first();
            println!("{}: {first:?} after {} seeds", mistake.name, report.seeds);
            first.is_none()
        })
        .map(|mistake| mistake.name)
        .collect();
    assert!(survivors.is_empty(), "nobody found {survivors:?}");
}
