//! A bad way between engines and the store: requests and answers late, refused, denied, lost, connections cut.

use std::time::Duration;

use anyhow::{Result, ensure};
use till_tests::{CqlProxy, Engine, Faults};

use crate::sums;
use crate::world::{Workload, World, figure, has_acked};

/// Seconds of trade under faults.
const SECONDS: u32 = 20;
/// What happens on the way. A flush is some dozens of requests: a few of them in a hundred make sure that hardly one goes well.
const FAULTS: Faults = Faults {
    late: 15,
    slow: 15,
    late_max: Duration::from_millis(2_500),
    refused: 20,
    denied: 20,
    swallowed: 8,
    cut: 8,
};

// Every kind of harm was done. Conditional writes are few: whether some were harmed is told, and left to chance.
fn were_bad(ways: &[CqlProxy]) -> Result<()> {
    let mut counts = [0; 6];
    for way in ways {
        let tally = way.tally();
        println!("{tally:?}");
        // One to find out what the server is, four to work with.
        ensure!(tally.connections > 4, "the driver went by another way");
        let each = [
            tally.late,
            tally.slow,
            tally.refused,
            tally.denied,
            tally.swallowed,
            tally.cut,
        ];
        counts
            .iter_mut()
            .zip(each)
            .for_each(|(sum, count)| *sum += count);
    }
    ensure!(
        counts.iter().all(|count| *count > 0),
        "the ways were too good"
    );
    Ok(())
}

fn send_over(world: &World, engines: &[&Engine], ways: &[CqlProxy], seed: u32) -> Result<()> {
    world.shared_by(engines)?;
    let fleet = world.fleet(engines, engines, Workload::of(SECONDS, seed))?;
    for engine in engines {
        has_acked(engine, 50.0)?;
    }
    for way in ways {
        way.set(FAULTS);
    }
    std::thread::sleep(Duration::from_secs(u64::from(SECONDS)));
    for way in ways {
        way.set(Faults::default());
    }
    fleet.reconciles()?;
    sums::equal_the_facts(world)?;
    were_bad(ways)
}

#[test]
fn one_engine_with_a_bad_way_to_the_store_counts_every_event_once() -> Result<()> {
    let world = World::new("lossy")?;
    let ways = [CqlProxy::start(&world.server, 8)?];
    let first = world.engine(0)?;
    let second = world.engine_by(1, &ways[0].addr(), &[])?;
    send_over(&world, &[&first, &second], &ways, 8)?;
    for engine in [first, second] {
        engine.stop()?;
    }
    Ok(())
}

#[test]
fn three_engines_with_bad_ways_to_the_store_count_every_event_once() -> Result<()> {
    let world = World::new("lossier")?;
    let ways = [9, 10, 11].map(|seed| CqlProxy::start(&world.server, seed));
    let ways = ways.into_iter().collect::<Result<Vec<_>>>()?;
    let engines = (0..3).map(|at| world.engine_by(at, &ways[at].addr(), &[]));
    let engines = engines.collect::<Result<Vec<_>>>()?;
    let all: Vec<&Engine> = engines.iter().collect();
    send_over(&world, &all, &ways, 9)?;
    for engine in engines {
        engine.stop()?;
    }
    Ok(())
}

/// A store that is well, and far away: shards ask it once for what many tills have said, so that few ways to it let many frames in.
#[test]
fn a_slow_way_to_the_store_lets_a_fleet_in() -> Result<()> {
    let world = World::new("slow")?;
    let way = CqlProxy::start(&world.server, 12)?;
    let engine = world.engine_by(0, &way.addr(), &[])?;
    world.shared_by(&[&engine])?;
    let fleet = world.fleet(&[&engine], &[&engine], Workload::of(SECONDS, 12))?;
    has_acked(&engine, 50.0)?;
    let before = said_and_asked(&engine)?;
    way.set(Faults {
        slow: 1_000,
        late_max: Duration::from_millis(200),
        ..Faults::default()
    });
    std::thread::sleep(Duration::from_secs(u64::from(SECONDS)));
    let (frames, asked) = said_and_asked(&engine)?;
    way.set(Faults::default());
    let (frames, asked) = (frames - before.0, asked - before.1);
    println!(
        "{frames} frames came in {SECONDS} s, shards asked for rows {asked} times; {:?}",
        way.tally()
    );
    fleet.reconciles()?;
    sums::equal_the_facts(&world)?;
    // Two ways for one message each would be twice the frames.
    ensure!(
        asked < frames / 2.0,
        "asked {asked} times for {frames} frames"
    );
    engine.stop()?;
    Ok(())
}

fn said_and_asked(engine: &Engine) -> Result<(f64, f64)> {
    Ok((
        figure(engine, "tillstream_ack_seconds_count")?,
        figure(engine, "tillstream_rows_wait_seconds_count")?,
    ))
}
