//! Connections: bytes in order, until they are cut.

use std::collections::VecDeque;

use bytes::Bytes;
use till_client::range;
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::reply::Message;
use till_runtime::testing::{Stream, Taken};

use super::{Event, World};
use crate::coverage::Sight;
use crate::oracle::Acknowledged;
use crate::plan::{MS, SECOND};

/// Frames that go to a shard at a time.
const BATCH_FRAMES: usize = 3;

/// A connection with one stream.
pub(super) struct Conn {
    pub(super) till: usize,
    /// The engine at its other end.
    pub(super) node: usize,
    stream: Option<Stream>,
    at_engine: FrameDecoder,
    at_till: FrameDecoder,
    /// What the acks that the till has heard say.
    reported: Acknowledged,
    /// Frames that the engine has not taken yet.
    held: VecDeque<Frame>,
    way_in: WireWay,
    way_out: WireWay,
    is_cut: bool,
    /// The engine has said its last word, or knows that nobody is there.
    is_ended: bool,
}

/// One direction.
#[derive(Default)]
struct WireWay {
    chunks: VecDeque<(u64, Bytes)>,
    last: u64,
}

impl Conn {
    pub(super) fn new(till: usize, node: usize) -> Self {
        Self {
            till,
            node,
            stream: None,
            at_engine: FrameDecoder::new(),
            at_till: FrameDecoder::new(),
            reported: Acknowledged::default(),
            held: VecDeque::new(),
            way_in: WireWay::default(),
            way_out: WireWay::default(),
            is_cut: false,
            is_ended: false,
        }
    }

    /// The engine's process is gone, or knows that the till is.
    fn end_at_engine(&mut self) -> Option<Stream> {
        self.held.clear();
        self.way_in.chunks.clear();
        self.is_ended = true;
        self.stream.take()
    }
}

impl World {
    fn delay(&mut self) -> u64 {
        if self.is_calm {
            return 5 * MS;
        }
        if self.rng.chance(self.plan.net.stall) {
            self.fault("stalled");
            self.saw(Sight::Stalled);
            return self.rng.within(SECOND, 8 * SECOND);
        }
        let most = self.plan.net.delay;
        self.rng.within(100, most)
    }

    /// A till sends pieces: messages and frames, each whole.
    pub(super) fn send(&mut self, number: u64, units: Vec<Bytes>) {
        let units = self.meddle(number, units);
        for mut unit in units {
            let (at, cut) = (self.now + self.delay(), self.rng.one_in(4));
            let split = if cut { self.rng.index(unit.len()) } else { 0 };
            let first = unit.split_to(split);
            for chunk in [first, unit] {
                self.way(number, true, at, chunk);
            }
            if !self.is_calm && self.rng.chance(self.plan.net.cut) {
                self.fault("cut");
                let soon = self.rng.within(0, 50 * MS);
                self.after(soon, Event::Cut(number));
            }
        }
    }

    // Frames that are lost, come twice, or in another order, as where an engine drops what it cannot take. Messages of a session
    // are left alone, and so are frames that were sent before: a stream loses nothing in its middle, and what an ack covers was
    // on its stream.
    fn meddle(&mut self, number: u64, units: Vec<Bytes>) -> Vec<Bytes> {
        if self.is_calm {
            return units;
        }
        let net = self.plan.net;
        let mut sent: Vec<Bytes> = Vec::new();
        let mut was_new = false;
        for unit in units {
            let frame = range(&unit).ok();
            let is_frame = frame.is_some();
            let is_new = frame.is_some_and(|(first, _)| self.is_first_time(number, first));
            if is_new && self.rng.chance(net.lose) {
                self.fault("frame_lost");
                self.saw(Sight::FrameLost);
                let later = self.rng.within(SECOND, 20 * SECOND);
                self.after(later, Event::Cut(number));
                continue;
            }
            let before = std::mem::replace(&mut was_new, is_new);
            if is_new && before && self.rng.chance(net.overtake) {
                self.fault("overtaken");
                self.saw(Sight::Overtaken);
                let last = sent.len() - 1;
                sent.insert(last, unit);
                continue;
            }
            if is_frame && self.rng.chance(net.twice) {
                self.fault("frame_twice");
                self.saw(Sight::FrameTwice);
                sent.push(unit.clone());
            }
            sent.push(unit);
        }
        sent
    }

    // Whether a till sends this number for the first time in the epoch at hand.
    fn is_first_time(&mut self, number: u64, first: u64) -> bool {
        let till = self.conns.get(&number).map_or(0, |conn| conn.till);
        let sent = &mut self.tills[till].sent_upto;
        let is_new = first > *sent;
        *sent = (*sent).max(first);
        is_new
    }

