//! Engines that share a store, as real processes against a real CQL server at TILL_CQL=HOST:PORT; tests/cql/run starts one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod history;
mod operate;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::{Engine, command, json_of, wait_until};

/// The server, and a keyspace of this test's own with its tables.
fn keyspace(name: &str) -> Result<(String, String)> {
    let server = std::env::var("TILL_CQL").context("TILL_CQL=HOST:PORT names a server")?;
    let keyspace = format!("till_{name}_{}", std::process::id());
    let words = ["schema", "apply", "--json", "--slots", "16"];
    let (status, output) = json_of(
        "tillstream",
        &[&words[..], &["--scylla", &server, "--keyspace", &keyspace]].concat(),
    )?;
    ensure!(output.status.success(), "schema apply: {status}");
    Ok((server, keyspace))
}

fn query(server: &str, keyspace: &str, words: &[&str]) -> Result<Value> {
    let place = ["--json", "--scylla", server, "--keyspace", keyspace];
    let (answer, output) = json_of("tillstream", &[&["query"], words, &place].concat())?;
    ensure!(output.status.success(), "query {words:?}: {answer}");
    Ok(answer["rows"].clone())
}

/// Engines of one keyspace; all but the first have the first one's identity.
fn engines(folder: &Path, count: usize, server: &str, keyspace: &str) -> Result<Vec<Engine>> {
    let mut engines: Vec<Engine> = Vec::new();
    for number in 0..count {
        let data = folder.join(format!("node{number}"));
        let mut words = vec![
            "--dev",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--store",
            "scylla",
            "--lease",
            "2s",
            "--scylla",
            server,
            "--keyspace",
            keyspace,
        ];
        let identity = folder.join("node0/pki/device.pem");
        let identity = identity.to_str().unwrap().to_owned();
        if number > 0 {
            words.extend(["--identity", &identity]);
        }
        engines.push(Engine::launch(&data, &words)?);
    }
    Ok(engines)
}

fn owners(server: &str, keyspace: &str) -> Result<Vec<String>> {
    let words = [
        "shards",
        "list",
        "--json",
        "--scylla",
        server,
        "--keyspace",
        keyspace,
    ];
    let (answer, _) = json_of("tillstream", &words)?;
    let rows = answer["rows"].as_array().context("rows")?.clone();
    let owners = rows.iter().filter_map(|row| row["address"].as_str());
    Ok(owners
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect())
}

#[test]
fn an_engine_that_is_killed_under_load_is_replaced_and_every_event_counts_once() -> Result<()> {
    let (server, keyspace) = keyspace("kill")?;
    let folder = tempfile::tempdir()?;
    let mut engines = engines(folder.path(), 3, &server, &keyspace)?;
    let addresses: Vec<String> = engines.iter().map(|one| one.quic.to_string()).collect();
    let admins: Vec<String> = engines.iter().map(|one| one.admin.clone()).collect();
    wait_until("three engines share the slots", || {
        let owners = owners(&server, &keyspace)?;
        let has_some = |address: &String| owners.contains(address);
        Ok(owners.len() == 16 && addresses.iter().all(has_some))
    })?;
    let fleet = Command::new(command("tillload")?)
        .args([
            "fleet",
            "--stores",
            "8",
            "--terminals",
            "2",
            "--rate",
            "400",
            "--duration",
            "20s",
            "--json",
        ])
        .args(["--addr", &addresses.join(","), "--admin", &admins.join(",")])
        .arg("--identity")
        .arg(folder.path().join("node0/pki/device.pem"))
        .arg("--outbox")
        .arg(folder.path().join("outbox"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the fleet")?;
    std::thread::sleep(Duration::from_secs(6));
    let dead = engines.remove(2);
    let gone = dead.quic.to_string();
    let killed = Instant::now();
    dead.kill()?;
    wait_until("the others have its slots", || {
        let owners = owners(&server, &keyspace)?;
        Ok(owners.len() == 16 && !owners.contains(&gone))
    })?;
    println!("its slots were served again after {:?}", killed.elapsed());
    let output = fleet.wait_with_output().context("wait for the fleet")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("the fleet's report")?;
    ensure!(
        output.status.success() && report["reconciled"] == true,
        "the oracle found a difference: {report}"
    );
    for engine in engines {
        engine.stop()?;
    }
    Ok(())
}
