//! What is read of a stream: whole frames, and the room and the time that an unfinished one takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{ReadError, RecvStream};
use till_protocol::code::Reason;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::header::WireError;
use till_protocol::id::TerminalId;
use till_protocol::reply::{Hello, Message};
use till_runtime::{End, ended};
use tokio::time::timeout;

use crate::abuse_control::{self, AbuseControl};
use crate::hall::Hall;
use crate::hello::{begins_hello, understood};
use crate::patience::{Holding, Patience};
use crate::unfinished::Held;

/// Chunks that are taken from QUIC at a time. A chunk is what a packet brought: of the largest packets these are 50 KiB, by which a
/// stream may go beyond its room.
const CHUNKS: usize = 8;
/// Bytes of an unfinished frame that every stream may hold; more comes out of the room that all share.
const FREE_BYTES: usize = 2 << 10;
/// Bytes of an unfinished frame above which room for the largest is waited for.
const SMALL_BYTES: usize = 64 << 10;
/// Time between two looks at the clock of a stream.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// The reading side of a stream.
pub(crate) struct Reader {
    pub(crate) recv: RecvStream,
    decoder: FrameDecoder,
    chunks: [Bytes; CHUNKS],
    /// Chunks that were read and not decoded yet.
    filled: usize,
    /// The frame that is being read.
    begun: Option<Patience>,
    /// The room that it takes.
    pub(crate) held: Held,
    /// What the engine holds back of the connection.
    pub(crate) holding: Arc<Holding>,
    /// What the connection does to no effect.
    pub(crate) abuse: Arc<AbuseControl>,
}

impl Reader {
    /// Of a stream of which nothing was read.
    pub(crate) fn new(
        recv: RecvStream,
        held: Held,
        holding: Arc<Holding>,
        abuse: Arc<AbuseControl>,
    ) -> Self {
        Self {
            recv,
            decoder: FrameDecoder::new(),
            chunks: std::array::from_fn(|_| Bytes::new()),
            filled: 0,
            begun: None,
            held,
            holding,
            abuse,
        }
    }

    /// Whether no frame is begun.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.decoder.is_at_boundary()
    }

    /// So much was done to no effect.
    pub(crate) fn charge(&self, hall: &Hall, terminal: Option<TerminalId>, points: u64) {
        let now = Instant::now();
        self.abuse
            .charge(&hall.limited_terminals, terminal, points, now);
    }

    /// What a stream was to no effect that ends with a reason.
    pub(crate) fn wasted(&self, reason: Reason) -> u64 {
        ended(reason) + abuse_control::unfinished(self.decoder.held())
    }

    /// The first word of the stream.
    pub(crate) async fn hello(&mut self, limit: Duration) -> Result<Box<Hello>, End> {
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

    /// Reads on while last words are said, and drops it: bytes that nobody takes would fill the window of the connection,
    /// and hold up its other streams. A frame that was begun goes too: its room is given back.
    pub(crate) async fn ignore_until<T>(&mut self, said: impl Future<Output = T>) -> T {
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

    /// The next complete frame of what was read. Chunks are decoded one by one, so that a frame in one is not copied.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, End> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(|error| wire(&error))? {
                self.begun = None;
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

    /// Reads what has come, once all before is decoded. `false`: the device has ended its side.
    pub(crate) async fn fill(&mut self) -> Result<bool, End> {
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

    /// Room for what was begun and has come.
    pub(crate) async fn make_room(&mut self, hall: &Hall) -> Result<(), End> {
        if self.decoder.is_at_boundary() {
            self.begun = None;
            self.held.clear();
            return Ok(());
        }
        if self.begun.is_none() {
            // Another one than before.
            self.begun = Some(Patience::begin(&self.holding, Instant::now()));
            self.held.clear();
        }
        let held = self.decoder.held();
        if self.held.is_largest() || held <= FREE_BYTES {
            return Ok(());
        }
        if held > SMALL_BYTES {
            return self.reserve(hall).await;
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

    /// Whether a frame takes too long to arrive.
    pub(crate) fn is_late(&self, limit: Duration) -> bool {
        let spent = |patience: Patience| patience.spent(&self.holding, Instant::now());
        self.begun.is_some_and(|begun| spent(begun) > limit)
    }

    async fn reserve(&mut self, hall: &Hall) -> Result<(), End> {
        let _held = self.holding.hold();
        tokio::select! {
            biased;
            () = hall.intake.cordoned() => Err(End::Draining),
            room = timeout(hall.network.frame_timeout, self.held.grow_to_largest()) => {
                room.map_err(|_| End::Bye(Reason::Busy, None))
            }
        }
    }
}

/// What a connection is told that has to give up what it has begun.
pub(crate) fn no_room() -> End {
    let text = "there is no room for frames that are not complete".to_owned();
    End::Bye(Reason::Busy, Some(text))
}

fn wire(error: &WireError) -> End {
    End::Bye(error.reason(), Some(error.to_string()))
}
