//! What happens at tills and shelves, and what must be in the books: worked out by hand here.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use till_protocol::family::sale::v1::{extra, kind, line_kind, tender};
use till_protocol::family::{stock::v1::flag, text};
use till_tests::basket::{moved, pad, stock, stock_flagged};
use till_tests::{Answers, Basket, Engine, Home, Question, Wire};

use crate::chain::says;

/// `rows` of an answer, as JSON.
pub(crate) fn rows(engine: &Engine, words: &str) -> Result<Value> {
    let answers = Answers::of_engine(engine, &[Question::new(words)])?;
    Ok(serde_json::from_str(answers.rows(words)?)?)
}

pub(crate) fn must_be(engine: &Engine, words: &str, expected: &Value) -> Result<()> {
    let found = rows(engine, words)?;
    ensure!(found == *expected, "{words}:\n{found}\nis not\n{expected}");
    Ok(())
}

/// A row of sales: key, its value, currency, then transactions, lines, quantity, net, discount, tax.
fn row(key: &str, value: &str, currency: &str, sums: [i64; 6]) -> Value {
    let [transactions, lines, quantity, net, discount, tax] = sums;
    let mut row = json!({"currency": currency, "transactions": transactions, "lines": lines,
        "quantity": quantity.to_string(), "net_minor": net, "discount_minor": discount, "tax_minor": tax});
    if let Some(fields) = row.as_object_mut() {
        fields.insert(key.to_owned(), json!(value));
    }
    row
}

/// A row of single-piece sales.
fn sold(key: &str, value: &str, currency: &str, sales: i64, net: i64) -> Value {
    row(key, value, currency, [sales, sales, sales, net, 0, 0])
}

fn questions() -> Vec<Question> {
    till_tests::questions(&[11, 12, 13], &["B1", "B4", "B5", "B7"])
}

/// One piece for so many minor units, paid in cash.
pub(crate) fn piece(at: &str, code: &str, amount: i64) -> Result<Basket> {
    Ok(Basket::at(at)?
        .line(code, 1, amount)
        .paid(tender::CASH, amount))
}

/// Sales around both clock changes of a year, and around a midnight that is no whole hour from UTC.
fn around_midnights(home: &Home, engine: &Engine) -> Result<()> {
    let wire = Wire::to(engine)?;
    let vienna = wire.till_with(11, 1, &home.beside("vienna"), says("EUR", "Europe/Vienna")?)?;
    for (at, amount) in [
        ("2026-03-28T23:30:00Z", 400), // 00:30 of the 29th
        ("2026-03-29T00:59:59Z", 100), // 01:59:59, a second before the hour that is left out
        ("2026-03-29T01:00:00Z", 200), // 03:00
        ("2026-03-29T22:30:00Z", 800), // 00:30 of the 30th
        ("2026-10-24T22:00:00Z", 40),  // midnight
        ("2026-10-25T00:30:00Z", 10),  // 02:30 in summer
        ("2026-10-25T01:30:00Z", 20),  // 02:30 again, in winter
        ("2026-10-25T22:59:59Z", 80),
        ("2026-10-25T23:00:00Z", 160), // midnight of a day of 25 hours
    ] {
        piece(at, "TEA", amount)?.send(&vienna)?;
    }
    // After midnight, and still the day before by the till's books: 2026-03-29 is day 20541.
    let mut late = piece("2026-03-29T22:45:00Z", "TEA", 1_600)?;
    late.sale.business_day = 20_541;
    late.send(&vienna)?;
    vienna.committed()?;
    let india = wire.till_with(13, 1, &home.beside("india"), says("INR", "Asia/Kolkata")?)?;
    piece("2026-05-05T18:29:59Z", "TEA", 1)?.send(&india)?;
    piece("2026-05-05T18:30:00Z", "TEA", 2)?.send(&india)?;
    india.committed()?;
    Ok(())
}

