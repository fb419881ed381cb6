//! kill -9 at any moment, under load: every acknowledged event is there exactly once.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use till_tests::{Engine, ReservedPort, command};

use crate::{number, truth};

/// How often the engine is killed.
const KILLS: u32 = 20;

/// Longest life of an engine between two kills. Long enough for groups, flushes and a segment's worth of load.
const RUN_MS_MAX: u64 = 900;

#[test]
fn twenty_kills_under_load_lose_nothing_and_double_nothing() -> Result<()> {
    let seed = std::env::var("TILL_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(7);
    println!("seed {seed} (TILL_SEED replays it)");
    let mut chance = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");

    let ports = [ReservedPort::take()?, ReservedPort::take()?];
    let [at, admin] = ports.each_ref().map(|port| port.addr().to_string());
    let same_ports = ["--listen", at.as_str(), "--admin", admin.as_str()];
    let mut engine = Engine::start_with(&data, &same_ports)?;
    let fleet = Command::new(command("tillload")?)
        .args([
            "fleet",
            "--addr",
            &at,
            "--stores",
            "8",
            "--terminals",
            "4",
            "--rate",
            "3000",
        ])
        .args(["--duration", "25s", "--rude", "0.1", "--json", "--identity"])
        .arg(&engine.identity)
        .arg("--outbox")
        .arg(folder.path().join("outbox"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the fleet")?;

    till_tests::wait_until("the fleet's first events", || {
        let status = engine.get("/api/v1/status")?;
        let acked = status
            .pointer("/figures/events/acked")
            .and_then(Value::as_u64);
        Ok(acked.context("no events in the status")? > 0)
    })?;
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(chance.random_range(50..RUN_MS_MAX)));
        engine.kill()?;
        engine = Engine::start_with(&data, &same_ports)?;
    }

    let output = fleet.wait_with_output().context("wait for the fleet")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("the fleet's report")?;
    ensure!(
        truth(&report, "reconciled")?,
        "the oracle found a difference: {report}"
    );
    ensure!(
        output.status.success(),
        "reconciled, but exit code {}",
        output.status
    );
    ensure!(
        number(&report, "events_acked")? > 2_000,
        "hardly any load: {report}"
    );
    ensure!(
        number(&report, "events_acked")?
            == number(&report, "events_applied")? + number(&report, "quarantined")?,
        "acked must be applied + quarantined: {report}"
    );
    engine.stop()
}
