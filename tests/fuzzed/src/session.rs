//! The device's side: whatever an engine answers, no event is lost and none is sent under two numbers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use till_client::{
    DeadLetter, DeadLetterError, DeadLetters, MemoryOutbox, Outbox as _, Session, SessionConfig,
};
use till_protocol::builder::StockBuilder;
use till_protocol::codec::{Frame, encode_frame};
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::header::SESSION;
use till_protocol::id::{Seq, StoreId, TerminalId, TillId};
use till_protocol::reply::Message;
use till_protocol::time::DeviceTime;

/// Events that the terminal has, one frame each.
const EVENTS: u64 = 6;

/// Dead letters that are counted.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<Mutex<u64>>);

impl DeadLetters for Counted {
    fn put(&mut self, _letter: &DeadLetter) -> Result<(), DeadLetterError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Ok(())
    }
}

/// What the engine says, one message after another: kind, length, payload.
pub(crate) fn session(bytes: &[u8]) {
    let Some((mut session, dead)) = a_session() else {
        return;
    };
    let start = Instant::now();
    let mut now = start;
    let mut rest = bytes;
    session.connected(DeviceTime::from_us(1));
    while let Some(([kind, length], after)) = rest.split_first_chunk() {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        now += Duration::from_millis(300);
        if say(&mut session, now, *kind, payload).is_none() {
            session.connected(DeviceTime::from_us(2));
        }
        session.notices().for_each(drop);
        check(&mut session, &dead);
    }
}

fn a_session() -> Option<(Session, Counted)> {
    let terminal = TerminalId::new(StoreId::new(7).ok()?, TillId::new(1).ok()?);
    let mut outbox = MemoryOutbox::default();
    for seq in 1..=EVENTS {
        let mut builder = StockBuilder::new();
        let record = Move {
            sku: seq,
            quantity: 100_000,
            kind: kind::RECEIVED,
            unit: 1,
            ..Move::default()
        };
        builder.push(&record, &[], &[]).ok()?;
        let frame = builder.finish_frame(Seq::new(seq).ok()?).ok()?;
        outbox.append(frame.encode(), 1).ok()?;
    }
    let dead = Counted::default();
    let letters = Box::new(dead.clone());
    let session = Session::new(SessionConfig::new(terminal), Box::new(outbox), letters);
    Some((session, dead))
}

// `None` where the stream is over.
fn say(session: &mut Session, now: Instant, kind: u8, payload: &[u8]) -> Option<()> {
    let mut out = Vec::new();
    session.transmit(now, &mut out, 4).ok()?;
    for chunk in &out {
        sent(session, chunk);
    }
    let frame = Frame::decode(encode_frame(SESSION, kind, 0, 0, payload)).ok()?;
    crate::frames::message(&frame);
    let message = Message::decode(&frame).ok()?;
    match session.handle(now, message) {
        Ok(None) => Some(()),
        Ok(Some(_)) | Err(_) => None,
    }
}

// What goes out is a message, or events that the outbox holds under these numbers.
fn sent(session: &mut Session, chunk: &Bytes) {
    let frame = Frame::decode(chunk.clone());
    assert!(frame.is_ok(), "no frame was sent");
    let Ok(frame) = frame else { return };
    if frame.header.is_session() {
        let said = Message::decode(&frame);
        assert!(said.is_ok_and(|said| said.is_from_client()));
        return;
    }
    let held = session.outbox().frame_of(frame.header.first_seq);
    let held = held.ok().flatten().map(|stored| stored.bytes);
    assert_eq!(held.as_ref(), Some(chunk), "sent and not in the outbox");
}

// An engine may lie about what it has; it can't make the device lose count.
fn check(session: &mut Session, dead: &Counted) {
    let standing = session.standing();
    assert!(standing.committed <= standing.last && standing.last <= EVENTS);
    let letters = *dead.0.lock().unwrap_or_else(PoisonError::into_inner);
    let totals = session.totals();
    assert_eq!(totals.appended, EVENTS);
    assert!(letters <= EVENTS, "{letters} dead letters");
    for seq in standing.committed + 1..=standing.last {
        let held = session.outbox().frame_of(seq);
        assert!(held.is_ok_and(|held| held.is_some()), "{seq} is gone");
    }
}
