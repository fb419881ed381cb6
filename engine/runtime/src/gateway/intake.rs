//! Frames on their way from a stream to the shard, as many as came together: a wait for room, a message and a wake-up each
//! are paid once for all of them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::id::Seq;
use till_protocol::verified::Verified;

use super::patience::Holding;
use super::session::Session;
use super::stream::End;
use crate::admission::{Permit, cost};
use crate::engine::Engine;
use crate::route::Slot;
use crate::shard_actor::{Content, Inbound, ShardMessage};

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
    /// What the engine holds back of the connection.
    pub(super) holding: &'a Holding,
}

/// Frames that go to a shard together.
#[derive(Default)]
pub(super) struct Pending {
    frames: Vec<Frame>,
    cost: u32,
}

impl Pending {
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= BATCH_FRAMES || self.cost >= BATCH_BYTES
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.cost = self.cost.saturating_add(cost(frame.header.length));
        self.frames.push(frame);
    }
}

/// Waits for room, and hands frames to their shard.
pub(super) async fn submit(line: Line<'_>, pending: Pending) -> Result<(), End> {
    let Pending { frames, cost } = pending;
    if frames.is_empty() {
        return Ok(());
    }
    if line.session.is_over() {
        return Err(End::Over);
    }
    let received = Instant::now();
    let gate = &line.slot.gate;
    let count = u32::try_from(frames.len()).unwrap_or(u32::MAX);
    line.engine.figures.frames(&frames);
    if gate.is_paused() {
        line.session.slow(SLOW_MS);
        let slowed = &line.engine.figures.slowed;
        slowed.fetch_add(u64::from(count), Ordering::Relaxed);
    }
    let permit = if let Some(permit) = gate.try_admit(count, cost) {
        permit
    } else {
        let _held = line.holding.hold();
        gate.admit(count, cost).await.ok_or(End::Draining)?
    };
    let (frames, bad) = checked(line.engine, frames, permit, received);
    let message = ShardMessage::Frames {
        session: Arc::clone(line.session),
        frames,
    };
    let sent = line.slot.send(message);
    sent.map_err(|_| End::Bye(Reason::Internal, None))?;
    bad.map_or(Ok(()), Err)
}

// Frames as the shard takes them, up to one whose header cannot be.
fn checked(
    engine: &Engine,
    frames: Vec<Frame>,
    mut permit: Permit,
    received: Instant,
) -> (Vec<Inbound>, Option<End>) {
    let mut inbound = Vec::with_capacity(frames.len());
    for frame in frames {
        let permit = permit.split(cost(frame.header.length));
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
