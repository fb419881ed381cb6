//! What a row of the file says, or why it cannot be taken.

use anyhow::{Result, bail};
use till_protocol::limits::{OFFSET_MIN_MAX, TEXT_BYTES_MAX, TIME_US_MAX};
use till_protocol::money::{DecimalError, parse_decimal};
use till_protocol::quantity::Quantity;

use super::csv::Row;

/// Names of the columns; the last four may be absent.
pub const COLUMNS: [&str; 11] = [
    "store_id",
    "terminal_id",
    "receipt_id",
    "occurred_at",
    "sku",
    "quantity",
    "extended_amount",
    "discount_amount",
    "tax_amount",
    "tender",
    "customer_id",
];
const REQUIRED: usize = 7;

/// Where each column stands in the file.
#[derive(Clone, Debug)]
pub struct Columns {
    at: [Option<usize>; COLUMNS.len()],
    fields: usize,
    decimals: u8,
    /// Columns that nobody asked for; they are ignored.
    pub ignored: Vec<String>,
}

/// Which receipt a row belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Key {
    /// The store.
    pub store: u32,
    /// The till.
    pub terminal: u32,
    /// The date as written: the first ten characters of `occurred_at`.
    pub date: String,
    /// The receipt's text.
    pub receipt: String,
}

/// What can be read of the key of a bad row.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Partial {
    /// The store.
    pub store: Option<u32>,
    /// The till.
    pub terminal: Option<u32>,
    /// The date as written.
    pub date: Option<String>,
    /// The receipt's text.
    pub receipt: Option<String>,
}

/// One line of a receipt. The order of the fields is the order in which lines are sent.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Line {
    /// Code of the SKU, as written.
    pub sku: String,
    /// In 1e-5 units.
    pub quantity: i64,
    /// Paid for the line before tax, in minor units.
    pub amount: i64,
    /// Discount that is off already, in minor units.
    pub discount: i64,
    /// Tax on top, in minor units.
    pub tax: i64,
    /// Means of payment, as written.
    pub tender: String,
}

/// A good row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Good {
    /// Its receipt.
    pub key: Key,
    /// When, in us since 1970-01-01 UTC.
    pub at_us: i64,
    /// Offset from UTC as written, in minutes.
    pub offset_min: i16,
    /// The line.
    pub line: Line,
    /// The customer, as written; empty when not stated.
    pub customer: String,
}

/// A bad row: why, and what can be read of its key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bad {
    /// Why it cannot be taken.
    pub reason: String,
    /// Which receipt it may belong to.
    pub partial: Partial,
}

impl Columns {
    /// Reads the header row. `decimals` are those of the currency.
    ///
    /// # Errors
    /// Fails when a column is missing or comes twice; the message names it.
    pub fn read(header: &Row, decimals: u8) -> Result<Self> {
        let mut columns = Self {
            at: [None; COLUMNS.len()],
            fields: header.len(),
            decimals,
            ignored: Vec::new(),
        };
        for index in 0..header.len() {
            let Some(name) = header.text(index) else {
                bail!("the header is not UTF-8");
            };
            let name = name.trim().to_ascii_lowercase();
            let Some(place) = COLUMNS.iter().position(|known| *known == name) else {
                columns.ignored.push(name);
                continue;
            };
            match columns.at.get_mut(place) {
                Some(at @ None) => *at = Some(index),
                _ => bail!("the header names the column {name} twice"),
            }
        }
        let missing: Vec<&str> = COLUMNS
            .iter()
            .zip(&columns.at)
            .take(REQUIRED)
            .filter(|(_, at)| at.is_none())
            .map(|(name, _)| *name)
            .collect();
        if !missing.is_empty() {
            bail!(
                "the header lacks {}; it needs {}",
                missing.join(", "),
                COLUMNS.join(",")
            );
        }
        Ok(columns)
    }

    /// Reads a row.
    ///
    /// # Errors
    /// Returns the first reason why the row cannot be taken.
    pub fn parse(&self, row: &Row) -> Result<Good, Bad> {
        if self.is_torn(row) {
            return Err(Bad {
                reason: "a quote is not closed on this line, or not meant as one".to_owned(),
                partial: self.partial(row, true),
            });
        }
        self.good(row).map_err(|reason| Bad {
            reason,
            partial: self.partial(row, false),
        })
    }

