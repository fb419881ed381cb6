//! A file of transaction lines: exact totals, once.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use till_tests::json_of;

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
