//! A day at three tills, to the cent: what was sold, what is in stock, what waits.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use till_client::Terminal;
use till_protocol::builder::{SaleParts, sku_code};
use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{Line, Sale, Tender, flag, kind, line_kind, tender};
use till_protocol::family::stock::v1::{Move, kind as stock};
use till_protocol::id::SkuId;
use till_tests::{Engine, command, json_of};

use super::{Tills, everything, rebuild, rows, same, text, values};

/// 1 November 2026, 05:00 UTC: 01:00 in New York, an hour before its clocks go back.
const FIVE_US: i64 = 1_793_509_200_000_000;
const MINUTE_US: i64 = 60_000_000;
/// Days from 1970 to 31 October 2026.
const HALLOWEEN: u16 = 20_757;
const ONE: i64 = 100_000;
const HUGE: i64 = i64::MAX - 1;

struct Basket<'a> {
    minute: i64,
    receipt: u64,
    kind: u8,
    lines: &'a [(&'a str, i64, i64)],
    tenders: &'a [(u8, i64)],
}

const fn basket<'a>(
    minute: i64,
    receipt: u64,
    kind: u8,
    lines: &'a [(&'a str, i64, i64)],
    tenders: &'a [(u8, i64)],
) -> Basket<'a> {
    Basket {
        minute,
        receipt,
        kind,
        lines,
        tenders,
    }
}

impl Basket<'_> {
    async fn send(&self, till: &Terminal, change: impl FnOnce(&mut Sale)) -> Result<()> {
        let mut sale = Sale {
            at: FIVE_US + self.minute * MINUTE_US,
            receipt: self.receipt,
            kind: self.kind,
            ..Sale::default()
        };
        change(&mut sale);
        let lines: Vec<Line> = self.lines.iter().map(|line| line_of(*line)).collect();
        let tenders: Vec<Tender> = self
            .tenders
            .iter()
            .map(|(kind, amount)| Tender {
                amount: *amount,
                kind: *kind,
                flags: 0,
            })
            .collect();
        let codes = (0_u16..).zip(self.lines);
        let texts: Vec<_> = codes.map(|(at, (code, ..))| sku_code(at, code)).collect();
        let parts = SaleParts {
            sale,
            lines: &lines,
            tenders: &tenders,
            texts: &texts,
            ..SaleParts::default()
        };
        till.sale(&parts).await?;
        Ok(())
    }
}

fn line_of((code, pieces, amount): (&str, i64, i64)) -> Line {
    Line {
        sku: SkuId::of_code(code).get(),
        quantity: pieces * ONE,
        amount,
        kind: if pieces < 0 {
            line_kind::RETURN
        } else {
            line_kind::SALE
        },
        unit: 1,
        ..Line::default()
    }
}

async fn moved(till: &Terminal, kind: u8, code: &str, quantity: i64, minute: i64) -> Result<()> {
    let record = Move {
        at: FIVE_US + minute * MINUTE_US,
        sku: SkuId::of_code(code).get(),
        quantity,
        kind,
        unit: 1,
        ..Move::default()
    };
    till.stock(record, &[], &[sku_code(WHOLE_EVENT, code)])
        .await?;
    Ok(())
}

async fn trade(tills: &Tills) -> Result<()> {
    let (first, second, third) = (tills.till(1, 1)?, tills.till(1, 2)?, tills.till(1, 3)?);
    moved(&second, stock::RECEIVED, "APPLE", 10 * ONE, 0).await?;
    second.flush().await?;
    let cash = tender::CASH;
    let two = [("APPLE", 2, 600), ("PEAR", 1, 200)];
    basket(30, 1, kind::SALE, &two, &[(cash, 800)])
        .send(&first, |_| {})
        .await?;
    // The same local hour once more, an hour later. A cent is left over; the largest tender takes it.
    let split = [(tender::CARD, 33), (cash, 34), (tender::CARD, 33)];
    basket(90, 2, kind::SALE, &[("APPLE", 1, 100)], &split)
        .send(&first, |_| {})
        .await?;
    let back = [("APPLE", -1, -300)];
    basket(600, 3, kind::RETURN, &back, &[(cash, -300)])
        .send(&first, |_| {})
        .await?;
    basket(601, 4, kind::VOID, &two, &[(cash, 800)])
        .send(&first, |_| {})
        .await?;
    basket(602, 5, kind::SALE, &two, &[(cash, 800)])
        .send(&first, |sale| sale.flags = flag::TRAINING)
        .await?;
    basket(120, 6, kind::SALE, &[("PEAR", 1, 200)], &[(cash, 200)])
        .send(&first, |sale| sale.business_day = HALLOWEEN)
        .await?;
    first.flush().await?;
    // A count that arrives late, then a sale before it that arrives later still.
    moved(&second, stock::COUNTED, "APPLE", 7 * ONE, 45).await?;
    moved(&second, stock::RESERVED, "PEAR", 3 * ONE, 50).await?;
    moved(&second, stock::RELEASED, "PEAR", ONE, 51).await?;
    // A level out of range waits, and what comes after it.
    for quantity in [HUGE, HUGE, -HUGE] {
        moved(&second, stock::ADJUSTED, "GOLD", quantity, 52).await?;
    }
    second.flush().await?;
    basket(40, 7, kind::SALE, &[("APPLE", 1, 300)], &[(cash, 300)])
        .send(&third, |_| {})
        .await?;
    third.flush().await?;
    Ok(())
}

