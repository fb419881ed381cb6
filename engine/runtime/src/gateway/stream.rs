//! One stream: a Hello, then frames in and acks out, until either side ends it.
//!
//! A reader and a writer share the [`Session`]. Whatever is wrong with the bytes ends this stream with a reason, and no
//! other. Nothing is held for a stream but one unfinished frame, whose bytes above 64 KiB come out of a common budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::header::WireError;
use till_protocol::id::Seq;
use till_protocol::limits::FRAME_BYTES_MAX;
use till_protocol::reply::{Hello, Message, PROTOCOL};
use till_protocol::verified::Verified;
use till_storage::facts::{Facts, FactsError};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::check;
use super::session::Session;
use crate::engine::Engine;
use crate::pki::Speaks;
use crate::route::Slot;
use crate::shard_actor::ShardMessage;

/// Chunks that are taken from QUIC at a time.
const CHUNKS: usize = 32;
/// Bytes of an unfinished frame that every stream may hold; more comes out of the common budget.
const FREE_BYTES: usize = 64 << 10;
/// Time between two looks at the clock of a stream.
const TICK: Duration = Duration::from_secs(1);
/// Time in which a device must read what it is told.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a device that is held back is told to wait, in ms.
const SLOW_MS: u32 = 100;
/// A session that ends well or badly; QUIC needs a number for it.
const STOPPED: VarInt = VarInt::from_u32(0);

/// Why a stream is over.
enum End {
    /// The device is told why.
    Bye(Reason, Option<String>),
    /// The device has said goodbye, or is gone.
    Gone,
    /// The device has said goodbye and waits for its last ack.
    Goodbye,
    /// The engine stops.
    Draining,
    /// The session was ended from elsewhere.
    Over,
}

/// Serves a stream until it ends.
pub(crate) async fn serve(
    engine: Arc<Engine>,
    speaks: Arc<Speaks>,
    send: SendStream,
    recv: RecvStream,
) {
    engine.figures.streams.fetch_add(1, Ordering::Relaxed);
    let mut reader = Reader {
        recv,
        decoder: FrameDecoder::new(),
        chunks: std::array::from_fn(|_| Bytes::new()),
        filled: 0,
        begun: None,
    };
    let deadline = engine.config.network.hello_timeout;
    let hello = match timeout(deadline, reader.hello()).await {
        Ok(hello) => hello,
        Err(_) => Err(End::Bye(Reason::Idle, None)),
    };
    match hello {
        Ok(hello) => Box::pin(live(&engine, &speaks, hello, reader, send)).await,
        Err(End::Bye(reason, text)) => refuse(&engine, reader, send, reason, text).await,
        Err(_) => {}
    }
    engine.figures.streams.fetch_sub(1, Ordering::Relaxed);
}

// A stream that never became a session.
async fn refuse(
    engine: &Engine,
    mut reader: Reader,
    mut send: SendStream,
    reason: Reason,
    text: Option<String>,
) {
    engine.figures.refused(reason);
    let text = text.unwrap_or_else(|| reason.sentence().to_owned());
    let bye = till_protocol::reply::Bye { reason, text }.encode();
    // A device that does not read its Bye has only itself to blame.
    let _told = timeout(WRITE_TIMEOUT, send.write_all(&bye)).await;
    finish(&mut send, &mut reader.recv);
}

async fn live(
    engine: &Arc<Engine>,
    speaks: &Speaks,
    hello: Box<Hello>,
    mut reader: Reader,
    mut send: SendStream,
) {
    let terminal = hello.terminal;
    let admitted = admit(engine, speaks, &hello);
    let (slot, listing) = match admitted {
        Ok(admitted) => admitted,
        Err((reason, text)) => return refuse(engine, reader, send, reason, text).await,
    };
    let session = Arc::new(Session::new(terminal));
    let greeted = slot.send(ShardMessage::Hello {
        session: Arc::clone(&session),
        hello,
        listing,
    });
    if greeted.is_err() {
        return refuse(engine, reader, send, Reason::Internal, None).await;
    }
    let writer = tokio::spawn({
        let session = Arc::clone(&session);
        async move {
            write(&session, &mut send).await;
            send
        }
    });
    let end = reader.frames(engine, &slot, &session).await;
    settle(engine, &slot, &session, end);
    // The writer ends with the session, after its last word.
    if let Ok(mut send) = writer.await {
        finish(&mut send, &mut reader.recv);
    }
    let _gone = slot.send(ShardMessage::End {
        session,
        reason: None,
    });
}

type Refusal = (Reason, Option<String>);

fn admit(
    engine: &Engine,
    speaks: &Speaks,
    hello: &Hello,
) -> Result<(Arc<Slot>, crate::registry::Listing), Refusal> {
    if engine.is_draining() {
        return Err((Reason::Draining, None));
    }
    if !speaks.may(hello.terminal) {
        let text = format!(
            "the certificate does not speak for terminal {}",
            hello.terminal
        );
        return Err((Reason::ForeignTerminal, Some(text)));
    }
    let listing = engine
        .registry
        .admit(hello.terminal, hello.currency, &hello.zone)
        .map_err(|reason| (reason, None))?;
    let slot = engine.slot(hello.terminal.store());
    let slot = slot.ok_or((Reason::Internal, None))?;
    Ok((Arc::clone(slot), listing))
}

