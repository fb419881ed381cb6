//! Who is taken in, and with which currency and time zone.

use std::fs;

use anyhow::Result;
use till_protocol::currency::Currency;
use till_protocol::family::stock::v1::{Move, kind};
use till_tests::{Engine, wait_until};

use super::{Tills, borrowed, configured, rows, text};

fn received() -> Move {
    Move {
        at: 1_772_445_600_000_000,
        sku: 7,
        quantity: 100_000,
        kind: kind::RECEIVED,
        unit: 1,
        ..Move::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_by_reason_and_taken_in_where_that_is_allowed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let list = folder.path().join("stores.toml");
    fs::write(
        &list,
        "[[store]]\nnumber = 1\ncurrency = \"EUR\"\ntime_zone = \"Europe/Vienna\"\nterminals = [1]\n",
    )?;
    let closed = format!(
        "[pki]\ndev = true\n[registry]\nauto_register = false\nfile = \"{}\"\n",
        text(&list)?
    );
    let engine = Engine::serve(&data, &borrowed(&configured(&data, &closed)?))?;
    let tills = Tills::open(&engine)?;
    tills.till(1, 1)?.stock(received(), &[], &[]).await?;
    let mut refused = Vec::new();
    for (store, till, reason) in [(1, 2, "UnknownTerminal"), (2, 1, "UnregisteredStore")] {
        let terminal = tills.till(store, till)?;
        terminal.stock(received(), &[], &[]).await?;
        wait_until(reason, || Ok(tills.ends.said(reason)))?;
        refused.push(terminal);
    }
    let dollars = tills.till_with(1, 1, |config| {
        config.session.currency = Currency::from_code("USD").ok()
    })?;
    dollars.stock(received(), &[], &[]).await?;
    wait_until("CurrencyMismatch", || {
        Ok(tills.ends.said("CurrencyMismatch"))
    })?;
    let elsewhere = tills.till_with(1, 1, |config| config.session.zone = "UTC".to_owned())?;
    elsewhere.stock(received(), &[], &[]).await?;
    wait_until("ZoneMismatch", || Ok(tills.ends.said("ZoneMismatch")))?;
    tills.link.close().await;
    engine.stop()?;
    let known = rows(&data, &["query", "stores"])?;
    anyhow::ensure!(
        known.contains("Europe/Vienna") && !known.contains("\"store\":2"),
        "{known}"
    );

    let engine = Engine::start(&data)?;
    let tills = Tills::open(&engine)?;
    for (store, till) in [(1, 2), (2, 1)] {
        let terminal = tills.till(store, till)?;
        terminal.stock(received(), &[], &[]).await?;
        terminal.flush().await?;
    }
    tills.link.close().await;
    engine.stop()?;
    let known = rows(&data, &["query", "stores"])?;
    anyhow::ensure!(known.contains("\"store\":2"), "{known}");
    Ok(())
}
