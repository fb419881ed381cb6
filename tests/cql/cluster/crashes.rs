//! kill -9 of one of three engines under load.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use crate::sums;
use crate::world::{Workload, World, has_acked, ports};

#[test]
fn an_engine_that_is_killed_under_load_is_replaced_and_every_event_counts_once() -> Result<()> {
    let world = World::new("kill")?;
    let (a, b, c) = (world.engine(0)?, world.engine(1)?, world.engine(2)?);
    world.shared_by(&[&a, &b, &c])?;
    let all = [&a, &b, &c];
    let fleet = world.fleet(&all, &all, Workload::of(16, 1))?;
    has_acked(&c, 50.0)?;
    let (where_it_was, gone) = (ports(&c), c.quic.to_string());
    let killed = Instant::now();
    c.kill()?;
    world.taken_from_address(&gone, killed)?;
    // It comes back with a disk that knows nothing, while the devices go on.
    fs::remove_dir_all(world.data(2))?;
    let c = world.engine_again(2, &where_it_was)?;
    world.shared_by(&[&a, &b, &c])?;
    fleet.reconciles()?;
    sums::equal_the_facts(&world)?;
    for engine in [a, b, c] {
        engine.stop()?;
    }
    Ok(())
}
