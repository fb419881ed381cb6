//! One stream: a Hello, then frames in and acks out, until either side ends it.
//!
//! A reader and a writer share the [`Session`]. Whatever is wrong with the bytes ends this stream with a reason, and no
//! other. Nothing is held for a stream but one unfinished frame, whose bytes come out of common budgets; before the Hello,
//! nothing but a Hello.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream};
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::header::WireError;
use till_protocol::id::TerminalId;
use till_protocol::limits::FRAME_BYTES_MAX;
use till_protocol::reply::{Bye, Hello, Message};
use till_storage::query::FactReader;
use till_storage::views::StoreError;
use tokio::sync::{OwnedSemaphorePermit, SemaphorePermit};
use tokio::time::{sleep, timeout};

use super::check;
use super::conduct::{self, Conduct};
use super::ending::{finish, refuse, settle, write};
use super::hello::{admit, begins_hello, understood};
use super::intake::{Line, Pending, Spoken, submit};
use super::patience::{Holding, Patience};
use super::session::Session;
use super::unfinished::Held;
use crate::admission::Permit;
use crate::engine::Engine;
use crate::pki::Speaks;
use crate::route::Slot;
use crate::shard_actor::{FromDevice, Knock, ShardMessage};
use crate::turns::Mark;

/// Chunks that are taken from QUIC at a time.
const CHUNKS: usize = 32;
/// Bytes of an unfinished frame that every stream may hold; more comes out of the room that all share.
const FREE_BYTES: usize = 2 << 10;
/// Bytes of an unfinished frame above which room for the largest is waited for.
const SMALL_BYTES: usize = 64 << 10;
/// Time between two looks at the clock of a stream.
const TICK: Duration = Duration::from_secs(1);

/// Why a stream is over.
pub(crate) enum End {
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

/// What a stream has of its connection.
pub(super) struct Seat {
    /// What the engine holds back of the connection.
    pub(super) holding: Arc<Holding>,
    /// What the connection does in vain.
    pub(super) conduct: Arc<Conduct>,
    /// The room that an unfinished frame takes.
    pub(super) held: Held,
    /// Nobody has said Hello on it yet.
    pub(super) unnamed: Option<OwnedSemaphorePermit>,
}

/// Serves a stream until it ends.
pub(super) async fn serve(
    engine: Arc<Engine>,
    speaks: Arc<Speaks>,
    seat: Seat,
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
        held: seat.held,
        holding: seat.holding,
        conduct: seat.conduct,
    };
    let hello = reader.hello(engine.config.network.hello_timeout).await;
    drop(seat.unnamed);
    match hello {
        Ok(hello) => Box::pin(live(&engine, &speaks, hello, reader, send)).await,
        Err(End::Bye(reason, text)) => {
            let text = text.unwrap_or_else(|| reason.sentence().to_owned());
            reader.charge(&engine, None, reader.wasted(reason));
            refuse(&engine, reader, send, Bye { reason, text }.into()).await;
        }
        Err(_) => {}
    }
    engine.figures.streams.fetch_sub(1, Ordering::Relaxed);
}

async fn live(
    engine: &Arc<Engine>,
    speaks: &Speaks,
    hello: Box<Hello>,
    mut reader: Reader,
    mut send: SendStream,
) {
    let terminal = hello.terminal;
    let spoken = Spoken::of(&hello);
    let admitted = admit(engine, speaks, &hello);
    let (slot, listing) = match admitted {
        Ok(admitted) => admitted,
        Err(last) => {
            if let Message::Bye(bye) = &last {
                reader.charge(engine, Some(terminal), conduct::ended(bye.reason));
            }
            return refuse(engine, reader, send, last).await;
        }
    };
    let conduct = Arc::clone(&reader.conduct);
    conduct.speaks(&engine.debtors, terminal, Instant::now());
    let untold = Arc::clone(&engine.untold);
    let session = Arc::new(Session::new(terminal, untold, engine.commits));
    let Some(permit) = reader.enter(engine, &slot).await else {
        return refuse(engine, reader, send, Bye::new(Reason::Busy).into()).await;
    };
    let greeted = slot.send(ShardMessage::Device(FromDevice::Hello(Knock {
        session: Arc::clone(&session),
        hello,
        listing,
        permit: Some(permit),
    })));
    if greeted.is_err() {
        return refuse(engine, reader, send, Bye::new(Reason::Internal).into()).await;
    }
    let mut writer = tokio::spawn({
        let session = Arc::clone(&session);
        async move {
            write(&session, &mut send).await;
            send
        }
    });
    let holding = Arc::clone(&reader.holding);
    let line = Line {
        engine,
        slot: &slot,
        session: &session,
        spoken,
        holding: &holding,
        conduct: &conduct,
        mark: &Mark::default(),
    };
    let end = reader.frames(line).await;
    line.charge(match &end {
        End::Bye(reason, _) => reader.wasted(*reason),
        // The device itself has cut a frame off: a line that breaks ends the connection.
        End::Goodbye if !reader.decoder.is_at_boundary() => reader.wasted(Reason::Truncated),
        End::Gone | End::Goodbye | End::Draining | End::Over => 0,
    });
    let settled = settle(engine, &slot, &session, end);
    reader.ignore_until(settled).await;
    // The writer ends with the session, after its last word; that may wait for a commit, but not so long that a drain is over.
    let wait = engine.config.drain_timeout / 2;
    let told = reader.ignore_until(timeout(wait, &mut writer)).await;
    let told = match told {
        Ok(told) => told,
        Err(_) => {
            session.let_go();
            reader.ignore_until(writer).await
        }
    };
    if let Ok(mut send) = told {
        finish(&mut send, &mut reader.recv);
    }
    slot.leave(&session);
}

