//! From a list of addresses to a connected cluster.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::cause::words;
use crate::client::{Client, Profiles};
use crate::config::ScyllaConfig;
use crate::error::{CqlError, Tried};
use crate::server::{Dialect, Server};
use crate::tls;

/// What is tried before a node has answered has so long altogether: the caller is told within 10 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(9);
/// Four connections to a node of Cassandra, which the driver would give one: a single one is held up by its slowest answer.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

/// Connects.
///
/// # Errors
/// See [`Cql::connect`](crate::Cql::connect).
pub(super) async fn connect(config: &ScyllaConfig) -> Result<Client, CqlError> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    let probes = probe(config, deadline).await;
    let session = build(config, PoolSize::default(), &probes, deadline).await?;
    let server = Server::find(&session).await?;
    let session = match server.dialect {
        Dialect::Scylla => session,
        Dialect::Cassandra => {
            let deadline = Instant::now() + ANSWER_WITHIN;
            build(config, PoolSize::PerHost(CONNECTIONS), &probes, deadline).await?
        }
    };
    let datacenter = match &config.datacenter {
        Some(named) => named.clone(),
        None => nearest(config, &session).await?,
    };
    Ok(Client {
        profiles: Profiles::of(&datacenter),
        keyspace: config.keyspace.clone(),
        session,
        server,
        datacenter,
    })
}

/// An address, and what kept it from taking a connection.
type Probe = (String, Option<String>);

/// Connects to every address and hangs up: the driver's own error names the last one alone.
async fn probe(config: &ScyllaConfig, deadline: Instant) -> Vec<Probe> {
    let deadline = deadline.min(Instant::now() + config.connect_timeout);
    let mut probes = JoinSet::new();
    for (number, host) in config.hosts.iter().cloned().enumerate() {
        probes.spawn(async move {
            let cause = match timeout_at(deadline, TcpStream::connect(&host)).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("no answer in time".to_owned()),
            };
            (number, (host, cause))
        });
    }
    let mut probes = probes.join_all().await;
    probes.sort();
    probes.into_iter().map(|(_, probe)| probe).collect()
}

async fn build(
    config: &ScyllaConfig,
    pool: PoolSize,
    probes: &[Probe],
    deadline: Instant,
) -> Result<Session, CqlError> {
    let reachable = probes.iter().filter(|(_, cause)| cause.is_none());
    let reachable: Vec<&str> = reachable.map(|(host, _)| host.as_str()).collect();
    if reachable.is_empty() {
        return Err(unreachable(probes, ""));
    }
    let mut builder = SessionBuilder::new()
        .known_nodes(&reachable)
        .pool_size(pool)
        .connection_timeout(config.connect_timeout)
        // Where the rows of our tables lie, and nothing more: requests go straight to a node that has the row.
        .keyspaces_to_fetch([config.keyspace.name()])
        .fetch_full_schema_metadata(false);
    if let Some(credentials) = &config.credentials {
        builder = builder.user(credentials.user(), credentials.password());
    }
    if let Some(file) = &config.ca_file {
        builder = builder.tls_context(Some(tls::trusting(file)?));
    }
    match timeout_at(deadline, builder.build()).await {
        Ok(Ok(session)) => Ok(session),
        Ok(Err(error)) => Err(unreachable(probes, &words(config, &error))),
        Err(_) => Err(unreachable(
            probes,
            "takes a connection, and then does not answer in time",
        )),
    }
}

/// Every address with its cause; `answered` is that of those that took a connection.
fn unreachable(probes: &[Probe], answered: &str) -> CqlError {
    let tried = probes.iter().map(|(host, cause)| {
        let cause = cause.as_deref().unwrap_or(answered);
        (host.clone(), cause.to_owned())
    });
    CqlError::Unreachable(Tried(tried.collect()))
}

/// The data centre of the first host that is a node's address; the only one, where there is but one.
async fn nearest(config: &ScyllaConfig, session: &Session) -> Result<String, CqlError> {
    let state = session.get_cluster_state();
    let nodes = state.get_nodes_info();
    for host in &config.hosts {
        let Ok(addresses) = lookup_host(host).await else {
            continue;
        };
        for address in addresses {
            let node = nodes.iter().find(|node| node.address.ip() == address.ip());
            if let Some(datacenter) = node.and_then(|node| node.datacenter.clone()) {
                return Ok(datacenter);
            }
        }
    }
    let all: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|node| node.datacenter.as_deref())
        .collect();
    match (all.first(), all.len()) {
        (Some(only), 1) => Ok((*only).to_owned()),
        _ => Err(CqlError::Datacenter(
            all.into_iter().collect::<Vec<_>>().join(", "),
        )),
    }
}