    /// Whether a row has rows behind it in one of its fields, because a quote was left open and closed by a later one.
    ///
    /// Such a field has a line break, and between the two quotes lie as many commas as in a whole row.
    pub fn is_torn(&self, row: &Row) -> bool {
        let Some(first) = row.broken_field() else {
            return false;
        };
        let swallows = |index: usize| {
            let field = row.get(index).unwrap_or_default();
            let commas = field.iter().filter(|byte| **byte == b',').count();
            field.contains(&b'\n') && commas + 1 >= self.fields
        };
        let known = self.at.iter().flatten();
        row.len() != self.fields || known.into_iter().any(|at| *at >= first && swallows(*at))
    }

    /// What can be read of the key of a broken row. Of one that is `cut` by a quote, only fields before it count: what
    /// stands behind belongs to another row.
    pub fn partial(&self, row: &Row, cut: bool) -> Partial {
        let whole = row.broken_field().filter(|_| cut).unwrap_or(usize::MAX);
        let written = |column: usize| {
            let at = self.at.get(column).copied().flatten()?;
            self.field(row, column).ok().filter(|_| at < whole)
        };
        Partial {
            store: written(0).and_then(|text| number("", text).ok()),
            terminal: written(1).and_then(|text| number("", text).ok()),
            receipt: written(2)
                .filter(|text| short("", text).is_ok())
                .map(str::to_owned),
            date: written(3)
                .and_then(|text| text.trim().get(..10))
                .map(str::to_owned),
        }
    }

    fn good(&self, row: &Row) -> Result<Good, String> {
        if row.len() != self.fields {
            return Err(format!(
                "{} fields where the header has {}",
                row.len(),
                self.fields
            ));
        }
        let text = |column: usize| self.field(row, column);
        let at = text(3)?.trim();
        let (at_us, offset_min) =
            rfc3339(at).map_err(|why| format!("occurred_at {at:?}: {why}"))?;
        let money = |column: usize| self.amount(row, column, self.decimals);
        let line = Line {
            sku: short("sku", text(4)?)?.to_owned(),
            quantity: self.amount(row, 5, Quantity::DECIMALS)?,
            amount: money(6)?,
            discount: money(7)?,
            tax: money(8)?,
            tender: within("tender", text(9)?)?.to_owned(),
        };
        if line.amount.checked_add(line.tax).is_none() || line.discount == i64::MIN {
            return Err("extended_amount and tax_amount are too large together".to_owned());
        }
        Ok(Good {
            key: Key {
                store: number("store_id", text(0)?)?,
                terminal: number("terminal_id", text(1)?)?,
                date: at.get(..10).unwrap_or(at).to_owned(),
                receipt: short("receipt_id", text(2)?)?.to_owned(),
            },
            at_us,
            offset_min,
            line,
            customer: text(10)?.to_owned(),
        })
    }

    /// The text of a column; empty where the file has no such column.
    fn field<'a>(&self, row: &'a Row, column: usize) -> Result<&'a str, String> {
        let Some(index) = self.at.get(column).copied().flatten() else {
            return Ok("");
        };
        let name = COLUMNS.get(column).unwrap_or(&"");
        let bytes = row.get(index).ok_or_else(|| format!("{name} is missing"))?;
        str::from_utf8(bytes).map_err(|_| format!("{name} is not UTF-8"))
    }

    fn amount(&self, row: &Row, column: usize, decimals: u8) -> Result<i64, String> {
        let name = COLUMNS.get(column).unwrap_or(&"");
        let text = self.field(row, column)?.trim();
        if text.is_empty() && column >= REQUIRED {
            return Ok(0);
        }
        let why = |error: DecimalError| format!("{name} {text:?}: {error}");
        let written = text
            .split_once('.')
            .map_or(0, |(_, fraction)| fraction.len());
        let value = parse_decimal(text, decimals).map_err(why)?;
        // Zeros too: a file with more decimals than the currency was not written in that currency.
        if written > usize::from(decimals) {
            return Err(why(DecimalError::TooPrecise { max: decimals }));
        }
        Ok(value)
    }
}

impl Partial {
    /// Whether a bad row with this key may belong to the receipt.
    pub fn may_be(&self, key: &Key) -> bool {
        let agrees = self.store.is_none_or(|store| store == key.store)
            && self
                .terminal
                .is_none_or(|terminal| terminal == key.terminal)
            && self
                .date
                .as_ref()
                .is_none_or(|date| *date == key.date || !is_date(date));
        agrees && self.receipt.as_ref() == Some(&key.receipt)
    }

    /// Whether two bad rows may belong to the same receipt.
    pub fn may_be_with(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        self.receipt.is_some()
            && self.receipt == other.receipt
            && agree(self.store.as_ref(), other.store.as_ref())
            && agree(self.terminal.as_ref(), other.terminal.as_ref())
    }
}

