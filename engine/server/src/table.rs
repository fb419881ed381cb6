//! Rows of an answer as a table that people read.
//!
//! Columns keep the order of the rows' fields. Amounts in minor units are shown in units of the row's currency, times
//! without the parts that are zero, numbers to the right. Texts are whole: they are names that people paste elsewhere, or
//! sentences. Lists of values are cut where they would break the lines of a terminal.

use std::io::IsTerminal as _;

use serde_json::{Map, Value};
use till_protocol::currency::Currency;
use till_protocol::money::format_decimal_wide;

/// Widest cell of a list on a terminal; longer ones are cut with an ellipsis.
const CELL_CHARS_MAX: usize = 48;

/// Rows as lines: a head, and one line for each row, with every field of the rows.
pub(crate) fn lines(rows: &[Value]) -> Vec<String> {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for name in row.keys() {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
    }
    chosen(rows, &columns)
}

/// Rows as lines with these fields; `totals.net_minor` is a field of a field.
pub(crate) fn chosen(rows: &[Value], columns: &[&str]) -> Vec<String> {
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|name| heading(name)).collect()];
    let mut right = vec![true; columns.len()];
    for row in rows.iter().filter_map(Value::as_object) {
        let line = columns.iter().zip(&mut right).map(|(name, right)| {
            let value = name
                .split('.')
                .try_fold(None, |outer: Option<&Value>, part| {
                    let fields = outer.map_or(Some(row), Value::as_object)?;
                    Some(Some(fields.get(part)?))
                })
                .flatten()
                .unwrap_or(&Value::Null);
            *right &= is_number(name, value);
            cell(name, value, row)
        });
        cells.push(line.collect());
    }
    aligned(&cells, &right)
}

/// One row as a block: its fields below one another, lists of things as tables below them.
pub(crate) fn block(row: &Map<String, Value>) -> Vec<String> {
    let is_list = |value: &Value| {
        let items = value.as_array();
        items.is_some_and(|items| items.first().is_some_and(Value::is_object))
    };
    let fields: Vec<Vec<String>> = row
        .iter()
        .filter(|(_, value)| !is_list(value))
        .flat_map(|(name, value)| match value.as_object() {
            // Sums within a row stand beside its other fields, and so in its currency.
            Some(inner) => inner.iter().collect(),
            None => vec![(name, value)],
        })
        .map(|(name, value)| vec![heading(name), cell(name, value, row)])
        .collect();
    let mut out = aligned(&fields, &[false, false]);
    for (name, value) in row.iter().filter(|(_, value)| is_list(value)) {
        out.push(format!("{}:", heading(name)));
        let currency = row.get("currency");
        let items: Vec<Value> = value
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| with_currency(item, currency))
            .collect();
        let columns: Vec<&str> = items
            .first()
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
            .filter(|name| *name != "currency")
            .collect();
        out.extend(
            chosen(&items, &columns)
                .iter()
                .map(|line| format!("  {line}")),
        );
    }
    out
}

/// Amounts within a transaction are in its currency.
fn with_currency(item: &Value, currency: Option<&Value>) -> Value {
    let mut item = item.clone();
    if let (Some(fields), Some(currency)) = (item.as_object_mut(), currency) {
        fields.insert("currency".to_owned(), currency.clone());
    }
    item
}

/// `net_minor` is `net` to people.
fn heading(name: &str) -> String {
    let name = name.rsplit_once('.').map_or(name, |(_, last)| last);
    name.strip_suffix("_minor")
        .or_else(|| name.strip_suffix("_us"))
        .unwrap_or(name)
        .replace('_', " ")
}

fn is_number(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Number(_) => !name.ends_with("_us"),
        Value::String(text) => {
            ["quantity", "reserved", "net", "amount"].contains(&name) && text.parse::<f64>().is_ok()
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A text that cannot move the cursor: codes may hold anything, control characters too.
fn cell(name: &str, value: &Value, row: &Map<String, Value>) -> String {
    if name.ends_with("_minor")
        && let Some(amount) = value
            .as_number()
            .and_then(|number| number.to_string().parse().ok())
    {
        return money(amount, row.get("currency").and_then(Value::as_str));
    }
    if name.ends_with("_us")
        && let Some(us) = value.as_i64()
    {
        return time(us);
    }
    let text = plain(value).replace(char::is_control, "\u{fffd}");
    if matches!(value, Value::Array(_) | Value::Object(_)) && std::io::stdout().is_terminal() {
        return cut(text);
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", plain(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => other.to_string(),
    }
}

/// An amount in units of its currency; in minor units where the currency is not known.
pub(crate) fn money(minor: i128, currency: Option<&str>) -> String {
    let decimals = currency
        .and_then(|code| Currency::from_code(code).ok())
        .map_or(0, Currency::exponent);
    format_decimal_wide(minor, decimals)
}

/// An instant for people, to the second.
pub(crate) fn time(us: i64) -> String {
    if us == 0 {
        return "never".to_owned();
    }
    jiff::Timestamp::from_microsecond(us).map_or_else(
        |_| us.to_string(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

fn cut(text: String) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    let mut short: String = text.chars().take(CELL_CHARS_MAX - 1).collect();
    short.push('…');
    short
}

fn aligned(cells: &[Vec<String>], right: &[bool]) -> Vec<String> {
    let width = |column: usize| {
        let widths = cells.iter().filter_map(|line| line.get(column));
        widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    cells
        .iter()
        .map(|line| {
            let padded = line
                .iter()
                .zip(&widths)
                .zip(right)
                .map(|((cell, width), right)| {
                    if *right {
                        format!("{cell:>width$}")
                    } else {
                        format!("{cell:<width$}")
                    }
                });
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests;
