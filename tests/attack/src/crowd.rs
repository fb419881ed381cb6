//! Hostile devices: their connections, their threads, and what they are told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use quinn::{Connection, ConnectionError, Endpoint};
use till_loadgen::wire;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::ground::Ground;
use crate::report::{Answers, Attack};
use crate::{Options, doors, floods, slow};

/// Sockets that hostile connections share.
const SOCKETS: usize = 8;
/// Name of hostile threads. Not longer than what the system keeps of one.
const THREADS: &str = "till-hostile";
/// Time that a raid gets to end.
const END_MAX: Duration = Duration::from_secs(20);

/// What hostile devices tried, and what they were told.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    attempts: AtomicU64,
    bytes: AtomicU64,
    answers: Mutex<Answers>,
}

impl Tally {
    pub(crate) fn tried(&self, bytes: usize) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.sent(bytes);
    }

    /// More of what was tried.
    pub(crate) fn sent(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn said(&self, what: impl Into<String>) {
        self.said_often(what, 1);
    }

    pub(crate) fn said_often(&self, what: impl Into<String>, times: u64) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry(what.into()).or_default() += times;
    }

    pub(crate) fn tell(&self, attack: &mut Attack) {
        attack.attempts = self.attempts.load(Ordering::Relaxed);
        attack.bytes = self.bytes.load(Ordering::Relaxed);
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        attack.answers.clone_from(&answers);
    }
}

/// One hostile connection, and what it needs to go on.
#[derive(Clone)]
pub(crate) struct Foe {
    pub(crate) endpoint: Endpoint,
    pub(crate) addr: SocketAddr,
    /// Which of all.
    pub(crate) number: u32,
    pub(crate) tally: Arc<Tally>,
    pub(crate) signal: Arc<Signal>,
}

/// When an attack begins, and when it is over.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    begun: AtomicBool,
    over: AtomicBool,
}

