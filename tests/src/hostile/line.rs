//! One stream of one terminal, and what it is told.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, WriteError};
use till_loadgen::wire;
use till_protocol::code::Reason;
use till_protocol::codec::FrameDecoder;
use till_protocol::family::{Family, stock};
use till_protocol::header::{FrameHeader, HEADER_BYTES};
use till_protocol::id::{StoreId, TerminalId, TillId};
use till_protocol::reply::{Hello, Message};
use till_protocol::time::DeviceTime;

/// Longest silence of an engine that owes an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// 2026-03-02 12:00 UTC.
const NOON_US: i64 = 1_772_452_800_000_000;

/// What a stream was told after its handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Said {
    /// Events up to some number are durable.
    Ack,
    /// Events are missing before those that came.
    Nack,
    /// The stream ends, and why.
    Bye(Reason),
}

/// A stream and what came of it.
#[derive(Debug)]
pub struct Line {
    /// Its direction to the engine.
    pub send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
    /// The number that the next event takes.
    pub next_seq: u64,
    /// Events that were answered: durable, or refused by name.
    pub acked: u64,
    /// Of these the refused.
    pub refused: u64,
}

/// A terminal.
///
/// # Errors
/// When a number is none of a store or till.
pub fn terminal(store: u32, till: u32) -> Result<TerminalId> {
    Ok(TerminalId::new(StoreId::new(store)?, TillId::new(till)?))
}

/// A Hello that asks for a new epoch.
pub fn hello(terminal: TerminalId) -> Bytes {
    let versions = Family::ALL.iter().map(|family| (family.number(), 1));
    let hello = Hello {
        versions: versions.collect(),
        terminal,
        epoch: None,
        clock: DeviceTime::from_us(NOON_US),
        currency: None,
        zone: String::new(),
    };
    Message::Hello(hello).encode()
}

/// The archive of so many movements.
///
/// # Errors
/// When the archive cannot be made.
pub fn archive(count: u32) -> Result<Vec<u8>> {
    let mut batch = stock::v1::Batch::default();
    for number in 0..i64::from(count) {
        batch.moves.push(stock::v1::Move {
            at: NOON_US + number,
            sku: 7,
            quantity: 100_000,
            kind: stock::v1::kind::RECEIVED,
            ..stock::v1::Move::default()
        });
    }
    wire::stock_payload(&batch)
}

/// A header of movements that says what it is told to say, with the checksum of a payload.
pub fn header(length: u32, count: u32, first_seq: u64, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = FrameHeader {
        family: Family::Stock.number(),
        version: 1,
        length,
        count,
        first_seq,
        crc: 0,
    };
    header.crc = header.crc_of(payload);
    header.encode()
}

/// A frame of movements that is as it should be.
///
/// # Errors
/// When the archive cannot be made.
pub fn good(count: u32, first_seq: u64) -> Result<Vec<u8>> {
    let payload = archive(count)?;
    let length = u32::try_from(payload.len())?;
    let mut frame = header(length, count, first_seq, &payload).to_vec();
    frame.extend_from_slice(&payload);
    Ok(frame)
}

impl Line {
    /// A stream on which nothing was said yet.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn open(connection: &Connection) -> Result<Self> {
        let (send, recv) = connection.open_bi().await?;
        Ok(Self {
            send,
            recv,
            decoder: FrameDecoder::new(),
            next_seq: 1,
            acked: 0,
            refused: 0,
        })
    }

    /// A stream of a terminal that was never here before.
    ///
    /// # Errors
    /// When the engine does not welcome the terminal.
    pub async fn accepted(connection: &Connection, terminal: TerminalId) -> Result<Self> {
        let mut line = Self::open(connection).await?;
        line.send.write_all(&hello(terminal)).await?;
        match line.next().await? {
            Some(Message::Welcome(welcome)) => ensure!(welcome.next_seq.get() == 1),
            other => bail!("{terminal} was told {other:?}"),
        }
        Ok(line)
    }

    /// Sends one good event and waits until it is durable.
    ///
    /// # Errors
    /// When the engine says anything but that it is.
    pub async fn round_trip(&mut self) -> Result<()> {
        let frame = good(1, self.next_seq)?;
        self.send.write_all(&frame).await?;
        self.next_seq += 1;
        while self.acked + 1 < self.next_seq {
            match self.said().await? {
                Some(Said::Ack) => {}
                other => bail!("an honest terminal was told {other:?}"),
            }
        }
        ensure!(self.refused == 0, "an honest event was refused");
        Ok(())
    }

    /// Sends bytes for as long as the engine takes them: it stops a stream that it has told why.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn pour(&mut self, bytes: &[u8]) -> Result<()> {
        match self.send.write_all(bytes).await {
            Ok(()) | Err(WriteError::Stopped(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Everything that is said until the engine ends the stream.
    ///
    /// # Errors
    /// When the engine says what cannot be understood, or nothing for long.
    pub async fn until_the_end(&mut self) -> Result<Vec<Said>> {
        let mut all = Vec::new();
        while let Some(said) = self.said().await? {
            all.push(said);
        }
        Ok(all)
    }

    async fn said(&mut self) -> Result<Option<Said>> {
        match self.next().await? {
            Some(Message::Ack(ack)) => {
                let upto = ack.committed.map_or(0, |seq| seq.get());
                ensure!(self.acked <= upto, "an ack that falls: {upto}");
                self.acked = upto;
                self.refused += u64::try_from(ack.refusals.len())?;
                Ok(Some(Said::Ack))
            }
            Some(Message::Nack(_)) => Ok(Some(Said::Nack)),
            Some(Message::Bye(bye)) => Ok(Some(Said::Bye(bye.reason))),
            Some(other) => bail!("told {other:?}"),
            None => Ok(None),
        }
    }

    async fn next(&mut self) -> Result<Option<Message>> {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.next()? {
                    return Ok(Some(Message::decode(&frame)?));
                }
                match self.recv.read_chunk(1 << 16, true).await? {
                    Some(chunk) => self.decoder.push(chunk.bytes),
                    None => return Ok(None),
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, read).await;
        read.context("the engine says nothing, and does not end the stream")?
    }
}
