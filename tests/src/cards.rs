//! Card numbers in every field that there is, and the search for what is left of them.

mod search;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_client::Event;
use till_protocol::card::{is_gs1, is_suspect};
use till_protocol::family::sale::v1::tender;
use till_protocol::family::{WHOLE_EVENT, device, reference, sensor, text};

use self::search::{leaks, needles, search, search_rows};
use crate::basket::{moved, reference as refer, stock, us, views};
use crate::{Answers, Basket, Engine, Home, Question, Till, Wire, command, complaint};

/// Columns of a file of transaction lines.
const HEADER: &str = "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,discount_amount,tax_amount,tender,\
                      customer_id";

/// Numbers that the card schemes publish for tests.
const CARDS: [&str; 6] = [
    "4111111111111111",
    "5555555555554444",
    "378282246310005",
    "6011111111111117",
    "3530111333300000",
    "30569309025904",
];

const STORE: u32 = 41;

/// A number as people, machines and readers write it, and how many bytes at its end may stay.
fn dressed(card: &str) -> Vec<String> {
    let digits = |zero: u32| -> String {
        let of = |digit: char| char::from_u32(zero + digit.to_digit(10).unwrap_or(0));
        card.chars().filter_map(of).collect()
    };
    let groups = |with: &str| -> String {
        let parts: Vec<String> = (0..card.len())
            .step_by(4)
            .map(|at| card.chars().skip(at).take(4).collect())
            .collect();
        parts.join(with)
    };
    let mut all = vec![
        card.to_owned(),
        groups(" "),
        groups("-"),
        groups("\u{a0}"),
        format!("{card}=25121010000012345678"),
        format!(";{card}=25121010000012345678?"),
        format!("%B{card}^DOE/JANE^25121010?"),
        digits(0xff10),
        digits(0x0660),
        digits(0x1d7ce),
    ];
    all.retain(|text| text.len() <= 64);
    all
}

/// A card in every text and reference that an event may carry. Each event has a receipt or document of its own.
fn every_field(till: &Till<'_>, card: &str, number: usize) -> Result<u64> {
    let mut events = 0;
    for kind in [
        text::TENDER_NAME,
        text::TENDER_REFERENCE,
        text::DOCUMENT,
        text::NOTE,
        text::RECEIPT,
    ] {
        let mut basket = Basket::at("2026-06-01T08:00:00Z")?.line("TEA", 1, 100);
        basket = basket.paid(
            if kind == text::TENDER_NAME {
                tender::NAMED
            } else {
                tender::CARD
            },
            100,
        );
        let item = if matches!(kind, text::TENDER_NAME | text::TENDER_REFERENCE) {
            0
        } else {
            WHOLE_EVENT
        };
        basket = basket.item_text(item, kind, card);
        if kind != text::RECEIPT {
            basket = basket.text(text::RECEIPT, &format!("GOOD-{number}-{kind}"));
        }
        basket.texts.sort_by_key(|(item, kind, _)| (*item, *kind));
        basket.send(till)?;
        events += 1;
    }
    Basket::at("2026-06-01T08:00:00Z")?
        .line(card, 1, 100)
        .paid(tender::CARD, 100)
        .send(till)?;
    let texts = [
        (WHOLE_EVENT, text::DOCUMENT, card.to_owned()),
        (WHOLE_EVENT, text::NOTE, card.to_owned()),
    ];
    let texts = views(&texts);
    let at = us("2026-06-01T08:00:00Z")?;
    let sign = device::v1::Sign {
        at,
        kind: device::v1::kind::FAULT,
        ..device::v1::Sign::default()
    };
    till.send(Event::Device(sign, &[], &texts))?;
    let reading = sensor::v1::Reading {
        at,
        kind: sensor::v1::kind::DOOR,
        ..sensor::v1::Reading::default()
    };
    till.send(Event::Sensor(reading, &[], &texts))?;
    Ok(events + 1)
}

