//! Old segments leave; sums, levels, names and what is known stay.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use till_storage::disk::StdDisk;
use till_storage::journal::{
    CommitConfig, CommitError, Committer, Durable, Journal, JournalConfig, Lsn, Prepared, Sink,
};
use till_tests::{Engine, wait_until};

use super::{borrowed, configured, everything, rebuild, replay, rows, same, sums, values};
use crate::number;

const STORES: u32 = 3;
const RECEIPTS: i64 = 9_000;
const SEGMENT_BYTES: u64 = 1 << 20;
const HEADER: &str = "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,\
                      discount_amount,tax_amount,tender,customer_id";
const SMALL: &str = "[journal]\nsegment_bytes = \"1MiB\"\n";
const DAY: &str = "[journal]\nsegment_bytes = \"1MiB\"\nretention_days = 1\n";
const FIRST: &str = "00000000000000000000.till";

/// Receipts of two lines over three stores; `extra` cents on one of them.
fn file(path: &Path, extra: i64) -> Result<()> {
    let mut text = format!("{HEADER}\n");
    for receipt in 0..RECEIPTS {
        let cents = 100 + receipt % 700 + if receipt == 77 { extra } else { 0 };
        for (sku, quantity) in [(receipt % 50, "1"), (50 + receipt % 7, "-0.25")] {
            writeln!(
                text,
                "{},{},A-{receipt},2026-03-{:02}T{:02}:{:02}:{:02}Z,CODE-{sku},{quantity},{}.{:02},0.10,0.20,{},",
                1 + receipt % i64::from(STORES),
                1 + receipt % 2,
                1 + receipt % 20,
                receipt % 24,
                receipt % 60,
                receipt % 59,
                cents / 100,
                cents % 100,
                if receipt % 3 == 0 { "cash" } else { "card" },
            )?;
        }
    }
    fs::write(path, text)?;
    Ok(())
}

struct Silent;

impl Sink<()> for Silent {
    fn durable(&mut self, _: &Durable, _: &mut Vec<(Lsn, ())>) {}
    fn poisoned(&mut self, _: &CommitError) {}
}

/// Makes a journal that says of itself that it was received ten days earlier. Its rows are removed.
fn age(data: &Path) -> Result<()> {
    let (journal, young) = (data.join("journal"), data.join("young"));
    fs::rename(&journal, &young)?;
    let config = JournalConfig {
        segment_bytes: SEGMENT_BYTES,
        ..JournalConfig::default()
    };
    let from = Journal::open(Arc::new(StdDisk), &young, config)?;
    let to = Journal::open(Arc::new(StdDisk), &journal, config)?;
    let committer = Committer::start(to.writer, CommitConfig::default(), Silent)?;
    for item in from.journal.records(Lsn::ZERO) {
        let (_, mut record) = item?;
        record.head.received_at_us -= 10 * 86_400_000_000;
        let queued = committer.appender().append(Prepared::new(&record)?, ());
        ensure!(queued.is_ok(), "the aged journal takes nothing more");
    }
    committer.close()?;
    drop(from);
    fs::remove_dir_all(young)?;
    fs::remove_dir_all(data.join("rows"))?;
    Ok(())
}

#[test]
fn dropped_segments_change_no_answer_whatever_happens_then() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let (first, other) = (folder.path().join("a.csv"), folder.path().join("b.csv"));
    file(&first, 0)?;
    file(&other, 5)?;
    let young = configured(&data, SMALL)?;
    let engine = Engine::start_with(&data, &borrowed(&young))?;
    let report = replay(&engine, &first)?;
    ensure!(number(&report, "receipts")? == RECEIPTS, "{report}");
    let in_engine = sums(&data, STORES)?;
    engine.stop()?;
    age(&data)?;
    // Rows that are missing are made by whoever asks.
    same("aged", &sums(&data, STORES)?, &in_engine)?;
    let expected = everything(&data, STORES)?;

    let old = configured(&data, DAY)?;
    let engine = Engine::start_with(&data, &borrowed(&old))?;
    let oldest = data.join("journal").join(FIRST);
    wait_until("the first segment to be dropped", || Ok(!oldest.exists()))?;
    same("dropped", &everything(&data, STORES)?, &expected)?;
    engine.kill()?;
    same("killed", &everything(&data, STORES)?, &expected)?;
    rebuild(&data)?;
    same("rebuilt", &everything(&data, STORES)?, &expected)?;
    ensure!(!oldest.exists(), "a dropped segment is back");
    let gone = rows(&data, &["query", "transaction", "--receipt", "A-0"])?;
    ensure!(
        gone == "{\"rows\":[]",
        "a receipt of a dropped segment: {gone}"
    );

    // Everything again: known. One receipt with another amount: set aside.
    let engine = Engine::start_with(&data, &borrowed(&old))?;
    let again = replay(&engine, &first)?;
    ensure!(number(&again, "duplicates")? == RECEIPTS, "{again}");
    same("resent", &sums(&data, STORES)?, &in_engine)?;
    let changed = replay(&engine, &other)?;
    ensure!(number(&changed, "conflicts")? == 1, "{changed}");
    let aside = values(&data, &["quarantine", "list"])?;
    ensure!(
        matches!(aside.as_slice(), [one] if one.to_string().contains("another event")
            || one.to_string().contains("onflict")),
        "{aside:?}"
    );
    let expected = everything(&data, STORES)?;
    same(
        "a conflict",
        &expected.iter().take(6).cloned().collect::<Vec<_>>(),
        &in_engine.iter().take(6).cloned().collect::<Vec<_>>(),
    )?;
    engine.stop()?;
    rebuild(&data)?;
    same("rebuilt again", &everything(&data, STORES)?, &expected)
}
