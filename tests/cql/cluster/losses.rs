//! An engine is killed with events in its journal that nobody committed, and its devices are gone for good.

use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use till_tests::{CqlProxy, Engine, json_of, wait_until};

use crate::sums::{self, Event};
use crate::world::{Workload, World, figure, has_acked, ports};

/// Two engines, of which one was killed with events in its journal that nobody committed, and its devices with it.
struct Loss {
    world: World,
    left: Engine,
    ports: (String, String),
}

// What the engine sends to the store is kept from it for a moment, so that there surely are such events.
fn lose(test: &str, seed: u32) -> Result<Loss> {
    let world = World::new(test)?;
    let way = CqlProxy::start(&world.server, u64::from(seed))?;
    let left = world.engine(0)?;
    let gone = world.engine_by(1, &way.addr(), &[])?;
    world.shared_by(&[&left, &gone])?;
    let both = [&left, &gone];
    let fleet = world.fleet(&both, &both, Workload::of(60, seed))?;
    has_acked(&gone, 50.0)?;
    way.hold();
    let before = journalled(&gone)?;
    wait_until("it journals what it cannot commit", || {
        Ok(journalled(&gone)? > before + 4_096.0)
    })?;
    fleet.kill();
    let (ports, address) = (ports(&gone), gone.quic.to_string());
    let killed = Instant::now();
    gone.kill()?;
    // What was on its way never arrives.
    drop(way);
    world.taken_from_address(&address, killed)?;
    Ok(Loss { world, left, ports })
}

fn journalled(engine: &Engine) -> Result<f64> {
    figure(engine, "tillstream_journal_durable_bytes")
}

/// Every event that a journal holds.
fn events_of_journal(world: &World, number: usize) -> Result<BTreeSet<Event>> {
    let data = world.data(number);
    let data = data.to_str().context("a path")?;
    let words = ["inspect", "journal", "--json", "--limit", "1000000"];
    let (found, output) = json_of("tillstream", &[&words[..], &["--data", data]].concat())?;
    ensure!(output.status.success(), "inspect journal: {found}");
    let mut events = BTreeSet::new();
    let records = found["records"].as_array().context("records")?;
    for record in records.iter().filter(|one| one["kind"] == "batch") {
        let number = |key: &str| record[key].as_i64().with_context(|| key.to_owned());
        let name = record["terminal"].as_str().context("terminal")?;
        let (store, till) = name.split_once('-').context("STORE-TILL")?;
        let terminal = (store.parse::<i64>()? << 32) + till.parse::<i64>()?;
        let epoch = i32::try_from(number("epoch")?)?;
        let first = number("first_seq")?;
        let seqs = first + number("skipped")?..first + number("events")?;
        events.extend(seqs.map(|seq| (terminal, epoch, seq)));
    }
    Ok(events)
}

#[test]
fn what_a_killed_engine_had_journalled_counts_once_after_it_returns_though_its_devices_are_gone()
-> Result<()> {
    let Loss { world, left, ports } = lose("return", 2)?;
    let had = events_of_journal(&world, 1)?;
    let waits = had.difference(&sums::events(&world)?).count();
    println!(
        "{} events in its journal, {waits} of them committed by nobody",
        had.len()
    );
    ensure!(waits > 0, "nothing was left to return with");
    sums::equal_the_facts(&world)?;
    let back = world.engine_again(1, &ports)?;
    wait_until("what its journal has is committed", || {
        Ok(had.is_subset(&sums::events(&world)?))
    })?;
    world.shared_by(&[&left, &back])?;
    sums::equal_the_facts(&world)?;
    let both = [&left, &back];
    world
        .fleet(&both, &both, Workload::of(4, 3))?
        .reconciles()?;
    sums::equal_the_facts(&world)?;
    for engine in [left, back] {
        engine.stop()?;
    }
    Ok(())
}

#[test]
fn sums_equal_the_facts_where_an_engine_its_disk_and_its_devices_are_gone() -> Result<()> {
    let Loss { world, left, ports } = lose("gone", 4)?;
    fs::remove_dir_all(world.data(1))?;
    sums::equal_the_facts(&world)?;
    let new = world.engine_again(1, &ports)?;
    world.shared_by(&[&left, &new])?;
    let both = [&left, &new];
    world
        .fleet(&both, &both, Workload::of(4, 5))?
        .reconciles()?;
    sums::equal_the_facts(&world)?;
    for engine in [left, new] {
        engine.stop()?;
    }
    Ok(())
}
