//! A session's way into its shard: its Hello, then frames, questions and its end, in the order in which they came.
//!
//! A frame is admitted first and verified then: the permit bounds what the engine holds, and how many frames are checked side
//! by side, before anything is spent on their bytes.

#[cfg(any(test, feature = "testing"))]
mod now;

use crate::shard::handle::shard_of;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::header::FrameHeader;
use till_protocol::id::Seq;
use till_protocol::reply::Message;
use till_protocol::reply::{Bye, Check, Hello};
use till_protocol::verified::Verified;
use till_storage::query::FactReader;
use till_storage::views::StoreError;
use tokio::time::timeout;

use crate::admission::fair_queue::VirtualTime;
use crate::admission::{Permit, Room};
use crate::ingress::check;
use crate::ingress::intake::Intake;
use crate::ingress::registry::Listing;
use crate::ingress::session::farewell::Farewell;
use crate::ingress::session::{Established, Session};
use crate::ingress::useless::unreadable;
use crate::shard::handle::ShardHandle;
use crate::shard::message::{Content, FromDevice, HelloRequest, Inbound, ShardMessage};

/// Frames that go to a shard at a time; the least that [`permits_frames`](crate::Config::permits_frames) may be.
const BATCH_FRAMES: usize = 16;
/// Bytes after which no further frame joins them.
const BATCH_BYTES: u32 = 256 << 10;
/// What a device that is held back is told to wait, in ms.
const SLOW_MS: u32 = 100;

/// Why a stream is over.
#[derive(Debug)]
pub enum End {
    /// The device is told why.
    Bye(Reason, Option<String>),
    /// The device is gone.
    Gone,
    /// The device has said goodbye and waits for its last ack.
    Goodbye,
    /// The engine stops.
    Draining,
    /// The session was ended from elsewhere.
    Over,
}

/// Frames of a stream that go to its shard together: a wait for room, a message and a wake-up are paid once for all of them.
#[derive(Debug, Default)]
pub struct FrameBatch {
    frames: Vec<Frame>,
    room: Room,
}

impl FrameBatch {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether no further frame joins them.
    pub fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.room.bytes >= BATCH_BYTES
    }

    /// One more.
    pub fn push(&mut self, frame: Frame) {
        self.room = self.room.and(Room::of(&frame.header));
        self.frames.push(frame);
    }
}

impl From<Vec<Frame>> for FrameBatch {
    fn from(frames: Vec<Frame>) -> Self {
        let rooms = frames.iter().map(|frame| Room::of(&frame.header));
        let room = rooms.fold(Room::default(), Room::and);
        Self { frames, room }
    }
}

impl Intake {
    /// A terminal that may speak says Hello: the way to its shard, or what it is told instead.
    ///
    /// # Errors
    /// What the device is told.
    pub fn open(self: &Arc<Self>, hello: Box<Hello>) -> Result<Knocking, Message> {
        let bye = |reason| Message::from(Bye::new(reason));
        if self.is_draining() {
            return Err(bye(Reason::Draining));
        }
        let terminal = hello.terminal;
        if let Some(last) = self.not_here(terminal.store()) {
            return Err(last.into_message().unwrap_or_else(|| bye(Reason::Moved)));
        }
        let listing = self
            .registry
            .admit(terminal, hello.currency, &hello.zone)
            .map_err(bye)?;
        let shard = shard_of(terminal.store(), self.slots.len());
        let slot = self.slots.get(shard).ok_or_else(|| bye(Reason::Internal))?;
        let pending_refusals = Arc::clone(&self.sessions.pending_refusals);
        let session = Session::new(terminal, pending_refusals, self.sessions.commits);
        let inlet = Inlet::new(Arc::clone(self), Arc::clone(slot), Arc::new(session));
        Ok(Knocking::new(inlet, hello, listing))
    }

