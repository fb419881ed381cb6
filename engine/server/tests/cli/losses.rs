//! What a journal has lost, as the commands say it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tempfile::tempdir;
use till_core::RecordKind;
use till_storage::disk::StdDisk;
use till_storage::journal::{Journal, JournalConfig};

use crate::engine::{code, errors, one_line, run};

fn printed_text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn sold_events(data: &str) {
    let output = run(&["demo", "--duration", "2s", "--json", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
}

// Journals the first batch once more, as what is left of an epoch that began again.
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
    sold_events(data);
    let whole = run(&["rebuild", "--data", data, "--json"]);
    assert_eq!(code(&whole), 0, "{}", errors(&whole));
    assert_eq!(one_line(&whole)["complete"], true);

    double_a_batch(dir.path());
    let output = run(&["rebuild", "--data", data]);
    assert_eq!(code(&output), 1, "{}", errors(&output));
    let printed = printed_text(&output);
    for part in [
        "not in the rows: 1 record from position",
        "1 records fit nowhere",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    let output = run(&["rebuild", "--data", data, "--json"]);
    assert_eq!(code(&output), 1);
    let line = one_line(&output);
    assert_eq!(line["complete"], false);
    assert_eq!(line["unapplied"].as_array().unwrap().len(), 1);
}

#[test]
fn a_journal_without_its_segments_is_refused_by_all_but_a_rebuild_that_says_what_is_lost() {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    sold_events(data);
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
        assert!(
            printed_text(&output).contains(words),
            "{words}\n{}",
            printed_text(&output)
        );
    }
    let output = run(&["rebuild", "--data", data]);
    assert_eq!(code(&output), 0, "{}", errors(&output));
    assert!(
        errors(&output).contains("lost: terminal "),
        "{}",
        errors(&output)
    );
    let output = run(&["doctor", "--data", data]);
    assert_eq!(code(&output), 0, "{}", printed_text(&output));
}

// The folder of an engine on a shared store: its journal has events of a store that another engine has registered.
fn shared_folder(from: &Path, to: &Path) {
    let config = JournalConfig {
        reserve_bytes: 0,
        ..JournalConfig::default()
    };
    let opened = Journal::open(Arc::new(StdDisk), &from.join("journal"), config).unwrap();
    let mut records = opened.journal.records(opened.journal.start());
    let batch = records.find_map(|record| {
        let (_, record) = record.unwrap();
        (record.head.kind == RecordKind::Batch).then_some(record)
    });
    let mut opened = Journal::open(Arc::new(StdDisk), &to.join("journal"), config).unwrap();
    opened.writer.state(&[batch.unwrap()]).unwrap();
    fs::write(to.join("node"), "000102030405060708090a0b0c0d0e0f\n").unwrap();
}

#[test]
fn commands_on_the_folder_of_a_shared_store_s_engine_do_not_take_it_for_a_whole_one() {
    let (alone, dir) = (tempdir().unwrap(), tempdir().unwrap());
    sold_events(alone.path().to_str().unwrap());
    shared_folder(alone.path(), dir.path());
    let data = dir.path().to_str().unwrap();

    for args in [
        &["rebuild", "--data", data][..],
        &["query", "sales", "--data", data],
        &["query", "stores", "--data", data, "--json"],
        &["quarantine", "list", "--data", data],
    ] {
        let output = run(args);
        assert_eq!(code(&output), 1, "{args:?}: {}", printed_text(&output));
        let words = errors(&output);
        for part in [
            "shares a store with others",
            "query --scylla HOST:PORT --keyspace NAME",
        ] {
            assert!(words.contains(part), "{args:?}: {words}");
        }
    }
    let output = run(&["doctor", "--data", data]);
    let printed = printed_text(&output);
    assert_eq!(code(&output), 0, "{printed}{}", errors(&output));
    assert!(
        printed.contains("the journal was checked and nothing else"),
        "{printed}"
    );
    assert!(printed.contains("the journal is sound"), "{printed}");
    assert!(!printed.contains("lost: "), "{printed}");
    assert_eq!(
        one_line(&run(&["doctor", "--data", data, "--json"]))["shared"],
        true
    );
    for rows in ["rows", "rows.aside"] {
        assert!(!dir.path().join(rows).exists(), "{rows} was made");
    }
}