/// Cards in 16-byte references.
fn references(till: &Till<'_>) -> Result<u64> {
    let mut sent = 0;
    for card in CARDS.iter().filter(|card| card.len() <= 16) {
        let mut value = [0; 16];
        value
            .iter_mut()
            .zip(card.bytes())
            .for_each(|(place, byte)| *place = byte);
        let basket = Basket::at("2026-06-01T08:00:00Z")?
            .line("TEA", 1, 100)
            .paid(tender::CARD, 100);
        let basket = basket.reference(reference::CUSTOMER, value);
        basket.reference(reference::APPROVER, value).send(till)?;
        let refs = [refer(reference::EVENT_ID, value)];
        let sign = device::v1::Sign {
            at: us("2026-06-01T08:00:00Z")?,
            kind: device::v1::kind::HEARTBEAT,
            ..device::v1::Sign::default()
        };
        till.send(Event::Device(sign, &refs, &[]))?;
        sent += 1;
    }
    Ok(sent)
}

/// Words of a Hello and questions to the admin port and the command line: asked for, not stored, and not logged.
fn asked(home: &Home, engine: &Engine) -> Result<()> {
    let wire = Wire::to(engine)?;
    for (number, card) in (50_u32..).zip(CARDS) {
        let outbox = home.beside(&format!("hello-{number}"));
        let till = wire.till_with(number, 1, &outbox, |says| says.zone = card.to_owned())?;
        till.turned_away()?;
        till.close()?;
        for path in [
            format!("transactions?receipt={card}"),
            format!("stock?store={STORE}&sku={card}"),
            format!("sales?by={card}"),
            format!("sales?from={card}"),
            format!("{card}?{card}={card}"),
        ] {
            // Most of these are errors, and meant to be.
            drop(engine.get_text(&format!("/api/v1/{path}")));
        }
        let output = home.run(
            "tillstream",
            &["query", "transaction", "--receipt", card, "--json"],
        )?;
        ensure!(output.status.success(), "{}", complaint(&output));
    }
    Ok(())
}

/// A file with a card in each column that is text; gives what the loader said.
fn replayed(home: &Home, engine: &Engine) -> Result<String> {
    let mut lines = format!("{HEADER}\n");
    for (n, card) in CARDS.iter().enumerate() {
        for column in ["receipt", "sku", "tender", "customer"] {
            let is = |name: &str, other: String| {
                if column == name {
                    (*card).to_owned()
                } else {
                    other
                }
            };
            lines.push_str(&format!(
                "{STORE},9,{},2026-06-01T08:00:00Z,{},1,1.00,,,{},{}\n",
                is("receipt", format!("F-{n}-{column}")),
                is("sku", "TEA".to_owned()),
                is("tender", "cash".to_owned()),
                is("customer", "c".to_owned()),
            ));
        }
    }
    let file = home.beside("cards.csv");
    fs::write(&file, lines)?;
    let output = Command::new(command("tillload")?)
        .args(["replay", "--json", "--file"])
        .arg(&file)
        .args(["--addr", &engine.quic.to_string(), "--identity"])
        .arg(&engine.identity)
        .output()?;
    ensure!(output.status.success(), "{}", complaint(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &complaint(&output))
}

/// Every card in every field, over the wire; gives the number of sales.
fn sent(home: &Home, engine: &Engine) -> Result<u64> {
    let mut sales = 0;
    let wire = Wire::to(engine)?;
    let texts = CARDS.iter().flat_map(|card| dressed(card));
    for (number, card) in (0..).zip(texts) {
        let till = u32::try_from(number)? + 1;
        let till = wire.till(STORE, till, &home.beside(&format!("card-{number}")))?;
        sales += every_field(&till, &card, number)?;
        // In a later frame than the one in which the code was named first.
        stock(&till, "2026-06-01T08:00:00Z", moved::RECEIVED, &card, 1)?;
        till.committed()?;
        till.close()?;
    }
    let till = wire.till(STORE, 900, &home.beside("references"))?;
    sales += references(&till)?;
    till.committed()?;
    till.close()?;
    Ok(sales)
}

/// What a run with cards in every field came to.
#[derive(Debug)]
pub struct Swept {
    /// Sales that carried one.
    pub sales: u64,
    /// Bytes of files and words that were searched.
    pub searched: u64,
    /// Places in which card data lies.
    pub leaks: Vec<String>,
}

/// Sends every card in every field, by wire, file and question, and searches what the engine wrote and said: once as a crash
/// leaves it, and once after everything was rebuilt.
///
/// # Errors
/// When an honest sale with a card in it is not taken, or answers change.
pub fn sweep(home: &Home) -> Result<Swept> {
    let engine = home.start_with(&["--log", "trace"])?;
    let sales = sent(home, &engine)?;
    let said = replayed(home, &engine)?;
    let in_file = u64::try_from(CARDS.len() * 4)?;
    asked(home, &engine)?;

    let ask = crate::questions(&[STORE], &["GOOD-0-6", "GOOD-9-4"]);
    let before = Answers::of_engine(&engine, &ask)?;
    let total: Value = serde_json::from_str(before.rows("sales --by total")?)?;
    let found = total.pointer("/0/transactions").and_then(Value::as_u64);
    ensure!(
        found == Some(sales + in_file),
        "{sales} + {in_file} sales, but {total}"
    );
    for receipt in ["GOOD-0-6", "GOOD-9-4"] {
        let shown = before.rows(&format!("transaction --receipt {receipt}"))?;
        ensure!(shown.contains("card_masked"), "{receipt}: {shown}");
    }

    // Once as a crash leaves it, with the rows' own journal; once after everything was rebuilt and written out.
    let needles = needles();
    engine.kill()?;
    let mut leaked = Vec::new();
    leaks(
        "what the loader said",
        said.as_bytes(),
        &needles,
        &mut leaked,
    );
    let mut searched = search(&home.data, &needles, &mut leaked)?;
    ensure!(searched > 50_000, "searched {searched} bytes only");
    home.delete_rows()?;
    home.rebuild()?;
    let engine = home.start()?;
    before.must_equal(&Answers::of_engine(&engine, &ask)?)?;
    engine.stop()?;
    searched += search(&home.data, &needles, &mut leaked)?;
    searched += search_rows(&home.data.join("rows"), &needles, &mut leaked)?;
    leaked.sort();
    leaked.dedup();
    Ok(Swept {
        sales: sales + in_file,
        searched,
        leaks: leaked,
    })
}

/// What became of barcodes.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Barcodes that were sent.
    pub sent: usize,
    /// Of these, those whose digits alone would pass for a card.
    pub suspects: usize,
    /// Those that came back as they were, also after a rebuild.
    pub kept: usize,
}

