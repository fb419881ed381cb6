//! Questions about sales, stock and terminals, as the command line and the JSON API put them.
//!
//! Both name the same parameters with the same spelling, and both come through here: a wrong parameter is an error that
//! names it, says what it should look like, and never an ignored one.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Serialize;
use thiserror::Error;

/// What is asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// What was sold.
    Sales,
    /// What is in stock.
    Stock,
    /// Single transactions.
    Transactions,
    /// How far terminals have come.
    Terminals,
    /// Which stores there are.
    Stores,
    /// What waits to be looked at.
    Quarantine,
}

impl Topic {
    /// The word in the path of the JSON API.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sales => "sales",
            Self::Stock => "stock",
            Self::Transactions => "transactions",
            Self::Terminals => "terminals",
            Self::Stores => "stores",
            Self::Quarantine => "quarantine",
        }
    }

    /// The parameters that it takes.
    pub const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Sales => &["by", "from", "to", "store", "sku"],
            Self::Stock => &["store", "sku"],
            Self::Transactions => &["receipt", "store", "terminal", "day"],
            Self::Terminals => &["store", "terminal"],
            Self::Stores | Self::Quarantine => &[],
        }
    }
}

/// What sales are split by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum By {
    /// One row for each currency.
    Total,
    /// One row for each store.
    Store,
    /// One row for each business day.
    Day,
    /// One row for each hour.
    Hour,
    /// One row for each SKU.
    Sku,
    /// One row for each tender.
    Tender,
    /// One row for each category.
    Category,
    /// One row for each operator.
    Operator,
}

impl By {
    /// Every way to split, with its word.
    pub const ALL: [(&'static str, Self); 8] = [
        ("total", Self::Total),
        ("store", Self::Store),
        ("day", Self::Day),
        ("hour", Self::Hour),
        ("sku", Self::Sku),
        ("tender", Self::Tender),
        ("category", Self::Category),
        ("operator", Self::Operator),
    ];
}

/// A bound in time: an instant, compared with the event's own time, or a date, compared with the business day.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// An instant.
    Instant(Timestamp),
    /// A business day.
    Date(Date),
}

/// A question whose parameters are right.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Question {
    /// Sums of sales.
    Sales {
        /// What they are split by.
        by: By,
        /// Inclusive start.
        from: Option<When>,
        /// Exclusive end.
        to: Option<When>,
        /// One store only.
        store: Option<u32>,
        /// One SKU only, by its code.
        sku: Option<String>,
    },
    /// Levels of a store.
    Stock {
        /// The store.
        store: u32,
        /// One SKU only, by its code.
        sku: Option<String>,
    },
    /// Every transaction with a receipt number.
    Transactions {
        /// The number as printed.
        receipt: String,
        /// Of one store only.
        store: Option<u32>,
        /// Of one till only.
        terminal: Option<u32>,
        /// Of one business day only.
        day: Option<Date>,
    },
    /// Terminals.
    Terminals {
        /// Of one store only.
        store: Option<u32>,
        /// Of one till only.
        terminal: Option<u32>,
    },
    /// All stores.
    Stores,
    /// All quarantined events.
    Quarantine,
}

/// Rows and how fresh they are, as JSON: `{"rows":[...],"freshness":{...}}`.
///
/// Held as text, because sums may be larger than what a tree of JSON values can hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer(String);

impl Answer {
    /// An answer from rows, sorted by key, and what they include.
    ///
    /// # Errors
    /// Returns the error of a row that has no JSON form.
    pub fn new(
        rows: &(impl Serialize + ?Sized),
        freshness: &impl Serialize,
    ) -> Result<Self, serde_json::Error> {
        let rows = serde_json::to_string(rows)?;
        let freshness = serde_json::to_string(freshness)?;
        Ok(Self(format!(
            "{{\"rows\":{rows},\"freshness\":{freshness}}}"
        )))
    }