pub(super) struct Reader {
    pub(super) recv: RecvStream,
    decoder: FrameDecoder,
    chunks: [Bytes; CHUNKS],
    /// Chunks that were read and not decoded yet.
    filled: usize,
    /// The frame that is being read.
    begun: Option<Patience>,
    /// The room that it takes.
    held: Held,
    /// What the engine holds back of the connection.
    holding: Arc<Holding>,
    conduct: Arc<Conduct>,
}

impl Reader {
    fn charge(&self, engine: &Engine, terminal: Option<TerminalId>, points: u64) {
        let now = Instant::now();
        self.conduct.charge(&engine.debtors, terminal, points, now);
    }

    // What a stream was in vain that ends with a reason.
    fn wasted(&self, reason: Reason) -> u64 {
        conduct::ended(reason) + conduct::unfinished(self.decoder.held())
    }

    async fn hello(&mut self, limit: Duration) -> Result<Box<Hello>, End> {
        let patience = Patience::begin(&self.holding, Instant::now());
        loop {
            let left = limit.saturating_sub(patience.spent(&self.holding, Instant::now()));
            if left.is_zero() {
                return Err(End::Bye(Reason::Idle, None));
            }
            // Where the engine holds the connection back, nothing of it is spent: then the next look is a while ahead.
            if let Ok(hello) = timeout(left.max(TICK), self.first()).await {
                return hello;
            }
        }
    }

    async fn first(&mut self) -> Result<Box<Hello>, End> {
        loop {
            if let Some(frame) = self.next()? {
                let message = Message::decode(&frame)
                    .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
                let Message::Hello(hello) = message else {
                    return Err(End::Bye(Reason::BadHello, None));
                };
                return understood(hello);
            }
            if let Some(head) = self.decoder.head() {
                begins_hello(head)?;
            }
            if !self.fill().await? {
                return Err(End::Gone);
            }
        }
    }

    // Room for a Hello on its way to its shard. `None`: there was none for as long as a Hello may take, or the engine stops.
    async fn enter(&self, engine: &Engine, slot: &Arc<Slot>) -> Option<Permit> {
        let _held = self.holding.hold();
        let room = timeout(engine.config.network.hello_timeout, slot.gate.enter());
        room.await.ok().flatten()
    }

    // Reads on while last words are said, and drops it: bytes that nobody takes would fill the window of the connection,
    // and hold up its other streams. A frame that was begun goes too: its room is given back.
    pub(super) async fn ignore_until<T>(&mut self, said: impl Future<Output = T>) -> T {
        self.decoder = FrameDecoder::new();
        self.held.clear();
        self.chunks.fill(Bytes::new());
        self.filled = 0;
        let mut said = std::pin::pin!(said);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                done = &mut said => return done,
                read = self.recv.read_chunks(&mut self.chunks), if is_open => {
                    is_open = matches!(read, Ok(Some(_)));
                }
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

    async fn frames(&mut self, line: Line<'_>) -> End {
        let engine = line.engine;
        let mut draining = engine.draining.subscribe();
        let mut drained = std::pin::pin!(draining.wait_for(|draining| *draining));
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut budget: Option<SemaphorePermit<'_>> = None;
        let share = self.held.share();
        let holding = Arc::clone(&self.holding);
        loop {
            let is_all = match self.take_all(line).await {
                Ok(is_all) => is_all,
                Err(end) => return end,
            };
            if let Err(end) = self.make_room(engine, &mut budget).await {
                return end;
            }
            let holds = !self.held.is_empty();
            // What was read and not taken must be taken before more is read.
            let wait = line.conduct.wait(Instant::now());
            let wait = wait.or_else(|| (!is_all).then_some(Duration::ZERO));
            // Nobody waits with room that all share.
            if wait.is_some() && (holds || budget.is_some()) {
                return no_room();
            }
            let held_back = wait.map(|_| holding.hold());
            tokio::select! {
                biased;
                () = sleep(wait.unwrap_or_default().min(TICK)), if wait.is_some() => {
                    if line.session.is_over() {
                        return End::Over;
                    }
                }
                filled = self.fill(), if wait.is_none() => match filled {
                    Ok(true) => {}
                    Ok(false) => return End::Goodbye,
                    Err(end) => return end,
                },
                _ = tick.tick() => {
                    if line.session.is_over() {
                        return End::Over;
                    }
                    if self.is_late(engine.config.network.frame_timeout) {
                        return End::Bye(Reason::Idle, Some("a frame took too long to arrive".to_owned()));
                    }
                }
                _ = &mut drained => return End::Draining,
                () = share.evicted(), if holds => return no_room(),
            }
            drop(held_back);
        }
    }

    // Room for what was begun and has come.
    async fn make_room<'e>(
        &mut self,
        engine: &'e Engine,
        budget: &mut Option<SemaphorePermit<'e>>,
    ) -> Result<(), End> {
        if self.decoder.is_at_boundary() {
            self.begun = None;
            *budget = None;
            self.held.clear();
            return Ok(());
        }
        if self.begun.is_none() {
            // Another one than before.
            self.begun = Some(Patience::begin(&self.holding, Instant::now()));
            *budget = None;
            self.held.clear();
        }
        let held = self.decoder.held();
        if budget.is_some() || held <= FREE_BYTES {
            return Ok(());
        }
        if held > SMALL_BYTES {
            *budget = Some(self.reserve(engine).await?);
            self.held.clear();
            return Ok(());
        }
        // The buffer doubles where it grows.
        match self
            .held
            .grow((2 * held).next_power_of_two().min(SMALL_BYTES))
        {
            true => Ok(()),
            false => Err(no_room()),
        }
    }

