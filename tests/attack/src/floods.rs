//! Floods: as many frames, streams and Hellos as a connection takes, none of them as they should be.

use anyhow::Result;
use bytes::Bytes;
use quinn::Connection;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use till_loadgen::wire::{self, Replies};
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, TerminalId};
use till_protocol::reply::Message;
use till_tests::hostile::{Damage, Line, Said, archive, damaged, good, header, hello, terminal};

use crate::crowd::{Foe, Tally};

/// Streams of a connection that flood at a time.
const STREAMS: u32 = 4;
/// Events of a frame.
const EVENTS: u32 = 256;
/// The first store of hostile tills.
pub(crate) const STORE: u32 = 900_000;
/// 2026-03-02 12:00 UTC.
const NOON_US: i64 = 1_772_452_800_000_000;

/// Floods until the attack is over.
pub(crate) async fn foe(foe: Foe, name: String) {
    foe.besiege(STREAMS, move |foe, connection, stream| {
        let name = name.clone();
        async move { one(&foe, &connection, &name, 1 + stream * 100_000).await }
    })
    .await;
}

/// One stream of an attack. An error: the connection is of no use any more.
async fn one(foe: &Foe, connection: &Connection, name: &str, till: u32) -> Result<()> {
    let terminal = terminal(STORE + foe.number, till)?;
    match name {
        "broken-frames" => broken(foe, connection, terminal).await,
        "valid-frames" => stream(foe, connection, terminal, Kind::Valid).await,
        "unreadable-frames" => stream(foe, connection, terminal, Kind::Unreadable).await,
        "gaps-and-duplicates" => stream(foe, connection, terminal, Kind::OutOfStep).await,
        "unread-answers" => unread(foe, connection, terminal).await,
        "stale-epochs" => stale(foe, connection, terminal).await,
        _ => reset(foe, connection, terminal).await,
    }
}

/// Damaged streams, one after another.
async fn broken(foe: &Foe, connection: &Connection, terminal: TerminalId) -> Result<()> {
    let seed = u64::from(foe.number) << 32 | u64::from(terminal.till().get());
    let mut chance = SmallRng::seed_from_u64(seed);
    for kind in Damage::ALL {
        if foe.is_over() {
            return Ok(());
        }
        let mut line = if kind.is_before_hello() {
            Line::open(connection).await?
        } else {
            Line::accepted(connection, terminal).await?
        };
        let bytes = damaged(*kind, line.next_seq, terminal, &mut chance)?;
        foe.tally.tried(bytes.len());
        line.pour(&bytes).await?;
        drop(line.send.finish());
        for said in line.until_the_end().await? {
            foe.tally.said(match said {
                Said::Ack => "ack".to_owned(),
                Said::Nack => "nack".to_owned(),
                Said::Bye(reason) => bye(reason),
            });
        }
    }
    Ok(())
}

/// A reason as a word for the report.
pub(crate) fn bye(reason: Reason) -> String {
    format!("bye {} {reason}", reason.code())
}

#[derive(Clone, Copy)]
enum Kind {
    Valid,
    Unreadable,
    OutOfStep,
}

/// Frames without a pause, and whatever is said to them.
async fn stream(
    foe: &Foe,
    connection: &Connection,
    terminal: TerminalId,
    kind: Kind,
) -> Result<()> {
    let (mut send, replies, welcome) = wire::handshake(connection, terminal, None, NOON_US).await?;
    let first = welcome.next_seq.get();
    let frames = Frames::new(kind)?;
    let write = async {
        let mut next = first;
        for turn in 0_u64.. {
            if foe.is_over() {
                break;
            }
            let bytes = frames.next(&mut next, turn);
            foe.tally.tried(bytes.len());
            if send.write_all(&bytes).await.is_err() {
                break;
            }
        }
        drop(send.finish());
    };
    let read = listen(replies, &foe.tally);
    tokio::join!(write, read);
    Ok(())
}

/// Frames of a flood.
struct Frames {
    kind: Kind,
    payload: Vec<u8>,
    count: u32,
}