    /// The JSON text, one line.
    pub fn into_json(self) -> String {
        self.0
    }
}

/// A parameter that is wrong.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ParamError {
    /// The question does not take it.
    #[error("unknown parameter {name:?}{}; {topic} takes {known}", hint(.close))]
    Unknown {
        /// As it was given.
        name: String,
        /// The topic's word.
        topic: &'static str,
        /// What it takes.
        known: String,
        /// What was probably meant.
        close: Option<&'static str>,
    },
    /// It was given more than once.
    #[error("parameter {name:?} is given twice; give it once")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// It is needed.
    #[error("parameter {name:?} is missing; it is {expected}")]
    Missing {
        /// Its name.
        name: &'static str,
        /// What it should look like.
        expected: &'static str,
    },
    /// Its value cannot be read.
    #[error("parameter {name:?} is {value:?}, and must be {expected}")]
    Bad {
        /// Its name.
        name: &'static str,
        /// As it was given.
        value: String,
        /// What it should look like.
        expected: &'static str,
    },
    /// The end is before the start.
    #[error("parameter \"to\" ({to}) is not after \"from\" ({from}); \"to\" is exclusive")]
    Backwards {
        /// The start.
        from: String,
        /// The end.
        to: String,
    },
}

fn hint(close: &Option<&'static str>) -> String {
    close.map_or_else(String::new, |name| format!(", did you mean {name:?}?"))
}

impl ParamError {
    /// The parameter that is wrong.
    pub fn parameter(&self) -> &str {
        match self {
            Self::Unknown { name, .. } => name,
            Self::Twice { name } | Self::Missing { name, .. } | Self::Bad { name, .. } => name,
            Self::Backwards { .. } => "to",
        }
    }
}

impl Question {
    /// Reads a question from its parameters; empty values count as not given.
    ///
    /// # Errors
    /// Returns the first parameter that is unknown, doubled, missing or unreadable.
    pub fn parse(topic: Topic, given: &[(String, String)]) -> Result<Self, ParamError> {
        let given = Given::check(topic, given)?;
        Ok(match topic {
            Topic::Sales => sales(&given)?,
            Topic::Stock => Self::Stock {
                store: given.number("store")?.ok_or(ParamError::Missing {
                    name: "store",
                    expected: NUMBER,
                })?,
                sku: given.text("sku").map(str::to_owned),
            },
            Topic::Transactions => Self::Transactions {
                receipt: given
                    .text("receipt")
                    .ok_or(ParamError::Missing {
                        name: "receipt",
                        expected: "a receipt number as printed",
                    })?
                    .to_owned(),
                store: given.number("store")?,
                terminal: given.number("terminal")?,
                day: given.day("day")?,
            },
            Topic::Terminals => Self::Terminals {
                store: given.number("store")?,
                terminal: given.number("terminal")?,
            },
            Topic::Stores => Self::Stores,
            Topic::Quarantine => Self::Quarantine,
        })
    }
}

fn sales(given: &Given<'_>) -> Result<Question, ParamError> {
    let by = match given.text("by") {
        None => By::Total,
        Some(word) => By::ALL
            .iter()
            .find(|(name, _)| *name == word)
            .map(|(_, by)| *by)
            .ok_or_else(|| {
                bad(
                    "by",
                    word,
                    "total, store, day, hour, sku, tender, category or operator",
                )
            })?,
    };
    // Sums are kept by one key at a time.
    if given.text("sku").is_some() && matches!(by, By::Tender | By::Category | By::Operator) {
        let word = given.text("by").unwrap_or_default();
        return Err(bad(
            "by",
            word,
            "total, store, day, hour or sku for one SKU",
        ));
    }
    let (from, to) = (given.when("from")?, given.when("to")?);
    let backwards = match (from, to) {
        (Some(When::Instant(from)), Some(When::Instant(to))) => to <= from,
        (Some(When::Date(from)), Some(When::Date(to))) => to <= from,
        _ => false,
    };
    if backwards {
        let word = |name| given.text(name).unwrap_or_default().to_owned();
        return Err(ParamError::Backwards {
            from: word("from"),
            to: word("to"),
        });
    }
    Ok(Question::Sales {
        by,
        from,
        to,
        store: given.number("store")?,
        sku: given.text("sku").map(str::to_owned),
    })
}

