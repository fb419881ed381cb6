//! The journal is the truth: whatever is killed, deleted, rebuilt or dropped by retention, every answer stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_tests::basket::pad;
use till_tests::{Answers, Home, Question, Wire, complaint, questions};

use crate::chain::{self, Books, replay, resend, workload};
use crate::number;

const STORES: [u32; 4] = [1, 2, 4, 5];
const RECEIPTS: [&str; 4] = ["1-2-3", "2-1-17", "F7", "F8"];

fn all() -> Vec<Question> {
    questions(&STORES, &RECEIPTS)
}

/// Fills the journal's files, so that those before are sealed.
fn roll(home: &Home, engine: &till_tests::Engine, round: u32) -> Result<()> {
    let wire = Wire::to(engine)?;
    let till = wire.till(1, 90 + round, &home.beside("pads").join(round.to_string()))?;
    pad(&till, "2026-03-02T20:00:00Z", 2_500_000)?;
    till.committed()?;
    till.close()
}

fn count(report: &Value, expected: &[(&str, i64)]) -> Result<()> {
    for (key, wanted) in expected {
        ensure!(
            number(report, key)? == *wanted,
            "{key} is not {wanted}: {report}"
        );
    }
    Ok(())
}

/// The whole promise P4 in one epoch of a folder: deleted and rebuilt; dropped by retention and rebuilt; everything sent
/// again, over both ways in; rebuilt again; and an edited file quarantined.
#[test]
fn every_answer_outlives_rebuild_retention_and_a_resend() -> Result<()> {
    let home = Home::new()?;
    let mut books = Books::default();
    let file = home.beside("lines.csv");
    chain::file(&file, 0..240, 0, Some(&mut books))?;

    let engine = home.start()?;
    count(
        &replay(&engine, &file)?,
        &[("receipts", 240), ("duplicates", 0)],
    )?;
    let copies = workload(&home, &engine, &mut books)?;
    roll(&home, &engine, 0)?;
    let (engine, first) = home.prove(engine, &all())?;
    books.must_equal(&first)?;
    ensure!(
        first.rows("transaction --receipt F7")? != "[]",
        "no receipt F7"
    );

    engine.stop()?;
    home.forget()?;
    let engine = home.start()?;
    let dropped = Answers::of_engine(&engine, &all())?;
    first.must_equal_but(&dropped, |topic| topic == "transaction")?;
    ensure!(
        dropped.rows("transaction --receipt F7")? == "[]",
        "F7 is still there"
    );
    let (engine, _) = home.prove(engine, &all())?;

    let again = replay(&engine, &file)?;
    count(
        &again,
        &[("receipts", 240), ("duplicates", 240), ("conflicts", 0)],
    )?;
    resend(&engine, &copies)?;
    let (engine, resent) = home.prove(engine, &all())?;
    books.must_equal(&resent)?;
    dropped.must_equal_but(&resent, |topic| topic == "terminal")?;

    // The resends fill a file of their own; retention drops that one too, on top of the base before.
    roll(&home, &engine, 1)?;
    engine.stop()?;
    home.forget()?;
    let engine = home.start()?;
    let (engine, twice) = home.prove(engine, &all())?;
    books.must_equal(&twice)?;

    edited(&home, &engine, &twice)?;
    home.prove(engine, &all())?.0.stop()
}

/// A file whose receipts have the same names and other amounts: every one is quarantined and shown, none counts.
fn edited(home: &Home, engine: &till_tests::Engine, before: &Answers) -> Result<()> {
    let file = home.beside("edited.csv");
    chain::file(&file, 0..20, 5, None)?;
    let report = replay(engine, &file)?;
    count(&report, &[("conflicts", 20), ("duplicates", 0)])?;
    // The same edits again are known: nothing more is quarantined.
    let report = replay(engine, &file)?;
    count(&report, &[("conflicts", 0), ("duplicates", 20)])?;
    let after = Answers::of_engine(engine, &all())?;
    before.must_equal_but(&after, |topic| {
        matches!(topic, "terminal" | "quarantine" | "transaction")
    })?;
    let listed: Value = serde_json::from_str(after.rows("quarantine")?)?;
    let listed = listed.as_array().context("no rows")?;
    ensure!(listed.len() == 20, "{listed:?}");
    ensure!(
        listed
            .iter()
            .all(|row| row.get("reason").and_then(Value::as_str) == Some("conflict")),
        "{listed:?}"
    );
    let text = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
    let receipts: BTreeSet<_> = listed
        .iter()
        .filter_map(|row| text(row, "receipt"))
        .collect();
    ensure!(
        receipts.len() == 20 && receipts.contains("F7"),
        "{listed:?}"
    );
    ensure!(
        listed.iter().all(|row| {
            text(row, "event_id").is_some_and(|id| id.len() == 32)
                && text(row, "occurred_at").is_some()
        }),
        "{listed:?}"
    );
    let shown: Value = serde_json::from_str(after.rows("transaction --receipt F7")?)?;
    ensure!(
        shown.pointer("/0/outcome").and_then(Value::as_str) == Some("quarantined"),
        "{shown}"
    );
    Ok(())
}

