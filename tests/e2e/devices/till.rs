//! A till with its storage in a folder, and what its store must answer in the end.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use till_client::{
    Backoff, DeadLetter, DeadLetterFile, DiskConfig, DiskOutbox, Happening, Identity, Link,
    LinkConfig, Notice, Observer, Terminal, TerminalConfig,
};
use till_protocol::builder::{SaleParts, sku_code};
use till_protocol::family::sale::v1::{Line, Sale, Tender, kind, line_kind, tender};
use till_protocol::id::{SkuId, StoreId, TerminalId, TillId};
use till_protocol::quantity::unit;
use till_protocol::time::Day;
use till_tests::{Engine, command, json_of};

/// The store of every till here.
pub(super) const STORE: u32 = 1;
/// What is sold.
pub(super) const TEA: &str = "TEA";
const HOUR_US: i64 = 3_600_000_000;
/// Longest wait for an engine that is there.
const PATIENCE: Duration = Duration::from_secs(240);

pub(super) fn id(till: u32) -> Result<TerminalId> {
    Ok(TerminalId::new(StoreId::new(STORE)?, TillId::new(till)?))
}

/// Runs what a device does.
pub(super) fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    done.context("the device did not come to an end")?
}

pub(super) fn link_to(engine: &Engine) -> Result<Link> {
    let identity = Identity::read(&engine.identity)?;
    let mut config = LinkConfig::new(engine.quic.to_string(), identity);
    config.backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(200));
    Ok(Link::open(config)?)
}

/// The storage of a till: its outbox and its dead letters.
#[derive(Debug)]
pub(super) struct Till {
    pub(super) number: u32,
    folder: PathBuf,
}

/// What a till was told, in order.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<Vec<String>>);

impl Heard {
    pub(super) fn all(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Observer for Heard {
    fn happened(&self, _terminal: TerminalId, _at: Instant, what: &Happening<'_>) {
        let said = match what {
            Happening::Notice(Notice::Live { epoch, .. }, _) => format!("live {epoch}"),
            Happening::Notice(Notice::Renumbered { new, .. }, _) => format!("renumbered {new}"),
            Happening::Notice(Notice::Acked { epoch, .. }, _) => format!("acked {epoch}"),
            Happening::Ended(end) => format!("ended {end:?}"),
            Happening::Lost(why) => format!("lost {why}"),
            _ => return,
        };
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(said);
    }
}

impl Till {
    pub(super) fn new(folder: &Path, number: u32) -> Self {
        Self {
            number,
            folder: folder.to_path_buf(),
        }
    }

    /// Puts the till on a link, as after it was switched on.
    pub(super) fn open(&self, link: &Link) -> Result<(Terminal, Arc<Heard>)> {
        fs::create_dir_all(&self.folder)?;
        let outbox = self.folder.join("outbox");
        let outbox = DiskOutbox::open(&outbox, id(self.number)?, DiskConfig::default())?;
        let dead = DeadLetterFile::open(&self.dead_path())?;
        let heard = Arc::new(Heard::default());
        let mut config = TerminalConfig::new(id(self.number)?);
        let observer: Arc<dyn Observer> = Arc::<Heard>::clone(&heard);
        config.observer = Some(observer);
        Ok((
            link.terminal(config, Box::new(outbox), Box::new(dead)),
            heard,
        ))
    }

    fn dead_path(&self) -> PathBuf {
        self.folder.join("dead.jsonl")
    }

    pub(super) fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        Ok(DeadLetterFile::open(&self.dead_path())?.letters()?)
    }

    pub(super) fn dead_letter_file(&self) -> Result<DeadLetterFile> {
        Ok(DeadLetterFile::open(&self.dead_path())?)
    }

    /// The same storage elsewhere, as a backup makes it.
    pub(super) fn image(&self, folder: &Path) -> Result<Self> {
        copy(&self.folder, folder)?;
        Ok(Self::new(folder, self.number))
    }

    /// A day without an engine: everything stays on the till's disk.
    pub(super) async fn day_without_a_line<W>(
        &self,
        engine: &Engine,
        work: impl FnOnce(Terminal) -> W,
    ) -> Result<()>
    where
        W: Future<Output = Result<()>>,
    {
        let link = link_to_nowhere(engine)?;
        let (terminal, _) = self.open(&link)?;
        work(terminal.clone()).await?;
        terminal.synced().await?;
        terminal.close().await;
        link.close().await;
        Ok(())
    }

    /// Switches the till on, lets it trade, waits until all it has is committed, and switches it off.
    pub(super) async fn day<W>(
        &self,
        engine: &Engine,
        work: impl FnOnce(Terminal) -> W,
    ) -> Result<Vec<String>>
    where
        W: Future<Output = Result<()>>,
    {
        let link = link_to(engine)?;
        let (terminal, heard) = self.open(&link)?;
        work(terminal.clone()).await?;
        let flushed = tokio::time::timeout(PATIENCE / 2, terminal.flush()).await;
        flushed.with_context(|| format!("not acknowledged; it heard {:?}", heard.all()))??;
        terminal.close().await;
        link.close().await;
        Ok(heard.all())
    }
}

/// A link to where nobody listens.
fn link_to_nowhere(engine: &Engine) -> Result<Link> {
    let identity = Identity::read(&engine.identity)?;
    Ok(Link::open(LinkConfig::new("127.0.0.1:9", identity))?)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// What was sold and moved, summed by the test's own arithmetic.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    hours: BTreeMap<i64, (i64, i64)>,
    /// Pieces of tea.
    level: i64,
}

impl Ledger {
    pub(super) fn moved(&mut self, pieces: i64) {
        self.level += pieces;
    }