impl Signal {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until the attack begins.
    pub(crate) async fn begun(&self) {
        while !self.begun.load(Ordering::Relaxed) && !self.is_over() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Foe {
    pub(crate) fn is_over(&self) -> bool {
        self.signal.is_over()
    }

    /// Holds so many streams open at a time, connection after connection, until the attack is over. `one` is a stream to its
    /// end, by its number; an error: its connection is of no use any more.
    pub(crate) async fn besiege<F>(
        self,
        streams: u32,
        one: impl Fn(Self, Connection, u32) -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let one = Arc::new(one);
        while let Some(connection) = self.connect().await {
            let mut open = JoinSet::new();
            for stream in 0..streams {
                let (foe, connection, one) = (self.clone(), connection.clone(), Arc::clone(&one));
                drop(open.spawn(async move {
                    while !foe.is_over() {
                        if one(foe.clone(), connection.clone(), stream).await.is_err() {
                            return;
                        }
                    }
                }));
            }
            self.until_over(&connection, &mut open).await;
            if let Some(error) = connection.close_reason()
                && !self.is_over()
            {
                self.tally.said(lost(&error));
            }
            connection.close(0_u32.into(), b"");
        }
    }

    /// Waits for the streams of a connection, and ends them with it when the attack is over.
    async fn until_over(&self, connection: &Connection, streams: &mut JoinSet<()>) {
        loop {
            tokio::select! {
                joined = streams.join_next() => {
                    if joined.is_none() {
                        return;
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    if self.is_over() {
                        connection.close(0_u32.into(), b"");
                    }
                }
            }
        }
    }

    /// A connection once the attack has begun; again and again until there is one, or the attack is over.
    pub(crate) async fn connect(&self) -> Option<Connection> {
        while !self.is_over() {
            let connecting = self.endpoint.connect(self.addr, till_client::SERVER_NAME);
            match connecting {
                Ok(connecting) => match connecting.await {
                    Ok(connection) => {
                        self.signal.begun().await;
                        return Some(connection);
                    }
                    Err(error) => self.tally.said(lost(&error)),
                },
                Err(error) => self.tally.said(format!("not connected: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        None
    }
}

/// How a connection ended, as a word for the report.
pub(crate) fn lost(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => format!("closed {}", close.error_code),
        ConnectionError::ConnectionClosed(close) => {
            let code = u64::from(close.error_code);
            match code.checked_sub(0x100) {
                Some(alert) if alert < 0x100 => format!("alert {alert}"),
                _ => format!("quic {code}"),
            }
        }
        ConnectionError::TransportError(error) => format!("transport {}", error.code),
        ConnectionError::TimedOut => "timed out".to_owned(),
        other => other.to_string(),
    }
}

/// The threads of hostile devices.
pub(crate) struct Crowd {
    pub(crate) runtime: Runtime,
}

/// An attack that goes on.
pub(crate) struct Raid {
    signal: Arc<Signal>,
    foes: JoinSet<()>,
}

impl Raid {
    pub(crate) fn begin(&self) {
        self.signal.begun.store(true, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.signal.over.store(true, Ordering::Relaxed);
    }
}

impl Crowd {
    /// Threads that take what CPU is left.
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(THREADS)
            .enable_all()
            .build()?;
        yield_to_others(options.measures)?;
        Ok(Self { runtime })
    }

    /// Brings hostile devices up; they wait for [`Raid::begin`].
    pub(crate) fn gather(
        &self,
        name: &str,
        ground: &Ground,
        options: &Options,
        tally: &Arc<Tally>,
    ) -> Result<Raid> {
        let signal = Arc::<Signal>::default();
        let _inside = self.runtime.enter();
        let endpoints = endpoints(ground)?;
        let mut foes = JoinSet::new();
        for number in 0..options.connections {
            let place = usize::try_from(number)? % endpoints.len();
            let foe = Foe {
                endpoint: endpoints.get(place).context("no endpoint")?.clone(),
                addr: ground.engine.quic,
                number,
                tally: Arc::clone(tally),
                signal: Arc::clone(&signal),
            };
            match name {
                "slowloris" | "promises" | "small-promises" | "silent-streams" => {
                    drop(foes.spawn(slow::foe(foe, name.to_owned())));
                }
                "churn" => drop(foes.spawn(doors::churn(foe))),
                "half-open" => {}
                _ => drop(foes.spawn(floods::foe(foe, name.to_owned()))),
            }
        }
        if name == "half-open" {
            let (addr, count) = (ground.engine.quic, options.handshakes);
            let initials = self.runtime.block_on(doors::initials(&endpoints, count))?;
            let (tally, signal) = (Arc::clone(tally), Arc::clone(&signal));
            drop(foes.spawn(async move {
                doors::half_open(addr, initials, &tally, &signal).await;
            }));
        }
        Ok(Raid { signal, foes })
    }

    /// Waits until hostile devices have ended.
    pub(crate) fn end(&self, mut raid: Raid, attack: &mut Attack) {
        let ended = self.runtime.block_on(async {
            let all = async { while raid.foes.join_next().await.is_some() {} };
            tokio::time::timeout(END_MAX, all).await
        });
        attack.must(ended.is_ok(), || {
            "hostile devices wait for an end of their streams that does not come".to_owned()
        });
    }
}

/// Sockets with the identity that is authorised for every terminal.
pub(crate) fn endpoints(ground: &Ground) -> Result<Vec<Endpoint>> {
    let identity = wire::read_identity(&ground.engine.identity)?;
    let config = identity.client_config(&till_client::Tuning::default())?;
    let sockets = (0..SOCKETS).map(|_| {
        let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        endpoint.set_default_client_config(config.clone());
        Ok(endpoint)
    });
    sockets.collect()
}

// Hostile machines would be others than the engine's: what they compute must cost it nothing. A low priority is not enough, as
// threads of one wake hundreds of times a second and are let in each time; idle ones run where nobody else wants to. Where
// throughput does not decide, other work may be on the machine, and idle threads might never run. Either is a thread's own,
// and a process that is started later takes that of the thread that starts it.
fn yield_to_others(is_idle: bool) -> Result<()> {
    let (program, arguments) = match is_idle {
        true => ("chrt", ["--idle", "--pid", "0"]),
        false => ("renice", ["-n", "19", "-p"]),
    };
    for entry in std::fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.trim() != THREADS {
            continue;
        }
        let id = path.file_name().context("a thread without a number")?;
        let output = std::process::Command::new(program)
            .args(arguments)
            .arg(id)
            .output()
            .context(program)?;
        anyhow::ensure!(output.status.success(), "{program}: {output:?}");
    }
    Ok(())
}