/// Each store of which something came since the start stands at one shard, and the page of the shards counts it there.
fn shards_hold_stores(engine: &till_tests::Engine, is_new: bool) -> Result<()> {
    let shards = engine.get("/api/v1/shards")?;
    let each = shards["rows"].as_array().context("no list of shards")?;
    let held = each.iter().filter_map(|shard| shard["stores"].as_u64());
    let known = engine.get("/api/v1/stores")?;
    let known = known["rows"].as_array().context("no list of stores")?;
    let held: u64 = held.sum();
    let known = u64::try_from(known.len())?;
    ensure!(
        held > 0 && held <= known && (held == known || !is_new),
        "the shards hold {held} stores of {known}: {shards}"
    );
    Ok(())
}

/// More and fewer shards between restarts, while data comes in, and no answer changes; neither does it depend on who is asked.
#[test]
fn the_number_of_shards_and_who_is_asked_change_no_answer() -> Result<()> {
    let home = Home::new()?;
    let mut books = Books::default();
    let mut last: Option<Answers> = None;
    for (round, shards) in (0_i64..).zip(["1", "2", "4", "3"]) {
        let engine = home.start_with(&["--shards", shards])?;
        if let Some(last) = &last {
            last.must_equal(&Answers::of_engine(&engine, &all())?)
                .with_context(|| format!("with {shards} shards"))?;
        }
        let file = home.beside("part.csv");
        chain::file(&file, round * 50..(round + 1) * 50, 0, Some(&mut books))?;
        count(
            &replay(&engine, &file)?,
            &[("receipts", 50), ("duplicates", 0)],
        )?;
        if round == 1 {
            workload(&home, &engine, &mut books)?;
        }
        let now = Answers::of_engine(&engine, &all())?;
        shards_hold_stores(&engine, round == 0)?;
        last = Some(now);
        // Odd rounds crash, even ones drain.
        if round % 2 == 1 {
            engine.kill()?;
        } else {
            engine.stop()?;
        }
    }
    let last = last.context("no round")?;
    books.must_equal(&last)?;
    let bytes = home.journal_bytes()?;
    last.must_equal(&Answers::of_folder(&home, &all())?)
        .context("asked without an engine")?;
    ensure!(
        home.journal_bytes()? == bytes,
        "asking made the journal's files larger"
    );
    let engine = home.start()?;
    last.must_equal(&Answers::of_folder(&home, &all())?)
        .context("asked through the engine by the folder's name")?;

    let beside = home.run("tillstream", &["rebuild"])?;
    let said = complaint(&beside);
    ensure!(!beside.status.success(), "rebuild ran beside an engine");
    ensure!(
        said.contains("stop it"),
        "it does not say what to do: {said}"
    );
    last.must_equal(&Answers::of_engine(&engine, &all())?)?;
    engine.stop()?;

    let said = home.rebuild()?;
    let quarantined = said
        .split_whitespace()
        .map(|word| {
            home.data
                .join(word.trim_matches(|c: char| !c.is_alphanumeric() && c != '.'))
        })
        .any(|path| path != home.data && path.is_dir());
    ensure!(quarantined, "it names no folder that is there: {said}");
    last.must_equal(&Answers::of_folder(&home, &all())?)
}

/// Does harm to a file.
type Damage = fn(&Path) -> Result<()>;

/// Whatever breaks in the rows' folder, the engine finds it, moves the rows aside and makes them again by itself.
#[test]
fn broken_rows_are_moved_aside_and_made_again() -> Result<()> {
    let home = Home::new()?;
    let mut books = Books::default();
    let file = home.beside("lines.csv");
    chain::file(&file, 0..60, 0, Some(&mut books))?;
    let engine = home.start()?;
    replay(&engine, &file)?;
    workload(&home, &engine, &mut books)?;
    let whole = Answers::of_engine(&engine, &all())?;
    books.must_equal(&whole)?;
    engine.stop()?;
    let rows = home.data.join("rows");
    let damages: [(&str, Damage); 4] = [
        ("emptied", |path| Ok(fs::write(path, b"")?)),
        ("cut", |path| {
            let bytes = fs::read(path)?;
            Ok(fs::write(
                path,
                bytes.get(..bytes.len() / 2).unwrap_or_default(),
            )?)
        }),
        ("overwritten", |path| {
            let bytes = fs::read(path)?;
            Ok(fs::write(path, vec![0xa5; bytes.len()])?)
        }),
        ("removed", |path| Ok(fs::remove_file(path)?)),
    ];
    for (what, damage) in damages {
        for name in ["version", "0.jnl", "keyspaces/0/current"] {
            let path = rows.join(name);
            ensure!(path.exists(), "no {name} to break");
            damage(&path).with_context(|| format!("{name} {what}"))?;
            let engine = home.start().with_context(|| format!("{name} {what}"))?;
            let after = Answers::of_engine(&engine, &all())?;
            whole
                .must_equal(&after)
                .with_context(|| format!("{name} {what}\n{}", engine.log()))?;
            engine.stop()?;
        }
    }
    ensure!(
        home.data.join("rows.aside").is_dir(),
        "nothing was moved aside"
    );
    Ok(())
}
