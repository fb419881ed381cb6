//! `tillstream query` and `tillstream quarantine`: questions, answered as a table or as one line of JSON.

use anyhow::Context;
use serde_json::Value;
use till_ops::Topic;

use crate::args::{AskArgs, QuarantineCommand, QueryCommand};
use crate::source::{Source, question};
use crate::{output, table};

/// Answers a question.
///
/// # Errors
/// Returns a usage error for a wrong parameter, else what kept the source from answering.
pub(crate) fn run(command: QueryCommand) -> anyhow::Result<()> {
    let (topic, pairs, ask) = parts(command);
    let pairs: Vec<(String, String)> = pairs
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect();
    show(topic, &pairs, &ask)
}

type Pairs = Vec<(&'static str, Option<String>)>;

fn parts(command: QueryCommand) -> (Topic, Pairs, AskArgs) {
    match command {
        QueryCommand::Sales {
            by,
            from,
            to,
            store,
            ask,
        } => {
            let pairs = vec![
                ("by", Some(by)),
                ("from", from),
                ("to", to),
                ("store", store),
            ];
            (Topic::Sales, pairs, ask)
        }
        QueryCommand::Stock { store, sku, ask } => {
            let pairs = vec![("store", Some(store)), ("sku", sku)];
            (Topic::Stock, pairs, ask)
        }
        QueryCommand::Transaction {
            receipt,
            store,
            terminal,
            day,
            ask,
        } => {
            let pairs = vec![
                ("receipt", Some(receipt)),
                ("store", store),
                ("terminal", terminal),
                ("day", day),
            ];
            (Topic::Transactions, pairs, ask)
        }
        QueryCommand::Terminal {
            store,
            terminal,
            ask,
        } => {
            let pairs = vec![("store", store), ("terminal", terminal)];
            (Topic::Terminals, pairs, ask)
        }
        QueryCommand::Stores { ask } => (Topic::Stores, Vec::new(), ask),
    }
}

/// Shows or retries what is quarantined.
///
/// # Errors
/// Returns what kept the source from answering.
pub(crate) fn quarantine(command: QuarantineCommand) -> anyhow::Result<()> {
    match command {
        QuarantineCommand::List(ask) => show(Topic::Quarantine, &[], &ask),
        QuarantineCommand::Retry(ask) => {
            let (applied, left) = Source::open(&ask.source)?.retry_quarantine()?;
            if ask.json {
                return output::json(
                    &serde_json::json!({ "applied": applied, "quarantined": left }),
                );
            }
            output::line(format!("{applied} applied, {left} still quarantined"))
        }
    }
}

fn show(topic: Topic, pairs: &[(String, String)], ask: &AskArgs) -> anyhow::Result<()> {
    // What is wrong with the question is told without opening anything for it.
    question(topic, pairs)?;
    let source = Source::open(&ask.source)?;
    let text = source.ask(topic, pairs)?;
    if ask.json {
        return output::line(text);
    }
    let answer: Value = serde_json::from_str(&text).context("answer")?;
    let rows = answer.get("rows").and_then(Value::as_array);
    let rows = rows.map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        output::line(nothing(topic))?;
    } else {
        for line in readable(topic, rows) {
            output::line(line)?;
        }
    }
    output::tell(format!(
        "{} from {}; {}",
        output::counted(rows.len(), "row"),
        source.words(),
        freshness(answer.get("freshness"))
    ));
    Ok(())
}

fn readable(topic: Topic, rows: &[Value]) -> Vec<String> {
    match topic {
        Topic::Terminals => table::chosen(rows, TERMINAL_COLUMNS),
        Topic::Stores => table::chosen(rows, STORE_COLUMNS),
        Topic::Transactions => rows
            .iter()
            .filter_map(Value::as_object)
            .enumerate()
            .flat_map(|(number, row)| {
                let gap = (number > 0).then(String::new);
                gap.into_iter().chain(table::block(row))
            })
            .collect(),
        _ => table::lines(rows),
    }
}

/// What people want to know of a store; JSON has more.
const STORE_COLUMNS: &[&str] = &["store", "currency", "time_zone", "registered_at"];

/// What people want to know of a terminal; JSON has more.
const TERMINAL_COLUMNS: &[&str] = &[
    "store",
    "terminal",
    "epoch",
    "next_seq",
    "last_seen",
    "totals.transactions",
    "totals.net_minor",
    "currency",
    "applied",
    "refused",
    "quarantined",
    "flags",
];

const fn nothing(topic: Topic) -> &'static str {
    match topic {
        Topic::Sales => "nothing was sold in that time",
        Topic::Stock => "no stock is known there",
        Topic::Transactions => "no transaction has that receipt number",
        Topic::Terminals => "no such terminal has sent anything",
        Topic::Stores => "no store is registered yet",
        Topic::Quarantine => "nothing is quarantined",
    }
}

/// What an answer includes, in words. Whoever answers brings the rows up to the journal first.
fn freshness(freshness: Option<&Value>) -> String {
    let field = |name: &str| freshness.and_then(|fresh| fresh.get(name));
    let incomplete = field("incomplete_hours").and_then(Value::as_array);
    let incomplete = incomplete.map_or_else(String::new, |hours| {
        format!(
            "; {} across a bound {} incomplete, because retention has dropped their events",
            output::counted(hours.len(), "hour"),
            if hours.len() == 1 { "is" } else { "are" },
        )
    });
    let position =
        field("applied_lsn").map_or_else(String::new, |lsn| format!(" (journal position {lsn})"));
    format!("includes everything acknowledged before the question{position}{incomplete}")
}
