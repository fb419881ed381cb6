//! A file of transaction lines: exact totals, once.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use till_tests::{Engine, ReservedPort, command, json_of, wait_until};

use crate::{number, truth};

const HEADER: &str = "receipt_id,store_id,terminal_id,occurred_at,sku,quantity,extended_amount,\
                      discount_amount,tax_amount,tender,customer_id";

/// 500 receipts of three lines, then a row that is bad because its time has no offset: line 1502. Gives the net too.
fn lines() -> Result<(String, i64)> {
    let mut text = format!("{HEADER}\r\n");
    let mut net = 0_i64;
    for receipt in 0..500_i64 {
        for line in 0..3_i64 {
            let cents = 100 + receipt + line;
            net += cents;
            writeln!(
                text,
                "R{receipt},{},{},2025-12-31T23:{:02}:00+01:00,\"SKU, {line}\",1.5,{}.{:02},0.10,,card,c{}\r",
                1 + receipt % 3,
                1 + receipt % 2,
                receipt % 60,
                cents / 100,
                cents % 100,
                receipt % 7
            )?;
        }
    }
    text.push_str("BAD,1,1,2025-12-31T23:00:00,SKU,1,1.00,,,cash,\r\n"); // no offset: line 1502
    Ok((text, net))
}

#[test]
fn a_file_counts_once_however_often_it_is_replayed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lines.csv");
    let data = folder.path().join("data");
    let (file_name, data_name) = (
        file.to_str().context("path is not UTF-8")?.to_owned(),
        data.to_str().context("path is not UTF-8")?.to_owned(),
    );
    let (text, net) = lines()?;
    fs::write(&file, &text)?;

    let replay = [
        "replay", "--file", &file_name, "--spawn", "--data", &data_name, "--json",
    ];
    let (first, output) = json_of("tillload", &replay)?;
    ensure!(
        output.status.success() && truth(&first, "reconciled")?,
        "first run: {first}"
    );
    ensure!(
        String::from_utf8_lossy(&output.stderr).contains("1502"),
        "the bad row's line is not named"
    );
    for (key, expected) in [
        ("rows_read", 1_501),
        ("rows_skipped", 1),
        ("receipts", 500),
        ("events_acked", 500),
        ("duplicates", 0),
        ("conflicts", 0),
        ("net_minor", net),
    ] {
        ensure!(
            number(&first, key)? == expected,
            "{key} is not {expected}: {first}"
        );
    }

    let total = || -> Result<Value> {
        let (answer, _) = json_of(
            "tillstream",
            &[
                "query", "sales", "--data", &data_name, "--by", "total", "--json",
            ],
        )?;
        Ok(answer.get("rows").context("no rows")?.clone())
    };
    let before = total()?;
    ensure!(
        before
            == json!([{"currency": "USD", "transactions": 500, "lines": 1500, "quantity": "2250",
                       "net_minor": net, "discount_minor": 15_000, "tax_minor": 0}]),
        "{before}"
    );

    let (second, output) = json_of("tillload", &replay)?;
    ensure!(
        output.status.success() && truth(&second, "reconciled")?,
        "second run: {second}"
    );
    ensure!(number(&second, "duplicates")? == 500, "{second}");
    ensure!(total()? == before, "a second replay changed the total");
    Ok(())
}

/// Same till, second, goods and amount, another receipt: the two events have the same mark.
#[test]
fn a_receipt_that_resembles_an_earlier_one_is_not_taken_for_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let data_name = data.to_str().context("path is not UTF-8")?;
    for receipt in ["FIRST", "SECOND"] {
        let file = folder.path().join(receipt);
        let row = format!("{receipt},1,1,2026-01-05T10:00:00Z,SKU,1,1.00,,,cash,");
        fs::write(&file, format!("{HEADER}\n{row}\n"))?;
        let file_name = file.to_str().context("path is not UTF-8")?;
        let replay = [
            "replay", "--file", file_name, "--spawn", "--data", data_name, "--json",
        ];
        let (report, _) = json_of("tillload", &replay)?;
        ensure!(truth(&report, "reconciled")?, "{receipt}: {report}");
        ensure!(number(&report, "duplicates")? == 0, "{receipt}: {report}");
    }
    let (answer, _) = json_of(
        "tillstream",
        &[
            "query", "sales", "--data", data_name, "--by", "total", "--json",
        ],
    )?;
    let transactions = answer
        .pointer("/rows/0/transactions")
        .and_then(Value::as_u64);
    ensure!(
        transactions == Some(2),
        "one of two receipts is missing: {answer}"
    );
    Ok(())
}

