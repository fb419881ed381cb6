//! Questions to an engine over its admin port, as a person with a browser could ask them.

mod refused;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use till_protocol::quantity::Quantity;

use refused::{Refused, heard};

/// Longest wait for one answer. Sums of a large chain take a while, a dead engine takes no time.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Longest wait for an engine that does not even take the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read: the stock of one store with millions of SKUs.
const ANSWER_BYTES_MAX: u64 = 4 << 30;
/// A question that an engine could not answer is asked again within this time.
const AGAIN_WITHIN: Duration = Duration::from_secs(30);
/// Pause before it is.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The admin port of one engine, or of several that share the stores of a chain: each of them answers for all.
#[derive(Clone, Debug)]
pub struct Admin {
    agent: ureq::Agent,
    bases: Vec<String>,
    /// Which of them answered last.
    at: Arc<AtomicUsize>,
}

/// Sums of sales, as the engine states them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
pub struct SalesRow {
    /// The store, where rows are by store or finer.
    #[serde(default)]
    pub store: Option<u32>,
    /// Start of the hour, where rows are by hour.
    #[serde(default)]
    pub hour: String,
    /// ISO 4217 code.
    #[serde(default)]
    pub currency: String,
    /// Distinct receipts.
    pub transactions: u64,
    /// Lines that are not void.
    pub lines: u64,
    /// Quantity as a decimal.
    pub quantity: String,
    /// Sum of the extended amounts in minor units.
    pub net_minor: i128,
    /// Discounts in minor units, positive.
    pub discount_minor: i128,
    /// Taxes in minor units.
    pub tax_minor: i128,
}

/// The stock of one SKU, as the engine states it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StockRow {
    /// The code, or the id where the engine knows no code.
    pub sku: String,
    /// Level in 1e-5 units.
    pub quantity: i128,
    /// Reserved, in 1e-5 units.
    pub reserved: i128,
}

/// A terminal, as the engine states it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TerminalRow {
    /// The store.
    pub store: u32,
    /// The till.
    pub terminal: u32,
    /// Lives with the sequence number that comes next in each.
    pub epochs: Vec<(u32, u64)>,
    /// Events that took effect.
    pub applied: u64,
    /// Events whose event id was known.
    pub duplicates: u64,
    /// Events that were refused.
    pub refused: u64,
    /// Events that are quarantined.
    pub quarantined: u64,
    /// Completed transactions.
    pub transactions: u64,
    /// Sum of their extended amounts in minor units.
    pub net_minor: i128,
}

#[derive(Deserialize)]
struct AdminRows<T> {
    rows: Vec<T>,
}

impl Admin {
    /// The admin port with this base URL; several URLs stand one after another with commas between.
    pub fn new(bases: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .timeout_connect(Some(CONNECT_MAX))
            .build();
        let base = |base: &str| {
            let base = base.trim().trim_end_matches('/');
            match base.contains("://") {
                true => base.to_owned(),
                false => format!("http://{base}"),
            }
        };
        Self {
            agent: config.into(),
            bases: bases.split(',').map(base).collect(),
            at: Arc::default(),
        }
    }

    /// The base URL of the engine that answered last.
    pub fn base(&self) -> &str {
        let at = self.at.load(Ordering::Relaxed);
        self.bases.get(at).map_or("", String::as_str)
    }

    /// Whether an engine says that it takes events.
    pub fn is_ready(&self) -> bool {
        let is_ready = |base: &String| self.agent.get(format!("{base}/readyz")).call().is_ok();
        self.bases.iter().any(is_ready)
    }

    /// Waits until every question sees everything that is acknowledged now: each engine flushes what it serves. One that is
    /// gone has nothing to flush; what it served is with the others, or comes to them.
    ///
    /// # Errors
    /// Fails when no engine can be asked, or one that answers cannot flush.
    pub fn flush(&self) -> Result<()> {
        let mut gone = None;
        let mut flushed = 0;
        for base in &self.bases {
            let url = format!("{base}/api/v1/flush");
            let request = self.agent.post(&url).config();
            match request.http_status_as_error(false).build().send_empty() {
                Ok(answer) => {
                    heard(answer).with_context(|| format!("could not flush: {url}"))?;
                    flushed += 1;
                }
                Err(error) => gone = Some((url, error)),
            }
        }
        match gone {
            Some((url, error)) if flushed == 0 => {
                Err(error).with_context(|| format!("could not flush: {url}"))
            }
            _ => Ok(()),
        }
    }

    /// Sums of sales by `total`, `store`, `day`, `hour`, `sku` or `tender`.
    ///
    /// # Errors
    /// Fails when the engine cannot be asked or answers in another form.
    pub fn sales(&self, by: &str, store: Option<u32>) -> Result<Vec<SalesRow>> {
        let store = store.map_or_else(String::new, |store| format!("&store={store}"));
        self.rows(&format!("/api/v1/sales?by={by}{store}"))
    }

    /// Every level of a store.
    ///
    /// # Errors
    /// See [`Self::sales`].
    pub fn stock(&self, store: u32) -> Result<Vec<StockRow>> {
        let rows: Vec<Value> = self.rows(&format!("/api/v1/stock?store={store}"))?;
        rows.iter().map(stock_row).collect()
    }

