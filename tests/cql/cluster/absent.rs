//! The store is away while an engine serves.

use anyhow::{Context as _, Result, ensure};
use till_tests::basket::pad;
use till_tests::{Basket, Engine, Wire, wait_until};

use crate::cql::Nodes;
use crate::sums;
use crate::world::{Workload, World, figure, has_acked};

/// Bytes that may be journalled and not committed: the least that can be set.
const BACKLOG: usize = 4 << 20;
/// When everything happens.
const AT: &str = "2026-03-02T10:00:00Z";

fn durable(engine: &Engine) -> Result<f64> {
    figure(engine, "tillstream_journal_durable_bytes")
}

fn says(engine: &Engine, words: &str) -> Result<bool> {
    let reasons = engine.not_ready()?;
    Ok(reasons.iter().any(|reason| reason.contains(words)))
}

fn not_heard(engine: &Engine) -> Result<()> {
    wait_until("it says that the store does not hear it", || {
        says(engine, "the shared store does not hear this engine")
    })
}

fn ready(engine: &Engine) -> Result<()> {
    wait_until("it is ready", || Ok(engine.not_ready()?.is_empty()))
}

#[test]
fn an_engine_whose_store_is_away_takes_events_in_up_to_its_bound() -> Result<()> {
    let mut nodes = Nodes::find()?;
    let world = World::new("bound")?;
    let config = world.data(9);
    std::fs::create_dir_all(&config)?;
    let config = config.join("engine.toml");
    std::fs::write(
        &config,
        format!("[cluster]\nbacklog_bytes = \"{}MiB\"\n", BACKLOG >> 20),
    )?;
    let config = config.to_str().context("a path")?;
    let engine = world.engine_by(0, &world.server, &["--config", config])?;
    world.shared_by(&[&engine])?;
    ready(&engine)?;
    let wire = Wire::to(&engine)?;
    let till = wire.till(1, 1, &world.data(8))?;
    let sell = || Basket::at(AT)?.line("soap", 1, 199).send(&till);
    sell()?;
    pad(&till, AT, 1)?;
    till.committed()?;

    let before = durable(&engine)?;
    nodes.freeze(1)?;
    for _ in 0..20 {
        sell()?;
    }
    pad(&till, AT, BACKLOG / 2)?;
    not_heard(&engine)?;
    let most = f64::from(u32::try_from(BACKLOG)?);
    wait_until("it journals them all the same", || {
        Ok(durable(&engine)? - before > most / 2.0)
    })?;
    pad(&till, AT, BACKLOG * 8)?;
    wait_until("devices are held back", || {
        says(&engine, "devices are held back")
    })?;
    let waiting = durable(&engine)? - before;
    println!("{waiting} bytes were journalled without a store; the bound is {most}");
    ensure!(waiting > most * 0.9, "it held devices back early");
    // On top comes what a device may have in flight: 128 frames, of 70 kB here.
    ensure!(waiting < most * 4.0, "it hardly held devices back");

    nodes.thaw(1)?;
    till.committed()?;
    ready(&engine)?;
    sums::equal_the_facts(&world)?;
    till.close()?;
    engine.stop()
}

#[test]
fn an_engine_whose_store_was_away_catches_up_by_itself() -> Result<()> {
    let mut nodes = Nodes::find()?;
    let world = World::new("absent")?;
    let engine = world.engine(0)?;
    world.shared_by(&[&engine])?;
    let fleet = world.fleet(&[&engine], &[&engine], Workload::of(30, 12))?;
    has_acked(&engine, 1_000.0)?;
    nodes.freeze(1)?;
    not_heard(&engine)?;
    // Devices go on, though nearly every frame of theirs has ids that nobody can look up.
    let before = figure(&engine, "tillstream_events_acked_total")?;
    has_acked(&engine, before + 1_000.0)?;
    nodes.thaw(1)?;
    ready(&engine)?;
    // Once more, and the server comes back as another process.
    nodes.kill(1)?;
    not_heard(&engine)?;
    nodes.start(1)?;
    ready(&engine)?;
    fleet.reconciles()?;
    sums::equal_the_facts(&world)?;
    engine.stop()
}
