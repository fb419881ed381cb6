//! The way to an engine: one QUIC connection that carries many terminals.
//!
//! A link dials its addresses one after another until one answers, and again whenever the connection is lost, with
//! back-off and jitter. Each terminal has a stream of its own; what goes wrong on one leaves the others alone.
//!
//! Where several engines share the stores of a chain, each says of a terminal's store which of them serves it. The link
//! keeps a connection to each engine that was named, and a terminal stays with the one that serves it; when that one does
//! not answer any more, the terminal asks one of the link's own addresses again.

mod drive;
mod node;
mod raw;
mod terminal;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use quinn::{ClientConfig, Endpoint};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use thiserror::Error;
use till_protocol::id::TerminalId;
use till_protocol::time::DeviceTime;
use tokio::sync::watch;
use tokio::time::timeout;

use self::node::Node;
pub use self::raw::{RawError, RawStream};
pub use self::terminal::{Progress, SendError, Terminal};
use crate::backoff::Backoff;
use crate::deadletter::DeadLetters;
use crate::identity::{Identity, IdentityError, Tuning};
use crate::outbox::Outbox;
use crate::session::{End, Notice, Session, SessionConfig, Totals};

/// Longest wait for an engine's farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most engines that a link remembers from redirects.
const NODES_MAX: usize = 64;

/// How a link reaches its engine.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// `host:port` of the engines that may be asked first, in order of preference.
    pub addresses: Vec<String>,
    /// What the device shows.
    pub identity: Identity,
    /// Sizes and times of the connection.
    pub tuning: Tuning,
    /// Waits between attempts, for the connection and for each stream.
    pub backoff: Backoff,
    /// Longest wait for one address to answer.
    pub connect_timeout: Duration,
}

impl LinkConfig {
    /// A link to several engines that stand in for each other, with the usual settings.
    pub fn to_any(addresses: impl IntoIterator<Item = String>, identity: Identity) -> Self {
        Self {
            addresses: addresses.into_iter().collect(),
            ..Self::new(String::new(), identity)
        }
    }

