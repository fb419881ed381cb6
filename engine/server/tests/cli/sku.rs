use std::path::Path;

use serde_json::Value;
use tempfile::tempdir;

use crate::engine::{Running, code, errors, one_line, run};

// What was sold, by folder or by engine.
fn rows(source: [&str; 2], words: &[&str]) -> Vec<Value> {
    let output = run(&[&["query", "sales", "--json"][..], &source, words].concat());
    assert_eq!(code(&output), 0, "{words:?}: {}", errors(&output));
    one_line(&output)["rows"].as_array().unwrap().clone()
}

fn sum(rows: &[Value], name: &str) -> i64 {
    rows.iter().map(|row| row[name].as_i64().unwrap()).sum()
}

// One SKU is what the rows by SKU say of it, however it is split.
fn one_of_all(source: [&str; 2]) {
    let all = rows(source, &["--by", "sku"]);
    let code = all[0]["sku"].as_str().unwrap();
    let one: Vec<Value> = all
        .iter()
        .filter(|row| row["sku"] == code)
        .cloned()
        .collect();
    assert_eq!(rows(source, &["--sku", code, "--by", "sku"]), one);
    for by in ["total", "store", "day", "hour"] {
        let split = rows(source, &["--sku", code, "--by", by]);
        for name in ["lines", "net_minor", "tax_minor"] {
            assert_eq!(sum(&split, name), sum(&one, name), "{name} by {by}");
        }
    }
    let before = rows(source, &["--sku", code, "--to", "2001-01-01"]);
    assert!(before.is_empty(), "nothing was sold then: that is no error");
}

fn refuses(source: [&str; 2]) {
    let ask = |words: &[&str]| run(&[&["query", "sales", "--sku"][..], words, &source].concat());
    let output = ask(&["no-such-code"]);
    assert_eq!(code(&output), 1, "{}", errors(&output));
    assert!(output.stdout.is_empty());
    let words = errors(&output);
    assert!(words.contains("SKU \"no-such-code\" is unknown"), "{words}");
    for by in ["tender", "category", "operator"] {
        let output = ask(&["no-such-code", "--by", by]);
        assert_eq!(code(&output), 2, "{}", errors(&output));
        let words = errors(&output);
        assert!(words.contains("for one SKU"), "{words}");
    }
}

fn chain(dir: &Path) -> &str {
    let data = dir.to_str().unwrap();
    let output = run(&["demo", "--duration", "2s", "--json", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    data
}

#[test]
fn one_sku_is_asked_for_alone_with_an_engine_and_without() {
    let dir = tempdir().unwrap();
    let data = chain(dir.path());
    one_of_all(["--data", data]);
    refuses(["--data", data]);
    let engine = Running::start(dir.path());
    let source = ["--addr", engine.ready("admin")];
    one_of_all(source);
    refuses(source);
    let (status, body) = engine.get("/api/v1/sales?sku=no-such-code");
    assert_eq!(status, 404, "{body}");
    assert!(body.contains(r#""code":"unknown""#), "{body}");
}
