//! Settings of a store that several engines share.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::raw::RawReader;

/// How an engine takes part in a store that several share.
#[derive(Clone, Debug)]
pub struct SharedConfig {
    /// Where the store is.
    pub cql: CqlConfig,
    /// How long a silent engine keeps its stores.
    pub lease: Duration,
    /// Where devices reach this engine; `None` is where it listens.
    pub advertise: Option<String>,
    /// Bytes that may be journalled and not yet committed.
    pub backlog_bytes: u64,
}

/// Where a shared store is, and as whom it is spoken to.
#[derive(Clone, Debug, Default)]
pub struct CqlConfig {
    /// Nodes, each HOST:PORT.
    pub hosts: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// The user; `None` where none is asked for.
    pub user: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// Authority of the nodes' certificates; `None` speaks without TLS.
    pub ca: Option<PathBuf>,
}

impl Default for SharedConfig {
    /// As the reference file has it, without a place of the store.
    fn default() -> Self {
        Self {
            cql: CqlConfig::default(),
            lease: Duration::from_secs(5),
            advertise: None,
            backlog_bytes: 256 << 20,
        }
    }
}

pub(super) fn read(from: &mut RawReader<'_>) -> Option<SharedConfig> {
    let is_shared = from.word("store.kind") == "scylla";
    let hosts = from.words("store.scylla").unwrap_or_default();
    let hosts = hosts
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty());
    let cql = CqlConfig {
        hosts: hosts.map(str::to_owned).collect(),
        keyspace: from.words("store.keyspace").unwrap_or_default(),
        user: from.words("store.user"),
        password_file: from.path("store.password_file"),
        ca: from.path("store.ca"),
    };
    match (is_shared, cql.hosts.is_empty()) {
        (true, true) => from.contradiction(
            "store.kind",
            "store.scylla",
            "it needs to know where the store is; name its nodes, like --scylla 10.0.0.1:9042",
        ),
        (false, false) => from.contradiction(
            "store.scylla",
            "store.kind",
            "the rows would go into the data folder all the same; write store.kind = \"scylla\", or leave it out",
        ),
        (true, false) | (false, true) => {}
    }
    if cql.user.is_some() != cql.password_file.is_some() {
        from.contradiction(
            "store.user",
            "store.password_file",
            "one is of no use without the other; set both or none",
        );
    }
    let shared = SharedConfig {
        cql,
        lease: Duration::from_millis(u64::from(from.number("cluster.lease_ms"))),
        advertise: from.words("cluster.advertise"),
        backlog_bytes: from.bytes("cluster.backlog_bytes"),
    };
    is_shared.then_some(shared)
}
