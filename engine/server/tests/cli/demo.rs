use serde_json::Value;
use tempfile::tempdir;

use crate::engine::{code, errors, one_line, run};

#[test]
fn a_short_demo_reconciles_and_prints_one_line() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let output = run(&["demo", "--duration", "3s", "--json", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let line = one_line(&output);
    let number = |name: &str| {
        line[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    assert_eq!(line["reconciled"], Value::Bool(true));
    assert!(number("events_sent") > 0);
    assert_eq!(
        number("events_acked"),
        number("events_applied") + number("quarantined")
    );
    assert!(line["sales_total_minor"].is_number());
    for name in ["duplicates", "refused"] {
        number(name);
    }

    // What the demo left behind can be asked without an engine.
    let output = run(&["query", "sales", "--data", data, "--by", "total", "--json"]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let rows = one_line(&output)["rows"].clone();
    let net: i64 = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["net_minor"].as_i64().unwrap())
        .sum();
    assert_eq!(Some(net), line["sales_total_minor"].as_i64());
    let output = run(&["doctor", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    let output = run(&["inspect", "journal", "--data", data, "--json"]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert!(!one_line(&output)["segments"].as_array().unwrap().is_empty());
}
