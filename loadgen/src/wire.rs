//! till/1 by hand: streams whose every byte the caller decides.
//!
//! The bench needs this to cost less than what it measures, and rude devices need it to say what no honest client says.
//! Honest devices go through [`till_client`].

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use till_client::identity::{Identity, SERVER_NAME, Tuning};
use till_protocol::codec::{FrameDecoder, encode_frame};
use till_protocol::family::{Family, device, sale, sensor, stock};
use till_protocol::header::HEADER_BYTES;
use till_protocol::id::TerminalId;
use till_protocol::reply::{Hello, Reply, Welcome};

/// Largest piece that is read from a stream at once.
const READ_MAX: usize = 64 * 1_024;

/// A QUIC connection of a device.
///
/// # Errors
/// Fails when the identity cannot be used or nobody answers.
pub async fn connect(addr: SocketAddr, identity: &Path) -> Result<(Endpoint, Connection)> {
    let identity = Identity::read(identity)?;
    let tuning = Tuning { send_window: 32 << 20, ..Tuning::default() };
    let any = if addr.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let mut endpoint = Endpoint::client(any.parse()?).context("could not open a UDP port")?;
    endpoint.set_default_client_config(identity.client_config(&tuning)?);
    let connection = endpoint
        .connect(addr, SERVER_NAME)?
        .await
        .with_context(|| format!("could not connect to {addr}"))?;
    Ok((endpoint, connection))
}

/// The answers on one stream.
#[derive(Debug)]
pub struct Replies {
    stream: RecvStream,
    decoder: FrameDecoder,
}

impl Replies {
    /// The next answer; `None` when the engine has ended the stream.
    ///
    /// # Errors
    /// Fails when the stream or connection is lost, or the engine says what is no answer.
    pub async fn next(&mut self) -> Result<Option<Reply>> {
        loop {
            if let Some(frame) = self.decoder.next().context("the engine sent no frame")? {
                return Ok(Some(Reply::decode(&frame).context("the engine sent no answer")?));
            }
            match self.stream.read_chunk(READ_MAX, true).await? {
                Some(chunk) => self.decoder.push(chunk.bytes),
                None => return Ok(None),
            }
        }
    }
}

/// Opens a terminal's stream; an epoch of 0 asks for a new life.
///
/// # Errors
/// Fails when the stream is lost or the engine does not welcome the terminal.
pub async fn greet(
    connection: &Connection,
    terminal: TerminalId,
    epoch: u32,
    clock_us: i64,
) -> Result<(SendStream, Replies, Welcome)> {
    let (mut send, stream) = connection.open_bi().await?;
    let hello = Hello::of_device(terminal, epoch, clock_us, 0, "");
    send.write_chunk(hello.encode()).await?;
    let mut replies = Replies { stream, decoder: FrameDecoder::new() };
    match replies.next().await? {
        Some(Reply::Welcome(welcome)) => Ok((send, replies, welcome)),
        Some(Reply::Bye(bye)) => bail!("{terminal} is not welcome: {} {}", bye.reason, bye.text),
        Some(other) => bail!("{terminal} was not welcomed but told {other:?}"),
        None => bail!("{terminal} was turned away without a word"),
    }
}
