//! Engines that share a store, as real processes against a real CQL server at TILL_CQL=HOST:PORT; tests/cql/run starts one.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod operate;

use std::fmt::Write as _;
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

/// Receipts of a file, three lines each, in six stores; and their net amounts by store in cents.
fn write_file(path: &Path, receipts: u64) -> Result<Vec<(u64, i64)>> {
    let mut text = String::from(
        "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,discount_amount,tax_amount,tender,customer_id\n",
    );
    let mut net = [0_i64; 7];
    for number in 0..receipts {
        let (store, till) = (1 + number % 6, 1 + number % 2);
        let minute = number / 12;
        for line in 0..3_u64 {
            let cents = i64::try_from(100 + number * 7 % 900 + line)?;
            net[usize::try_from(store)?] += cents;
            let (hour, minute) = (8 + minute / 60 % 12, minute % 60);
            writeln!(
                text,
                "{store},{till},R{number},2026-03-{:02}T{hour:02}:{minute:02}:00Z,sku-{},1,{}.{:02},,,cash,",
                1 + number % 20,
                (number * 3 + line) % 500,
                cents / 100,
                cents % 100,
            )?;
        }
    }
    std::fs::write(path, text)?;
    Ok((1..7)
        .map(|store| (store, net[usize::try_from(store).unwrap()]))
        .collect())
}

#[test]
fn a_file_is_exact_in_the_tables_and_comes_again_without_a_change() -> Result<()> {
    let (server, keyspace) = keyspace("file")?;
    let folder = tempfile::tempdir()?;
    let (file, data) = (folder.path().join("lines.csv"), folder.path().join("data"));
    let wanted = write_file(&file, 1_200)?;
    let words = [
        "replay",
        "--spawn",
        "--json",
        "--store",
        "scylla",
        "--scylla",
        &server,
        "--keyspace",
        &keyspace,
        "--file",
        file.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let (report, output) = json_of("tillload", &words)?;
    ensure!(output.status.success(), "first replay: {report}");
    assert_eq!(report["receipts"], 1_200);
    assert_eq!(report["duplicates"], 0);
    let by_store = query(&server, &keyspace, &["sales", "--by", "store"])?;
    let sums: Vec<(u64, i64)> = by_store
        .as_array()
        .context("rows")?
        .iter()
        .map(|row| {
            (
                row["store"].as_u64().unwrap(),
                row["net_minor"].as_i64().unwrap(),
            )
        })
        .collect();
    assert_eq!(sums, wanted);
    let before = [
        query(&server, &keyspace, &["sales", "--by", "sku"])?,
        query(&server, &keyspace, &["sales", "--by", "hour"])?,
        query(&server, &keyspace, &["transaction", "--receipt", "R7"])?,
        query(&server, &keyspace, &["stock", "--store", "3"])?,
    ];
    assert_eq!(before[0].as_array().unwrap().len(), 500);
    assert_eq!(before[2].as_array().unwrap().len(), 1);
    let (report, output) = json_of("tillload", &words)?;
    ensure!(output.status.success(), "second replay: {report}");
    assert_eq!(report["duplicates"], 1_200);
    let after = [
        query(&server, &keyspace, &["sales", "--by", "sku"])?,
        query(&server, &keyspace, &["sales", "--by", "hour"])?,
        query(&server, &keyspace, &["transaction", "--receipt", "R7"])?,
        query(&server, &keyspace, &["stock", "--store", "3"])?,
    ];
    assert_eq!(before, after);
    Ok(())
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
