//! House style that no lint checks: sizes of files, the visible top level, who may depend on what, words that do not belong.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot read the sources must fail"
)]

mod circle;
mod dependencies;
mod files;
mod luck;
mod prose;
mod words;

use std::path::{Path, PathBuf};

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Every file of the project below `dir`, hidden folders and build output left out.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('.') || matches!(name.as_str(), "target" | "__pycache__") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The files with one of these endings.
fn with_ending(endings: &[&str]) -> Vec<PathBuf> {
    let mut files = files_below(&root());
    files.retain(|path| {
        path.extension()
            .is_some_and(|ending| endings.iter().any(|one| ending == *one))
    });
    assert!(
        !files.is_empty(),
        "no file ends in any of {endings:?}: the check would check nothing"
    );
    files
}

/// The path as a person would name it.
fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}
