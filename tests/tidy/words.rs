//! One thing has one name: the field's words instead of home-made ones, and no type name twice in a crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::{shown, with_ending};

/// What may not be said, what is said instead, and where it may stand all the same; see the head of the file.
const LIST: &str = include_str!("words.txt");

struct Rule {
    words: Vec<String>,
    instead: &'static str,
    except: Vec<&'static str>,
}

fn rules() -> Vec<Rule> {
    LIST.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (left, right) = line.split_once(" -> ").unwrap();
            let (instead, except) = right.split_once(" | ").unwrap_or((right, ""));
            Rule {
                words: words_of(left),
                instead,
                except: except.split_whitespace().collect(),
            }
        })
        .collect()
}

/// The words of a line in lower case, those of identifiers taken apart: `handed_over` and `HandedOver` are two words each.
fn words_of(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in line.chars() {
        let begins = !before.is_ascii_alphabetic()
            || (before.is_ascii_lowercase() && c.is_ascii_uppercase());
        if c.is_ascii_alphabetic() {
            if begins {
                words.push(String::new());
            }
            words.last_mut().unwrap().push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words
}

fn is_exempt(name: &str) -> bool {
    name.starts_with("tests/tidy/words")
        || name == "deploy/CHANGELOG.md"
        || name == "deploy/SEEDS.md"
}

#[test]
fn home_made_words_are_gone() {
    let rules = rules();
    assert!(
        rules.len() > 20,
        "the list has hardly any rule: {}",
        rules.len()
    );
    let mut found = Vec::new();
    for path in with_ending(&["rs", "md", "py", "js", "html", "toml"]) {
        let name = shown(&path);
        if is_exempt(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let name_words = words_of(&name);
        for rule in &rules {
            let here = !rule.except.iter().any(|one| name.starts_with(one));
            let has = |words: &[String]| {
                words
                    .windows(rule.words.len())
                    .any(|some| some == rule.words)
            };
            if here && has(&name_words) {
                found.push(format!("{name}: the file's name (say {})", rule.instead));
            }
        }
        for (number, line) in text.lines().enumerate() {
            let words = words_of(line);
            for rule in &rules {
                let here = !rule.except.iter().any(|one| name.starts_with(one));
                if here
                    && words
                        .windows(rule.words.len())
                        .any(|some| some == rule.words)
                {
                    let word = rule.words.join(" ");
                    found.push(format!(
                        "{name}:{}: `{word}`, say {}: {}",
                        number + 1,
                        rule.instead,
                        line.trim()
                    ));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "{} home-made words:\n{}",
        found.len(),
        found.join("\n")
    );
}

/// The type that a line defines, if it defines one outside of a function or block.
fn type_defined(line: &str) -> Option<&str> {
    let line = ["pub(crate) ", "pub(super) ", "pub "]
        .iter()
        .find_map(|seen| line.strip_prefix(seen))
        .unwrap_or(line);
    let rest = [
        "struct ",
        "enum ",
        "trait ",
        "union ",
        "type ",
        "unsafe trait ",
    ]
    .iter()
    .find_map(|kind| line.strip_prefix(kind))?;
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    rest.get(..end).filter(|name| !name.is_empty())
}

/// A file of tests: its helpers are its own. Blocks of tests inside of other files are indented, and not seen.
fn is_of_tests(path: &Path) -> bool {
    let parts = path.components().any(|part| part.as_os_str() == "tests");
    let name = path.file_stem().unwrap_or_default();
    parts || name == "tests" || name == "shuttled"
}

#[test]
fn no_type_name_is_defined_twice_in_a_crate() {
    let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for path in with_ending(&["rs"]) {
        let name = shown(&path);
        let Some((member, within)) = name.split_once("/src/") else {
            continue;
        };
        if is_of_tests(Path::new(within)) {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(defined) = type_defined(line) {
                let key = (member.to_owned(), defined.to_owned());
                found.entry(key).or_default().push(name.clone());
            }
        }
    }
    assert!(found.len() > 300, "found hardly any type: {}", found.len());
    // The wire's record families define one type for one version each; their modules are the name.
    found.retain(|(member, _), files| {
        files.len() > 1
            && !(member == "protocol" && files.iter().all(|file| file.contains("/family/")))
    });
    let twice: Vec<String> = found
        .iter()
        .map(|((member, defined), files)| format!("{defined} in {member}: {}", files.join(", ")))
        .collect();
    assert!(
        twice.is_empty(),
        "{} names of two types:\n{}",
        twice.len(),
        twice.join("\n")
    );
}

#[test]
fn words_of_names_are_taken_apart() {
    assert_eq!(
        words_of("fn handed_over(x: HandedOver) // LSN-1"),
        ["fn", "handed", "over", "x", "handed", "over", "lsn"]
    );
}

#[test]
fn definitions_are_seen_and_uses_are_not() {
    assert_eq!(type_defined("pub(crate) struct Mark(u64);"), Some("Mark"));
    assert_eq!(type_defined("type Place = u64;"), Some("Place"));
    assert_eq!(type_defined("    type Output = u64;"), None);
    assert_eq!(type_defined("use till_core::Mark;"), None);
}