    // One look-up of a stream at a time, few of all streams.
    async fn look_up<T: Send + 'static>(
        &self,
        look_up: impl FnOnce(&dyn FactReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, End> {
        let Ok(_turn) = self.look_ups.turns.acquire().await else {
            return Err(End::Draining);
        };
        let facts = Arc::clone(&self.look_ups.facts);
        match tokio::task::spawn_blocking(move || look_up(facts.as_ref())).await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::warn!(%error, "events of a terminal could not be looked up");
                Err(End::Bye(Reason::Internal, None))
            }
            Err(_) => Err(End::Bye(Reason::Internal, None)),
        }
    }
}

/// A Hello in front of its shard.
#[derive(Debug)]
pub struct Knocking {
    inlet: Inlet,
    hello: Box<Hello>,
    listing: Listing,
}

impl Knocking {
    pub(super) const fn new(inlet: Inlet, hello: Box<Hello>, listing: Listing) -> Self {
        Self {
            inlet,
            hello,
            listing,
        }
    }

    /// Waits for room, and hands the Hello to its shard.
    ///
    /// # Errors
    /// What the device is told: there was no room for so long, or the shard does not run.
    pub async fn enter(self, within: Duration) -> Result<Inlet, Bye> {
        let room = timeout(within, self.inlet.slot.gate.enter()).await;
        let permit = room.ok().flatten().ok_or_else(|| Bye::new(Reason::Busy))?;
        self.send(permit)
    }

    fn send(self, permit: Permit) -> Result<Inlet, Bye> {
        let request = HelloRequest {
            session: Arc::clone(&self.inlet.session),
            hello: self.hello,
            listing: self.listing,
            permit: Some(permit),
        };
        self.inlet
            .send(FromDevice::Hello(request))
            .map_err(|_| Bye::new(Reason::Internal))?;
        Ok(self.inlet)
    }
}

/// A session's way into its shard.
#[derive(Debug)]
pub struct Inlet {
    intake: Arc<Intake>,
    slot: Arc<ShardHandle>,
    session: Arc<Session>,
    /// What the stream has taken.
    virtual_time: VirtualTime,
}

impl Inlet {
    pub(super) fn new(intake: Arc<Intake>, slot: Arc<ShardHandle>, session: Arc<Session>) -> Self {
        Self {
            intake,
            slot,
            session,
            virtual_time: VirtualTime::default(),
        }
    }

    /// What shard and journal have to say to the device.
    pub const fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Frames go to the shard: each is admitted, then verified. `hold` is asked for what lives as long as the engine holds the
    /// stream back.
    ///
    /// # Errors
    /// [`End`]: why the stream is over.
    pub async fn submit<H>(&self, batch: FrameBatch, hold: impl Fn() -> H) -> Result<(), End> {
        let FrameBatch { frames, room } = batch;
        if frames.is_empty() {
            return Ok(());
        }
        if self.session.is_over() {
            return Err(End::Over);
        }
        self.repeat_refusals(&frames, &hold).await?;
        let received = Instant::now();
        self.count(&frames, room);
        let admitted = self.slot.gate.admit(&self.virtual_time, room, hold);
        let (permit, turn) = admitted.await.ok_or(End::Draining)?;
        let verified = self.verified(frames, permit, received);
        drop(turn);
        self.hand_on(verified)
    }

    fn count(&self, frames: &[Frame], room: Room) {
        let figures = self.intake.figures();
        figures.frames(frames);
        if self.slot.gate.is_paused() {
            self.session.slow(SLOW_MS);
            let held_back = u64::from(room.frames);
            figures.slowed.fetch_add(held_back, Ordering::Relaxed);
        }
    }

    // A device sends again what it has no ack for. The ack that covers a frame tells which of its events were refused, so those
    // that were known when the session began are looked up before the frame goes on.
    async fn repeat_refusals<H>(&self, frames: &[Frame], hold: &impl Fn() -> H) -> Result<(), End> {
        let established = {
            let _held = hold();
            tokio::select! {
                biased;
                established = self.session.welcomed() => established.ok_or(End::Over)?,
                () = self.intake.cordoned() => return Err(End::Draining),
            }
        };
        for frame in frames {
            let Some((first, last)) = sent_again(&established, &frame.header) else {
                continue;
            };
            let look_up =
                move |facts: &dyn FactReader| check::refusals(facts, established.key, first, last);
            let _held = hold();
            self.session.refused(&self.intake.look_up(look_up).await?);
        }
        Ok(())
    }

