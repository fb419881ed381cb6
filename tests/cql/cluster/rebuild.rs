//! A chain is rebuilt from its log.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::Value;
use till_tests::{command, complaint, json_of};

use crate::snapshot::Snapshot;
use crate::sums;
use crate::world::{Workload, World};

fn rebuild(world: &World) -> Result<Value> {
    let (server, keyspace) = (&world.server, &world.keyspace);
    let words = [
        "rebuild",
        "--json",
        "--scylla",
        server,
        "--keyspace",
        keyspace,
    ];
    let (answer, output) = json_of("tillstream", &words)?;
    ensure!(output.status.success(), "rebuild: {answer}");
    Ok(answer)
}

fn refused(world: &World) -> Result<String> {
    let (server, keyspace) = (&world.server, &world.keyspace);
    let output = Command::new(command("tillstream")?)
        .args(["rebuild", "--scylla", server, "--keyspace", keyspace])
        .output()?;
    ensure!(!output.status.success(), "a rebuild beside an engine");
    Ok(complaint(&output))
}

#[test]
fn a_chain_is_rebuilt_from_its_log_and_goes_on() -> Result<()> {
    let world = World::new("rebuild")?;
    let k = &world.keyspace;
    let engines = [world.engine(0)?, world.engine(1)?];
    let both = [&engines[0], &engines[1]];
    world.shared_by(&both)?;
    let fleet = world.fleet(&both, &both, Workload::of(6, 71))?;
    fleet.reconciles()?;
    let told = refused(&world)?;
    ensure!(
        told.contains("2 engines of this chain run") && told.contains(&both[0].quic.to_string()),
        "{told}"
    );
    for engine in engines {
        engine.stop()?;
    }
    let before = Snapshot::take(&world)?;

    // What a hand has done to the tables, with times of its own.
    for harm in [
        format!("TRUNCATE {k}.rollups"),
        format!("TRUNCATE {k}.receipt_index"),
        format!(
            "INSERT INTO {k}.levels (store, bucket, sku, quantity_e5) VALUES (1, 0, 0x00000000000000ff, 5)"
        ),
        format!(
            "INSERT INTO {k}.lines (store, hour, quarter, at_us, terminal, epoch, seq, line) VALUES (1, 1, 0, 1, 1, 1, 1, 1)"
        ),
    ] {
        world.cql.run(&harm)?;
    }
    ensure!(before.same_rows(&Snapshot::take(&world)?).is_err());
    let told = rebuild(&world)?;
    let after = Snapshot::take(&world)?;
    before.same_rows(&after)?;
    println!("{told}: {} rows as before", after.rows());
    ensure!(
        told["complete"] == true && told["unapplied"] == serde_json::json!([]),
        "{told}"
    );

    let engine = world.engine(0)?;
    world.shared_by(&[&engine])?;
    let fleet = world.fleet(&[&engine], &[&engine], Workload::of(4, 72))?;
    fleet.reconciles()?;
    engine.stop()?;
    sums::equal_the_facts(&world)
}
