//! SIGSTOP of an engine for longer than its lease.

use std::time::Instant;

use anyhow::{Result, ensure};
use till_tests::{CqlProxy, wait_until};

use crate::snapshot::Snapshot;
use crate::sums;
use crate::world::{Workload, World, has_acked};

/// The heartbeats of all engines, by address.
fn heartbeat(world: &World, address: &str) -> Result<i64> {
    let text = format!("SELECT address, heartbeat FROM {}.nodes", world.keyspace);
    let nodes = world.cql.rows::<(String, i64)>(&text)?;
    let of_it = nodes.into_iter().filter(|(one, _)| one == address);
    Ok(of_it.map(|(_, heartbeat)| heartbeat).max().unwrap_or(0))
}

#[test]
fn an_engine_that_wakes_up_after_its_lease_changes_no_row_and_no_checkpoint() -> Result<()> {
    let world = World::new("freeze")?;
    let way = CqlProxy::start(&world.server, 6)?;
    let (a, b) = (world.engine(0)?, world.engine(1)?);
    let c = world.engine_by(2, &way.addr(), &[])?;
    let all = [&a, &b, &c];
    world.shared_by(&all)?;
    // A frozen engine answers no question of the oracle.
    let fleet = world.fleet(&all, &[&a, &b], Workload::of(14, 6))?;
    has_acked(&c, 50.0)?;
    // Its commits and rows are on their way from here on, and arrive when its slots are long somebody else's.
    way.hold();
    std::thread::sleep(std::time::Duration::from_millis(600));
    let frozen = Instant::now();
    c.freeze()?;
    world.taken_from(&c, frozen)?;
    fleet.reconciles()?;
    sums::equal_the_facts(&world)?;

    let before = Snapshot::take(&world)?;
    let address = c.quic.to_string();
    let last_heartbeat = heartbeat(&world, &address)?;
    way.release();
    c.thaw()?;
    wait_until("it is seen again", || {
        Ok(heartbeat(&world, &address)? > last_heartbeat + 5)
    })?;
    world.shared_by(&all)?;
    let late = way.tally().held;
    println!(
        "{late} writes of it arrived after its slots were taken; {} rows",
        before.rows()
    );
    ensure!(late > 0, "nothing was on its way");
    before.must_equal(&Snapshot::take(&world)?)?;

    world.fleet(&all, &all, Workload::of(4, 7))?.reconciles()?;
    sums::equal_the_facts(&world)?;
    for engine in [a, b, c] {
        engine.stop()?;
    }
    Ok(())
}
