//! The open door: QUIC connections are taken in within limits, and each of their streams speaks for one terminal.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{Connection, Endpoint, Incoming, Runtime as _, TokioRuntime, VarInt};
use till_runtime::{Handle, Ingress, WIDE_WINDOW_BYTES};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tracing::debug;

use crate::abuse_control::AbuseControl;
use crate::close;
use crate::door::{Door, GatewayError};
use crate::hall::Hall;
use crate::initial_limiter::{Ids, LimitedSocket};
use crate::patience::Holding;
use crate::pki::{Authorisation, Files};
use crate::stream::{self, Seat};
use crate::transport;
use crate::trust::{Trust, TrustStanding, Watch};

/// Streams of one connection on which nobody has said Hello yet; those behind them wait in QUIC. A Hello comes with the first
/// bytes of its stream: an agent's tills hardly wait for each other.
const UNNAMED_MAX: usize = 16;

/// The open door.
#[derive(Debug)]
pub(crate) struct Gateway {
    endpoint: Endpoint,
    shut: Arc<Mutex<bool>>,
}

impl Gateway {
    /// Opens the door and takes connections in, on the runtime of the caller.
    pub(crate) fn open(engine: &Handle, files: Files, door: Door) -> Result<Self, GatewayError> {
        let hall = Arc::new(Hall::of(engine));
        let address = door.address();
        let stamps = files.stamps();
        let pki = files.read()?;
        let server = transport::server_config(pki.tls()?, &hall.network);
        let failed = |cause| GatewayError::Listen { address, cause };
        let ids = Ids::default();
        let socket = TokioRuntime.wrap_udp_socket(door.socket).map_err(failed)?;
        let figures = Arc::clone(hall.intake.figures());
        let socket = LimitedSocket::new(socket, ids.clone(), figures);
        let own = transport::endpoint_config(ids);
        let own = own.map_err(|error| failed(std::io::Error::other(error)))?;
        let endpoint = Endpoint::new_with_abstract_socket(
            own,
            Some(server.clone()),
            Arc::new(socket),
            Arc::new(TokioRuntime),
        )
        .map_err(failed)?;
        let shut = Arc::new(Mutex::new(false));
        let (watch, trust) = Watch::new(
            Arc::clone(&hall.intake),
            (files, stamps, pki),
            (endpoint.clone(), server),
            Arc::clone(&shut),
        );
        let _watch_loop = tokio::spawn(watch.run());
        let doorkeeper = Doorkeeper {
            handshakes: Arc::new(Semaphore::new(count(hall.network.handshakes_max))),
            wide: Arc::new(Semaphore::new(count(hall.network.wide_connections))),
            hall,
            connections: Arc::new(AtomicU32::new(0)),
            trust,
        };
        let accepting = endpoint.clone();
        let _accept_loop = tokio::spawn(async move { doorkeeper.run(accepting).await });
        Ok(Self { endpoint, shut })
    }
}

impl Ingress for Gateway {
    fn shut(&self) {
        // Not opened again by other certificates.
        *self.shut.lock() = true;
        self.endpoint.set_server_config(None);
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.endpoint.close(close::DRAINING, b"draining");
            let reported = timeout(Duration::from_secs(2), self.endpoint.wait_idle()).await;
            if reported.is_err() {
                debug!("some devices did not hear that the engine stops");
            }
        })
    }
}

#[derive(Clone, Debug)]
struct Doorkeeper {
    hall: Arc<Hall>,
    handshakes: Arc<Semaphore>,
    wide: Arc<Semaphore>,
    connections: Arc<AtomicU32>,
    trust: Trust,
}

