//! Words and links.

use std::fs;

use crate::{root, shown, with_ending};

/// Words that mark unfinished work. Put together here so that this file does not trip over itself.
fn unfinished() -> [String; 4] {
    ["TO DO", "FIX ME", "XX X:", "HA CK:"].map(|word| word.replace(' ', ""))
}

#[test]
fn nothing_is_left_for_later_in_a_comment() {
    let mut found = Vec::new();
    for path in with_ending(&["rs", "js", "css", "py", "md", "toml"]) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if unfinished().iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{}:{}: {line}", shown(&path), number + 1));
            }
        }
    }
    assert!(
        found.is_empty(),
        "finish these or take them out:\n{}",
        found.join("\n")
    );
}

#[test]
fn documents_name_only_files_that_exist() {
    let mut broken = Vec::new();
    for path in with_ending(&["md"]) {
        let text = fs::read_to_string(&path).unwrap();
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            if !path.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", shown(&path)));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

/// The targets of a document's links.
fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_map_names_every_crate() {
    let map = fs::read_to_string(root().join("engine/ARCHITECTURE.md")).unwrap();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members: Vec<&str> = manifest
        .lines()
        .skip_while(|line| !line.starts_with("members"))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .map(|line| line.trim().trim_matches(|c| c == '"' || c == ','))
        .collect();
    assert!(members.len() > 5, "could not read the members: {members:?}");
    for member in members {
        assert!(
            map.contains(&format!("`{member}/`")),
            "ARCHITECTURE.md does not name `{member}/`"
        );
    }
}

#[test]
fn architecture_decisions_are_numbered_without_gaps() {
    let mut numbers: Vec<usize> = fs::read_dir(root().join("deploy/adr"))
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .get(..4)?
                .parse()
                .ok()
        })
        .collect();
    numbers.sort_unstable();
    assert!(!numbers.is_empty());
    assert_eq!(numbers, (1..=numbers.len()).collect::<Vec<_>>());
}
