//! till/1 by hand: streams whose every byte the caller decides.
//!
//! The bench needs this to cost less than what it measures, and rude devices need it to say what no honest client says.
//! Honest devices go through [`till_client`].

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rkyv::rancor;
use till_client::{Identity, LinkConfig, SERVER_NAME, Tuning};
use till_protocol::codec::{FrameDecoder, encode_frame};
use till_protocol::family::{Family, device, sale, sensor, stock};
use till_protocol::header::FrameHeader;
use till_protocol::id::{Epoch, TerminalId};
use till_protocol::limits::FRAME_BYTES_MAX;
use till_protocol::reply::{Hello, Message, Welcome};
use till_protocol::time::DeviceTime;
use tokio::time::timeout;

use crate::workload::{Event, push_move, push_reading, push_sign};

/// Largest chunk that is read from a stream at once.
const READ_MAX: usize = 64 * 1_024;
/// Longest wait for one of several engines.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Longest wait for an engine that should be there.
const REACH_MAX: Duration = Duration::from_secs(5);
/// Time in which an engine that does not take a certificate says so.
const REFUSAL_MAX: Duration = Duration::from_millis(100);
/// Codes of QUIC that carry an alert of TLS (RFC 9001, 4.8).
const TLS_ALERTS: std::ops::Range<u64> = 0x100..0x200;
/// The version of every family that is spoken here.
const VERSION: u8 = 1;

/// A QUIC connection of a device.
///
/// # Errors
/// Fails when the identity cannot be used or nobody answers.
pub async fn connect(addr: SocketAddr, identity: &Path) -> Result<(Endpoint, Connection)> {
    let identity = read_identity(identity)?;
    let tuning = Tuning {
        send_window: 32 << 20,
        ..Tuning::default()
    };
    let any = match addr {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let mut endpoint = Endpoint::client(any).context("could not open a UDP port")?;
    endpoint.set_default_client_config(identity.client_config(&tuning)?);
    let connection = endpoint
        .connect(addr, SERVER_NAME)?
        .await
        .with_context(|| format!("could not connect to {addr}"))?;
    Ok((endpoint, connection))
}

/// How honest devices reach engines.
pub fn link(addrs: &[SocketAddr], identity: &Identity) -> LinkConfig {
    let mut config = LinkConfig::to_any(addrs.iter().map(ToString::to_string), identity.clone());
    if addrs.len() > 1 {
        // Where others stand in, a dead engine is left soon.
        config.connect_timeout = CONNECT_MAX;
    }
    config
}

/// Makes sure that an engine answers at one of some addresses, before a run begins that would wait for it with patience.
///
/// # Errors
/// Says what to look at when nobody answers, or the identity is not taken.
pub async fn reach_any(addrs: &[SocketAddr], identity: &Path) -> Result<()> {
    let mut last = None;
    for addr in addrs {
        match reach(*addr, identity).await {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no address of an engine was given")?)
}

/// Reads an identity file.
///
/// # Errors
/// Names the file that is not there or holds something else.
pub fn read_identity(path: &Path) -> Result<Identity> {
    // Put in words here: some of its errors name their cause in the message too.
    Identity::read(path).map_err(|error| anyhow!("--identity {}: {error}", path.display()))
}

/// Makes sure that an engine answers at an address, before a run begins that would wait for it with patience.
///
/// # Errors
/// Says what to look at when nobody answers, or the identity is not taken.
async fn reach(addr: SocketAddr, identity: &Path) -> Result<()> {
    let silence = || {
        format!(
            "no engine takes devices at {addr} (QUIC over UDP); `quic` in the engine's ready file has its address"
        )
    };
    let distrust = || {
        format!(
            "the engine at {addr} and the identity {} do not trust each other; take the file that `identity` in the \
             engine's ready file names, or one of the authority that the engine believes",
            identity.display()
        )
    };
    let reached = timeout(REACH_MAX, connect(addr, identity));
    let (endpoint, connection) = match reached.await.with_context(silence)? {
        Ok(reached) => reached,
        Err(error) => {
            return Err(match error.downcast_ref::<ConnectionError>() {
                Some(lost) if is_of_tls(lost) => error.context(distrust()),
                Some(_) => error.context(silence()),
                // It did not get as far as asking anybody.
                None => error,
            });
        }
    };
    // The engine looks at the device's certificate when the device believes itself connected.
    if let Ok(lost) = timeout(REFUSAL_MAX, connection.closed()).await
        && is_of_tls(&lost)
    {
        return Err(anyhow::Error::from(lost).context(distrust()));
    }
    connection.close(0_u32.into(), b"");
    endpoint.wait_idle().await;
    Ok(())
}

/// Whether a connection was lost because one side does not take the certificates of the other.
fn is_of_tls(error: &ConnectionError) -> bool {
    let code = match error {
        ConnectionError::TransportError(error) => error.code,
        ConnectionError::ConnectionClosed(close) => close.error_code,
        ConnectionError::VersionMismatch
        | ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::TimedOut
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return false,
    };
    TLS_ALERTS.contains(&u64::from(code))
}

/// The answers on one stream.
#[derive(Debug)]
pub struct Replies {
    stream: RecvStream,
    decoder: FrameDecoder,
}

impl Replies {
    /// The next answer; `None` when the engine has ended the stream. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// Fails when the stream or connection is lost, or the engine says what is no answer.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(frame) = self.decoder.next().context("the engine sent no frame")? {
                let message = Message::decode(&frame).context("the engine sent no answer")?;
                return Ok(Some(message));
            }
            match self.stream.read_chunk(READ_MAX, true).await? {
                Some(chunk) => self.decoder.push(chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}

/// Another engine serves the terminal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrossEpoch(
    /// Its address, as `host:port`.
    pub String,
);

impl fmt::Display for CrossEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "served at {}", self.0)
    }
}

