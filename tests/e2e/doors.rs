//! Who may send, and what those are told who may not.

use anyhow::{Result, ensure};
use serde_json::json;
use till_client::SessionConfig;
use till_protocol::code::Reason;
use till_tests::{Engine, Home, Wire, complaint};

use crate::chain::{HEADER, says};
use crate::transactions::{must_be, piece, rows};

const LISTED: &str = "[[store]]\nnumber = 31\ncurrency = \"EUR\"\ntime_zone = \"Europe/Vienna\"\nterminals = [1, 2]\n";

/// What a terminal is told that is turned away; its event stays in its outbox.
fn told(
    wire: &Wire,
    home: &Home,
    store: u32,
    till: u32,
    says: impl FnOnce(&mut SessionConfig),
) -> Result<(Reason, String)> {
    let outbox = home.beside(&format!("door-{store}-{till}"));
    let till = wire.till_with(store, till, &outbox, says)?;
    piece("2026-06-01T08:00:00Z", "TEA", 100)?.send(&till)?;
    let told = till.turned_away()?;
    ensure!(till.dead()?.is_empty(), "a dead letter for {told:?}");
    till.close()?;
    Ok(told)
}

#[test]
fn strangers_and_contradictions_are_turned_away_with_a_reason_and_lose_nothing() -> Result<()> {
    let home = Home::new()?;
    let engine = home.start_listed(LISTED)?;
    let wire = Wire::to(&engine)?;
    let known = wire.till_with(
        31,
        1,
        &home.beside("door-31-1"),
        says("EUR", "Europe/Vienna")?,
    )?;
    piece("2026-06-01T08:00:00Z", "TEA", 100)?.send(&known)?;
    known.committed()?;
    known.close()?;
    for (store, till) in [(31, 3), (32, 1)] {
        let (reason, words) = told(&wire, &home, store, till, |_| {})?;
        ensure!(
            reason == Reason::UnknownTerminal && !words.is_empty(),
            "{store}-{till}: {reason} {words}"
        );
    }
    let (reason, words) = told(&wire, &home, 31, 2, says("USD", "Europe/Vienna")?)?;
    ensure!(
        reason == Reason::CurrencyMismatch && !words.is_empty(),
        "{reason} {words}"
    );
    let (reason, words) = told(&wire, &home, 31, 2, says("EUR", "Asia/Tokyo")?)?;
    ensure!(
        reason == Reason::ZoneMismatch && !words.is_empty(),
        "{reason} {words}"
    );
    let (reason, _) = told(&wire, &home, 31, 2, |config| {
        config.zone = "Mars/Olympus".to_owned()
    })?;
    ensure!(
        reason == Reason::ZoneMismatch || reason == Reason::UnknownZone,
        "{reason}"
    );
    must_be(
        &engine,
        "sales --by store",
        &json!([
            {"store": 31, "currency": "EUR", "transactions": 1, "lines": 1, "quantity": "1", "net_minor": 100,
             "discount_minor": 0, "tax_minor": 0},
        ]),
    )?;
    engine.stop()?;

    // An engine that takes unknown ones in gets what they kept: three of store 31's second till, one of each stranger.
    let engine = home.start()?;
    let wire = Wire::to(&engine)?;
    for (store, till) in [(31, 2), (31, 3), (32, 1)] {
        let till = wire.till(store, till, &home.beside(&format!("door-{store}-{till}")))?;
        till.committed()?;
        till.close()?;
    }
    must_be(
        &engine,
        "sales --by store",
        &json!([
            {"store": 31, "currency": "EUR", "transactions": 5, "lines": 5, "quantity": "5", "net_minor": 500,
             "discount_minor": 0, "tax_minor": 0},
            {"store": 32, "currency": "USD", "transactions": 1, "lines": 1, "quantity": "1", "net_minor": 100,
             "discount_minor": 0, "tax_minor": 0},
        ]),
    )?;
    let (engine, _) = home.prove(engine, &till_tests::questions(&[31, 32], &[]))?;
    wrong_file(&home, &engine)?;
    engine.stop()
}

/// A file in another currency than its store's ends with an error that says so.
fn wrong_file(home: &Home, engine: &Engine) -> Result<()> {
    let file = home.beside("yen.csv");
    let line = "31,1,R1,2026-06-01T08:00:00Z,TEA,1,100,,,cash,";
    std::fs::write(&file, format!("{HEADER}\n{line}\n"))?;
    let before = rows(engine, "sales --by total")?;
    let output = std::process::Command::new(till_tests::command("tillload")?)
        .args([
            "replay",
            "--currency",
            "JPY",
            "--time-zone",
            "Europe/Vienna",
            "--json",
            "--file",
        ])
        .arg(&file)
        .args(["--addr", &engine.quic.to_string(), "--identity"])
        .arg(&engine.identity)
        .output()?;
    let said = complaint(&output);
    ensure!(
        !output.status.success() && said.contains("currency"),
        "{said}"
    );
    ensure!(rows(engine, "sales --by total")? == before, "it counted");
    Ok(())
}
