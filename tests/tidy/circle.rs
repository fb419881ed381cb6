//! Which files of the runtime import each other: arrows go one way, or nearly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::{root, with_ending};

/// Files that may import each other in one circle, at most. A reader can hold so many in mind; more are one file in disguise.
const CIRCLE_MAX: usize = 5;

type Module = Vec<String>;

/// Modules of a crate outside of its tests, with their text.
fn modules(src: &Path) -> BTreeMap<Module, String> {
    let is_test = |part: &String| part == "tests" || part == "testing" || part == "shuttled";
    let mut found = BTreeMap::new();
    for path in with_ending(&["rs"])
        .into_iter()
        .filter(|path| path.starts_with(src))
    {
        let inner = path.strip_prefix(src).unwrap().with_extension("");
        let parts = inner.iter().map(|part| part.to_str().unwrap().to_owned());
        let mut module: Module = parts.collect();
        if module == ["lib"] {
            module.clear();
        }
        if !module.iter().any(is_test) {
            found.insert(module, production(&fs::read_to_string(path).unwrap()));
        }
    }
    found
}

/// A text without comments, and up to its tests.
fn production(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Paths within the crate that a text names, from the root of the crate.
fn paths(module: &Module, text: &str) -> Vec<Module> {
    let mut found = Vec::new();
    for (start, up) in [("crate::", None), ("super::", Some(1)), ("self::", Some(0))] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut base = up.map_or_else(Vec::new, |up| {
                module[..module.len().saturating_sub(up)].to_vec()
            });
            let mut rest = &text[at + start.len()..];
            while let Some(next) = rest.strip_prefix("super::") {
                base.pop();
                rest = next;
            }
            tree(&base, rest, &mut found);
        }
    }
    found
}

/// What a tree of a `use` names, or a path in the text.
fn tree(base: &Module, text: &str, found: &mut Vec<Module>) {
    let mut path = base.clone();
    let mut rest = text;
    loop {
        if let Some(inner) = rest.strip_prefix('{') {
            let mut depth = 0_usize;
            let mut start = 0;
            for (at, c) in inner.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' | ',' if depth == 0 => {
                        let one = inner[start..at].trim();
                        if !one.is_empty() {
                            tree(&path, one, found);
                        }
                        start = at + 1;
                        if c == '}' {
                            return;
                        }
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
            }
            return;
        }
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        path.push(rest[..end].to_owned());
        match rest[end..].strip_prefix("::") {
            Some(next) => rest = next,
            None => break,
        }
    }
    found.push(path);
}

/// Who imports whom: the module that a path leads into, as far as it goes through modules.
fn arrows(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let target = |path: &Module| {
        let lengths = (1..=path.len()).rev();
        lengths
            .map(|n| path[..n].to_vec())
            .find(|one| modules.contains_key(one))
    };
    let of = |(module, text): (&Module, &String)| {
        let to = paths(module, text)
            .iter()
            .filter_map(target)
            .filter(|to| to != module)
            .collect();
        (module.clone(), to)
    };
    modules.iter().map(of).collect()
}

/// Everything that can be reached.
fn reached(from: &Module, arrows: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from.clone()];
    while let Some(one) = next.pop() {
        for to in arrows.get(&one).into_iter().flatten() {
            if seen.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    seen
}

/// The largest circle.
fn circle(arrows: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reached: BTreeMap<_, _> = arrows
        .keys()
        .map(|one| (one, reached(one, arrows)))
        .collect();
    let around = |one: &Module| {
        let to = reached[one].iter();
        let both = to
            .filter(|to| reached[to].contains(one))
            .map(|to| to.join("::"));
        both.collect::<Vec<_>>()
    };
    arrows
        .keys()
        .map(around)
        .max_by_key(Vec::len)
        .unwrap_or_default()
}

#[test]
fn few_files_of_a_crate_import_each_other() {
    for name in ["engine/runtime", "engine/gateway"] {
        let modules = modules(&root().join(name).join("src"));
        let circle = circle(&arrows(&modules));
        let count = circle.len();
        assert!(
            count <= CIRCLE_MAX,
            "{name}: {count} files import each other: {circle:?}"
        );
    }
}

#[test]
fn a_circle_is_seen_through_trees_and_super() {
    let module = |path: &str| path.split("::").map(str::to_owned).collect::<Module>();
    let texts = [
        ("a", "use crate::{b::B, c::{self, C}};"),
        ("b", "use super::c::C;"),
        ("c", "fn f() { crate::a::a() }"),
        ("d", "use crate::a::A; // crate::e::E"),
        ("e", "use crate::d::D;"),
    ];
    let modules = texts
        .map(|(name, text)| (module(name), production(text)))
        .into_iter()
        .collect();
    assert_eq!(circle(&arrows(&modules)), ["a", "b", "c"]);
}
