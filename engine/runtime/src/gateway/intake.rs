//! Frames on their way from a stream to the shard, as many as came together: a wait for room, a message and a wake-up each
//! are paid once for all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::header::FrameHeader;
use till_protocol::id::Seq;
use till_protocol::reply::Hello;
use till_protocol::verified::Verified;
use till_storage::query::FactReader;

use super::ask::look_into;
use super::check;
use super::conduct::{self, Conduct};
use super::patience::Holding;
use super::session::{Greeted, Session};
use super::stream::End;
use crate::admission::{Permit, Room};
use crate::engine::Engine;
use crate::route::Slot;
use crate::shard_actor::{Content, FromDevice, Inbound, ShardMessage};
use crate::turns::Mark;

/// Frames that go to a shard at a time; the least that [`permits_frames`](crate::Config::permits_frames) may be.
const BATCH_FRAMES: usize = 16;
/// Bytes after which no further frame joins them.
const BATCH_BYTES: u32 = 256 << 10;
/// What a device that is held back is told to wait, in ms.
const SLOW_MS: u32 = 100;

/// Where the frames of a stream go.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) engine: &'a Engine,
    pub(super) slot: &'a Slot,
    pub(super) session: &'a Arc<Session>,
    /// What the stream may send.
    pub(super) spoken: Spoken,
    /// What the engine holds back of the connection.
    pub(super) holding: &'a Holding,
    /// What the connection does in vain.
    pub(super) conduct: &'a Conduct,
    /// What the stream has taken.
    pub(super) mark: &'a Mark,
}

impl Line<'_> {
    /// So much was done in vain, beside what the shard has found to be.
    pub(super) fn charge(self, points: u64) {
        let points = points + self.session.take_vain();
        let terminal = Some(self.session.terminal());
        let all = &self.engine.debtors;
        self.conduct.charge(all, terminal, points, Instant::now());
    }
}

/// The families that a Hello lists, in the version that is known here.
#[derive(Clone, Copy)]
pub(super) struct Spoken(u32);

impl Spoken {
    pub(super) fn of(hello: &Hello) -> Self {
        let known = hello.versions.iter().filter(|(_, version)| *version == 1);
        let bits = known.map(|(family, _)| bit(*family));
        Self(bits.fold(0, |all, one| all | one))
    }

    pub(super) fn has(self, family: u8) -> bool {
        self.0 & bit(family) != 0
    }
}

// No bit for a family that cannot be.
fn bit(family: u8) -> u32 {
    1_u32.checked_shl(u32::from(family)).unwrap_or(0)
}

/// Frames that go to a shard together.
#[derive(Default)]
pub(super) struct Pending {
    frames: Vec<Frame>,
    room: Room,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.room.bytes >= BATCH_BYTES
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.room = self.room.and(Room::of(&frame.header));
        self.frames.push(frame);
    }
}

/// Waits for room, and hands frames to their shard.
pub(super) async fn submit(line: Line<'_>, pending: Pending) -> Result<(), End> {
    let Pending { frames, room } = pending;
    if frames.is_empty() {
        return Ok(());
    }
    if line.session.is_over() {
        return Err(End::Over);
    }
    tell_again(line, &frames).await?;
    let received = Instant::now();
    let gate = &line.slot.gate;
    line.engine.figures.frames(&frames);
    if gate.is_paused() {
        line.session.slow(SLOW_MS);
        let slowed = &line.engine.figures.slowed;
        slowed.fetch_add(u64::from(room.frames), Ordering::Relaxed);
    }
    let admitted = gate.admit(line.mark, room, || line.holding.hold());
    let (permit, turn) = admitted.await.ok_or(End::Draining)?;
    let (frames, bad) = checked(line.engine, frames, permit, received);
    drop(turn);
    let unreadable = frames.iter().map(|frame| match frame.content {
        Content::Unreadable { count, .. } => conduct::unreadable(count),
        Content::Batch(_) => 0,
    });
    line.charge(unreadable.sum());
    let message = ShardMessage::Device(FromDevice::Frames {
        session: Arc::clone(line.session),
        frames,
    });
    let sent = line.slot.send(message);
    sent.map_err(|_| End::Bye(Reason::Internal, None))?;
    bad.map_or(Ok(()), Err)
}

// A device sends again what it has no ack for. The ack that covers a frame tells which of its events were refused, so those
// that were known when the session began are looked up before the frame goes on.
async fn tell_again(line: Line<'_>, frames: &[Frame]) -> Result<(), End> {
    let session = line.session;
    let mut draining = line.engine.draining.subscribe();
    let greeted = {
        let _held = line.holding.hold();
        tokio::select! {
            biased;
            greeted = session.welcomed() => greeted.ok_or(End::Over)?,
            _ = draining.wait_for(|draining| *draining) => return Err(End::Draining),
        }
    };
    for frame in frames {
        let Some((first, last)) = sent_again(&greeted, &frame.header) else {
            continue;
        };
        let look_up =
            move |facts: &dyn FactReader| check::refusals(facts, greeted.key, first, last);
        session.refused(&look_into(line, look_up).await?);
    }
    Ok(())
}

/// Events of a frame that were known when its session began, and may have been refused.
pub(crate) fn sent_again(greeted: &Greeted, header: &FrameHeader) -> Option<(u64, u64)> {
    let first = header.first_seq;
    if !greeted.has_refusals || first > greeted.known {
        return None;
    }
    let last = first
        .saturating_add(u64::from(header.count))
        .saturating_sub(1);
    Some((first, last.min(greeted.known)))
}

/// Frames as the shard takes them, up to one whose header cannot be.
pub(crate) fn checked(
    engine: &Engine,
    frames: Vec<Frame>,
    mut permit: Permit,
    received: Instant,
) -> (Vec<Inbound>, Option<End>) {
    let mut inbound = Vec::with_capacity(frames.len());
    for frame in frames {
        let permit = permit.split(Room::of(&frame.header));
        let content = match Verified::check(frame, &engine.screen) {
            Ok(batch) => Content::Batch(batch),
            Err(unreadable) => {
                let header = unreadable.frame.header;
                match Seq::new(header.first_seq) {
                    Ok(first_seq) => Content::Unreadable {
                        first_seq,
                        count: header.count,
                        reason: unreadable.reason(),
                    },
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
