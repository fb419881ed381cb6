//! A damaged byte below the last group stops the start and says what is lost; it is never cut away in silence.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::{Engine, command, json_of};

/// Loads an engine with a few thousand events and drains it.
fn loaded(data: &Path) -> Result<Value> {
    let rows: String = (0..2_000)
        .map(|n| {
            format!(
                "{},{},R{n},2026-03-0{}T10:{:02}:00Z,SKU-{},{},{}.50,,0.25,cash,\n",
                1 + n % 4,
                1 + n % 3,
                1 + n % 9,
                n % 60,
                n % 37,
                1 + n % 5,
                1 + n % 20
            )
        })
        .collect();
    let file = data.with_extension("csv");
    fs::write(
        &file,
        format!(
            "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,\
             discount_amount,tax_amount,tender,customer_id\n{rows}"
        ),
    )?;
    let (report, output) = json_of(
        "tillload",
        &[
            "replay",
            "--file",
            text(&file)?,
            "--spawn",
            "--data",
            text(data)?,
            "--json",
        ],
    )?;
    ensure!(output.status.success(), "replay failed: {report}");
    Ok(report)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}

fn first_segment(data: &Path) -> Result<PathBuf> {
    let mut segments: Vec<PathBuf> = fs::read_dir(data.join("journal"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    segments.retain(|path| path.extension().is_some_and(|ending| ending == "till"));
    segments.sort();
    segments
        .into_iter()
        .next()
        .context("no segment in the journal")
}

#[test]
fn a_flipped_byte_stops_the_start_and_salvage_keeps_the_rest() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    loaded(&data)?;

    let segment = first_segment(&data)?;
    let mut bytes = fs::read(&segment)?;
    let somewhere_early = 4_000;
    *bytes
        .get_mut(somewhere_early)
        .context("segment is too short")? ^= 1;
    fs::write(&segment, bytes)?;

    let refused = Engine::start(&data);
    let complaint = format!(
        "{:#}",
        refused
            .err()
            .context("the engine started on a damaged journal")?
    );
    for word in ["damaged", "salvage", "terminal"] {
        ensure!(
            complaint.contains(word),
            "the message does not say {word:?}:\n{complaint}"
        );
    }

    let doctor = Command::new(command("tillstream")?)
        .args(["doctor", "--data", text(&data)?])
        .output()?;
    ensure!(
        !doctor.status.success(),
        "doctor called a damaged journal healthy"
    );

    let salvage = Command::new(command("tillstream")?)
        .args(["doctor", "--salvage", "--data", text(&data)?])
        .output()?;
    ensure!(
        salvage.status.success(),
        "salvage failed: {}",
        String::from_utf8_lossy(&salvage.stderr)
    );
    Engine::start(&data)?.stop()
}

#[test]
fn deleted_views_are_rebuilt_and_answer_the_same() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    loaded(&data)?;
    let ask = |by: &str| -> Result<Value> {
        let (answer, output) = json_of(
            "tillstream",
            &[
                "query",
                "sales",
                "--data",
                text(&data)?,
                "--by",
                by,
                "--json",
            ],
        )?;
        ensure!(output.status.success(), "query --by {by} failed: {answer}");
        Ok(answer.get("rows").context("no rows")?.clone())
    };
    let keys = ["total", "store", "day", "hour", "sku", "tender"];
    let before: Vec<Value> = keys.iter().map(|by| ask(by)).collect::<Result<_>>()?;
    ensure!(
        before
            .iter()
            .all(|rows| rows.as_array().is_some_and(|rows| !rows.is_empty()))
    );

    fs::remove_dir_all(data.join("rows"))?;
    let rebuild = Command::new(command("tillstream")?)
        .args(["rebuild", "--data", text(&data)?])
        .output()?;
    ensure!(
        rebuild.status.success(),
        "{}",
        String::from_utf8_lossy(&rebuild.stderr)
    );
    let after: Vec<Value> = keys.iter().map(|by| ask(by)).collect::<Result<_>>()?;
    ensure!(
        before == after,
        "rebuilt views answer otherwise:\n{before:?}\n{after:?}"
    );

    let engine = Engine::start(&data)?;
    let beside = Command::new(command("tillstream")?)
        .args(["rebuild", "--data", text(&data)?])
        .output()?;
    ensure!(!beside.status.success(), "rebuild ran beside an engine");
    engine.stop()
}

#[test]
fn a_segment_restored_from_an_old_copy_stops_the_start_until_the_rows_are_rebuilt() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    loaded(&data)?;
    // As an older copy would be: everything from the middle on was not there yet.
    let segment = first_segment(&data)?;
    let mut bytes = fs::read(&segment)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).context("empty")?;
    let middle = written / 2;
    bytes
        .get_mut(middle..)
        .context("segment is too short")?
        .fill(0);
    fs::write(&segment, bytes)?;

    let complaint = || -> Result<String> {
        let refused = Engine::start(&data).err();
        Ok(format!(
            "{:#}",
            refused.context("the engine started without its end")?
        ))
    };
    let mut told = complaint()?;
    // Unless the middle is the border of two groups, half a group is left, and the rows know that it was whole.
    if told.contains("the rows hold") && told.contains("--salvage") {
        let salvage = Command::new(command("tillstream")?)
            .args(["doctor", "--salvage", "--data", text(&data)?])
            .output()?;
        // The half is kept as a hole, and the end stays lost.
        let said = String::from_utf8_lossy(&salvage.stdout);
        ensure!(
            said.contains("salvaged") && said.contains("lost its end"),
            "salvage said: {said}"
        );
        told = complaint()?;
    }
    let complaint = told;
    for word in [
        "lost its end",
        "lost: terminal ",
        " seq ",
        "tillstream rebuild",
    ] {
        ensure!(
            complaint.contains(word),
            "the message does not say {word:?}:\n{complaint}"
        );
    }
    let rebuild = Command::new(command("tillstream")?)
        .args(["rebuild", "--data", text(&data)?])
        .output()?;
    ensure!(
        rebuild.status.success(),
        "rebuild failed: {}",
        String::from_utf8_lossy(&rebuild.stderr)
    );
    Engine::start(&data)?.stop()
}
