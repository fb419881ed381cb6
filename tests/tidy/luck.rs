//! What makes a test fail on a machine that is slow, or that others work on.

use std::fs;

use super::{shown, with_ending};

/// The text of each call of these macros, to the end of its statement.
fn statements<'a>(text: &'a str, macros: &'a [&str]) -> impl Iterator<Item = &'a str> {
    macros.iter().flat_map(|name| {
        let begins = text.match_indices(name).map(|(at, _)| at);
        begins.map(|at| {
            let rest = &text[at..];
            rest.split_once(");\n")
                .map_or(rest, |(statement, _)| statement)
        })
    })
}

/// Whether a statement asserts how long something took.
fn asserts_time(text: &str) -> bool {
    // In two parts: this file is looked at, too.
    let clock = concat!(".elapsed", "()");
    statements(text, &["assert!(", "assert_eq!(", "ensure!("]).any(|one| one.contains(clock))
}

#[test]
fn no_test_asserts_on_time() {
    let files = with_ending(&["rs"]).into_iter();
    let found: Vec<_> = files
        .filter(|path| asserts_time(&fs::read_to_string(path).unwrap()))
        .map(|path| shown(&path))
        .collect();
    assert!(
        found.is_empty(),
        "assert what happened, not how fast: {found:?}"
    );
}

#[test]
fn time_is_seen_inside_of_an_assertion_alone() {
    let slow = "assert!(\n    began.elapsed";
    assert!(asserts_time(&format!("{slow}() < SHORT\n);\n")));
    assert!(!asserts_time(&format!(
        "assert!(is_so);\nprintln!(\"{{:?}}\", began.elapsed{});\n",
        "()"
    )));
}
