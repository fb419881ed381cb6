//! One engine, or several that stand in for each other, and the connection to it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, interval, sleep, timeout};

use super::{LinkShared, jitter};
use crate::identity::SERVER_NAME;

/// A connection that stood this long was good: the next attempt waits briefly again.
const GOOD_AFTER: Duration = Duration::from_secs(10);

/// A connection that stood this long was of use.
const STEADY_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Node {
    addresses: Vec<String>,
    state: watch::Sender<Reach>,
    /// Nobody asks for it any more.
    retired: AtomicBool,
    /// Somebody asks for it now: the next attempt does not wait.
    wanted: Notify,
}

/// Whether an engine is reached.
#[derive(Clone, Debug, Default)]
struct Reach {
    connection: Option<Connection>,
    /// Attempts that came to nothing.
    failures: u64,
}

/// The engine does not answer.
#[derive(Debug)]
pub(super) struct Gone;

#[derive(Debug, Error)]
enum DialError {
    #[error("can't find {0}")]
    Unknown(String),
    #[error(transparent)]
    Lookup(#[from] io::Error),
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("no answer")]
    Silent,
}

impl Node {
    pub(super) fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            state: watch::Sender::new(Reach::default()),
            retired: AtomicBool::new(false),
            wanted: Notify::new(),
        }
    }

    /// Keeps the connection up until the link is closed or dropped.
    pub(super) fn start(self: &Arc<Self>, link: &Arc<LinkShared>) {
        let (node, link) = (Arc::clone(self), Arc::downgrade(link));
        drop(tokio::spawn(async move { node.keep_up(&link).await }));
    }

    /// Dials no more.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn current(&self) -> Option<Connection> {
        self.state.borrow().connection.clone()
    }

    /// The connection, as soon as there is one; `None` when the link is closed.
    pub(super) async fn connection(&self, link: &LinkShared) -> Option<Connection> {
        self.connected_or(link, |_| false).await.ok().flatten()
    }

    /// As [`Self::connection`], but no longer than to the next attempt that fails.
    pub(super) async fn connection_soon(
        &self,
        link: &LinkShared,
    ) -> Result<Option<Connection>, Gone> {
        let before = self.state.borrow().failures;
        self.wanted.notify_one();
        self.connected_or(link, |reach| reach.failures > before)
            .await
    }

    async fn connected_or(
        &self,
        link: &LinkShared,
        is_gone: impl Fn(&Reach) -> bool,
    ) -> Result<Option<Connection>, Gone> {
        let mut state = self.state.subscribe();
        let mut closed = link.closed.subscribe();
        let quiesced = |reach: &Reach| reach.connection.is_some() || is_gone(reach);
        tokio::select! {
            found = state.wait_for(quiesced) => match found {
                Ok(reach) => reach.connection.clone().map(Some).ok_or(Gone),
                Err(_) => Ok(None),
            },
            _ = closed.wait_for(|closed| *closed) => Ok(None),
        }
    }

    async fn keep_up(&self, link: &Weak<LinkShared>) {
        let mut rng = jitter();
        let Some(mut backoff) = link.upgrade().map(|link| link.config.backoff) else {
            return;
        };
        let mut turn = 0_usize;
        loop {
            let Some(shared) = link.upgrade().filter(|link| !link.is_closed()) else {
                return;
            };
            if self.retired.load(Ordering::Relaxed) {
                return;
            }
            let mut closed = shared.closed.subscribe();
            let address = self.addresses.get(turn % self.addresses.len().max(1));
            let address = address.map_or("", String::as_str);
            turn = turn.wrapping_add(1);
            match dial(&shared, address).await {
                Ok(connection) => {
                    tracing::debug!(address, "connected");
                    let silence = shared.config.tuning.silence;
                    drop(shared);
                    self.state.send_modify(|reach| {
                        reach.connection = Some(connection.clone());
                    });
                    let since = Instant::now();
                    let why = watch_over(&connection, silence).await;
                    self.state.send_modify(|reach| reach.connection = None);
                    tracing::debug!(address, %why, "connection lost");
                    if since.elapsed() >= GOOD_AFTER {
                        backoff.reset();
                    }
                    // Others may be there at once; the one that was there comes to its turn again. A connection that is
                    // closed as soon as it stands is no reason to hurry.
                    if self.addresses.len() > 1 && since.elapsed() >= STEADY_AFTER {
                        continue;
                    }
                }
                Err(error) => {
                    tracing::debug!(address, %error, "can't connect");
                    self.state.send_modify(|reach| {
                        reach.failures += 1;
                    });
                    // A whole round of failures, before it waits.
                    if !turn.is_multiple_of(self.addresses.len().max(1)) {
                        continue;
                    }
                }
            }
            tokio::select! {
                () = sleep(backoff.next(&mut rng)) => {}
                () = self.wanted.notified() => {}
                _ = closed.wait_for(|closed| *closed) => return,
            }
        }
    }
}

/// Waits for the end of a connection, and ends it when what is sent falls on deaf ears.
async fn watch_over(connection: &Connection, silence: Duration) -> ConnectionError {
    let mut ticks = interval((silence / 4).max(Duration::from_millis(10)));
    let closed = connection.closed();
    tokio::pin!(closed);
    let (mut heard, mut sent, mut silent_since) = (0, 0, None);
    loop {
        tokio::select! {
            why = &mut closed => return why,
            _ = ticks.tick() => {}
        }
        let stats = connection.stats();
        if stats.udp_rx.datagrams != heard {
            (heard, sent) = (stats.udp_rx.datagrams, stats.udp_tx.datagrams);
            silent_since = None;
        } else if stats.udp_tx.datagrams > sent {
            let since = *silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= silence {
                connection.close(0_u32.into(), b"no answer");
            }
        }
    }
}

async fn dial(link: &LinkShared, address: &str) -> Result<Connection, DialError> {
    let found = lookup_host(address)
        .await?
        .next()
        .ok_or_else(|| DialError::Unknown(address.to_owned()))?;
    let to = reachable_from(&link.endpoint, found);
    let connecting = link
        .endpoint
        .connect_with(link.client.clone(), to, SERVER_NAME)?;
    match timeout(link.config.connect_timeout, connecting).await {
        Ok(connected) => Ok(connected?),
        Err(_) => Err(DialError::Silent),
    }
}

/// A socket of both families names IPv4 hosts by their mapped addresses.
fn reachable_from(endpoint: &Endpoint, to: SocketAddr) -> SocketAddr {
    let six = endpoint.local_addr().is_ok_and(|own| own.is_ipv6());
    match to {
        SocketAddr::V4(four) if six => SocketAddr::from((four.ip().to_ipv6_mapped(), four.port())),
        other => other,
    }
}
