//! A small chain with a known day: what it sends, and by its own arithmetic what must come out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_client::{Event, SessionConfig};
use till_protocol::currency::Currency;
use till_protocol::family::device;
use till_protocol::family::sale::v1::{kind, line_kind, tender};
use till_protocol::family::text;
use till_tests::basket::{moved, stock};
use till_tests::{Answers, Basket, Engine, Home, Till, Wire, copy_folder, json_of};

use crate::{number, truth};

/// Tills with outboxes: store, till, currency, zone.
pub(crate) const TILLS: [(u32, u32, &str, &str); 3] = [
    (1, 1, "EUR", "Europe/Vienna"),
    (1, 2, "EUR", "Europe/Vienna"),
    (2, 1, "USD", "America/New_York"),
];

/// Stores of the file.
pub(crate) const FILE_STORES: [u32; 2] = [4, 5];

const SKUS: [&str; 5] = ["APPLE", "Brot, rund", "4006381333931", "MILK", "ZWIEBEL"];

/// Pieces that a store's first till counts before it opens.
const COUNTED: i64 = 1_000;

/// Baskets of a till.
const BASKETS: i64 = 40;

/// Columns of a file of transaction lines.
pub(crate) const HEADER: &str = "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,\
                                 extended_amount,discount_amount,tax_amount,tender,customer_id";

/// What must come out.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// By store and SKU: lines, pieces, net, transactions in which it is.
    skus: BTreeMap<(u32, String), [i64; 4]>,
    /// By store: transactions.
    transactions: BTreeMap<u32, i64>,
    /// By store and SKU: pieces.
    levels: BTreeMap<(u32, String), i64>,
}

impl Books {
    fn line(&mut self, store: u32, sku: &str, pieces: i64, net: i64) {
        let key = (store, sku.to_owned());
        let sums = self.skus.entry(key.clone()).or_default();
        for (sum, part) in sums.iter_mut().zip([1, pieces, net, 1]) {
            *sum += part;
        }
        *self.levels.entry(key).or_default() -= pieces;
    }

    /// Adds what only moved.
    pub(crate) fn moved(&mut self, store: u32, sku: &str, pieces: i64) {
        *self.levels.entry((store, sku.to_owned())).or_default() += pieces;
    }

    /// Compares with what an engine answered.
    pub(crate) fn must_equal(&self, answers: &Answers) -> Result<()> {
        let rows: Value = serde_json::from_str(answers.rows("sales --by store")?)?;
        let mut seen = 0;
        for row in rows.as_array().context("no rows")? {
            let store = u32::try_from(number(row, "store")?)?;
            let mut expected = [0; 3];
            for (_, sums) in self.skus.iter().filter(|((of, _), _)| *of == store) {
                expected
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(sum, part)| *sum += part);
            }
            let found = [
                number(row, "lines")?,
                pieces(row)?,
                number(row, "net_minor")?,
            ];
            ensure!(
                found == expected,
                "store {store}: {found:?}, not {expected:?}"
            );
            let transactions = self.transactions.get(&store).copied();
            ensure!(
                Some(number(row, "transactions")?) == transactions,
                "{transactions:?}, but {row}"
            );
            self.store_must_equal(store, answers)?;
            seen += 1;
        }
        ensure!(seen == self.transactions.len(), "{seen} stores: {rows}");
        Ok(())
    }

    fn store_must_equal(&self, store: u32, answers: &Answers) -> Result<()> {
        let rows =
            |words: String| -> Result<Value> { Ok(serde_json::from_str(answers.rows(&words)?)?) };
        let sold = rows(format!("sales --by sku --store {store}"))?;
        let mut found = BTreeMap::new();
        for row in sold.as_array().context("no rows")? {
            let sku = row.get("sku").and_then(Value::as_str).context("no sku")?;
            let transactions = number(row, "transactions")?;
            let sums = [
                number(row, "lines")?,
                pieces(row)?,
                number(row, "net_minor")?,
                transactions,
            ];
            found.insert((store, sku.to_owned()), sums);
        }
        let expected: BTreeMap<_, _> = of(store, &self.skus);
        ensure!(found == expected, "{found:?}\nis not\n{expected:?}");
        let held = rows(format!("stock --store {store}"))?;
        let mut found = BTreeMap::new();
        for row in held.as_array().context("no rows")? {
            let sku = row.get("sku").and_then(Value::as_str).context("no sku")?;
            found.insert((store, sku.to_owned()), pieces(row)?);
        }
        let expected: BTreeMap<_, _> = of(store, &self.levels);
        ensure!(found == expected, "{found:?}\nis not\n{expected:?}");
        Ok(())
    }
}