impl From<&Key> for Partial {
    fn from(key: &Key) -> Self {
        Self {
            store: Some(key.store),
            terminal: Some(key.terminal),
            date: Some(key.date.clone()),
            receipt: Some(key.receipt.clone()),
        }
    }
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| digits && (1..=i32::MAX.unsigned_abs()).contains(number))
        .ok_or_else(|| format!("{name} {text:?} is not a number from 1 to 2147483647"))
}

fn short<'a>(name: &str, text: &'a str) -> Result<&'a str, String> {
    if text.is_empty() {
        return Err(format!("{name} is empty"));
    }
    within(name, text)
}

fn within<'a>(name: &str, text: &'a str) -> Result<&'a str, String> {
    if text.len() > usize::from(TEXT_BYTES_MAX) {
        return Err(format!(
            "{name} has {} bytes of at most {TEXT_BYTES_MAX}",
            text.len()
        ));
    }
    Ok(text)
}

fn is_date(text: &str) -> bool {
    let form = |(place, byte): (usize, u8)| match place {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    text.len() == 10 && text.bytes().enumerate().all(form)
}

const DAY_US: i64 = 86_400_000_000;

/// An RFC 3339 time in us since 1970-01-01 UTC, and its offset in minutes. Decimals below 1 us are cut off.
///
/// # Errors
/// Says what is wrong with the text.
pub fn rfc3339(text: &str) -> Result<(i64, i16), &'static str> {
    const FORM: &str = "not a time like 2026-03-01T08:30:00+02:00";
    let bytes = text.as_bytes();
    let two = |at: usize| -> Option<i64> {
        let (high, low) = (bytes.get(at)?, bytes.get(at + 1)?);
        (high.is_ascii_digit() && low.is_ascii_digit())
            .then(|| i64::from(high - b'0') * 10 + i64::from(low - b'0'))
    };
    let date = text.get(..10).filter(|date| is_date(date)).ok_or(FORM)?;
    let separator = bytes.get(10).is_some_and(|byte| b"Tt ".contains(byte));
    let colons = bytes.get(13) == Some(&b':') && bytes.get(16) == Some(&b':');
    if !separator || !colons {
        return Err(FORM);
    }
    let date: jiff::civil::Date = date.parse().map_err(|_| "there is no such day")?;
    let epoch = jiff::civil::Date::constant(1970, 1, 1);
    let days = date.duration_since(epoch).as_hours() / 24;
    let (hour, minute) = (two(11).ok_or(FORM)?, two(14).ok_or(FORM)?);
    let second = two(17).ok_or(FORM)?;
    if hour > 23 || minute > 59 || second > 60 {
        return Err("there is no such time of day");
    }
    // A leap second is the end of the second before it.
    let second = second.min(59);
    let rest = text.get(19..).ok_or(FORM)?;
    let (micros, zone) = fraction(rest).ok_or(FORM)?;
    let offset = offset(zone)?;
    let local = days * DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros;
    let at_us = local - i64::from(offset) * 60_000_000;
    if !(0..=TIME_US_MAX).contains(&at_us) {
        return Err("outside 1970-01-01 to 2149-06-05");
    }
    Ok((at_us, offset))
}

fn fraction(rest: &str) -> Option<(i64, &str)> {
    let Some(digits) = rest.strip_prefix('.') else {
        return Some((0, rest));
    };
    let len = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, zone) = digits.split_at_checked(len)?;
    let kept = digits.get(..6).unwrap_or(digits);
    let value: i64 = format!("{kept:0<6}").parse().ok()?;
    (len > 0).then_some((value, zone))
}

fn offset(zone: &str) -> Result<i16, &'static str> {
    const NONE: &str = "no offset from UTC; write Z or +hh:mm";
    if zone.eq_ignore_ascii_case("z") {
        return Ok(0);
    }
    let sign = match zone.as_bytes() {
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return Err(NONE),
    };
    let (hours, minutes) = zone
        .get(1..)
        .and_then(|text| text.split_once(':'))
        .ok_or(NONE)?;
    let number = |text: &str| -> Option<i16> {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (hours, minutes) = number(hours).zip(number(minutes)).ok_or(NONE)?;
    let total = hours * 60 + minutes;
    if hours > 23 || minutes > 59 || total > OFFSET_MIN_MAX {
        return Err("the offset from UTC is beyond 18 hours");
    }
    Ok(sign * total)
}

#[cfg(test)]
mod tests;
