//! The journal is the truth: whatever happens to rows, segments, shards and processes, every question is answered the same.

mod registry;
mod retention;
mod shards;
mod tills;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use till_client::{
    End, Happening, Identity, Link, LinkConfig, MemoryConfig, MemoryOutbox, NoDeadLetters,
    Observer, Terminal, TerminalConfig,
};
use till_protocol::id::{StoreId, TerminalId, TillId};
use till_tests::{Engine, command, json_of};

/// The groupings that everybody asks for.
const BY: [&str; 6] = ["total", "store", "day", "hour", "sku", "tender"];

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("path is not UTF-8")
}

/// Runs a question to the end; gives its rows, byte for byte as they were printed.
fn rows(data: &Path, question: &[&str]) -> Result<String> {
    let arguments = [question, &["--data", text(data)?, "--json"]].concat();
    let output = Command::new(command("tillstream")?)
        .args(&arguments)
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "{arguments:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (rows, _) = printed
        .split_once(",\"freshness\":")
        .with_context(|| format!("no freshness in {printed}"))?;
    Ok(rows.to_owned())
}

/// The rows of one question as values.
fn values(data: &Path, question: &[&str]) -> Result<Vec<Value>> {
    let whole = format!("{}}}", rows(data, question)?);
    let answer: Value = serde_json::from_str(&whole)?;
    let found = answer.get("rows").and_then(Value::as_array);
    Ok(found.context("no rows")?.clone())
}

/// The rows of sales by every grouping, of stock, and of what is set aside.
fn sums(data: &Path, stores: u32) -> Result<Vec<(String, String)>> {
    let mut out = Vec::new();
    let mut ask = |question: &[&str]| -> Result<()> {
        out.push((question.join(" "), rows(data, question)?));
        Ok(())
    };
    for by in BY {
        ask(&["query", "sales", "--by", by])?;
    }
    ask(&["quarantine", "list"])?;
    for store in 1..=stores {
        ask(&["query", "stock", "--store", &store.to_string()])?;
    }
    Ok(out)
}

/// [`sums`], and the rows of terminals and stores.
fn everything(data: &Path, stores: u32) -> Result<Vec<(String, String)>> {
    let mut out = sums(data, stores)?;
    let mut ask = |question: &[&str]| -> Result<()> {
        out.push((question.join(" "), rows(data, question)?));
        Ok(())
    };
    for store in 1..=stores {
        ask(&["query", "terminal", "--store", &store.to_string()])?;
    }
    ask(&["query", "stores"])?;
    Ok(out)
}

/// Compares answers question by question, so that a difference is short to read.
fn same(what: &str, found: &[(String, String)], expected: &[(String, String)]) -> Result<()> {
    ensure!(found.len() == expected.len(), "{what}: other questions");
    for ((question, found), (_, expected)) in found.iter().zip(expected) {
        ensure!(
            found == expected,
            "{what}: {question} answers\n{found}\ninstead of\n{expected}"
        );
    }
    Ok(())
}

fn rebuild(data: &Path) -> Result<()> {
    let output = Command::new(command("tillstream")?)
        .args(["rebuild", "--data", text(data)?])
        .output()?;
    ensure!(
        output.status.success(),
        "rebuild failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Arguments of an engine on free ports with a configuration file of this text beside its folder.
fn configured(data: &Path, toml: &str) -> Result<Vec<String>> {
    let file: PathBuf = data.with_extension("toml");
    std::fs::write(&file, toml)?;
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--config",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.push(text(&file)?.to_owned());
    Ok(arguments)
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// Replays a file into a running engine.
fn replay(engine: &Engine, file: &Path) -> Result<Value> {
    let (address, identity) = (engine.quic.to_string(), text(&engine.identity)?.to_owned());
    let arguments = [
        "replay",
        "--file",
        text(file)?,
        "--addr",
        &address,
        "--identity",
        &identity,
        "--json",
    ];
    let (report, output) = json_of("tillload", &arguments)?;
    ensure!(
        output.status.success(),
        "replay: {report}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(report)
}

/// The device side: a link to an engine, and what it was told.
struct Tills {
    link: Link,
    ends: Arc<Ends>,
}

/// Reasons with which streams were ended.
#[derive(Debug, Default)]
struct Ends(Mutex<Vec<String>>);

impl Ends {
    fn said(&self, word: &str) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().any(|text| text.contains(word))
    }
}

impl Observer for Ends {
    fn happened(&self, terminal: TerminalId, _: Instant, what: &Happening<'_>) {
        if let Happening::Ended(End::Bye { reason, text }) = what {
            let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.push(format!("{terminal}: {reason:?} {text}"));
        }
    }
}

impl Tills {
    fn open(engine: &Engine) -> Result<Self> {
        let identity = Identity::read(&engine.identity)?;
        Ok(Self {
            link: Link::open(LinkConfig::new(engine.quic.to_string(), identity))?,
            ends: Arc::default(),
        })
    }

    fn till(&self, store: u32, till: u32) -> Result<Terminal> {
        self.till_with(store, till, |_| {})
    }

    fn till_with(
        &self,
        store: u32,
        till: u32,
        change: impl FnOnce(&mut TerminalConfig),
    ) -> Result<Terminal> {
        let terminal = TerminalId::new(StoreId::new(store)?, TillId::new(till)?);
        let mut config = TerminalConfig::new(terminal);
        config.observer = Some(Arc::<Ends>::clone(&self.ends));
        change(&mut config);
        let outbox = MemoryOutbox::new(MemoryConfig::default());
        Ok(self
            .link
            .terminal(config, Box::new(outbox), Box::new(NoDeadLetters)))
    }
}
