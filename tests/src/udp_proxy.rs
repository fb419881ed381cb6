//! A bad way of datagrams to an engine: they get lost, come twice, overtake each other, vanish for a while, and come from
//! another address all at once.
//!
//! It knows nothing of QUIC. Each device's address has an address of its own towards the engine, which [`UdpProxy::rebind`]
//! changes, as a translation of addresses on the way does. What happens to a datagram is drawn from the seed.

mod way;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What happens to datagrams of both directions, each in so many of a thousand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LineFaults {
    /// Get lost.
    pub lost: u32,
    /// Come twice, the second time up to `late_max` later.
    pub doubled: u32,
    /// Come up to `late_max` later: others overtake them.
    pub late: u32,
    /// The longest delay.
    pub late_max: Duration,
}

/// How many datagrams met what.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LineTally {
    /// Datagrams that came by.
    pub datagrams: u64,
    /// Got lost.
    pub lost: u64,
    /// Came twice.
    pub doubled: u64,
    /// Came late.
    pub late: u64,
    /// Vanished while nothing passed.
    pub vanished: u64,
    /// Addresses of devices that changed.
    pub rebound: u64,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    engine: SocketAddr,
    seed: u64,
    faults: Mutex<LineFaults>,
    tally: Mutex<LineTally>,
    is_blocked: Mutex<bool>,
    /// How often addresses have changed.
    turn: watch::Sender<u64>,
}

impl Shared {
    fn count(&self, add: impl FnOnce(&mut LineTally)) {
        add(&mut self.tally.lock());
    }
}

/// A way to an engine. It ends when it is dropped.
#[derive(Debug)]
pub struct UdpProxy {
    shared: Arc<Shared>,
    addr: SocketAddr,
    // Dropped with its tasks.
    _runtime: Runtime,
}

impl UdpProxy {
    /// Takes a free port of the loopback, and passes everything on to the engine until it is told otherwise.
    ///
    /// # Errors
    /// When there is no port.
    pub fn start(engine: SocketAddr, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("udp-proxy")
            .enable_all()
            .build()?;
        let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
        let front = Arc::new(runtime.block_on(front).context("a port for devices")?);
        let addr = front.local_addr()?;
        let shared = Arc::new(Shared {
            engine,
            seed,
            faults: Mutex::default(),
            tally: Mutex::default(),
            is_blocked: Mutex::new(false),
            turn: watch::Sender::new(0),
        });
        drop(runtime.spawn(way::accept(front, Arc::clone(&shared))));
        Ok(Self {
            shared,
            addr,
            _runtime: runtime,
        })
    }

    /// Where devices connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on, datagrams meet these faults.
    pub fn set(&self, faults: LineFaults) {
        *self.shared.faults.lock() = faults;
    }

    /// Whether everything vanishes from now on.
    pub fn block(&self, is_blocked: bool) {
        *self.shared.is_blocked.lock() = is_blocked;
    }

    /// From now on, every device comes from another address.
    pub fn rebind(&self) {
        self.shared.turn.send_modify(|turn| *turn += 1);
    }

    /// What datagrams have met so far.
    pub fn tally(&self) -> LineTally {
        *self.shared.tally.lock()
    }
}