    fn is_late(&self, limit: Duration) -> bool {
        let spent = |patience: Patience| patience.spent(&self.holding, Instant::now());
        self.begun.is_some_and(|begun| spent(begun) > limit)
    }

    // Room for the largest frame at once, so that no two streams wait for each other's halves.
    async fn reserve<'e>(&self, engine: &'e Engine) -> Result<SemaphorePermit<'e>, End> {
        let _held = self.holding.hold();
        let room = engine.gather.acquire_many(FRAME_BYTES_MAX);
        match timeout(engine.config.network.frame_timeout, room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(End::Bye(Reason::Busy, None)),
        }
    }

    // Every frame that is complete goes to the shard, as many as there are at a time. `false`: the connection has to wait
    // before the rest of them.
    async fn take_all(&mut self, line: Line<'_>) -> Result<bool, End> {
        let mut pending = Pending::default();
        let end = loop {
            if pending.is_empty() {
                line.charge(0);
                if line.conduct.wait(Instant::now()).is_some() {
                    break Ok(false);
                }
            }
            let frame = match self.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break Ok(true),
                Err(end) => break Err(end),
            };
            self.begun = None;
            if frame.header.is_session() {
                submit(line, std::mem::take(&mut pending)).await?;
                message(line, &frame).await?;
                continue;
            }
            if !line.spoken.has(frame.header.family) {
                let text = format!(
                    "the Hello does not list version 1 of family {}",
                    frame.header.family
                );
                break Err(End::Bye(Reason::Unsupported, Some(text)));
            }
            pending.push(frame);
            if pending.is_full() {
                submit(line, std::mem::take(&mut pending)).await?;
            }
        };
        // What came before bytes that are no frame counts.
        submit(line, pending).await?;
        end
    }
}

fn no_room() -> End {
    let text = "there is no room for frames that are not complete".to_owned();
    End::Bye(Reason::Busy, Some(text))
}

fn wire(error: &WireError) -> End {
    End::Bye(error.reason(), Some(error.to_string()))
}

/// One look-up of a stream at a time, few of all streams: the reader waits here.
pub(super) async fn look_into<T: Send + 'static>(
    line: Line<'_>,
    look_up: impl FnOnce(&dyn FactReader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, End> {
    let _held = line.holding.hold();
    let Ok(_turn) = line.engine.checks.acquire().await else {
        return Err(End::Draining);
    };
    let facts = Arc::clone(&line.engine.reader);
    match tokio::task::spawn_blocking(move || look_up(facts.as_ref())).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            let terminal = line.session.terminal();
            tracing::warn!(%terminal, %error, "events of a terminal could not be looked up");
            Err(End::Bye(Reason::Internal, None))
        }
        Err(_) => Err(End::Bye(Reason::Internal, None)),
    }
}

async fn message(line: Line<'_>, frame: &Frame) -> Result<(), End> {
    let session = line.session;
    let message = Message::decode(frame)
        .map_err(|error| End::Bye(error.reason(), Some(error.to_string())))?;
    match message {
        Message::Goodbye => Err(End::Goodbye),
        Message::Check(check) => {
            // What the greeting speaks of is durable, and found.
            session.welcomed().await.ok_or(End::Over)?;
            let terminal = session.terminal();
            let look_up =
                move |facts: &dyn FactReader| check::answer_once_committed(facts, terminal, &check);
            let (checked, refusals) = look_into(line, look_up).await?;
            match session.checked(checked, refusals) {
                true => Ok(()),
                false => Err(End::Bye(Reason::Busy, None)),
            }
        }
        _ => Err(End::Bye(Reason::BadMessage, None)),
    }
}
