//! Streams without manners.

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use thiserror::Error;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::header::WireError;

use super::LinkShared;
use super::drive::READ_BYTES;

/// Why a raw stream can't be opened, written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RawError {
    /// The link was closed.
    #[error("the link is closed")]
    Closed,
    /// The connection is lost.
    #[error("connection lost: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// The engine does not want more on this stream.
    #[error("stream closed for writing: {0}")]
    Write(#[from] quinn::WriteError),
    /// The engine cut the stream.
    #[error("stream closed for reading: {0}")]
    Read(#[from] quinn::ReadError),
    /// The engine's bytes are not frames.
    #[error("the engine's answer can't be read: {0}")]
    Wire(#[from] WireError),
}

/// A stream on which anything can be said.
#[derive(Debug)]
pub struct RawStream {
    send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
}

impl RawStream {
    pub(super) async fn open(link: &LinkShared) -> Result<Self, RawError> {
        let connection = link.home.connection(link).await.ok_or(RawError::Closed)?;
        let (send, recv) = connection.open_bi().await?;
        Ok(Self {
            send,
            recv,
            decoder: FrameDecoder::new(),
        })
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// Returns [`RawError`] when the engine has stopped the stream or the connection is lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), RawError> {
        Ok(self.send.write_chunk(bytes).await?)
    }

    /// Reads the engine's next message as a frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// Returns [`RawError`] when the stream is cut or does not hold frames.
    pub async fn read(&mut self) -> Result<Option<Frame>, RawError> {
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(Some(frame));
            }
            match self.recv.read_chunk(READ_BYTES, true).await? {
                Some(chunk) => self.decoder.push(chunk.bytes),
                None => return Ok(None),
            }
        }
    }

    /// Ends the writing side.
    pub fn finish(&mut self) {
        // A stream that is already closed is as finished as it can be.
        self.send.finish().ok();
    }

    /// Cuts both sides at once, in the middle of whatever is under way.
    pub fn reset(mut self) {
        self.send.reset(0_u32.into()).ok();
        self.recv.stop(0_u32.into()).ok();
    }
}
