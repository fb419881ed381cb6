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
