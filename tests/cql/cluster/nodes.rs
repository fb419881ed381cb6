//! A store of three nodes that keeps three copies: one of them is lost under load.

use anyhow::{Result, ensure};
use serde_json::Value;
use till_tests::Engine;

use crate::cql::Nodes;
use crate::sums;
use crate::world::{Workload, World, has_acked};

fn answers(world: &World) -> Result<Vec<Value>> {
    [
        &["sales", "--by", "store"][..],
        &["sales", "--by", "sku"],
        &["sales", "--by", "hour"],
        &["stock", "--store", "3"],
        &["terminal"],
        &["stores"],
    ]
    .iter()
    .map(|words| world.query(words))
    .collect()
}

#[test]
fn a_node_of_the_store_is_killed_under_load_and_comes_back() -> Result<()> {
    let mut nodes = Nodes::find()?;
    let world = World::new("nodes")?;
    ensure!(
        world.server.split(',').count() == 3,
        "this needs three nodes"
    );
    let engines = (0..2).map(|number| world.engine(number));
    let engines = engines.collect::<Result<Vec<Engine>>>()?;
    let all: Vec<&Engine> = engines.iter().collect();
    world.shared_by(&all)?;
    let fleet = world.fleet(&all, &all, Workload::of(20, 13))?;
    has_acked(&engines[0], 50.0)?;
    nodes.kill(3)?;
    fleet.reconciles()?;
    sums::equal_the_facts(&world)?;
    let told = answers(&world)?;

    nodes.start(3)?;
    ensure!(
        answers(&world)? == told,
        "the node changed answers as it came back"
    );
    world.fleet(&all, &all, Workload::of(6, 14))?.reconciles()?;
    let told = answers(&world)?;

    // Any two of three have everything, also the one that was away.
    nodes.kill(1)?;
    ensure!(
        answers(&world)? == told,
        "answers changed with the loss of another node"
    );
    sums::equal_the_facts(&world)?;
    nodes.start(1)?;
    for engine in engines {
        engine.stop()?;
    }
    Ok(())
}