    // Frames as the shard takes them, up to one whose header cannot be.
    fn verified(
        &self,
        frames: Vec<Frame>,
        mut permit: Permit,
        received: Instant,
    ) -> (Vec<Inbound>, Option<End>) {
        let mut inbound = Vec::with_capacity(frames.len());
        for frame in frames {
            let permit = permit.split(Room::of(&frame.header));
            let content = match Verified::check(frame, &self.intake.screen) {
                Ok(batch) => Content::Batch(batch),
                Err(failed) => {
                    let header = failed.frame.header;
                    match Seq::new(header.first_seq) {
                        Ok(first_seq) => {
                            self.session.is_useless(unreadable(header.count));
                            Content::Unreadable {
                                first_seq,
                                count: header.count,
                                reason: failed.reason(),
                            }
                        }
                        Err(error) => {
                            let end = End::Bye(Reason::BadHeader, Some(error.to_string()));
                            return (inbound, Some(end));
                        }
                    }
                }
            };
            inbound.push(Inbound {
                content,
                permit,
                received,
            });
        }
        (inbound, None)
    }

    fn hand_on(&self, (frames, bad): (Vec<Inbound>, Option<End>)) -> Result<(), End> {
        self.send(FromDevice::Frames {
            session: Arc::clone(&self.session),
            frames,
        })?;
        bad.map_or(Ok(()), Err)
    }

    /// Answers a device that asks which of its events are here.
    ///
    /// # Errors
    /// [`End`]: why the stream is over.
    pub async fn check<H>(&self, check: Check, hold: impl Fn() -> H) -> Result<(), End> {
        // What the handshake speaks of is durable, and found.
        self.session.welcomed().await.ok_or(End::Over)?;
        let terminal = self.session.terminal();
        let look_up =
            move |facts: &dyn FactReader| check::answer_once_committed(facts, terminal, &check);
        let _held = hold();
        let (checked, refusals) = self.intake.look_up(look_up).await?;
        match self.session.checked(checked, refusals) {
            true => Ok(()),
            false => Err(End::Bye(Reason::Busy, None)),
        }
    }

    /// What a stream's end means for its session.
    pub async fn end(&self, end: End) {
        let last = match end {
            End::Bye(reason, text) => {
                self.intake.figures().refused(reason);
                self.session.bye(reason, text.as_deref());
                return;
            }
            End::Gone => {
                self.session.close();
                return;
            }
            End::Over => return,
            End::Goodbye => Farewell::Silent,
            End::Draining => Farewell::Bye(Reason::Draining),
        };
        let reason = match &last {
            Farewell::Bye(reason) => *reason,
            Farewell::Redirect(_) | Farewell::Silent => Reason::Internal,
        };
        // Behind the last frame: its ack leaves first.
        let permit = self.slot.gate.enter().await;
        let ended = permit.map(|permit| self.send_end(last, permit));
        if !matches!(ended, Some(Ok(()))) {
            self.session.bye(reason, None);
        }
    }

    fn send_end(&self, last: Farewell, permit: Permit) -> Result<(), End> {
        self.send(FromDevice::End {
            session: Arc::clone(&self.session),
            last,
            permit,
        })
    }

    /// The stream is over, and nobody listens to the session any more.
    pub fn leave(&self) {
        self.slot.leave(&self.session);
    }

    fn send(&self, from: FromDevice) -> Result<(), End> {
        let sent = self.slot.send(ShardMessage::Device(from));
        sent.map_err(|_| End::Bye(Reason::Internal, None))
    }
}

// Events of a frame that were known when its session began, and may have been refused.
fn sent_again(established: &Established, header: &FrameHeader) -> Option<(u64, u64)> {
    let first = header.first_seq;
    if !established.has_refusals || first > established.known {
        return None;
    }
    let last = first
        .saturating_add(u64::from(header.count))
        .saturating_sub(1);
    Some((first, last.min(established.known)))
}
