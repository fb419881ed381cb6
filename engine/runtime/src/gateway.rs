//! The QUIC endpoint: who may connect, how much they may hold, and the way out.

mod hello;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use till_protocol::code::Reason;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::config::{NARROW_WINDOW_BYTES, WIDE_WINDOW_BYTES};
use crate::engine::Shared;
use crate::pki::{Pki, Speaks};
use crate::published::Published;

/// How long a handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Handshakes at once: each costs two signatures, and established traffic must not wait for a storm of them.
const HANDSHAKES_MAX: usize = 64;

/// How long devices may take to hang up after they were told to.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// The port could not be opened.
#[derive(Debug, Error)]
#[error("could not listen on {address} (UDP): {cause}")]
pub struct GatewayError {
    address: SocketAddr,
    cause: String,
}

/// The open endpoint.
#[derive(Debug)]
pub(crate) struct Gateway {
    endpoint: Endpoint,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Opens the endpoint and begins to accept.
pub(crate) fn open(shared: Arc<Shared>, pki: &Pki) -> Result<Gateway, GatewayError> {
    let address = shared.config.listen;
    let failed = |cause: String| GatewayError { address, cause };
    let tls = pki.tls().map_err(|error| failed(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport(&shared)));
    server
        .max_incoming(1_024)
        .incoming_buffer_size(32 << 10)
        .incoming_buffer_size_total(16 << 20);
    let endpoint = Endpoint::server(server, address).map_err(|error| failed(error.to_string()))?;
    let address = endpoint
        .local_addr()
        .map_err(|error| failed(error.to_string()))?;
    let accepting = tokio::spawn(accept(shared, endpoint.clone()));
    Ok(Gateway {
        endpoint,
        address,
        accepting,
    })
}

impl Gateway {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no new connections. Sessions were told by the drain itself.
    pub(crate) async fn stop_accepting(&self, _reason: Reason) {
        self.accepting.abort();
        self.endpoint.set_server_config(None);
        tokio::task::yield_now().await;
    }

    /// Ends what is still open.
    pub(crate) async fn close(&self) {
        self.endpoint.close(
            VarInt::from_u32(u32::from(Reason::Draining.code())),
            b"draining",
        );
        let _slow_device = tokio::time::timeout(GOODBYE_MAX, self.endpoint.wait_idle()).await;
    }
}

/// Every limit by name: quinn's own defaults let one peer hold 250 MB.
fn transport(shared: &Shared) -> TransportConfig {
    let config = &shared.config;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(config.network.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(WIDE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WIDE_WINDOW_BYTES))
        .send_window(u64::from(NARROW_WINDOW_BYTES))
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(Some(VarInt::from_u32(30_000).into()));
    transport
}

async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let connections = Arc::new(Semaphore::new(
        usize::try_from(shared.config.network.connections_max).unwrap_or(usize::MAX),
    ));
    while let Some(incoming) = endpoint.accept().await {
        let Ok(place) = Arc::clone(&connections).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
            // The peer proves its address first, and comes again.
            if incoming.may_retry() {
                let _already_validated = incoming.retry();
            } else {
                incoming.refuse();
            }
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let connection = shake_hands(incoming).await;
            drop(handshake);
            if let Some(connection) = connection {
                Published::add(&shared.published.connections, 1);
                serve(&shared, connection).await;
                shared.published.connections.fetch_sub(1, Ordering::Relaxed);
            }
            drop(place);
        });
    }
}

async fn shake_hands(incoming: Incoming) -> Option<Connection> {
    let peer = incoming.remote_address();
    let connecting = incoming.accept().ok()?;
    match tokio::time::timeout(HANDSHAKE_MAX, connecting).await {
        Ok(Ok(connection)) => Some(connection),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "handshake failed");
            None
        }
        Err(_elapsed) => {
            tracing::debug!(%peer, "handshake took too long");
            None
        }
    }
}

/// Serves the streams of a connection until it ends.
async fn serve(shared: &Arc<Shared>, connection: Connection) {
    let speaks = Arc::new(speaks(&connection));
    while let Ok((send, receive)) = connection.accept_bi().await {
        let shared = Arc::clone(shared);
        let speaks = Arc::clone(&speaks);
        tokio::spawn(async move {
            Published::add(&shared.published.streams, 1);
            stream::serve(&shared, &speaks, send, receive).await;
            shared.published.streams.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// The terminals that the peer's certificate names.
fn speaks(connection: &Connection) -> Speaks {
    connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .and_then(|chain| chain.first().map(|leaf| Speaks::of_certificate(leaf)))
        .unwrap_or_default()
}