#[test]
fn hours_and_days_are_the_stores_own_across_both_clock_changes() -> Result<()> {
    let home = Home::new()?;
    let engine = home.start()?;
    around_midnights(&home, &engine)?;

    must_be(
        &engine,
        "sales --by day --store 11",
        &json!([
            sold("day", "2026-03-29", "EUR", 4, 2_300),
            sold("day", "2026-03-30", "EUR", 1, 800),
            sold("day", "2026-10-25", "EUR", 4, 150),
            sold("day", "2026-10-26", "EUR", 1, 160),
        ]),
    )?;
    must_be(
        &engine,
        "sales --by hour --store 11",
        &json!([
            sold("hour", "2026-03-29T00:00:00+01:00", "EUR", 1, 400),
            sold("hour", "2026-03-29T01:00:00+01:00", "EUR", 1, 100),
            sold("hour", "2026-03-29T03:00:00+02:00", "EUR", 1, 200),
            sold("hour", "2026-03-30T00:00:00+02:00", "EUR", 2, 2_400),
            sold("hour", "2026-10-25T00:00:00+02:00", "EUR", 1, 40),
            sold("hour", "2026-10-25T02:00:00+02:00", "EUR", 1, 10),
            sold("hour", "2026-10-25T02:00:00+01:00", "EUR", 1, 20),
            sold("hour", "2026-10-25T23:00:00+01:00", "EUR", 1, 80),
            sold("hour", "2026-10-26T00:00:00+01:00", "EUR", 1, 160),
        ]),
    )?;
    must_be(
        &engine,
        "sales --by hour --store 13",
        &json!([
            sold("hour", "2026-05-05T23:00:00+05:30", "INR", 1, 1),
            sold("hour", "2026-05-06T00:00:00+05:30", "INR", 1, 2),
        ]),
    )?;
    // Never summed over currencies; from is inclusive and to is not, by business day and by instant, also inside an hour.
    must_be(
        &engine,
        "sales --by total",
        &json!([
            sold("currency", "EUR", "EUR", 10, 3_410),
            sold("currency", "INR", "INR", 2, 3),
        ]),
    )?;
    for (span, sales, net) in [
        ("--from 2026-10-25 --to 2026-10-26", 4, 150),
        (
            "--from 2026-10-25T01:00:00Z --to 2026-10-25T02:00:00Z",
            1,
            20,
        ),
        (
            "--from 2026-10-25T00:30:00Z --to 2026-10-25T01:30:00Z",
            1,
            10,
        ),
        (
            "--from 2026-10-25T00:30:01Z --to 2026-10-25T22:59:59Z",
            1,
            20,
        ),
    ] {
        let words = format!("sales --by total --store 11 {span}");
        must_be(
            &engine,
            &words,
            &json!([sold("currency", "EUR", "EUR", sales, net)]),
        )?;
    }
    home.prove(engine, &questions())?.0.stop()
}

/// Sends a morning of every kind of transaction.
fn every_kind(home: &Home, engine: &Engine) -> Result<()> {
    let wire = Wire::to(engine)?;
    let till = wire.till_with(
        12,
        1,
        &home.beside("york"),
        says("USD", "America/New_York")?,
    )?;
    let at = |receipt: &str| -> Result<Basket> {
        Ok(Basket::at("2026-05-05T15:00:00Z")?.text(text::RECEIPT, receipt))
    };
    // Due 1000 - 7 + 9 = 1002: 100 in cash, 902 by card. Largest remainder: cash has 99.8 of the net, 0.7 and 0.9 of the rest.
    let split = at("B1")?.line("A", 2, 1_000).off(None, 7).tax(None, 9);
    split
        .paid(tender::CASH, 100)
        .paid(tender::CARD, 902)
        .send(&till)?;
    // 2000 in cash with 1600 back; 700 by card with a tip of 100.
    let change = at("B2")?
        .line("A", 1, 1_000)
        .paid(tender::CASH, 2_000)
        .of_it(extra::CHANGE, 1_600);
    change
        .paid(tender::CARD, 700)
        .of_it(extra::TIP, 100)
        .send(&till)?;
    let back = at("B3")?
        .kind(kind::RETURN)
        .entry(line_kind::RETURN, "A", -1, -500);
    back.paid(tender::CASH, -500).send(&till)?;
    at("B4")?
        .kind(kind::VOID)
        .line("A", 9, 9_999)
        .paid(tender::CASH, 9_999)
        .send(&till)?;
    at("B5")?
        .training()
        .line("A", 7, 700)
        .paid(tender::CASH, 700)
        .send(&till)?;
    let struck = at("B6")?
        .line("A", 1, 300)
        .entry(line_kind::VOID, "B", 1, 999);
    struck.paid(tender::CASH, 300).send(&till)?;
    at("B7")?
        .line("A", 1, 100)
        .paid(tender::CASH, 90)
        .send(&till)?;
    let swap = at("B8")?
        .kind(kind::EXCHANGE)
        .entry(line_kind::RETURN, "A", -1, -1_000);
    swap.line("B", 1, 1_200)
        .paid(tender::CARD, 200)
        .send(&till)?;
    till.committed()?;
    till.close()
}