/// Receipts of one line over one till, from a number on; more than a few frames full.
fn receipts(from: u32) -> String {
    let mut text = String::new();
    for receipt in from..from + 2_000 {
        text += &format!("K{receipt},1,1,2026-01-05T10:00:00Z,SKU,1,1.00,,,cash,\n");
    }
    text
}

/// A replay that reads what the test writes.
fn replay_of_a_pipe(target: &[&str]) -> Result<Child> {
    Command::new(command("tillload")?)
        .args(["replay", "--file", "-", "--json"])
        .args(target)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the replay")
}

/// Writes the second half and checks the totals of both.
fn ends_with_all_of_it(mut replay: Child, data: &Path) -> Result<()> {
    let mut pipe = replay.stdin.take().context("no pipe")?;
    pipe.write_all(receipts(2_000).as_bytes())?;
    drop(pipe);
    let output = replay.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout).context("the replay's report")?;
    ensure!(output.status.success(), "{report}");
    ensure!(truth(&report, "reconciled")?, "{report}");
    for (key, expected) in [
        ("receipts", 4_000),
        ("events_acked", 4_000),
        ("conflicts", 0),
        ("net_minor", 400_000),
    ] {
        ensure!(number(&report, key)? == expected, "{key}: {report}");
    }
    let data = data.to_str().context("path is not UTF-8")?;
    let query = ["query", "sales", "--data", data, "--by", "total", "--json"];
    let (answer, _) = json_of("tillstream", &query)?;
    let rows = json!([{"currency": "USD", "transactions": 4_000, "lines": 4_000, "quantity": "4000",
        "net_minor": 400_000, "discount_minor": 0, "tax_minor": 0}]);
    ensure!(answer.get("rows") == Some(&rows), "{answer}");
    Ok(())
}

#[test]
fn an_engine_that_dies_and_comes_back_costs_a_replay_only_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let ports = [ReservedPort::take()?, ReservedPort::take()?];
    let [at, admin] = ports.each_ref().map(|port| port.addr().to_string());
    let same_ports = ["--listen", at.as_str(), "--admin", admin.as_str()];
    let mut engine = Engine::start_with(&data, &same_ports)?;
    let identity = engine.identity.clone();
    let identity = identity.to_str().context("path is not UTF-8")?;
    let mut replay = replay_of_a_pipe(&["--addr", &at, "--identity", identity])?;
    let pipe = replay.stdin.as_mut().context("no pipe")?;
    pipe.write_all(format!("{HEADER}\n{}", receipts(0)).as_bytes())?;
    wait_until("the first receipts", || {
        let status = engine.get("/api/v1/status")?;
        let acked = status.pointer("/figures/events/acked");
        Ok(acked.and_then(Value::as_u64).context("no events")? > 0)
    })?;
    engine.kill()?;
    engine = Engine::start_with(&data, &same_ports)?;
    ends_with_all_of_it(replay, &data)?;
    engine.stop()
}

#[test]
fn a_replay_starts_its_own_engine_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let name = data.to_str().context("path is not UTF-8")?;
    let mut replay = replay_of_a_pipe(&["--spawn", "--data", name])?;
    let pipe = replay.stdin.as_mut().context("no pipe")?;
    pipe.write_all(format!("{HEADER}\n{}", receipts(0)).as_bytes())?;
    let query = ["query", "sales", "--data", name, "--by", "total", "--json"];
    wait_until("the first receipts", || {
        // Until the engine accepts there is nobody to ask.
        let has_rows = |answer: &Value| answer.pointer("/rows/0/transactions").is_some();
        Ok(data.join("engine.json").exists()
            && json_of("tillstream", &query).is_ok_and(|(answer, _)| has_rows(&answer)))
    })?;
    let ready: Value = serde_json::from_slice(&fs::read(data.join("engine.json"))?)?;
    let pid = number(&ready, "pid")?;
    let killed = Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status()?;
    ensure!(killed.success(), "could not kill {pid}");
    ends_with_all_of_it(replay, &data)
}

#[test]
fn a_wrong_address_is_said_and_not_waited_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let engine = Engine::start(&folder.path().join("data"))?;
    let file = folder.path().join("lines.csv");
    fs::write(&file, format!("{HEADER}\n{}", receipts(0)))?;
    // A socket that is connected to itself takes from nobody else: the system says that nobody is there.
    let held = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let nobody = held.local_addr()?;
    held.connect(nobody)?;
    let output = Command::new(command("tillload")?)
        .args([
            "replay",
            "--json",
            "--addr",
            &nobody.to_string(),
            "--identity",
        ])
        .arg(&engine.identity)
        .arg("--file")
        .arg(&file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && output.stdout.is_empty());
    ensure!(
        said.contains(&format!("no engine takes devices at {nobody}")),
        "{said}"
    );
    engine.stop()
}
