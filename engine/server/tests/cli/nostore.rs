//! Commands that need a shared store, and nobody who is one.

use std::net::TcpListener;
use std::process::{Output, Stdio};

use tempfile::tempdir;
use till_storage::testing::RefusingAddr;

use crate::engine::{code, errors, tillstream};

/// What every command says that is pointed at such an address, each with its words.
fn all_at(address: &str) -> Vec<(Vec<String>, Output)> {
    let dir = tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let commands = [
        &[
            "serve",
            "--dev",
            "--store",
            "scylla",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--data",
            data,
        ][..],
        &["query", "sales"],
        &["schema", "apply"],
        &["schema", "status"],
        &["shards", "list"],
        &["shards", "move", "--slot", "1", "--to", "127.0.0.1:7880"],
        &["shards", "drain", "127.0.0.1:7880"],
        &["submit", "--journal", data],
    ];
    // All at once: an address that says nothing keeps each of them for seconds.
    let begun = commands.map(|command| {
        let words = [command, &["--scylla", address, "--keyspace", "chain"]].concat();
        let child = tillstream(&words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        (command.iter().map(ToString::to_string).collect(), child)
    });
    begun
        .into_iter()
        .map(|(words, child)| (words, child.wait_with_output().unwrap()))
        .collect()
}

fn each_names(address: &str, cause: &str) {
    for (command, output) in all_at(address) {
        let printed_text = errors(&output);
        assert_eq!(code(&output), 1, "{command:?}: {printed_text}");
        assert!(
            printed_text.contains(address),
            "{command:?}: {printed_text}"
        );
        assert!(printed_text.contains(cause), "{command:?}: {printed_text}");
        assert!(output.stdout.is_empty(), "{command:?}");
    }
}

#[test]
fn where_nobody_listens_every_command_says_so_and_names_the_address() {
    let refusing = RefusingAddr::bind().unwrap();
    each_names(&refusing.addr().to_string(), "refused");
}

#[test]
fn where_nothing_is_answered_every_command_says_so_and_names_the_address() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    each_names(&address, "does not answer in time");
}