impl std::error::Error for CrossEpoch {}

/// Opens a terminal's stream; without an epoch it asks for a new epoch.
///
/// # Errors
/// Fails when the stream is lost or the engine does not welcome the terminal; with [`CrossEpoch`] when another one would.
pub async fn handshake(
    connection: &Connection,
    terminal: TerminalId,
    epoch: Option<Epoch>,
    clock_us: i64,
) -> Result<(SendStream, Replies, Welcome)> {
    let (mut send, stream) = connection.open_bi().await?;
    let hello = Hello {
        versions: Family::ALL
            .iter()
            .map(|family| (family.number(), VERSION))
            .collect(),
        terminal,
        epoch,
        clock: DeviceTime::from_us(clock_us),
        currency: None,
        zone: String::new(),
    };
    send.write_chunk(Message::Hello(hello).encode()).await?;
    let mut replies = Replies {
        stream,
        decoder: FrameDecoder::new(),
    };
    match replies.next().await? {
        Some(Message::Welcome(welcome)) => Ok((send, replies, welcome)),
        Some(Message::Redirect(to)) => Err(CrossEpoch(to.address).into()),
        Some(Message::Bye(bye)) => bail!("{terminal} is not welcome: {}; {}", bye.reason, bye.text),
        Some(other) => bail!("{terminal} was not welcomed but told {other:?}"),
        None => bail!("{terminal} was turned away without a word"),
    }
}

macro_rules! payloads {
    ($($(#[$doc:meta])* $name:ident($batch:ty);)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// Fails when the archive cannot be made.
        pub fn $name(batch: &$batch) -> Result<Vec<u8>> {
            let archive = rkyv::to_bytes::<rancor::Error>(batch);
            Ok(archive.context("a batch cannot be archived")?.to_vec())
        }
    )*};
}

payloads! {
    /// The archive of sales.
    sale_payload(sale::v1::Batch);
    /// The archive of stock movements.
    stock_payload(stock::v1::Batch);
    /// The archive of readings.
    sensor_payload(sensor::v1::Batch);
    /// The archive of heartbeats.
    device_payload(device::v1::Batch);
}

/// A frame around an archive of `count` events.
///
/// # Errors
/// Fails when the archive is larger than a frame may be.
pub fn frame(family: Family, count: usize, first_seq: u64, payload: &[u8]) -> Result<Bytes> {
    let bytes = payload.len();
    ensure!(
        u32::try_from(bytes)? <= FRAME_BYTES_MAX,
        "{bytes} bytes in one frame of at most {FRAME_BYTES_MAX}"
    );
    let count = u32::try_from(count)?;
    Ok(encode_frame(
        family.number(),
        VERSION,
        count,
        first_seq,
        payload,
    ))
}

/// Writes the header of a frame in front of a payload that lies behind it already.
///
/// # Errors
/// Fails when `head` is not as long as a header, or the payload is too long.
pub fn write_header(
    head: &mut [u8],
    family: Family,
    (count, first_seq): (u32, u64),
    payload: &[u8],
) -> Result<()> {
    let mut header = FrameHeader {
        family: family.number(),
        version: VERSION,
        length: u32::try_from(payload.len())?,
        count,
        first_seq,
        crc: 0,
    };
    header.crc = header.crc_of(payload);
    let bytes = header.encode();
    ensure!(
        head.len() == bytes.len(),
        "a header has {} bytes",
        bytes.len()
    );
    head.copy_from_slice(&bytes);
    Ok(())
}

/// Events as frames in order: neighbours of one family share one. Gives each frame with its number of events.
///
/// # Errors
/// Fails when a run of events does not fit a frame.
pub fn frames(events: &[Event], first_seq: u64) -> Result<Vec<(Bytes, u64)>> {
    let mut out = Vec::new();
    let mut next = first_seq;
    for run in events.chunk_by(|a, b| a.family() == b.family()) {
        for part in run.chunks(256) {
            out.push((frame_of(part, next)?, u64::try_from(part.len())?));
            next += u64::try_from(part.len())?;
        }
    }
    Ok(out)
}

/// Events of one family as one frame.
fn frame_of(events: &[Event], first_seq: u64) -> Result<Bytes> {
    let family = events.first().context("a frame needs an event")?.family();
    let mut sales = sale::v1::Batch::default();
    let mut moves = stock::v1::Batch::default();
    let mut readings = sensor::v1::Batch::default();
    let mut signs = device::v1::Batch::default();
    for event in events {
        match event {
            Event::Sale(sale) => sale.push_to(&mut sales),
            Event::Move(movement, code) => push_move(movement, code.as_deref(), &mut moves),
            Event::Reading(reading) => push_reading(reading, &mut readings),
            Event::Sign(sign) => push_sign(sign, &mut signs),
        }
    }
    let payload = match family {
        Family::Sale => sale_payload(&sales),
        Family::Stock => stock_payload(&moves),
        Family::Sensor => sensor_payload(&readings),
        Family::Device => device_payload(&signs),
    }?;
    frame(family, events.len(), first_seq, &payload)
}