#[test]
fn every_kind_of_transaction_counts_as_it_should() -> Result<()> {
    let home = Home::new()?;
    let engine = home.start()?;
    every_kind(&home, &engine)?;
    must_be(
        &engine,
        "sales --by total",
        &json!([row("currency", "USD", "USD", [6, 7, 4, 2_100, 7, 9]),]),
    )?;
    must_be(
        &engine,
        "sales --by tender",
        &json!([
            row("tender", "card", "USD", [3, 4, 3, 1_700, 6, 8]),
            row("tender", "cash", "USD", [5, 3, 1, 400, 1, 1]),
        ]),
    )?;
    must_be(
        &engine,
        "sales --by sku",
        &json!([
            row("sku", "A", "USD", [6, 6, 3, 900, 0, 0]),
            row("sku", "B", "USD", [1, 1, 1, 1_200, 0, 0]),
        ]),
    )?;
    must_be(
        &engine,
        "sales --by day",
        &json!([row("day", "2026-05-05", "USD", [6, 7, 4, 2_100, 7, 9]),]),
    )?;
    must_be(
        &engine,
        "sales --by hour",
        &json!([row(
            "hour",
            "2026-05-05T11:00:00-04:00",
            "USD",
            [6, 7, 4, 2_100, 7, 9]
        ),]),
    )?;
    let (engine, _) = home.prove(engine, &questions())?;
    // Goods that left without a count make a level below zero: shown, flagged, never refused. What was void or training moved nothing.
    let stock = rows(&engine, "stock --store 12")?;
    for (at, sku, quantity) in [(0, "A", "-3"), (1, "B", "-1")] {
        let row = stock.get(at).context("too few rows")?;
        let found = (row.get("sku"), row.get("quantity"), row.get("flags"));
        let expected = (
            Some(&json!(sku)),
            Some(&json!(quantity)),
            Some(&json!(["negative"])),
        );
        ensure!(found == expected, "{stock}");
    }
    let stores = rows(&engine, "stores")?;
    let training = (
        stores.pointer("/0/training/transactions"),
        stores.pointer("/0/training/net_minor"),
    );
    ensure!(training == (Some(&json!(1)), Some(&json!(700))), "{stores}");
    for (receipt, flag) in [("B5", "training"), ("B7", "unbalanced")] {
        let shown = rows(&engine, &format!("transaction --receipt {receipt}"))?;
        let flags = shown.pointer("/0/flags").and_then(Value::as_array);
        let flags = flags.with_context(|| format!("{receipt}: {shown}"))?;
        ensure!(flags.contains(&json!(flag)), "{receipt}: {shown}");
    }
    engine.stop()
}

/// Pieces and reserved pieces of a SKU in store 21.
fn level(engine: &Engine, sku: &str) -> Result<(String, String)> {
    let rows = rows(engine, &format!("stock --store 21 --sku {sku}"))?;
    let text = |name: &str| -> Result<String> {
        let value = rows.pointer(&format!("/0/{name}")).and_then(Value::as_str);
        Ok(value.with_context(|| format!("{sku}: {rows}"))?.to_owned())
    };
    Ok((text("quantity")?, text("reserved")?))
}

fn levels(engine: &Engine, expected: &[(&str, &str, &str)]) -> Result<()> {
    for (sku, quantity, reserved) in expected {
        let found = level(engine, sku)?;
        ensure!(
            (found.0.as_str(), found.1.as_str()) == (*quantity, *reserved),
            "{sku}: {found:?} is not {quantity}, {reserved}"
        );
    }
    Ok(())
}

fn at(time: &str) -> String {
    format!("2026-06-01T{time}:00Z")
}