    /// Terminals: of one store, or all.
    ///
    /// # Errors
    /// See [`Self::sales`].
    pub fn terminals(&self, store: Option<u32>) -> Result<Vec<TerminalRow>> {
        let store = store.map_or_else(String::new, |store| format!("?store={store}"));
        let rows: Vec<Value> = self.rows(&format!("/api/v1/terminals{store}"))?;
        rows.iter().map(terminal_row).collect()
    }

    /// Every transaction with a receipt, at a till.
    ///
    /// # Errors
    /// See [`Self::sales`].
    pub fn transactions(&self, receipt: &str, store: u32, terminal: u32) -> Result<Vec<Value>> {
        let receipt = escaped(receipt);
        self.rows(&format!(
            "/api/v1/transactions?receipt={receipt}&store={store}&terminal={terminal}"
        ))
    }

    /// The live figures.
    ///
    /// # Errors
    /// See [`Self::sales`].
    pub fn status(&self) -> Result<Value> {
        self.get("/api/v1/status")
    }

    fn rows<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        self.get::<AdminRows<T>>(path).map(|answer| answer.rows)
    }

    // From the engine that answered last, else from any other.
    // An engine whose shared store has just come back may fail to answer once; to ask again changes nothing.
    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let until = Instant::now() + AGAIN_WITHIN;
        loop {
            match self.get_once(path) {
                Err(error) if has_failed(&error) && Instant::now() < until => {
                    std::thread::sleep(AGAIN_AFTER);
                }
                answer => return answer,
            }
        }
    }

    fn get_once<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let first = self.at.load(Ordering::Relaxed);
        let count = self.bases.len();
        let mut last = None;
        for (at, base) in self
            .bases
            .iter()
            .enumerate()
            .cycle()
            .skip(first)
            .take(count)
        {
            match self.get_from(base, path) {
                Ok(answer) => {
                    self.at.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no admin port was given")?)
    }

    fn get_from<T: DeserializeOwned>(&self, base: &str, path: &str) -> Result<T> {
        let url = format!("{base}{path}");
        let request = self.agent.get(&url).config();
        let answer = request.http_status_as_error(false).build().call();
        let answer = answer.with_context(|| format!("could not ask {url}"))?;
        let mut answer = heard(answer).with_context(|| format!("could not ask {url}"))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        // Read from bytes: sums beyond 64 bits survive only without the detour over a tree of values.
        let bytes = body
            .read_to_vec()
            .with_context(|| format!("{url} broke off"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{url} answered in another form"))
    }
}

// It has understood the question, and could not answer it.
fn has_failed(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| refused.status >= 500)
}

fn stock_row(row: &Value) -> Result<StockRow> {
    let Some(sku) = row.get("sku").and_then(Value::as_str) else {
        bail!("a stock row without a SKU: {row}");
    };
    let quantity = |name: &str| -> Result<i128> {
        match row.get(name) {
            None | Some(Value::Null) => Ok(0),
            Some(Value::String(text)) => quantity(text),
            Some(number) => quantity(&number.to_string()),
        }
    };
    Ok(StockRow {
        sku: sku.to_owned(),
        quantity: quantity("quantity")?,
        reserved: quantity("reserved")?,
    })
}

/// A decimal quantity in 1e-5 units.
///
/// # Errors
/// Fails when the text is no number with at most five decimals.
pub fn quantity(text: &str) -> Result<i128> {
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = usize::from(Quantity::DECIMALS);
    if fraction.len() > decimals {
        bail!("{text:?} has more than {decimals} decimals");
    }
    format!("{whole}{fraction:0<decimals$}")
        .parse::<i128>()
        .map(|raw| raw * sign)
        .with_context(|| format!("{text:?} is not a quantity"))
}

fn terminal_row(row: &Value) -> Result<TerminalRow> {
    // Sums may stand in the row itself or in its `totals`.
    let found = |name: &str| row.get(name).or_else(|| row.get("totals")?.get(name));
    let number = |name: &str| found(name).and_then(Value::as_u64);
    let small = |name: &str| {
        number(name)
            .and_then(|number| u32::try_from(number).ok())
            .with_context(|| format!("a terminal row without {name}: {row}"))
    };
    let net = found("net_minor")
        .and_then(Value::as_number)
        .map(ToString::to_string);
    let epochs = row
        .get("epochs")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    Ok(TerminalRow {
        store: small("store")?,
        terminal: small("terminal")?,
        epochs: epochs.iter().map(epoch).collect::<Result<_>>()?,
        applied: number("applied").context("a terminal row without applied")?,
        duplicates: number("duplicates").unwrap_or(0),
        refused: number("refused").unwrap_or(0),
        quarantined: number("quarantined").unwrap_or(0),
        transactions: number("transactions").unwrap_or(0),
        net_minor: net.and_then(|text| text.parse().ok()).unwrap_or(0),
    })
}

fn epoch(value: &Value) -> Result<(u32, u64)> {
    let number = |name: &str| {
        value
            .get(name)
            .and_then(Value::as_u64)
            .with_context(|| format!("an epoch without {name}"))
    };
    Ok((u32::try_from(number("epoch")?)?, number("next_seq")?))
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests;
