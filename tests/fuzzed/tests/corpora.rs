//! Every file of every corpus through every target: what a fuzzer found once stays found.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::path::PathBuf;

use till_fuzzed::TARGETS;

/// Largest file of a corpus, and most files of all corpora: they are in the repository.
const BYTES_MAX: usize = 4_096;
const FILES_MAX: usize = 200;

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    };
    paths.into_iter().map(read).collect()
}

#[test]
fn every_kept_input_goes_through_every_target() {
    let mut files = 0;
    for (name, _) in TARGETS {
        let corpus = corpus(name);
        assert!(!corpus.is_empty(), "{name} has no corpus");
        files += corpus.len();
        for (path, bytes) in corpus {
            // Shown with what fails.
            println!("{}", path.display());
            assert!(bytes.len() <= BYTES_MAX, "{} bytes", bytes.len());
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }
    }
    assert!(files <= FILES_MAX, "{files} files");
}

// Of each kept file, what one changed byte makes of it: the fuzzer's first step, without the fuzzer.
#[test]
fn every_kept_input_with_one_byte_changed_goes_through_its_target() {
    for (name, target) in TARGETS {
        for (path, bytes) in corpus(name) {
            println!("{}", path.display());
            let step = bytes.len() / 64 + 1;
            for at in (0..bytes.len()).step_by(step) {
                for change in [1, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    target(&changed);
                }
            }
        }
    }
}
