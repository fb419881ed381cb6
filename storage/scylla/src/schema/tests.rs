//! SCHEMA.md says what the schema is.

use till_protocol::id::{SkuId, StoreId, TerminalId, TillId};

use super::*;

const DOCUMENT: &str = include_str!("../../SCHEMA.md");

/// The tables that the page describes: a heading, a sentence that ends with the key, a line for each column.
fn described() -> Vec<Table> {
    let sections = DOCUMENT.split("\n### ").skip(1);
    sections
        .map(|section| {
            let (name, body) = section.split_once('\n').unwrap();
            let key = body
                .split_once("Key: `")
                .unwrap()
                .1
                .split_once('`')
                .unwrap()
                .0;
            let rows = body
                .lines()
                .skip_while(|line| !line.starts_with("|---"))
                .skip(1)
                .take_while(|line| line.starts_with("| "));
            let columns = rows.map(|row| {
                let cells: Vec<&str> = row.trim_matches('|').splitn(3, '|').collect();
                assert!(cells[2].trim().len() > 1, "{name}: {row} has no meaning");
                Column {
                    name: cells[0].trim().to_owned(),
                    kind: cells[1].trim().to_owned(),
                }
            });
            Table {
                name: name.to_owned(),
                columns: columns.collect(),
                key: key.to_owned(),
            }
        })
        .collect()
}

#[test]
fn every_table_and_column_is_described_as_it_is() {
    let (described, tables) = (described(), tables());
    for (described, table) in described.iter().zip(&tables) {
        assert_eq!(described, table);
    }
    assert_eq!(described.len(), tables.len());
}

#[test]
fn the_numbers_of_its_examples_are_right() {
    let id = SkuId::of_code("4006381333931").get();
    assert!(DOCUMENT.contains(&format!("the SKU is `0x{id:016x}`")));
    assert_eq!((id & 3, (id & 15) & 3), (1, 1));
    let terminal = TerminalId::new(StoreId::new(17).unwrap(), TillId::new(3).unwrap());
    assert!(DOCUMENT.contains(&format!("is {}.", terminal.to_u64())));
}

#[test]
fn no_query_of_the_page_filters() {
    let queries: Vec<&str> = DOCUMENT.split("```cql").skip(1).collect();
    assert!(queries.len() >= 20, "the page has lost its queries");
    for query in queries {
        let query = query.split("```").next().unwrap();
        let filters = query.to_uppercase().contains("ALLOW FILTERING");
        assert!(
            !filters,
            "a partition is read to find a part of it: {query}"
        );
    }
}

#[test]
fn what_is_for_engines_only_is_named_so_in_the_schema_and_on_the_page() {
    let text: String = text::MIGRATIONS.iter().map(|(_, text)| *text).collect();
    let named = |name: &str| {
        let made = text.split(&format!("{name} (\n")).nth(1).unwrap();
        let options = made.split(";\n").next().unwrap();
        options.contains("comment = 'For engines only: ")
    };
    let mut found = 0;
    for section in DOCUMENT.split("\n### ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        let before_columns = body.split("\n|").next().unwrap();
        let told = before_columns.contains("For engines only.");
        assert_eq!(told, named(&format!(".{name}")), "{name}");
        found += usize::from(told);
    }
    assert_eq!(found, 12);
}

#[test]
fn only_these_tables_have_no_question() {
    let asked: String = DOCUMENT.split("```cql").skip(1).collect();
    let silent: Vec<String> = tables()
        .into_iter()
        .map(|table| table.name)
        .filter(|name| !asked.contains(&format!("FROM {name}")))
        .collect();
    assert_eq!(
        silent,
        [
            "schema_version",
            "settings",
            "slot_log",
            "slot_rows",
            "handoff",
            "handoff_list",
            "hour_index",
            "run_index",
            "event_ids",
            "days_due",
            "log_start",
            "slot_base"
        ]
    );
}
