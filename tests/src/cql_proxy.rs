//! A bad way to a CQL server: it delays, cuts, refuses, and loses answers to what took effect.
//!
//! It reads the frames of the native protocol (version 4, no compression) as far as it must: header, stream, which statement a
//! request carries out. What it does to a request is drawn from its seed, the number of the connection and that of the request.
//! Statements of the server's own keyspaces, handshakes and preparations pass unharmed but for cut connections.
//!
//! It listens on the loopback address. A driver takes a node's address from the node and the port from where it connected: in
//! front of one node at 127.0.0.1, all of a driver's connections come by here.

mod frame;
mod line;
mod statement;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use self::line::ProxyLine;
use self::statement::Statements;

/// What happens to requests, each in so many of a thousand; to conditional writes five times as often.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Reach the server late, by up to `late_max`: others overtake them, and the sender may have given them up.
    pub late: u32,
    /// Are answered late, by up to `late_max`.
    pub slow: u32,
    /// The longest delay.
    pub late_max: Duration,
    /// Are refused without any effect: `Unavailable`, `Overloaded`, or a conditional write that timed out.
    pub refused: u32,
    /// Take effect and are answered as if they had timed out.
    pub denied: u32,
    /// Take effect and are never answered.
    pub swallowed: u32,
    /// End the connection, before or after they reached the server.
    pub cut: u32,
}

/// How many requests met what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Connections that came by.
    pub connections: u64,
    /// Requests that could have been harmed.
    pub requests: u64,
    /// Conditional writes that were harmed.
    pub conditional: u64,
    /// Reached the server late.
    pub late: u64,
    /// Were answered late.
    pub slow: u64,
    /// Were refused.
    pub refused: u64,
    /// Took effect and were denied.
    pub denied: u64,
    /// Took effect and were not answered.
    pub swallowed: u64,
    /// Ended their connection.
    pub cut: u64,
    /// Writes that were held back, and sent on afterwards.
    pub held: u64,
}

/// What all connections share.
#[derive(Debug)]
struct ProxyShared {
    server: SocketAddr,
    seed: u64,
    faults: Mutex<Faults>,
    tally: Mutex<Tally>,
    statements: Mutex<Statements>,
    /// Whether writes are held back.
    is_held: watch::Sender<bool>,
    connections: AtomicU64,
}

impl ProxyShared {
    fn count(&self, add: impl FnOnce(&mut Tally)) {
        add(&mut self.tally.lock());
    }
}

/// A way to a CQL server. It ends, with every connection, when it is dropped.
#[derive(Debug)]
pub struct CqlProxy {
    shared: Arc<ProxyShared>,
    addr: SocketAddr,
    // Dropped with its tasks.
    _runtime: Runtime,
}

impl CqlProxy {
    /// Listens on a free port, and passes everything on to the server until it is told otherwise.
    ///
    /// # Errors
    /// When the server's address is none, or there is no port.
    pub fn start(server: &str, seed: u64) -> Result<Self> {
        let server = server
            .parse()
            .with_context(|| format!("{server} is not IP:PORT"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cql-proxy")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(ProxyShared {
            server,
            seed,
            faults: Mutex::default(),
            tally: Mutex::default(),
            statements: Mutex::default(),
            is_held: watch::Sender::new(false),
            connections: AtomicU64::new(0),
        });
        drop(runtime.spawn(accept(listener, Arc::clone(&shared))));
        Ok(Self {
            shared,
            addr,
            _runtime: runtime,
        })
    }

    /// Where it listens, as HOST:PORT.
    pub fn addr(&self) -> String {
        self.addr.to_string()
    }

    /// From now on, requests meet these faults.
    pub fn set(&self, faults: Faults) {
        *self.shared.faults.lock() = faults;
    }

    /// Keeps every write from now on, also those of connections that end meanwhile; reads go on.
    pub fn hold(&self) {
        self.shared.is_held.send_replace(true);
    }

    /// Sends on what was kept, in the order in which it came.
    pub fn release(&self) {
        self.shared.is_held.send_replace(false);
    }

    /// What requests have met so far.
    pub fn tally(&self) -> Tally {
        *self.shared.tally.lock()
    }
}

async fn accept(listener: TcpListener, shared: Arc<ProxyShared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.count(|tally| tally.connections += 1);
        let line = ProxyLine::new(Arc::clone(&shared), number);
        drop(tokio::spawn(async move {
            // Either side may hang up at any time.
            line.carry(client).await.ok();
        }));
    }
}
