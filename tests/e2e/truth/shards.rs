//! The number of shards is a matter of speed.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::{Engine, command, wait_until};

use super::{everything, same, text};
use crate::{number, truth};

/// Events that come in under each number of shards before the next one.
const STEP: u64 = 2_000;

#[test]
fn any_number_of_shards_answers_the_same_also_while_data_comes_in() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let mut engine = Engine::start(&data)?;
    let (quic, admin) = (engine.quic.to_string(), engine.admin.clone());
    let admin = admin.trim_start_matches("http://").trim_end_matches('/');
    let with = |shards: &str| -> Result<Engine> {
        Engine::start_with(
            &data,
            &["--listen", &quic, "--admin", admin, "--shards", shards],
        )
    };
    engine.stop()?;
    engine = with("1")?;
    let fleet = Command::new(command("tillload")?)
        .args([
            "fleet",
            "--addr",
            &quic,
            "--stores",
            "7",
            "--terminals",
            "2",
        ])
        .args(["--rate", "2500", "--duration", "6s", "--json", "--identity"])
        .args([text(&engine.identity)?, "--outbox"])
        .arg(folder.path().join("outbox"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the fleet")?;
    for shards in ["2", "4", "3"] {
        wait_until("events of the fleet", || {
            let status = engine.get("/api/v1/status")?;
            let acked = status.pointer("/figures/events/acked");
            Ok(acked.and_then(Value::as_u64).context("no events")? > STEP)
        })?;
        // Now in good order, now not.
        if shards == "4" {
            engine.stop()?;
        } else {
            engine.kill()?;
        }
        engine = with(shards)?;
    }
    let output = fleet.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(truth(&report, "reconciled")?, "{report}");
    ensure!(
        number(&report, "events_acked")? > 3 * i64::try_from(STEP)?,
        "{report}"
    );

    let expected = everything(&data, 7)?;
    engine.stop()?;
    for shards in ["1", "2", "4", "3"] {
        let engine = with(shards)?;
        same(
            &format!("{shards} shards"),
            &everything(&data, 7)?,
            &expected,
        )?;
        engine.kill()?;
    }
    same("no engine", &everything(&data, 7)?, &expected)
}
