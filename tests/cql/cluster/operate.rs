//! What operators do to engines that share a store.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::{command, complaint, json_of, wait_until};

use crate::world::World;

/// Slots by the address of their engine.
fn shares(world: &World) -> Result<BTreeMap<String, usize>> {
    let mut shares = BTreeMap::new();
    for address in world.owners()?.into_values() {
        *shares.entry(address).or_default() += 1;
    }
    Ok(shares)
}

fn shards(world: &World, words: &[&str]) -> Result<Value> {
    let (server, keyspace) = (&world.server, &world.keyspace);
    let place = ["--json", "--scylla", server, "--keyspace", keyspace];
    let (answer, output) = json_of("tillstream", &[&["shards"], words, &place].concat())?;
    ensure!(output.status.success(), "shards {words:?}: {answer}");
    Ok(answer)
}

fn refused(world: &World, words: &[&str]) -> Result<String> {
    let (server, keyspace) = (&world.server, &world.keyspace);
    let place = ["--scylla", server, "--keyspace", keyspace];
    let output = Command::new(command("tillstream")?)
        .args([&["shards"], words, &place].concat())
        .output()?;
    ensure!(!output.status.success(), "shards {words:?} succeeded");
    Ok(complaint(&output))
}

#[test]
fn an_engine_is_cordoned_and_filled_and_a_slot_moved() -> Result<()> {
    let world = World::new("operate")?;
    let mut engines = vec![world.engine(0)?, world.engine(1)?];
    let [first, second] = [0, 1].map(|at: usize| engines[at].quic.to_string());
    let is_even = || {
        let shares = shares(&world)?;
        Ok([&first, &second].map(|at| shares.get(at).copied()) == [Some(8), Some(8)])
    };
    wait_until("both have their share", is_even)?;

    let cordoned = shards(&world, &["drain", &first])?;
    assert_eq!(
        (&cordoned["done"], &cordoned["slots_left"]),
        (&true.into(), &0.into())
    );
    wait_until("the other one has all of them", || {
        Ok(shares(&world)?.get(&second) == Some(&16))
    })?;
    let last = refused(&world, &["drain", &second])?;
    ensure!(last.contains("no other engine is alive"), "{last}");
    let there = refused(&world, &["move", "--slot", "3", "--to", &first])?;
    ensure!(there.contains("is cordoned"), "{there}");
    shards(&world, &["drain", &first, "--undo"])?;
    wait_until("both have their share again", is_even)?;

    let rows = shards(&world, &["list"])?;
    let rows = rows["rows"].as_array().context("rows")?;
    let slot = rows
        .iter()
        .find(|row| row["address"] == first)
        .context("a slot")?["slot"]
        .to_string();
    let moved = shards(&world, &["move", "--slot", &slot, "--to", &second])?;
    assert_eq!(
        (&moved["done"], moved["address"].as_str()),
        (&true.into(), Some(&*second))
    );
    wait_until("both have as much as before", is_even)?;
    for (words, cause) in [
        (&["move", "--slot", "16", "--to", &second][..], "no slot 16"),
        (&["move", "--slot", "1", "--to", "10.9.9.9:1"], "10.9.9.9:1"),
    ] {
        let said = refused(&world, words)?;
        ensure!(said.contains(cause), "{words:?}: {said}");
    }
    engines.remove(0).kill()?;
    let dead = refused(&world, &["move", "--slot", "1", "--to", &first])?;
    ensure!(dead.contains("is dead"), "{dead}");
    wait_until("the one that is left has all", || {
        Ok(shares(&world)?.get(&second) == Some(&16))
    })?;
    // What the dead one's disk has is all committed, or is now; either way nothing waits for anybody.
    let (data, admin) = (world.data(0), engines[0].admin.clone());
    let data = data.to_str().context("path")?;
    let (done, output) = json_of(
        "tillstream",
        &["submit", "--json", "--journal", data, "--addr", &admin],
    )?;
    ensure!(output.status.success(), "submit: {done}");
    assert_eq!(done["waiting"], 0);
    for engine in engines {
        engine.stop()?;
    }
    Ok(())
}