/// Sends barcodes that begin like cards, and asks for them.
///
/// # Errors
/// When one is not taken, or answers change.
pub fn barcodes(home: &Home, count: u64) -> Result<Kept> {
    let engine = home.start()?;
    let wire = Wire::to(&engine)?;
    let till = wire.till(STORE, 1, &home.beside("shelf"))?;
    let mut sent = BTreeSet::new();
    for n in 0..count {
        let starts = ["4", "51", "37", "6011", "36"];
        let start = starts.get(usize::try_from(n % 5)?).context("no start")?;
        let digits = format!(
            "{:013}",
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 10_000_000_000_000
        );
        let length = 12 + usize::from(n % 2 == 0);
        let body: String = start.chars().chain(digits.chars()).take(length).collect();
        let code = with_check_digit(&body)?;
        stock(&till, "2026-06-01T08:00:00Z", moved::RECEIVED, &code, 1)?;
        sent.insert(code);
    }
    let suspects = sent.iter().filter(|code| is_suspect(code)).count();
    till.committed()?;
    let words = format!("stock --store {STORE}");
    let ask = [Question::new(&words)];
    let (engine, answers) = home.prove(engine, &ask)?;
    let rows: Value = serde_json::from_str(answers.rows(&words)?)?;
    let codes = rows.as_array().context("no rows")?.iter();
    let codes: BTreeSet<String> = codes
        .filter_map(|row| row.get("sku").and_then(Value::as_str).map(str::to_owned))
        .collect();
    ensure!(
        !answers.rows(&words)?.contains("unnamed"),
        "a code lost its name"
    );
    engine.stop()?;
    Ok(Kept {
        sent: sent.len(),
        suspects,
        kept: codes.intersection(&sent).count(),
    })
}

/// The GTIN of a body of digits.
fn with_check_digit(body: &str) -> Result<String> {
    let codes = (0..10).map(|digit| format!("{body}{digit}"));
    codes
        .into_iter()
        .find(|code| is_gs1(code))
        .context("no digit fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search that would find nothing proves nothing.
    #[test]
    fn the_search_finds_what_it_looks_for() {
        for card in CARDS {
            for text in dressed(card) {
                let mut found = Vec::new();
                let around = format!("before {text} behind");
                leaks("a file", around.as_bytes(), &needles(), &mut found);
                assert!(!found.is_empty(), "{text} is not found");
            }
        }
    }
}