    fn way(&mut self, number: u64, is_in: bool, at: u64, chunk: Bytes) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        if chunk.is_empty() || conn.is_cut {
            return;
        }
        let way = if is_in {
            &mut conn.way_in
        } else {
            &mut conn.way_out
        };
        way.last = way.last.max(at);
        way.chunks.push_back((way.last, chunk));
        let at = way.last;
        let event = if is_in {
            Event::In(number)
        } else {
            Event::Out(number)
        };
        self.at(at, event);
    }

    pub(super) fn arrives_at_engine(&mut self, number: u64) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        while conn.way_in.chunks.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, chunk)) = conn.way_in.chunks.pop_front() else {
                break;
            };
            conn.at_engine.push(chunk);
            loop {
                match conn.at_engine.next() {
                    Ok(Some(frame)) => conn.held.push_back(frame),
                    Ok(None) => break,
                    Err(error) => {
                        let what = format!("bytes on the way were changed: {error}");
                        return self.oracle.fail("WLD-1", what);
                    }
                }
            }
        }
        self.take_in(number);
    }

    /// The engine takes what it has room for.
    pub(super) fn take_in(&mut self, number: u64) {
        while self.take_one(number) {}
    }

    fn take_one(&mut self, number: u64) -> bool {
        let Some(conn) = self.conns.get_mut(&number) else {
            return false;
        };
        let n = conn.node;
        if !conn.held.is_empty() {
            self.may_gather(n);
        }
        let Some(conn) = self.conns.get_mut(&number) else {
            return false;
        };
        let Some(engine) = &mut self.nodes[n].engine else {
            return false;
        };
        if conn.is_ended {
            conn.held.clear();
            return false;
        }
        let Some(stream) = &conn.stream else {
            let Some(frame) = conn.held.pop_front() else {
                return false;
            };
            self.handshake(number, &frame);
            return true;
        };
        let Some(front) = conn.held.front() else {
            return false;
        };
        if front.header.is_session() {
            let done = match Message::decode(front) {
                Ok(Message::Check(check)) => Ok(engine.check(stream, &check)),
                _ => engine.goodbye(stream),
            };
            match done {
                Ok(true) => {
                    conn.held.pop_front();
                    self.saw(Sight::Compared);
                    self.engine_moved(n);
                    return true;
                }
                Ok(false) => return false,
                Err(halt) => {
                    self.halted(n, &halt);
                    return false;
                }
            }
        }
        let is_events = |frame: &&Frame| !frame.header.is_session();
        let frames = conn.held.iter().take(BATCH_FRAMES).take_while(is_events);
        let count = frames.count();
        let frames: Vec<Frame> = conn.held.drain(..count).collect();
        match engine.frames(stream, frames) {
            Ok(Taken::Yes) => {
                self.engine_moved(n);
                true
            }
            Ok(Taken::Later(frames)) => {
                for frame in frames.into_iter().rev() {
                    conn.held.push_front(frame);
                }
                self.saw(Sight::NoPermit);
                false
            }
            Err(halt) => {
                self.halted(n, &halt);
                false
            }
        }
    }

    fn handshake(&mut self, number: u64, frame: &Frame) {
        let Ok(Message::Hello(hello)) = Message::decode(frame) else {
            let what = "a stream begins without a Hello".to_owned();
            return self.oracle.fail("PRO-1", what);
        };
        let Some(n) = self.conns.get(&number).map(|conn| conn.node) else {
            return;
        };
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        let store = hello.terminal.store();
        let accepted = engine.hello(hello);
        self.look_at_handshake(n, store);
        match accepted {
            Ok(Ok(stream)) => {
                if let Some(conn) = self.conns.get_mut(&number) {
                    conn.stream = Some(stream);
                }
                self.engine_moved(n);
            }
            Ok(Err(last)) => {
                if let Some(conn) = self.conns.get_mut(&number) {
                    conn.is_ended = true;
                }
                self.say(number, last.encode());
            }
            Err(halt) => self.halted(n, &halt),
        }
    }

    /// All that the engine has to say goes out.
    pub(super) fn speak(&mut self, n: usize) {
        let Some(engine) = &self.nodes[n].engine else {
            return;
        };
        let mut words = Vec::new();
        let mut suffers = None;
        for (number, conn) in self.conns.iter_mut().filter(|(_, conn)| conn.node == n) {
            if let (Some(stream), false) = (&conn.stream, conn.is_ended) {
                let replies = engine.say(stream);
                conn.is_ended = replies.is_last;
                let is_old = self.tills[conn.till].conn != Some(*number);
                if replies.is_last && is_old {
                    self.coverage.saw(Sight::Superseded);
                }
                let store = self.tills[conn.till].terminal.store().get();
                if self.spared_but.is_some_and(|damaged| damaged != store)
                    && is_internal(&replies.bytes)
                {
                    suffers = Some(store);
                }
                if !replies.bytes.is_empty() {
                    words.push((*number, replies.bytes));
                }
            }
        }
        if let Some(store) = suffers {
            let what = format!("rows of another store make no sense, and store {store} is told so");
            self.oracle.fail("HEA-1", what);
        }
        for (number, bytes) in words {
            self.say(number, bytes);
        }
    }

    fn say(&mut self, number: u64, bytes: Bytes) {
        self.note(&[number, u64::try_from(bytes.len()).unwrap_or(0)]);
        let at = self.now + self.delay();
        self.way(number, false, at, bytes);
    }

    pub(super) fn arrives_at_till(&mut self, number: u64) {
        let now = self.now;
        let mut messages = Vec::new();
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        let till = conn.till;
        while conn
            .way_out
            .chunks
            .front()
            .is_some_and(|(at, _)| *at <= now)
        {
            let Some((_, chunk)) = conn.way_out.chunks.pop_front() else {
                break;
            };
            conn.at_till.push(chunk);
            while let Ok(Some(frame)) = conn.at_till.next() {
                messages.push(Message::decode(&frame));
            }
        }
        for message in messages {
            match message {
                Ok(message) => {
                    self.look_at_ack(number, &message);
                    self.deliver(till, number, &message);
                }
                Err(error) => {
                    let what = format!("the engine said: {error}");
                    self.oracle.fail("PRO-1", what);
                }
            }
        }
    }

    fn look_at_ack(&mut self, number: u64, message: &Message) {
        let conn = self.conns.get_mut(&number);
        if let (Message::Ack(ack), Some(conn)) = (message, conn) {
            conn.reported = self.oracle.delivers(conn.reported, ack);
        }
    }

    /// Bytes on the way are lost from some point on; both sides learn of it later.
    pub(super) fn cut(&mut self, number: u64) {
        let most = if self.is_calm { 200 * MS } else { 20 * SECOND };
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        if conn.is_cut {
            return;
        }
        conn.is_cut = true;
        let on_way = conn.way_in.chunks.len();
        let kept = self.rng.index(on_way + 1);
        conn.way_in.chunks.truncate(kept);
        conn.way_out.chunks.clear();
        if kept < on_way {
            self.saw(Sight::Cut);
        }
        let here = self.rng.within(MS, most);
        let there = self.rng.within(MS, most);
        self.after(there, Event::GoneAtEngine(number));
        self.after(here, Event::GoneAtTill(number));
    }

    pub(super) fn gone_at_engine(&mut self, number: u64) {
        let conn = self.conns.get_mut(&number);
        drop(conn.and_then(Conn::end_at_engine));
        self.forget(number);
    }

    pub(super) fn gone_at_till(&mut self, number: u64) {
        let Some(conn) = self.conns.get(&number) else {
            return;
        };
        let till = conn.till;
        self.hang_up(till, number);
        self.forget(number);
    }

    /// A till leaves a connection, and the engine learns it later. What is on the way in may still come.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(conn) = self.conns.get_mut(&number) else {
            return;
        };
        conn.is_cut = true;
        conn.way_out.chunks.clear();
        let later = self.rng.within(MS, 4 * SECOND);
        self.after(later, Event::GoneAtEngine(number));
    }

    fn forget(&mut self, number: u64) {
        let Some(conn) = self.conns.get(&number) else {
            return;
        };
        if conn.stream.is_none() && conn.is_ended && self.tills[conn.till].conn != Some(number) {
            self.conns.remove(&number);
        }
    }

    /// The engine's process is gone, and with it its side of every connection.
    pub(super) fn hang_up_all(&mut self, n: usize) {
        let most = if self.is_calm { 100 * MS } else { 12 * SECOND };
        for number in self.conns_of(n) {
            if let Some(conn) = self.conns.get_mut(&number) {
                conn.is_cut = true;
                drop(conn.end_at_engine());
            }
            let later = self.rng.within(MS, most);
            self.after(later, Event::GoneAtTill(number));
        }
    }
}

// Whether an engine says that it could not go on with a session.
fn is_internal(words: &Bytes) -> bool {
    let mut frames = FrameDecoder::new();
    frames.push(words.clone());
    std::iter::from_fn(|| frames.next().ok().flatten()).any(|frame| {
        matches!(Message::decode(&frame), Ok(Message::Bye(bye)) if bye.reason == Reason::Internal)
    })
}
