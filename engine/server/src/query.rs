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
            sku,
            ask,
        } => {
            let pairs = vec![
                ("by", Some(by)),
                ("from", from),
                ("to", to),
                ("store", store),
                ("sku", sku),
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
        QuarantineCommand::List {
            stranded: true,
            ask,
        } => show_stranded(&ask),
        QuarantineCommand::List { ask, .. } => {
            show(Topic::Quarantine, &[], &ask)?;
            tell_of_stranded(&ask)
        }
        QuarantineCommand::Release { record, ask } => {
            let epoch = Source::open(&ask.source)?.release(&record)?;
            if ask.json {
                return output::json(&serde_json::json!({ "epoch": epoch }));
            }
            output::line(format!("released as epoch {epoch} of its terminal"))
        }
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

fn show_stranded(ask: &AskArgs) -> anyhow::Result<()> {
    let rows = Source::open(&ask.source)?.stranded()?;
    if ask.json {
        return output::json(&serde_json::json!({ "rows": rows }));
    }
    if rows.is_empty() {
        return output::line("nothing is stranded");
    }
    rows.iter()
        .filter_map(Value::as_object)
        .flat_map(table::block)
        .try_for_each(output::line)
}

// Records of journals are no rows of the quarantine; who looks there wants to know of them.
fn tell_of_stranded(ask: &AskArgs) -> anyhow::Result<()> {
    let rows = Source::open(&ask.source)?.stranded()?;
    if !rows.is_empty() {
        let records = output::counted(rows.len(), "record");
        output::note(format!("{records} stranded; --stranded shows them"));
    }
    Ok(())
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
    output::note(format!(
        "{} from {}; {}",
        output::counted(rows.len(), "row"),
        source.words(),
        freshness(answer.get("freshness"), source.is_shared())
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

/// What an answer includes, in words. A folder or an engine brings its rows up to the journal first. The store that engines
/// share has what they have committed, and no journal of its own.
fn freshness(freshness: Option<&Value>, is_shared: bool) -> String {
    let field = |name: &str| freshness.and_then(|fresh| fresh.get(name));
    let incomplete = field("incomplete_hours").and_then(Value::as_array);
    let incomplete = incomplete.map_or_else(String::new, |hours| {
        format!(
            "; {} across a bound {} incomplete, because retention has dropped their events",
            output::counted(hours.len(), "hour"),
            if hours.len() == 1 { "is" } else { "are" },
        )
    });
    if is_shared {
        return format!(
            "includes what is committed and in the rows, mostly all but the last second; nothing that an engine has only journalled{incomplete}"
        );
    }
    let position = field("applied_lsn").filter(|lsn| lsn.as_u64() != Some(0));
    let position = position.map_or_else(String::new, |lsn| format!(" (journal position {lsn})"));
    format!("includes everything acknowledged before the question{position}{incomplete}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_shared_store_speaks_of_commits_and_of_no_journal_position() {
        let none = serde_json::json!({ "applied_lsn": 0, "journal_lsn": 0 });
        let words = freshness(Some(&none), true);
        assert!(words.contains("committed and in the rows"), "{words}");
        assert!(!words.contains("position"), "{words}");
        let hours = serde_json::json!({ "incomplete_hours": [{ "store": 1, "hour": "h" }] });
        assert!(freshness(Some(&hours), true).contains("1 hour across a bound is incomplete"));
    }

    #[test]
    fn an_answer_of_a_folder_names_the_journal_position_that_it_includes() {
        let some = serde_json::json!({ "applied_lsn": 4_711 });
        let words = freshness(Some(&some), false);
        assert!(
            words.contains("acknowledged before the question (journal position 4711)"),
            "{words}"
        );
        let none = serde_json::json!({ "applied_lsn": 0 });
        assert!(!freshness(Some(&none), false).contains("position"));
    }
}