    /// A link to one address with the usual settings.
    pub fn new(address: impl Into<String>, identity: Identity) -> Self {
        Self {
            addresses: vec![address.into()],
            identity,
            tuning: Tuning::default(),
            backoff: Backoff::default(),
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// How a terminal uses its stream.
#[derive(Clone)]
pub struct TerminalConfig {
    /// What it says of itself.
    pub session: SessionConfig,
    /// Most events that are put into one frame.
    pub frame_events: u32,
    /// Who is told what happens, if anybody.
    pub observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for TerminalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TerminalConfig")
            .field("session", &self.session)
            .field("frame_events", &self.frame_events)
            .finish_non_exhaustive()
    }
}

impl TerminalConfig {
    /// The usual configuration of a terminal.
    pub const fn new(terminal: TerminalId) -> Self {
        Self {
            session: SessionConfig::new(terminal),
            frame_events: 256,
            observer: None,
        }
    }
}

/// Something that happened to a terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// The session has news, e.g. an acknowledgement. `totals` count events whatever their epoch.
    Notice(&'a Notice, Totals),
    /// The engine ended the stream, or sent the terminal elsewhere; the link deals with it.
    Ended(&'a End),
    /// The stream or its connection is lost; the link tries again.
    Lost(&'a str),
}

/// Is told what happens to terminals, at the moment when it happens.
///
/// Called on the link's own tasks: it must return at once and must not block.
pub trait Observer: Send + Sync {
    /// Something happened to a terminal.
    fn happened(&self, terminal: TerminalId, at: Instant, what: &Happening<'_>);
}

/// Why a link can't be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No address was given.
    #[error("a link needs at least one address, as host:port")]
    NoAddress,
    /// The identity can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No UDP socket could be had.
    #[error("can't open a UDP socket: {0}")]
    Socket(#[source] io::Error),
}

/// A connection that is kept up, and the terminals on it. Clones are the same link.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<LinkShared>,
}

#[derive(Debug)]
struct LinkShared {
    config: LinkConfig,
    client: ClientConfig,
    endpoint: Endpoint,
    home: Arc<Node>,
    /// Engines that redirects have named.
    others: Mutex<HashMap<String, Arc<Node>>>,
    closed: watch::Sender<bool>,
}

impl Link {
    /// Makes a link and starts to dial. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Returns [`LinkError`] when it can never work: no address, no usable identity, no socket.
    pub fn open(config: LinkConfig) -> Result<Self, LinkError> {
        if config.addresses.is_empty() {
            return Err(LinkError::NoAddress);
        }
        let client = config.identity.client_config(&config.tuning)?;
        // A socket that speaks both families where there is IPv6, and one that does not where there is none.
        let endpoint = Endpoint::client(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
            .or_else(|_| Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))))
            .map_err(LinkError::Socket)?;
        let home = Arc::new(Node::new(config.addresses.clone()));
        let shared = Arc::new(LinkShared {
            config,
            client,
            endpoint,
            home,
            others: Mutex::new(HashMap::new()),
            closed: watch::Sender::new(false),
        });
        shared.home.start(&shared);
        Ok(Self { shared })
    }

    /// Puts a terminal on the link. What its outbox holds is sent first.
    pub fn terminal(
        &self,
        config: TerminalConfig,
        outbox: Box<dyn Outbox>,
        dead: Box<dyn DeadLetters>,
    ) -> Terminal {
        let session = Session::new(config.session.clone(), outbox, dead);
        Terminal::start(Arc::clone(&self.shared), config, session)
    }

    /// Opens a stream whose bytes are the caller's own affair, for testing engines with what no honest device sends.
    ///
    /// # Errors
    /// Returns [`RawError`] when the link is closed or the connection is lost in this moment.
    pub async fn raw(&self) -> Result<RawStream, RawError> {
        RawStream::open(&self.shared).await
    }

    /// Waits until the link is connected to its home engine, or closed. Returns whether it is connected.
    pub async fn connected(&self) -> bool {
        self.shared.home.connection(&self.shared).await.is_some()
    }

    /// The address of the engine that the link is connected to now.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.shared
            .home
            .current()
            .map(|connection| connection.remote_address())
    }

    /// Cuts the connections, as a lost network would. The link dials again.
    pub fn cut(&self) {
        let others = self.shared.others.lock();
        let others = others.unwrap_or_else(PoisonError::into_inner);
        let nodes = others.values().chain([&self.shared.home]);
        for connection in nodes.filter_map(|node| node.current()) {
            connection.close(0_u32.into(), b"cut");
        }
    }

    /// Closes the link and all its terminals. What is not committed stays in the outboxes.
    pub async fn close(&self) {
        self.shared.closed.send_replace(true);
        self.shared.endpoint.close(0_u32.into(), b"closed");
        // Half-made connections would hold this up for as long as their timeouts are.
        timeout(FAREWELL, self.shared.endpoint.wait_idle())
            .await
            .ok();
    }
}

impl LinkShared {
    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// The node at an address that a redirect named.
    fn node_at(self: &Arc<Self>, address: &str) -> Arc<Node> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = others.get(address) {
            return Arc::clone(node);
        }
        if others.len() >= NODES_MAX {
            // The map and the node's own task hold each; who holds more is used by a terminal.
            others.retain(|_, node| {
                let is_used = Arc::strong_count(node) > 2 || node.current().is_some();
                if !is_used {
                    node.retire();
                }
                is_used
            });
        }
        if others.len() >= NODES_MAX {
            return Arc::clone(&self.home);
        }
        let node = Arc::new(Node::new(vec![address.to_owned()]));
        others.insert(address.to_owned(), Arc::clone(&node));
        node.start(self);
        node
    }
}

/// The device's clock.
fn clock() -> DeviceTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let us = since.map_or(0, |since| since.as_micros());
    DeviceTime::from_us(i64::try_from(us).unwrap_or(0))
}

/// Randomness for jitter; the standard library seeds its hasher from the system.
fn jitter() -> SmallRng {
    SmallRng::seed_from_u64(RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests;
