//! What a journal has lost, as the commands say it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::tempdir;
use till_core::RecordKind;
use till_storage::disk::StdDisk;
use till_storage::journal::{Journal, JournalConfig};

use crate::engine::{code, errors, one_line, run};

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn traded(data: &str) {
    let output = run(&["demo", "--duration", "2s", "--json", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
}

// Journals the first batch once more, as what is left of a life that began again.
fn double_a_batch(data: &Path) {
    let config = JournalConfig {
        reserve_bytes: 0,
        ..JournalConfig::default()
    };
    let opened = Journal::open(Arc::new(StdDisk), &data.join("journal"), config);
    let mut opened = opened.unwrap();
    let mut records = opened.journal.records(opened.journal.start());
    let batch = records.find_map(|record| {
        let (_, record) = record.unwrap();
        (record.head.kind == RecordKind::Batch).then_some(record)
    });
    opened.writer.state(&[batch.unwrap()]).unwrap();
}

#[test]
fn a_rebuild_that_leaves_records_out_names_them_and_fails() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    traded(data);
    let whole = run(&["rebuild", "--data", data, "--json"]);
    assert_eq!(code(&whole), 0, "{}", errors(&whole));
    assert_eq!(one_line(&whole)["complete"], true);

    double_a_batch(dir.path());
    let output = run(&["rebuild", "--data", data]);
    assert_eq!(code(&output), 1, "{}", errors(&output));
    let told = said(&output);
    for part in [
        "not in the rows: 1 record from position",
        "1 records fit nowhere",
    ] {
        assert!(told.contains(part), "{told}");
    }
    let output = run(&["rebuild", "--data", data, "--json"]);
    assert_eq!(code(&output), 1);
    let line = one_line(&output);
    assert_eq!(line["complete"], false);
    assert_eq!(line["unplaced"].as_array().unwrap().len(), 1);
}

#[test]
fn a_journal_without_its_segments_is_refused_by_all_but_a_rebuild_that_says_what_is_lost() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    traded(data);
    for file in fs::read_dir(dir.path().join("journal")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "till") {
            fs::remove_file(path).unwrap();
        }
    }
    let asked = run(&["query", "stores", "--data", data]);
    assert_eq!(code(&asked), 1);
    let refusal = errors(&asked);
    let words = refusal.split("error: ").last().unwrap().trim();
    assert!(words.contains("has lost its end") && words.contains("lost: terminal "));
    for args in [
        &["doctor", "--data", data][..],
        &["doctor", "--salvage", "--data", data],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 1, "{args:?}");
        assert!(said(&output).contains(words), "{words}\n{}", said(&output));
    }
    let output = run(&["rebuild", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert!(
        errors(&output).contains("lost: terminal "),
        "{}",
        errors(&output)
    );
    let output = run(&["doctor", "--data", data]);
    assert_eq!(code(&output), 0, "{}", said(&output));
}
