//! Every limit of QUIC, set by hand: what is not set here is a default that we looked at and kept.

use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConfigError, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use till_protocol::limits::UDP_PAYLOAD_MAX;
use till_runtime::{NARROW_WINDOW_BYTES, NetworkConfig};

use crate::initial_limiter::Ids;

/// Window of one stream, in bytes: a stream that nobody reads holds no more.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of answers that a device may leave unread.
const SEND_WINDOW_BYTES: u64 = 256 << 10;
/// Connections whose first packet waits.
const INCOMING_MAX: usize = 1_024;
/// Bytes of one connection that came before its handshake was looked at.
const INCOMING_BYTES: u64 = 32 << 10;
/// The same for all connections.
const INCOMING_BYTES_TOTAL: u64 = 16 << 20;

pub(crate) fn endpoint_config(ids: Ids) -> Result<EndpointConfig, ConfigError> {
    let mut own = EndpointConfig::default();
    own.cid_generator(move || Box::new(ids.clone()));
    // quinn keeps room for 2,048 packets of this size: 13 MiB, 3 of which it would keep anyway.
    own.max_udp_payload_size(UDP_PAYLOAD_MAX)?;
    Ok(own)
}

pub(crate) fn server_config(tls: QuicServerConfig, network: &NetworkConfig) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(network.streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        // The window of a connection bounds all its streams; some connections get a wider one.
        .receive_window(VarInt::from_u32(NARROW_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(None)
        .max_idle_timeout(IdleTimeout::try_from(network.idle_timeout).ok())
        // Answers are smaller than a packet: offload would allocate ten packets for each.
        .enable_segmentation_offload(false);
    let mut server = ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(Arc::new(transport))
        // A till behind NAT may change its address.
        .migration(true)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    server
}