    /// A chunk of tea was sold.
    pub(super) fn sold(&mut self, at_us: i64, cents: i64) {
        let hour = self.hours.entry(at_us.div_euclid(HOUR_US)).or_default();
        hour.0 += 1;
        hour.1 += cents;
        self.level -= 1;
    }

    fn rows(&self, key: Option<&str>, name: impl Fn(i64) -> String) -> Value {
        let mut sums: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for (hour, (count, cents)) in &self.hours {
            let sum = sums.entry(name(*hour)).or_default();
            sum.0 += count;
            sum.1 += cents;
        }
        sums.into_iter()
            .map(|(name, (count, cents))| {
                let mut row = json!({
                    "currency": "USD", "transactions": count, "lines": count,
                    "quantity": count.to_string(), "net_minor": cents,
                    "discount_minor": 0, "tax_minor": 0,
                });
                if let (Some(key), Some(row)) = (key, row.as_object_mut()) {
                    row.insert(key.to_owned(), json!(name));
                }
                row
            })
            .collect()
    }

    fn expected(&self) -> Value {
        let day = |hour: i64| day_of(hour).to_string();
        let hour = |hour: i64| format!("{}T{:02}:00:00Z", day_of(hour), hour.rem_euclid(24));
        json!({
            "total": self.rows(None, |_| String::new()),
            "day": self.rows(Some("day"), day),
            "hour": self.rows(Some("hour"), hour),
            "stock": [{"sku": TEA, "quantity": self.level.to_string(), "reserved": "0"}],
        })
    }
}

fn day_of(hour: i64) -> Day {
    Day::new(u16::try_from(hour.div_euclid(24)).unwrap_or(0))
}

/// Sells a chunk of tea and notes it.
pub(super) async fn sell(
    terminal: &Terminal,
    ledger: &mut Ledger,
    at_us: i64,
    cents: i64,
) -> Result<()> {
    ledger.sold(at_us, cents);
    sell_unseen(terminal, at_us, cents).await
}

/// Sells a chunk of tea that is in the books already.
pub(super) async fn sell_unseen(terminal: &Terminal, at_us: i64, cents: i64) -> Result<()> {
    let sale = Sale {
        at: at_us,
        kind: kind::SALE,
        ..Sale::default()
    };
    let line = Line {
        sku: SkuId::of_code(TEA).get(),
        quantity: 100_000,
        amount: cents,
        kind: line_kind::SALE,
        unit: unit::EACH,
        ..Line::default()
    };
    let paid = Tender {
        amount: cents,
        kind: tender::CASH,
        flags: 0,
    };
    let parts = SaleParts {
        sale,
        lines: &[line],
        tenders: &[paid],
        texts: &[sku_code(0, TEA)],
        ..SaleParts::default()
    };
    terminal.sale(&parts).await?;
    Ok(())
}

/// The answers of the store, without what a clock has part in; the second part is what is known of its terminals.
fn answers(data: &Path) -> Result<(Value, Value)> {
    let data = data.to_str().context("path is not UTF-8")?;
    let ask = |question: &[&str]| -> Result<Vec<Value>> {
        let arguments = [&["query"], question, &["--data", data, "--json"]].concat();
        let (answer, output) = json_of("tillstream", &arguments)?;
        ensure!(output.status.success(), "{question:?} failed: {answer}");
        let rows = answer.get("rows").and_then(Value::as_array);
        Ok(rows.context("no rows")?.clone())
    };
    let store = STORE.to_string();
    let only = |row: &Value, keys: &[&str]| -> Value {
        let kept = keys
            .iter()
            .map(|key| ((*key).to_owned(), row[*key].clone()));
        Value::Object(kept.collect())
    };
    let stock = ask(&["stock", "--store", &store])?;
    let stock: Vec<Value> = stock
        .iter()
        .map(|row| only(row, &["sku", "quantity", "reserved"]))
        .collect();
    let mut sums = json!({ "stock": stock });
    for by in ["total", "day", "hour"] {
        sums[by] = json!(ask(&["sales", "--by", by])?);
    }
    let terminals = ask(&["terminal", "--store", &store])?;
    let keys = [
        "terminal",
        "epochs",
        "applied",
        "duplicates",
        "refused",
        "quarantined",
        "totals",
    ];
    let terminals = terminals.iter().map(|row| only(row, &keys)).collect();
    Ok((sums, terminals))
}

/// Compares the answers with the books: those of the running engine, those after kill -9 and a restart, and those after a
/// rebuild. Gives what is known of the terminals, which is the same in all three.
pub(super) fn prove(engine: Engine, data: &Path, ledger: &Ledger) -> Result<Value> {
    let expected = ledger.expected();
    let check = |when: &str| -> Result<Value> {
        let (sums, terminals) = answers(data)?;
        ensure!(
            sums == expected,
            "{when}:\n{sums}\nnot\n{expected}\n{terminals}"
        );
        Ok(terminals)
    };
    let running = check("running")?;
    engine.kill()?;
    let engine = Engine::start(data)?;
    let restarted = check("after kill -9 and a restart")?;
    engine.stop()?;
    let rebuild = Command::new(command("tillstream")?)
        .args(["rebuild", "--data"])
        .arg(data)
        .output()?;
    ensure!(
        rebuild.status.success(),
        "{}",
        String::from_utf8_lossy(&rebuild.stderr)
    );
    let rebuilt = check("rebuilt")?;
    ensure!(running == restarted, "{running}\nthen\n{restarted}");
    ensure!(running == rebuilt, "{running}\nrebuilt\n{rebuilt}");
    Ok(running)
}

/// Epochs of a till as (epoch, next sequence number).
pub(super) fn epochs(terminals: &Value, till: u32) -> Vec<(u64, u64)> {
    let rows = terminals.as_array().map_or(&[][..], Vec::as_slice);
    let row = rows.iter().find(|row| row["terminal"] == json!(till));
    let epochs = row.and_then(|row| row["epochs"].as_array());
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    epochs.map_or_else(Vec::new, |epochs| {
        epochs
            .iter()
            .map(|epoch| (number(&epoch["epoch"]), number(&epoch["next_seq"])))
            .collect()
    })
}
