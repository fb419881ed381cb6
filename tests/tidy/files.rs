//! Sizes and places.

use std::fs;

use crate::{files_below, root, shown, with_ending};

/// A file is a room with one purpose.
const LINES_MAX: usize = 500;

/// A crate's front page is one page.
const LIB_LINES_MAX: usize = 150;

#[test]
fn source_files_are_short() {
    let long: Vec<String> = with_ending(&["rs", "js", "css", "py"])
        .iter()
        .map(|path| {
            (
                shown(path),
                fs::read_to_string(path).unwrap().lines().count(),
            )
        })
        .filter(|(name, lines)| {
            *lines
                > if name.ends_with("src/lib.rs") {
                    LIB_LINES_MAX
                } else {
                    LINES_MAX
                }
        })
        .map(|(name, lines)| format!("{name}: {lines} lines"))
        .collect();
    assert!(
        long.is_empty(),
        "split these by purpose:\n{}",
        long.join("\n")
    );
}

#[test]
fn the_visible_top_level_is_the_one_that_was_designed() {
    let mut names: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    names.sort();
    let designed = [
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "deploy",
        "engine",
        "loadgen",
        "ops",
        "protocol",
        "storage",
        "tests",
    ];
    assert_eq!(names, designed);
}

#[test]
fn every_crate_opens_with_its_promise() {
    let silent: Vec<String> = with_ending(&["rs"])
        .iter()
        .filter(|path| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs"))
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .map(|path| shown(path))
        .collect();
    assert!(silent.is_empty(), "without a promise on top: {silent:?}");
}

#[test]
fn modules_lie_beside_their_folder() {
    let modules: Vec<String> = files_below(&root())
        .iter()
        .filter(|path| path.ends_with("mod.rs"))
        .map(|path| shown(path))
        .collect();
    assert!(
        modules.is_empty(),
        "name.rs + name/, not mod.rs: {modules:?}"
    );
}