fn of<V: Copy>(store: u32, all: &BTreeMap<(u32, String), V>) -> BTreeMap<(u32, String), V> {
    let own = all.iter().filter(|((of, _), _)| *of == store);
    own.map(|(key, value)| (key.clone(), *value)).collect()
}

fn pieces(row: &Value) -> Result<i64> {
    let text = row.get("quantity").and_then(Value::as_str);
    let text = text.with_context(|| format!("no quantity in {row}"))?;
    text.parse().with_context(|| format!("{text} is not whole"))
}

/// What a till says of its store.
pub(crate) fn says(currency: &str, zone: &str) -> Result<impl FnOnce(&mut SessionConfig)> {
    let currency = Currency::from_code(currency)?;
    let zone = zone.to_owned();
    Ok(move |config: &mut SessionConfig| {
        config.currency = Some(currency);
        config.zone = zone;
    })
}

/// The outbox of a till in a folder of outboxes.
pub(crate) fn outbox(folder: &Path, store: u32, till: u32) -> PathBuf {
    folder.join(format!("{store}-{till}"))
}

/// A moment of the day, counted in steps of 13 minutes from seven.
pub(crate) fn moment(step: i64) -> String {
    let minutes = 7 * 60 + step * 13;
    format!("2026-03-02T{:02}:{:02}:00Z", minutes / 60, minutes % 60)
}

/// A day of all tills: sent while no engine answers, copied, then committed. Gives the copies: outboxes that still hold all.
pub(crate) fn workload(home: &Home, engine: &Engine, books: &mut Books) -> Result<PathBuf> {
    let (live, copies) = (home.beside("outbox"), home.beside("copies"));
    let wire = Wire::to(engine)?;
    // The first word of each till gives it its epoch.
    for (store, till, currency, zone) in TILLS {
        let outbox = outbox(&live, store, till);
        let terminal = wire.till_with(store, till, &outbox, says(currency, zone)?)?;
        let sign = device::v1::Sign {
            at: till_tests::basket::us(&moment(0))?,
            kind: device::v1::kind::STARTED,
            ..device::v1::Sign::default()
        };
        terminal.send(Event::Device(sign, &[], &[]))?;
        terminal.committed()?;
        terminal.close()?;
    }
    // Nobody answers at port 9: the till fills its outbox.
    let nowhere = Wire::open("127.0.0.1:9", &engine.identity)?;
    for (store, till, currency, zone) in TILLS {
        let outbox = outbox(&live, store, till);
        let terminal = nowhere.till_with(store, till, &outbox, says(currency, zone)?)?;
        day(&terminal, store, till, books)?;
        terminal.close()?;
    }
    copy_folder(&live, &copies)?;
    resend(engine, &live)?;
    Ok(copies)
}

/// Sends whatever the outboxes hold.
pub(crate) fn resend(engine: &Engine, outboxes: &Path) -> Result<()> {
    let wire = Wire::to(engine)?;
    for (store, till, currency, zone) in TILLS {
        let outbox = outbox(outboxes, store, till);
        let terminal = wire.till_with(store, till, &outbox, says(currency, zone)?)?;
        terminal.committed()?;
        ensure!(
            terminal.dead()?.is_empty(),
            "dead letters of {store}-{till}"
        );
        terminal.close()?;
    }
    Ok(())
}

