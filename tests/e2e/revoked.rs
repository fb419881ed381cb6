//! A device that was stolen: what a person types, and what becomes of its connections.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use quinn::{Connection, ConnectionError, Endpoint};
use serde_json::Value;
use till_loadgen::wire;
use till_tests::hostile::{Line, terminal};
use till_tests::{Engine, Home, complaint, text, wait_until};
use tokio::runtime::Runtime;

/// Connections of devices that are on no list.
type Held = (Endpoint, Connection);

/// Types `tillstream pki ...` on a data folder; gives its answer.
fn pki(home: &Home, words: &[&str]) -> Result<Value> {
    let (command, rest) = words.split_first().context("no command")?;
    let output = home.run("tillstream", &[&["pki", command, "--json"], rest].concat())?;
    ensure!(output.status.success(), "{}", complaint(&output));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn issued(home: &Home, name: &str) -> Result<PathBuf> {
    let file = home.beside(&format!("{}.pem", name.replace(['/', ':', '*'], "-")));
    pki(home, &["issue", "--for", name, "--out", text(&file)?])?;
    Ok(file)
}

/// A connection on which a terminal has sent an event.
async fn working(engine: &Engine, identity: &Path, store: u32) -> Result<(Held, Line)> {
    let (endpoint, connection) = wire::connect(engine.quic, identity).await?;
    let mut line = Line::accepted(&connection, terminal(store, 1)?).await?;
    line.round_trip().await?;
    Ok(((endpoint, connection), line))
}

/// The alert of TLS that a handshake ends with.
async fn alert(engine: &Engine, identity: &Path) -> Result<u64> {
    let lost = match wire::connect(engine.quic, identity).await {
        Ok((_endpoint, connection)) => connection.closed().await,
        Err(error) => error.downcast::<ConnectionError>()?,
    };
    match lost {
        ConnectionError::ConnectionClosed(close) => Ok(u64::from(close.error_code) - 0x100),
        other => bail!("{other}"),
    }
}

fn metric(engine: &Engine, name: &str) -> Result<f64> {
    let all = engine.get_text("/metrics")?;
    let line = all.lines().find_map(|line| line.strip_prefix(name));
    let number = line.with_context(|| format!("no {name}"))?;
    Ok(number.trim().parse()?)
}

#[test]
fn a_stolen_identity_is_taken_back_while_it_is_in_use() -> Result<()> {
    let home = Home::new()?;
    let engine = home.start()?;
    let runtime = Runtime::new()?;
    let (stolen, honest) = (issued(&home, "till://51/*")?, issued(&home, "till://52/*")?);
    let ((_held, connection), _line) = runtime.block_on(working(&engine, &stolen, 51))?;
    let (_other, mut line) = runtime.block_on(working(&engine, &honest, 52))?;

    let told = pki(&home, &["revoke", "--identity", text(&stolen)?])?;
    ensure!(told["revoked"] == true, "{told}");
    match runtime.block_on(connection.closed()) {
        ConnectionError::ApplicationClosed(close) => ensure!(
            close.error_code.into_inner() == 3,
            "closed with {}",
            close.error_code
        ),
        other => bail!("{other}"),
    }
    ensure!(runtime.block_on(alert(&engine, &stolen))? == 44);
    runtime.block_on(line.round_trip())?;
    let listed = pki(&home, &["list"])?;
    ensure!(listed["rows"][0]["serial"] == told["serial"], "{listed}");
    ensure!(metric(&engine, "tillstream_certificates_revoked")? > 0.5);

    // A list that nobody can read lets nobody in, and shuts nobody out.
    let list = home.data.join("pki/crl.pem");
    let good = fs::read(&list)?;
    fs::write(&list, "nonsense")?;
    wait_until("it is told", || {
        Ok(metric(&engine, "tillstream_certificates_stale")? > 0.5)
    })?;
    ensure!(
        engine
            .log()
            .contains("the certificates before stay in force")
    );
    ensure!(engine.not_ready()?.is_empty());
    ensure!(runtime.block_on(alert(&engine, &stolen))? == 44);
    runtime.block_on(line.round_trip())?;
    fs::write(&list, good)?;
    wait_until("it is told no more", || {
        Ok(metric(&engine, "tillstream_certificates_stale")? < 0.5)
    })?;
    engine.stop()?;
    // And an engine does not start on one.
    fs::write(&list, "nonsense")?;
    let error = home.start().err().context("it starts")?;
    ensure!(format!("{error:#}").contains("crl.pem"), "{error:#}");
    Ok(())
}