impl Frames {
    fn new(kind: Kind) -> Result<Self> {
        Ok(match kind {
            Kind::Valid => Self {
                kind,
                payload: archive(EVENTS)?,
                count: EVENTS,
            },
            // A byte that stands for as many events as a frame may have: each leaves a refusal.
            Kind::Unreadable => Self {
                kind,
                payload: vec![0x5a],
                count: 1_024,
            },
            Kind::OutOfStep => Self {
                kind,
                payload: archive(8)?,
                count: 8,
            },
        })
    }

    fn next(&self, next: &mut u64, turn: u64) -> Vec<u8> {
        let first = match self.kind {
            // Once as it should be, then again, then far ahead.
            Kind::OutOfStep if turn.is_multiple_of(16) => *next,
            Kind::OutOfStep if turn.is_multiple_of(2) => {
                next.saturating_sub(u64::from(self.count)).max(1)
            }
            Kind::OutOfStep => *next + 1_000,
            Kind::Valid | Kind::Unreadable => *next,
        };
        if first == *next {
            *next += u64::from(self.count);
        }
        let length = u32::try_from(self.payload.len()).unwrap_or(0);
        let mut bytes = header(length, self.count, first, &self.payload).to_vec();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

async fn listen(mut replies: Replies, tally: &Tally) {
    loop {
        match replies.next().await {
            Ok(Some(Message::Ack(ack))) => {
                tally.said("ack");
                let refused = u64::try_from(ack.refusals.len()).unwrap_or(0);
                tally.said_often("refused events", refused);
            }
            Ok(Some(Message::Nack(_))) => tally.said("nack"),
            Ok(Some(Message::Slow(_))) => tally.said("slow"),
            Ok(Some(Message::Bye(told))) => tally.said(bye(told.reason)),
            Ok(Some(_)) => tally.said("other"),
            Ok(None) | Err(_) => return,
        }
    }
}

/// Refusals that nobody reads.
async fn unread(foe: &Foe, connection: &Connection, terminal: TerminalId) -> Result<()> {
    let (mut send, replies, welcome) = wire::handshake(connection, terminal, None, NOON_US).await?;
    let frames = Frames::new(Kind::Unreadable)?;
    let mut next = welcome.next_seq.get();
    let patience = std::time::Duration::from_millis(500);
    while !foe.is_over() {
        // Every second event would be one run; these are as many as there are gaps.
        let bytes = if next.is_multiple_of(2) {
            frames.next(&mut next, 0)
        } else {
            let frame = good(1, next)?;
            next += 1;
            frame
        };
        foe.tally.tried(bytes.len());
        match tokio::time::timeout(patience, send.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => {
                foe.tally.said("stopped");
                break;
            }
            // Flow control: nothing more is taken of who does not read.
            Err(_) => foe.tally.said("held back"),
        }
    }
    drop(send.reset(0_u32.into()));
    drop(replies);
    Ok(())
}

/// Frames of an epoch that is over.
async fn stale(foe: &Foe, connection: &Connection, terminal: TerminalId) -> Result<()> {
    let mut line = Line::accepted(connection, terminal).await?;
    line.round_trip().await?;
    drop(line);
    let mut line = Line::accepted(connection, terminal).await?;
    line.round_trip().await?;
    drop(line);
    while !foe.is_over() {
        // It is told that its epoch is closed, and goes on as if it had not heard.
        let first = Some(Epoch::new(1)?);
        let accepted = wire::handshake(connection, terminal, first, NOON_US).await;
        let (mut send, replies, welcome) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if connection.close_reason().is_some() => return Err(error),
            Err(error) => {
                foe.tally.said(error.to_string());
                continue;
            }
        };
        let frame = good(1, welcome.next_seq.get())?;
        foe.tally.tried(hello(terminal).len() + frame.len());
        drop(send.write_all(&frame).await);
        listen(replies, &foe.tally).await;
    }
    Ok(())
}

/// Streams that end in the middle of a frame.
async fn reset(foe: &Foe, connection: &Connection, terminal: TerminalId) -> Result<()> {
    let mut line = Line::accepted(connection, terminal).await?;
    let mut bytes = header(100_000, 1, line.next_seq, &[]).to_vec();
    bytes.resize(50_000, 0x5a);
    foe.tally.tried(bytes.len());
    line.pour(&Bytes::from(bytes)).await?;
    drop(line.send.reset(7_u32.into()));
    let said = line.until_the_end().await?;
    foe.tally
        .said(if said.is_empty() { "ended" } else { "answered" });
    Ok(())
}