const NUMBER_MAX: u32 = 2_147_483_647;
const NUMBER: &str = "a whole number from 1 to 2147483647";
const DATE: &str = "a date like 2026-03-01";
const WHEN: &str = "a date like 2026-03-01 or a time like 2026-03-01T08:30:00Z";

/// Parameters whose names are known and single.
struct Given<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Given<'a> {
    fn check(topic: Topic, given: &'a [(String, String)]) -> Result<Self, ParamError> {
        let mut found: Vec<(&'static str, &'a str)> = Vec::new();
        for (name, value) in given {
            let known = topic.parameters();
            let Some(name) = known.iter().find(|known| *known == name) else {
                return Err(ParamError::Unknown {
                    name: name.clone(),
                    topic: topic.word(),
                    known: words(known),
                    close: closest(name, known),
                });
            };
            if found.iter().any(|(seen, _)| seen == name) {
                return Err(ParamError::Twice { name });
            }
            found.push((name, value));
        }
        Ok(Self(found))
    }

    fn text(&self, name: &'static str) -> Option<&'a str> {
        self.0
            .iter()
            .find(|(key, value)| *key == name && !value.is_empty())
            .map(|(_, value)| *value)
    }

    fn number(&self, name: &'static str) -> Result<Option<u32>, ParamError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(number) if (1..=NUMBER_MAX).contains(&number) => Ok(Some(number)),
            _ => Err(bad(name, text, NUMBER)),
        }
    }

    fn day(&self, name: &'static str) -> Result<Option<Date>, ParamError> {
        self.text(name)
            .map(|text| date(text).ok_or_else(|| bad(name, text, DATE)))
            .transpose()
    }

    fn when(&self, name: &'static str) -> Result<Option<When>, ParamError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        if let Some(date) = date(text) {
            return Ok(Some(When::Date(date)));
        }
        match text.parse() {
            Ok(instant) => Ok(Some(When::Instant(instant))),
            Err(_) => Err(bad(name, text, WHEN)),
        }
    }
}

/// A date and nothing else; jiff would also take the date out of a longer text.
fn date(text: &str) -> Option<Date> {
    (text.len() == 10).then(|| text.parse().ok()).flatten()
}

fn bad(name: &'static str, value: &str, expected: &'static str) -> ParamError {
    ParamError::Bad {
        name,
        value: value.chars().take(80).collect(),
        expected,
    }
}

fn words(names: &[&str]) -> String {
    if names.is_empty() {
        return "no parameters".to_owned();
    }
    names.join(", ")
}

/// The known name that differs least, when it differs little.
fn closest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .map(|known| (distance(name, known), *known))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, known)| known)
}

/// Levenshtein distance of two short names.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().take(32).enumerate() {
        let mut corner = i;
        let mut last = i + 1;
        for (cell, r) in row.iter_mut().skip(1).zip(&right) {
            let next = (*cell + 1).min(last + 1).min(corner + usize::from(l != *r));
            corner = *cell;
            *cell = next;
            last = next;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// The pairs of a query string, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

/// Query string of these pairs, encoded; empty without pairs.
pub fn query_string(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
        .collect::<Vec<_>>()
        .join("&")
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let ahead = rest.clone();
        let hex = match (byte, rest.next(), rest.next()) {
            (b'%', Some(high), Some(low)) => digit(high).zip(digit(low)),
            _ => None,
        };
        match hex {
            Some((high, low)) => out.push(high << 4 | low),
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                rest = ahead;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests;
