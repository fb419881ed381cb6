//! Who may depend on what: the fence around the deterministic crates.

use std::fs;

use crate::root;

/// Names in a table of a manifest.
fn names(manifest: &str, table: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let mut inside = false;
    let mut names = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == table;
        } else if inside && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn the_protocol_depends_on_nothing_that_does_io() {
    assert_eq!(
        names("protocol/Cargo.toml", "[dependencies]"),
        [
            "bytes",
            "crc32c",
            "hmac",
            "iso_currency",
            "rkyv",
            "sha2",
            "thiserror"
        ]
    );
}

#[test]
fn the_core_depends_on_nothing_that_does_io() {
    assert_eq!(
        names("engine/core/Cargo.toml", "[dependencies]"),
        ["bytes", "hashbrown", "jiff", "thiserror", "till-protocol"]
    );
}

#[test]
fn the_load_generator_knows_the_engine_by_its_wire_alone() {
    let known: Vec<String> = names("loadgen/Cargo.toml", "[dependencies]")
        .into_iter()
        .filter(|name| name.starts_with("till-"))
        .collect();
    assert_eq!(known, ["till-client", "till-protocol"]);
}

#[test]
fn storage_knows_no_runtime() {
    for manifest in ["storage/Cargo.toml", "storage/embedded/Cargo.toml"] {
        let known = names(manifest, "[dependencies]");
        assert!(
            !known.is_empty(),
            "{manifest} has no dependencies: was it moved?"
        );
        for banned in ["tokio", "quinn", "ractor", "axum", "till-runtime"] {
            assert!(
                !known.iter().any(|name| name == banned),
                "{manifest} depends on {banned}"
            );
        }
    }
}

#[test]
fn the_gateway_alone_knows_quic_and_the_runtime_knows_no_gateway() {
    let runtime = names("engine/runtime/Cargo.toml", "[dependencies]");
    let gateway = names("engine/gateway/Cargo.toml", "[dependencies]");
    for own in ["quinn", "rcgen", "x509-parser"] {
        assert!(gateway.iter().any(|name| name == own), "{own}");
        assert!(!runtime.iter().any(|name| name == own), "{own}");
    }
    for banned in ["till-core", "ractor"] {
        assert!(!gateway.iter().any(|name| name == banned), "{banned}");
    }
}

#[test]
fn no_second_crypto_or_tls_is_linked() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    assert!(
        lock.contains("name = \"aws-lc-rs\""),
        "the lock file names no crypto provider"
    );
    for banned in ["openssl", "openssl-sys", "native-tls", "async-std"] {
        assert!(
            !lock.contains(&format!("name = \"{banned}\"\n")),
            "{banned} is in Cargo.lock: rustls with aws-lc-rs and tokio only"
        );
    }
}