/// The fields that a test names, of every row.
fn fields(data: &Path, question: &[&str], names: &[&str]) -> Result<Vec<Value>> {
    let rows = values(data, question)?;
    let one = |row: &Value| {
        let found = names
            .iter()
            .map(|name| row.get(*name).cloned().unwrap_or(Value::Null));
        Value::Array(found.collect())
    };
    Ok(rows.iter().map(one).collect())
}

fn expect(data: &Path, question: &[&str], names: &[&str], expected: &Value) -> Result<()> {
    let found = Value::Array(fields(data, question, names)?);
    ensure!(
        found == *expected,
        "{question:?} {names:?}: {found}, not {expected}"
    );
    Ok(())
}

fn check_sales(data: &Path) -> Result<()> {
    let by = |key: &str, expected: Value| {
        let question = ["query", "sales", "--by", key];
        expect(
            data,
            &question,
            &[key, "net_minor", "transactions", "lines", "quantity"],
            &expected,
        )
    };
    expect(
        data,
        &["query", "sales", "--by", "total"],
        &["currency", "net_minor", "transactions", "lines", "quantity"],
        &json!([["USD", 1_100, 5, 6, "5"]]),
    )?;
    by(
        "day",
        json!([
            ["2026-10-31", 200, 1, 1, "1"],
            ["2026-11-01", 900, 4, 5, "4"]
        ]),
    )?;
    by(
        "hour",
        json!([
            ["2026-11-01T01:00:00-04:00", 1_100, 2, 3, "4"],
            ["2026-11-01T01:00:00-05:00", 100, 1, 1, "1"],
            ["2026-11-01T02:00:00-05:00", 200, 1, 1, "1"],
            ["2026-11-01T10:00:00-05:00", -300, 1, 1, "-1"],
        ]),
    )?;
    by(
        "sku",
        json!([["APPLE", 700, 4, 4, "3"], ["PEAR", 400, 2, 2, "2"]]),
    )?;
    expect(
        data,
        &["query", "sales", "--by", "tender"],
        &["tender", "net_minor", "transactions", "lines"],
        &json!([["card", 66, 1, 0], ["cash", 1_034, 5, 6]]),
    )?;
    // A bound within an hour, and one within the hour that comes twice.
    expect(
        data,
        &[
            "query",
            "sales",
            "--from",
            "2026-11-01T05:35:00Z",
            "--to",
            "2026-11-01T06:30:01Z",
        ],
        &["net_minor", "transactions"],
        &json!([[400, 2]]),
    )?;
    expect(
        data,
        &["query", "transaction", "--receipt", "5"],
        &["outcome", "flags", "terminal"],
        &json!([["applied", ["late", "training"], 1]]),
    )
}

fn check_stock(data: &Path, gold: &str, gold_flags: &Value) -> Result<()> {
    expect(
        data,
        &["query", "stock", "--store", "1"],
        &["sku", "quantity", "reserved", "flags"],
        &json!([
            ["APPLE", "7", "0", []],
            ["GOLD", gold, "0", gold_flags],
            ["PEAR", "-2", "2", ["negative"]],
        ]),
    )
}

/// Overwrites the middle of every file of the rows that has one.
fn damage(rows: &Path) -> Result<()> {
    for entry in fs::read_dir(rows)? {
        let path = entry?.path();
        if path.is_dir() {
            damage(&path)?;
        } else {
            let mut bytes = fs::read(&path)?;
            let from = bytes.len() / 4;
            bytes.iter_mut().skip(from).for_each(|byte| *byte ^= 0x55);
            fs::write(&path, bytes)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_at_three_tills_is_answered_to_the_cent_however_it_is_asked() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--time-zone",
        "America/New_York",
    ];
    let engine = Engine::start_with(&data, &arguments)?;
    let tills = Tills::open(&engine)?;
    trade(&tills).await?;
    tills.link.close().await;

    check_sales(&data)?;
    check_stock(&data, "92233720368547.75806", &json!(["parked"]))?;
    let waiting = values(&data, &["quarantine", "list"])?;
    ensure!(waiting.len() == 2, "{waiting:?}");
    let beside = Command::new(command("tillstream")?)
        .args(["rebuild", "--data", text(&data)?])
        .output()?;
    let complaint = String::from_utf8_lossy(&beside.stderr).into_owned();
    ensure!(
        !beside.status.success() && complaint.contains("stop it first"),
        "rebuild beside an engine says {complaint:?}"
    );
    let before = everything(&data, 1)?;
    engine.kill()?;
    same("asked without an engine", &everything(&data, 1)?, &before)?;
    rebuild(&data)?;
    same("rebuilt while lines wait", &everything(&data, 1)?, &before)?;

    let engine = Engine::start_with(&data, &arguments)?;
    let (retried, _) = json_of(
        "tillstream",
        &["quarantine", "retry", "--data", text(&data)?, "--json"],
    )?;
    ensure!(
        retried == json!({"applied": 2, "quarantined": 0}),
        "{retried}"
    );
    ensure!(
        rows(&data, &["quarantine", "list"])? == "{\"rows\":[]",
        "something waits still"
    );
    check_stock(&data, "92233720368547.75806", &json!([]))?;
    check_sales(&data)?;
    let after = everything(&data, 1)?;
    engine.kill()?;
    same("killed after a retry", &everything(&data, 1)?, &after)?;
    rebuild(&data)?;
    same("rebuilt after a retry", &everything(&data, 1)?, &after)?;

    damage(&data.join("rows"))?;
    let engine = Engine::start_with(&data, &arguments)?;
    let log = engine.log();
    ensure!(
        log.contains("moved aside"),
        "rows that do not open are not mentioned:\n{log}"
    );
    same("rows that do not open", &everything(&data, 1)?, &after)?;
    engine.stop().context("after damage")
}
