//! Frames of the native protocol, version 4, as far as a bystander must understand them.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::statement::Kind;

/// Bytes before the body.
const HEADER: usize = 9;
/// Largest body that is taken for one.
const BODY_MAX: usize = 256 << 20;
/// An answer of version 4.
const ANSWER: u8 = 0x84;

pub(super) const ERROR: u8 = 0x00;
pub(super) const RESULT: u8 = 0x08;
pub(super) const PREPARE: u8 = 0x09;
pub(super) const EXECUTE: u8 = 0x0a;
pub(super) const BATCH: u8 = 0x0d;

const LOCAL_QUORUM: u16 = 0x0006;
const LOCAL_SERIAL: u16 = 0x0009;

/// A request or an answer, whole.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) stream: [u8; 2],
    pub(super) opcode: u8,
    /// Header and body, as they came.
    pub(super) bytes: Bytes,
}

impl Frame {
    /// The next one.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut header = [0_u8; HEADER];
        from.read_exact(&mut header).await?;
        let [_, _, high, low, opcode, a, b, c, d] = header;
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > BODY_MAX {
            return Err(io::Error::other("a frame without an end"));
        }
        let mut bytes = BytesMut::zeroed(HEADER + length);
        let (head, body) = bytes.split_at_mut(HEADER);
        head.copy_from_slice(&header);
        from.read_exact(body).await?;
        Ok(Self {
            stream: [high, low],
            opcode,
            bytes: bytes.freeze(),
        })
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(HEADER..).unwrap_or_default()
    }
}

/// What a server says that did not do what it was asked, or does not know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Excuse {
    Unavailable,
    Overloaded,
    /// Too few copies answered in time; the statement may have taken effect.
    TimedOut(Kind),
}

impl Excuse {
    /// The answer to the request of a stream.
    pub(super) fn frame(self, stream: [u8; 2]) -> Frame {
        let mut body = BytesMut::new();
        match self {
            Self::Unavailable => {
                begin(&mut body, 0x1000, "so says the way: unavailable");
                body.put_u16(LOCAL_QUORUM);
                body.put_i32(1);
                body.put_i32(0);
            }
            Self::Overloaded => begin(&mut body, 0x1001, "so says the way: overloaded"),
            Self::TimedOut(Kind::Read) => {
                begin(&mut body, 0x1200, "so says the way: read timed out");
                body.put_u16(LOCAL_QUORUM);
                body.put_i32(0);
                body.put_i32(1);
                body.put_u8(0);
            }
            Self::TimedOut(kind) => {
                begin(&mut body, 0x1100, "so says the way: write timed out");
                let (consistency, name) = match kind {
                    Kind::Conditional => (LOCAL_SERIAL, "CAS"),
                    Kind::Batch => (LOCAL_QUORUM, "UNLOGGED_BATCH"),
                    Kind::Write | Kind::Read => (LOCAL_QUORUM, "SIMPLE"),
                };
                body.put_u16(consistency);
                body.put_i32(0);
                body.put_i32(1);
                text(&mut body, name);
            }
        }
        let mut bytes = BytesMut::with_capacity(HEADER + body.len());
        bytes.put_u8(ANSWER);
        bytes.put_u8(0);
        bytes.put_slice(&stream);
        bytes.put_u8(ERROR);
        bytes.put_u32(u32::try_from(body.len()).unwrap_or(0));
        bytes.put_slice(&body);
        Frame {
            stream,
            opcode: ERROR,
            bytes: bytes.freeze(),
        }
    }
}

fn begin(body: &mut BytesMut, code: i32, words: &str) {
    body.put_i32(code);
    text(body, words);
}

fn text(body: &mut BytesMut, words: &str) {
    body.put_u16(u16::try_from(words.len()).unwrap_or(0));
    body.put_slice(words.as_bytes());
}

/// Bytes behind their length in two bytes.
pub(super) fn short_bytes(body: &[u8]) -> Option<&[u8]> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

/// A text behind its length in four bytes.
pub(super) fn long_text(body: &[u8]) -> Option<&str> {
    let (length, rest) = body.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    std::str::from_utf8(rest.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_excuse_is_a_frame_that_reads_back() {
        for excuse in [
            Excuse::Unavailable,
            Excuse::Overloaded,
            Excuse::TimedOut(Kind::Conditional),
            Excuse::TimedOut(Kind::Read),
        ] {
            let made = excuse.frame([1, 2]);
            let read = Frame::read(&mut made.bytes.as_ref()).await.unwrap();
            assert_eq!((read.stream, read.opcode), ([1, 2], ERROR));
            assert_eq!(read.bytes, made.bytes);
            let words = short_bytes(read.body().get(4..).unwrap()).unwrap();
            assert!(words.starts_with(b"so says the way"));
        }
    }
}