/// Counts a connection as long as it lives.
struct Counted(Arc<AtomicU32>, Arc<Hall>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
        let open = &self.1.intake.figures().connections;
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Doorkeeper {
    async fn run(self, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let limit = self.hall.network.connections_max;
            if self.hall.intake.is_draining() || self.connections.load(Ordering::Acquire) >= limit {
                let turned_away = &self.hall.intake.figures().turned_away;
                turned_away.fetch_add(1, Ordering::Relaxed);
                incoming.refuse();
                continue;
            }
            let Some(handshake) = self.turn(&incoming).await else {
                // Whoever has not shown that its address is its own comes again with the proof.
                if let Err(error) = incoming.retry() {
                    error.into_incoming().refuse();
                }
                continue;
            };
            self.connections.fetch_add(1, Ordering::AcqRel);
            let open = &self.hall.intake.figures().connections;
            open.fetch_add(1, Ordering::Relaxed);
            let counted = Counted(Arc::clone(&self.connections), Arc::clone(&self.hall));
            let keeper = self.clone();
            let _connection = tokio::spawn(async move {
                keeper.welcome(incoming, handshake, counted).await;
            });
        }
    }

    // A turn for a handshake. Under a flood a device must prove its address first, and then waits here; those behind it
    // wait in QUIC's own queue, which is bounded. Half of the turns are for those who have proved it: whoever only begins
    // handshakes, from addresses that need not be its own, leaves them alone.
    async fn turn(&self, incoming: &Incoming) -> Option<OwnedSemaphorePermit> {
        let is_proved = incoming.remote_address_validated() || !incoming.may_retry();
        let kept = count(self.hall.network.handshakes_max) / 2;
        let turn = Arc::clone(&self.handshakes);
        if (is_proved || turn.available_permits() > kept)
            && let Ok(turn) = turn.try_acquire_owned()
        {
            return Some(turn);
        }
        if !is_proved {
            return None;
        }
        Arc::clone(&self.handshakes).acquire_owned().await.ok()
    }

    async fn welcome(self, incoming: Incoming, handshake: OwnedSemaphorePermit, counted: Counted) {
        let deadline = self.hall.network.hello_timeout;
        let remote = incoming.remote_address();
        let believed = self.trust.number();
        let failed = || {
            let failed = &self.hall.intake.figures().pki.failed_handshakes;
            failed.fetch_add(1, Ordering::Relaxed);
        };
        let connection = match incoming.accept() {
            Ok(connecting) => match timeout(deadline, connecting).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    debug!(%remote, %error, "handshake failed");
                    failed();
                    return;
                }
                Err(_) => {
                    debug!(%remote, "handshake took too long");
                    failed();
                    return;
                }
            },
            Err(error) => {
                debug!(%remote, %error, "connection refused");
                return;
            }
        };
        drop(handshake);
        let standing = self.trust.of(&connection, believed);
        let own = standing.own();
        let authorisation = own.map_or_else(Authorisation::default, |der| {
            Authorisation::of_certificate(der)
        });
        if authorisation == Authorisation::default() {
            connection.close(close::NOBODY, b"the certificate speaks for no terminal");
            return;
        }
        let wide = Arc::clone(&self.wide).try_acquire_owned().ok();
        if wide.is_some() {
            connection.set_receive_window(VarInt::from_u32(WIDE_WINDOW_BYTES));
        }
        debug!(%remote, "device connected");
        serve(&self.hall, &connection, Arc::new(authorisation), standing).await;
        drop((wide, counted));
    }
}

// Streams of a connection until it ends, or its certificate counts no more. QUIC bounds how many there are.
async fn serve(
    hall: &Arc<Hall>,
    connection: &Connection,
    authorisation: Arc<Authorisation>,
    mut standing: TrustStanding,
) {
    let holding = Arc::new(Holding::default());
    let share = hall.unfinished.share();
    let abuse = Arc::new(AbuseControl::new(
        connection.remote_address(),
        Instant::now(),
    ));
    let unnamed = Arc::new(Semaphore::new(UNNAMED_MAX));
    let next = async || {
        // It is never closed.
        let unnamed = Arc::clone(&unnamed).acquire_owned().await.ok();
        connection.accept_bi().await.map(|stream| (stream, unnamed))
    };
    let mut lost = std::pin::pin!(standing.lost());
    loop {
        let wait = abuse.wait(Instant::now());
        let accepted = tokio::select! {
            biased;
            lost = &mut lost => {
                let remote = connection.remote_address();
                tracing::info!(%remote, why = lost.words(), "a connection is closed");
                let closed = &hall.intake.figures().pki.closed;
                closed.fetch_add(1, Ordering::Relaxed);
                connection.close(lost.code(), lost.words().as_bytes());
                return;
            }
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => continue,
            error = connection.closed(), if wait.is_some() => Err(error),
            accepted = next(), if wait.is_none() => accepted,
        };
        match accepted {
            Ok(((send, recv), unnamed)) => {
                let hall = Arc::clone(hall);
                let authorisation = Arc::clone(&authorisation);
                let seat = Seat {
                    holding: Arc::clone(&holding),
                    abuse: Arc::clone(&abuse),
                    held: share.stream(),
                    unnamed,
                };
                let _stream = tokio::spawn(async move {
                    stream::serve(hall, authorisation, seat, send, recv).await;
                });
            }
            Err(error) => {
                debug!(remote = %connection.remote_address(), %error, "device gone");
                return;
            }
        }
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
