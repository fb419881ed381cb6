//! The command itself: what it says when nothing can be measured, and what is left of it when it is killed.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;
use till_tests::wait_until;

fn attack() -> Command {
    Command::new(env!("CARGO_BIN_EXE_attack"))
}

#[test]
fn what_cannot_be_measured_is_told_in_a_line_of_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = attack()
        .args(["--json", "--only", "barcodes"])
        .env("TMPDIR", folder.path().join("is-not-there"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["passed"], Value::Bool(false));
    assert!(report["complaints"][0].is_string(), "{text}");
}

#[test]
fn what_is_not_understood_ends_with_two_and_help_with_nothing() {
    let said = |args: &[&str]| {
        let output = attack().args(args).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text)
    };
    let (code, usage) = said(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(usage.starts_with("cargo attack -- "), "{usage}");
    let (code, names) = said(&["--list"]);
    assert_eq!(code, Some(0));
    assert!(names.lines().any(|name| name == "slowloris"), "{names}");
    let wrongs: [&[&str]; 3] = [&["--only", "nothing"], &["--only"], &["--typo"]];
    for wrong in wrongs {
        let (code, text) = said(wrong);
        assert_eq!(code, Some(2), "{wrong:?}");
        assert!(text.ends_with(&usage), "{wrong:?}: {text}");
    }
}

#[test]
fn a_killed_attack_leaves_no_engine() {
    let folder = tempfile::tempdir().unwrap();
    let mut attack = attack()
        .args(["--only", "slowloris", "--connections", "1"])
        .args(["--duration", "60"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut engine = None;
    let found = wait_until("it has an engine that has started threads", || {
        engine = children(attack.id())
            .into_iter()
            .find(|child| threads(*child) > 1);
        Ok(engine.is_some())
    });
    attack.kill().unwrap();
    attack.wait().unwrap();
    found.unwrap();
    let engine = engine.unwrap();
    wait_until("the engine is gone", || Ok(!is_alive(engine))).unwrap();
}

/// State and parent of a process.
fn stat(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten();
    let numbers =
        processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|process| stat(*process).is_some_and(|(_, of)| of == parent))
        .collect()
}

fn threads(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/task")).map_or(0, Iterator::count)
}

fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}
