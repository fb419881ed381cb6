//! Questions to an engine over its admin port, as a person with a browser could ask them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use till_protocol::quantity::Quantity;

/// Longest wait for one answer. Sums of a large chain take a while, a dead engine takes no time.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Largest answer that is read: the stock of one store with millions of SKUs.
const ANSWER_BYTES_MAX: u64 = 4 << 30;

/// The admin port of one engine.
#[derive(Clone, Debug)]
pub struct Admin {
    agent: ureq::Agent,
    base: String,
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
    /// Set aside, in 1e-5 units.
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
    /// Events that are set aside.
    pub quarantined: u64,
    /// Completed transactions.
    pub transactions: u64,
    /// Sum of their extended amounts in minor units.
    pub net_minor: i128,
}

#[derive(Deserialize)]
struct Rows<T> {
    rows: Vec<T>,
}

impl Admin {
    /// The admin port with this base URL.
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_MAX))
            .build();
        let base = if base.contains("://") {
            base.to_owned()
        } else {
            format!("http://{base}")
        };
        Self {
            agent: config.into(),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// The base URL.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the engine says that it takes events.
    pub fn is_ready(&self) -> bool {
        self.agent
            .get(format!("{}/readyz", self.base))
            .call()
            .is_ok()
    }

    /// Waits until every question sees everything that is acknowledged now.
    ///
    /// # Errors
    /// Fails when the engine cannot be asked or cannot flush.
    pub fn flush(&self) -> Result<()> {
        let url = format!("{}/api/v1/flush", self.base);
        self.agent
            .post(&url)
            .send_empty()
            .with_context(|| format!("could not flush: {url}"))?;
        Ok(())
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
        self.get::<Rows<T>>(path).map(|answer| answer.rows)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.base);
        let mut answer = self
            .agent
            .get(&url)
            .call()
            .with_context(|| format!("could not ask {url}"))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        // Read from bytes: sums beyond 64 bits survive only without the detour over a tree of values.
        let bytes = body
            .read_to_vec()
            .with_context(|| format!("{url} broke off"))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{url} answered in another form"))
    }
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn quantities_keep_every_decimal() {
        for (text, raw) in [
            ("0", 0),
            ("12.5", 1_250_000),
            ("-0.00001", -1),
            ("-3", -300_000),
        ] {
            assert_eq!(quantity(text).unwrap(), raw, "{text}");
        }
        assert!(quantity("1.000001").is_err() && quantity("x").is_err());
    }

    #[test]
    fn terminals_are_read_with_sums_inside_or_beside() {
        let row = json!({"store": 3, "terminal": 4, "epochs": [{"epoch": 1, "next_seq": 9}],
            "applied": 8, "quarantined": 1, "totals": {"transactions": 5, "net_minor": -7}});
        let row = terminal_row(&row).unwrap();
        assert_eq!((row.epochs.as_slice(), row.net_minor), (&[(1, 9)][..], -7));
        assert_eq!((row.transactions, row.quarantined), (5, 1));
    }
}