// What a stream's end means for its session.
fn settle(engine: &Engine, slot: &Slot, session: &Arc<Session>, end: End) {
    let reason = match end {
        End::Bye(reason, text) => {
            engine.figures.refused(reason);
            session.bye(reason, text.as_deref());
            return;
        }
        End::Gone => {
            session.close();
            return;
        }
        End::Over => return,
        End::Goodbye => None,
        End::Draining => Some(Reason::Draining),
    };
    // Behind the last frame: its ack leaves first.
    let ended = slot.send(ShardMessage::End {
        session: Arc::clone(session),
        reason,
    });
    if ended.is_err() {
        session.bye(reason.unwrap_or(Reason::Internal), None);
    }
}

async fn write(session: &Session, send: &mut SendStream) {
    loop {
        let messages = session.messages().await;
        if !messages.bytes.is_empty() {
            match timeout(WRITE_TIMEOUT, send.write_all(&messages.bytes)).await {
                Ok(Ok(())) => {}
                // It does not read, or it is gone: nothing that it is told arrives.
                Ok(Err(_)) | Err(_) => {
                    session.close();
                    return;
                }
            }
        }
        if messages.is_last {
            return;
        }
    }
}

fn finish(send: &mut SendStream, recv: &mut RecvStream) {
    // Both fail only on a stream that has ended already.
    let _ended = send.finish();
    let _ended = recv.stop(STOPPED);
}

struct Reader {
    recv: RecvStream,
    decoder: FrameDecoder,
    chunks: [Bytes; CHUNKS],
    /// Chunks that were read and not decoded yet.
    filled: usize,
    /// When the frame that is being read began.
    begun: Option<Instant>,
}

impl Reader {
    async fn hello(&mut self) -> Result<Box<Hello>, End> {
        loop {
            if let Some(frame) = self.next()? {
                let message = Message::decode(&frame)
                    .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
                let Message::Hello(hello) = message else {
                    return Err(End::Bye(Reason::BadHello, None));
                };
                return understood(hello);
            }
            if !self.fill().await? {
                return Err(End::Gone);
            }
        }
    }

    // The next complete frame of what was read. Chunks are decoded one by one, so that a frame in one is not copied.
    fn next(&mut self) -> Result<Option<Frame>, End> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(|error| wire(&error))? {
                return Ok(Some(frame));
            }
            if self.filled == 0 {
                return Ok(None);
            }
            self.chunks.rotate_left(1);
            self.filled -= 1;
            if let Some(chunk) = self.chunks.last_mut() {
                self.decoder.push(std::mem::take(chunk));
            }
        }
    }

    // Reads what has come, once all before is decoded. `false`: the device has ended its side.
    async fn fill(&mut self) -> Result<bool, End> {
        match self.recv.read_chunks(&mut self.chunks).await {
            Ok(Some(count)) => {
                self.filled = count;
                Ok(true)
            }
            Ok(None) if self.decoder.is_at_boundary() => Ok(false),
            Ok(None) => Err(wire(&self.decoder.truncated())),
            Err(ReadError::Reset(_)) => Ok(false),
            Err(_) => Err(End::Gone),
        }
    }

    async fn frames(&mut self, engine: &Engine, slot: &Slot, session: &Arc<Session>) -> End {
        let mut draining = engine.draining.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut budget: Option<SemaphorePermit<'_>> = None;
        loop {
            match self.take_all(engine, slot, session).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            if self.decoder.is_at_boundary() {
                self.begun = None;
                budget = None;
            } else {
                self.begun.get_or_insert_with(Instant::now);
                if budget.is_none() && self.decoder.held() > FREE_BYTES {
                    match self.reserve(engine).await {
                        Ok(permit) => budget = Some(permit),
                        Err(end) => return end,
                    }
                }
            }
            tokio::select! {
                biased;
                filled = self.fill() => match filled {
                    Ok(true) => {}
                    Ok(false) => return End::Goodbye,
                    Err(end) => return end,
                },
                _ = tick.tick() => {
                    if session.is_over() {
                        return End::Over;
                    }
                    if self.is_late(engine.config.network.frame_timeout) {
                        return End::Bye(Reason::Idle, Some("a frame took too long to arrive".to_owned()));
                    }
                }
                _ = draining.wait_for(|draining| *draining) => return End::Draining,
            }
        }
    }

    fn is_late(&self, limit: Duration) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() > limit)
    }

    // Room for the largest frame at once, so that no two streams wait for each other's halves.
    async fn reserve<'e>(&self, engine: &'e Engine) -> Result<SemaphorePermit<'e>, End> {
        let room = engine.gather.acquire_many(FRAME_BYTES_MAX);
        match timeout(engine.config.network.frame_timeout, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(End::Bye(Reason::Busy, None)),
        }
    }

    // Every frame that is complete goes to the shard.
    async fn take_all(
        &mut self,
        engine: &Engine,
        slot: &Slot,
        session: &Arc<Session>,
    ) -> Result<(), End> {
        while let Some(frame) = self.next()? {
            if session.is_over() {
                return Err(End::Over);
            }
            self.begun = None;
            if frame.header.is_session() {
                message(engine, session, &frame).await?;
            } else {
                submit(engine, slot, session, frame).await?;
            }
        }
        Ok(())
    }
}