/// One day of a till: sales, returns, voids and training; its store's first till counts before and receives at noon.
fn day(till: &Till<'_>, store: u32, number: u32, books: &mut Books) -> Result<()> {
    for sku in SKUS.iter().filter(|_| number == 1) {
        stock(till, "2026-03-02T05:00:00Z", moved::RECEIVED, sku, 17)?;
        stock(till, "2026-03-02T06:00:00Z", moved::COUNTED, sku, COUNTED)?;
        stock(till, "2026-03-02T11:00:00Z", moved::RECEIVED, sku, 24)?;
        stock(till, "2026-03-02T11:00:00Z", moved::WASTE, sku, 3)?;
        books.moved(store, sku, COUNTED + 24 - 3);
    }
    for n in 0..BASKETS {
        basket(store, number, n, books)?.send(till)?;
    }
    Ok(())
}

fn basket(store: u32, till: u32, n: i64, books: &mut Books) -> Result<Basket> {
    let back = n % 10 == 7;
    let counts = n % 10 < 8;
    let mut basket = Basket::at(&moment(n))?.text(text::RECEIPT, &format!("{store}-{till}-{n}"));
    let mut due = 0;
    for k in 0..=(n % 3) {
        let sku = SKUS[usize::try_from(n + k)? % SKUS.len()];
        let sign = if back { -1 } else { 1 };
        let (pieces, amount) = (sign * (1 + k), sign * (100 * (k + 1) + n));
        let kind = if back {
            line_kind::RETURN
        } else {
            line_kind::SALE
        };
        basket = basket.entry(kind, sku, pieces, amount);
        due += amount;
        if counts {
            books.line(store, sku, pieces, amount);
        }
    }
    basket = match n % 4 {
        0 => basket
            .paid(tender::CASH, due / 3)
            .paid(tender::CARD, due - due / 3),
        1 => basket.paid(tender::CASH, due),
        _ => basket.paid(tender::CARD, due),
    };
    if counts {
        *books.transactions.entry(store).or_default() += 1;
    }
    Ok(match n % 10 {
        7 => basket.kind(kind::RETURN),
        8 => basket.kind(kind::VOID),
        9 => basket.training(),
        _ => basket,
    })
}

/// Receipts of a file, two lines each; `extra` is added to each amount. Books them where books are given.
pub(crate) fn file(
    path: &Path,
    receipts: std::ops::Range<i64>,
    extra: i64,
    mut books: Option<&mut Books>,
) -> Result<()> {
    let mut rows = format!("{HEADER}\n");
    for n in receipts {
        let store = FILE_STORES[usize::try_from(n)? % FILE_STORES.len()];
        let day = 1 + n % 28;
        for (sku, pieces) in [("CSV-1", 1 + n % 4), ("CSV-2", -1)] {
            let cents = 10 * pieces + 100 * (n % 9) + extra;
            let sign = if cents < 0 { "-" } else { "" };
            let (whole, rest) = (cents.abs() / 100, cents.abs() % 100);
            writeln!(
                rows,
                "{store},{},F{n},2026-02-{day:02}T{:02}:30:00+02:00,{sku},{pieces},{sign}{whole}.{rest:02},0.01,0.02,cash,c{}",
                1 + n % 3,
                n % 24,
                n % 5
            )?;
            if let Some(books) = books.as_deref_mut() {
                books.line(store, sku, pieces, cents);
            }
        }
        if let Some(books) = books.as_deref_mut() {
            *books.transactions.entry(store).or_default() += 1;
        }
    }
    fs::write(path, rows)?;
    Ok(())
}

/// Replays a file into a running engine; gives the report.
pub(crate) fn replay(engine: &Engine, file: &Path) -> Result<Value> {
    let (report, output) = json_of(
        "tillload",
        &[
            "replay",
            "--file",
            till_tests::text(file)?,
            "--addr",
            &engine.quic.to_string(),
            "--identity",
            till_tests::text(&engine.identity)?,
            "--json",
        ],
    )?;
    ensure!(
        output.status.success() && truth(&report, "reconciled")?,
        "{report}\n{}",
        till_tests::complaint(&output)
    );
    Ok(report)
}