/// Sends what makes the levels below, in an order in which much comes late.
fn shelves(home: &Home, engine: &Engine) -> Result<()> {
    let wire = Wire::to(engine)?;
    let one = wire.till(21, 1, &home.beside("shelf-1"))?;
    let two = wire.till(21, 2, &home.beside("shelf-2"))?;
    stock(&one, &at("08:00"), moved::RECEIVED, "LATE", 10)?;
    stock(&one, &at("08:00"), moved::RECEIVED, "OLD", 10)?;
    stock(&one, &at("08:00"), moved::COUNTED, "HOT", 1_000)?;
    one.committed()?;
    Basket::at(&at("10:00"))?
        .line("LATE", 3, 300)
        .line("OLD", 4, 400)
        .send(&two)?;
    two.committed()?;
    // The count is older than the sale and comes after it; then sales from before and after the count.
    stock(&one, &at("09:00"), moved::COUNTED, "LATE", 50)?;
    one.committed()?;
    Basket::at(&at("08:30"))?.line("LATE", 5, 500).send(&two)?;
    Basket::at(&at("09:30"))?.line("LATE", 2, 200).send(&two)?;
    Basket::at(&at("09:30"))?.line("NEG", 4, 400).send(&two)?;
    stock(&one, &at("08:00"), moved::COUNTED, "RES", 10)?;
    stock(&one, &at("08:10"), moved::RESERVED, "RES", 4)?;
    stock(&one, &at("08:20"), moved::RELEASED, "RES", 1)?;
    stock(&one, &at("08:00"), moved::COUNTED, "TIE", 5)?;
    stock(&one, &at("08:00"), moved::COUNTED, "TIE", 7)?;
    stock_flagged(
        &one,
        &at("09:00"),
        moved::COUNTED,
        "TIE",
        99,
        flag::TRAINING,
    )?;
    for (kind, pieces) in [
        (moved::RECEIVED, 100),
        (moved::ADJUSTED, -7),
        (moved::TRANSFER_OUT, 20),
        (moved::TRANSFER_IN, 3),
        (moved::WASTE, 1),
    ] {
        stock(&one, &at("08:00"), kind, "MOVED", pieces)?;
    }
    for n in 0..150 {
        let till = if n % 2 == 0 { &one } else { &two };
        Basket::at(&at("09:00"))?
            .line("HOT", 1 + n % 2, 100)
            .send(till)?;
    }
    one.committed()?;
    two.committed()?;
    one.close()?;
    two.close()
}

const LEVELS: [(&str, &str, &str); 7] = [
    ("LATE", "45", "0"), // 50 - 3 - 2
    ("OLD", "6", "0"),
    ("NEG", "-4", "0"),
    ("RES", "10", "3"),
    ("TIE", "7", "0"),
    ("MOVED", "75", "0"),
    ("HOT", "775", "0"), // 1000 - 75 - 150
];

#[test]
fn levels_are_the_last_count_and_what_moved_after_it_in_whatever_order_it_comes() -> Result<()> {
    let home = Home::new()?;
    let ask = till_tests::questions(&[21], &[]);
    let engine = home.start()?;
    shelves(&home, &engine)?;
    levels(&engine, &LEVELS)?;
    let (engine, _) = home.prove(engine, &ask)?;
    levels(&engine, &LEVELS)?;

    // All of it is dropped; then counts come that are older than anything that is left.
    let wire = Wire::to(&engine)?;
    let padding = wire.till(21, 9, &home.beside("padding"))?;
    pad(&padding, &at("12:00"), 2_500_000)?;
    padding.committed()?;
    padding.close()?;
    engine.stop()?;
    home.forget()?;
    let engine = home.start()?;
    levels(&engine, &LEVELS)?;
    let wire = Wire::to(&engine)?;
    let one = wire.till(21, 1, &home.beside("shelf-1"))?;
    stock(&one, &at("07:00"), moved::COUNTED, "LATE", 99)?;
    stock(&one, &at("09:00"), moved::COUNTED, "OLD", 20)?;
    one.committed()?;
    one.close()?;
    // The count of LATE is older than the one that counts; after that of OLD four pieces were sold, in a later hour.
    let after = [("LATE", "45", "0"), ("OLD", "16", "0"), ("HOT", "775", "0")];
    levels(&engine, &after)?;
    let (engine, _) = home.prove(engine, &ask)?;
    levels(&engine, &after)?;
    engine.stop()
}