fn wire(error: &WireError) -> End {
    End::Bye(error.reason(), Some(error.to_string()))
}

fn understood(hello: Hello) -> Result<Box<Hello>, End> {
    let families = till_protocol::family::Family::from_u8;
    let known = |(family, version): &(u8, u8)| families(*family).is_some() && *version == 1;
    if hello.versions.is_empty() || !hello.versions.iter().any(known) {
        let text = format!("till/{PROTOCOL} knows version 1 of each family");
        return Err(End::Bye(Reason::BadHello, Some(text)));
    }
    Ok(Box::new(hello))
}

async fn submit(
    engine: &Engine,
    slot: &Slot,
    session: &Arc<Session>,
    frame: Frame,
) -> Result<(), End> {
    let received = Instant::now();
    let bytes = frame.header.length;
    engine.figures.frame(bytes);
    if slot.gate.is_paused() {
        session.slow(SLOW_MS);
        engine.figures.slowed.fetch_add(1, Ordering::Relaxed);
    }
    tell_again(engine, session, &frame).await?;
    let permit = slot.gate.admit(bytes).await.ok_or(End::Draining)?;
    let session = Arc::clone(session);
    let message = match Verified::check(frame, &engine.screen) {
        Ok(batch) => ShardMessage::Batch {
            session,
            batch: Box::new(batch),
            permit,
            received,
        },
        Err(unreadable) => {
            let header = unreadable.frame.header;
            let first_seq = Seq::new(header.first_seq)
                .map_err(|error| End::Bye(Reason::BadHeader, Some(error.to_string())))?;
            ShardMessage::Unreadable {
                session,
                first_seq,
                count: header.count,
                reason: unreadable.reason(),
                permit,
                received,
            }
        }
    };
    slot.send(message)
        .map_err(|_| End::Bye(Reason::Internal, None))
}

// A device sends again what it has no ack for. The ack that covers a frame tells which of its events were refused, so those
// that were known when the session began are looked up before the frame goes on.
async fn tell_again(engine: &Engine, session: &Session, frame: &Frame) -> Result<(), End> {
    let mut draining = engine.draining.subscribe();
    let greeted = tokio::select! {
        biased;
        greeted = session.welcomed() => greeted.ok_or(End::Over)?,
        _ = draining.wait_for(|draining| *draining) => return Err(End::Draining),
    };
    let header = &frame.header;
    let first = header.first_seq;
    if !greeted.has_refusals || first > greeted.known {
        return Ok(());
    }
    let end = first.saturating_add(u64::from(header.count));
    let last = end.saturating_sub(1).min(greeted.known);
    let look_up = move |facts: &Facts| check::refusals(facts, greeted.key, first, last);
    session.refused(look_into(engine, session, look_up).await?);
    Ok(())
}

// One look-up of a stream at a time, few of all streams: the reader waits here.
async fn look_into<T: Send + 'static>(
    engine: &Engine,
    session: &Session,
    look_up: impl FnOnce(&Facts) -> Result<T, FactsError> + Send + 'static,
) -> Result<T, End> {
    let Ok(_turn) = engine.checks.acquire().await else {
        return Err(End::Draining);
    };
    let facts = Arc::clone(&engine.facts);
    match tokio::task::spawn_blocking(move || look_up(&facts)).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let terminal = session.terminal();
            tracing::warn!(%terminal, %error, "events of a terminal could not be looked up");
            Err(End::Bye(Reason::Internal, None))
        }
        Err(_) => Err(End::Bye(Reason::Internal, None)),
    }
}

async fn message(engine: &Engine, session: &Arc<Session>, frame: &Frame) -> Result<(), End> {
    let message = Message::decode(frame)
        .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
    match message {
        Message::Goodbye => Err(End::Goodbye),
        Message::Check(check) => {
            // What the greeting speaks of is durable, and found.
            session.welcomed().await.ok_or(End::Over)?;
            let terminal = session.terminal();
            let look_up = move |facts: &Facts| check::answer(facts, terminal, &check);
            let (checked, refusals) = look_into(engine, session, look_up).await?;
            match session.checked(checked, refusals) {
                true => Ok(()),
                false => Err(End::Bye(Reason::Busy, None)),
            }
        }
        _ => Err(End::Bye(Reason::BadMessage, None)),
    }
}
