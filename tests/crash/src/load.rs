//! The load: the load generator's fleet with durable outboxes, which lives through everything, and its oracle.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};
use till_loadgen::fleet::{self, FleetConfig, FleetReport};

/// How soon devices notice that an engine is gone, and come back: so soon that an engine which lives for a second has load.
const RETURNS_WITHIN: Duration = Duration::from_millis(500);

/// What is sent where.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where devices connect.
    pub quic: SocketAddr,
    /// Base URL of the engine's admin port.
    pub admin: String,
    /// PEM file that is authorised for every terminal.
    pub identity: PathBuf,
    /// Folder of the durable outboxes.
    pub outbox: PathBuf,
    /// Events per second.
    pub rate: u64,
    /// Share of rude devices.
    pub rude: f64,
    /// Seed of the trade.
    pub seed: u64,
}

/// A fleet at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    thread: JoinHandle<Result<FleetReport>>,
}

impl Load {
    /// Sends a fleet to work.
    pub fn start(wanted: &Wanted) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acked = Arc::new(AtomicU64::new(0));
        let config = FleetConfig {
            admin: Some(wanted.admin.clone()),
            stores: 8,
            // Several connections, so that not all devices wait for the same attempt.
            terminals: 12,
            rate: wanted.rate,
            rude: wanted.rude,
            outbox: Some(wanted.outbox.clone()),
            returns_within: Some(RETURNS_WITHIN),
            seed: wanted.seed,
            stop: Arc::clone(&stop),
            ..FleetConfig::new(wanted.quic, wanted.identity.clone())
        };
        let shown = Arc::clone(&acked);
        let thread = std::thread::spawn(move || {
            fleet::run(&config, &mut |live| {
                shown.store(live.acked, Ordering::Relaxed);
            })
        });
        Self {
            stop,
            acked,
            thread,
        }
    }

    /// Events that were acknowledged, looked at once a second.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Whether the fleet has ended by itself, which it should not.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the trade, waits until everything is acknowledged, and has the oracle compare. The engine has to run.
    ///
    /// # Errors
    /// When the engine could not be reached or asked.
    pub fn finish(self) -> Result<FleetReport> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the fleet broke"))?
    }
}
