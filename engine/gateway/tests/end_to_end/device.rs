//! A device that says exactly what a test wants, over real QUIC.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use till_client::{Identity, SERVER_NAME, Tuning};
use till_protocol::builder::StockBuilder;
use till_protocol::code::Reason;
use till_protocol::codec::FrameDecoder;
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::id::{Epoch, Seq, SkuId, TerminalId};
use till_protocol::quantity::unit;
use till_protocol::reply::{Ack, Bye, Hello, Message, Welcome};
use till_protocol::time::DeviceTime;
use till_runtime::{Config, Handle};

use crate::PATIENCE;

/// 2026-03-02 12:00 UTC.
pub(crate) const NOON_US: i64 = 1_772_452_800_000_000;

/// An engine with two shards.
pub(crate) async fn start(dir: &Path) -> Handle {
    let mut config = Config::dev(dir);
    config.shards = 2;
    till_gateway::start(config).await.unwrap()
}

pub(crate) fn terminal(store: u64, till: u64) -> TerminalId {
    TerminalId::from_u64(store << 32 | till).unwrap()
}

pub(crate) fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

/// A connection that is authorised for every terminal.
pub(crate) async fn connect(handle: &Handle) -> Connection {
    connect_as(handle, handle.identity().unwrap()).await
}

pub(crate) async fn connect_as(handle: &Handle, identity: &Path) -> Connection {
    connect_by(identity, handle.quic_addr()).await
}

/// A connection that is authorised for every terminal, over another address than the engine's own.
pub(crate) async fn connect_at(handle: &Handle, addr: SocketAddr) -> Connection {
    connect_by(handle.identity().unwrap(), addr).await
}

async fn connect_by(identity: &Path, addr: SocketAddr) -> Connection {
    let identity = Identity::read(identity).unwrap();
    let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = identity.client_config(&Tuning::default()).unwrap();
    let connecting = endpoint.connect_with(config, addr, SERVER_NAME).unwrap();
    connecting.await.unwrap()
}

pub(crate) struct Device {
    pub(crate) send: SendStream,
    recv: RecvStream,
    decoder: FrameDecoder,
}

pub(crate) fn hello(terminal: TerminalId, epoch: u32) -> Hello {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    Hello {
        versions: vec![(1, 1), (4, 1), (5, 1), (9, 1)],
        terminal,
        epoch: Epoch::new(epoch).ok(),
        clock: DeviceTime::from_us(now.as_micros().try_into().unwrap()),
        currency: None,
        zone: String::new(),
    }
}

impl Device {
    pub(crate) async fn raw(connection: &Connection) -> Self {
        let (send, recv) = connection.open_bi().await.unwrap();
        Self {
            send,
            recv,
            decoder: FrameDecoder::new(),
        }
    }

    /// Opens a stream and says Hello; epoch 0 asks for a new epoch.
    pub(crate) async fn open(
        connection: &Connection,
        store: u64,
        till: u64,
        epoch: u32,
    ) -> (Self, Welcome) {
        let mut device = Self::raw(connection).await;
        device
            .send(hello(terminal(store, till), epoch).encode())
            .await;
        match device.next().await {
            Some(Message::Welcome(welcome)) => (device, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, bytes: Bytes) {
        self.send.write_all(&bytes).await.unwrap();
    }

    /// The next message; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let read = async {
            loop {
                if let Some(frame) = self.decoder.next().unwrap() {
                    return Some(Message::decode(&frame).unwrap());
                }
                match self.recv.read_chunk(1 << 16, true).await {
                    Ok(Some(chunk)) => self.decoder.push(chunk.bytes),
                    Ok(None) | Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the engine says nothing")
    }

    /// Reads acks until everything up to `upto` is durable; gives the refusals.
    pub(crate) async fn acked(&mut self, upto: u64) -> Vec<(Seq, Reason)> {
        let acked = self.acked_unless_ended(upto).await;
        acked.unwrap_or_else(|end| panic!("the session ended with no ack up to {upto}: {end:?}"))
    }

    /// As [`Self::acked`]; what ended the session when it is sent elsewhere, or its stream ends.
    pub(crate) async fn acked_unless_ended(
        &mut self,
        upto: u64,
    ) -> Result<Vec<(Seq, Reason)>, Option<Message>> {
        let mut refused = Vec::new();
        loop {
            match self.next().await {
                Some(Message::Ack(Ack {
                    committed,
                    refusals,
                    ..
                })) => {
                    refused.extend(refusals);
                    if committed.is_some_and(|seq| seq.get() >= upto) {
                        return Ok(refused);
                    }
                }
                Some(Message::Slow(_)) => {}
                end @ (Some(Message::Redirect(_) | Message::Bye(_)) | None) => return Err(end),
                other => panic!("no ack up to {upto}: {other:?}"),
            }
        }
    }

    pub(crate) async fn bye(&mut self) -> Bye {
        loop {
            match self.next().await {
                Some(Message::Bye(bye)) => return bye,
                Some(Message::Ack(_) | Message::Nack(_) | Message::Slow(_)) => {}
                other => panic!("no bye: {other:?}"),
            }
        }
    }
}

/// A movement of `quantity` whole pieces of tea, `number` minutes after noon.
pub(crate) fn tea(number: u64, quantity: i64) -> Move {
    Move {
        at: NOON_US + i64::try_from(number).unwrap() * 1_000_000,
        sku: SkuId::of_code("tea").get(),
        quantity: quantity * 100_000,
        kind: kind::RECEIVED,
        unit: unit::EACH,
        ..Move::default()
    }
}

/// A frame in which one piece of tea comes in with each event.
pub(crate) fn teas(first: u64, count: u64) -> Bytes {
    frame(first, count, 1)
}

/// A frame in which so many pieces of tea come in with each event.
pub(crate) fn frame(first: u64, count: u64, quantity: i64) -> Bytes {
    let mut builder = StockBuilder::new();
    for number in first..first + count {
        let named = till_protocol::builder::TextView {
            item: till_protocol::family::WHOLE_EVENT,
            kind: till_protocol::family::text::SKU_CODE,
            text: "tea",
        };
        builder.push(&tea(number, quantity), &[], &[named]).unwrap();
    }
    builder.finish(seq(first)).unwrap()
}
