//! Permits: the only bound of what the engine holds between a device and the disk.
//!
//! A mailbox of a shard has no bound of its own, so a frame enters one only with a permit. A stream that gets none stops
//! reading, and QUIC's flow control then stops the device.
//!
//! Two bounds count until a frame is durable: frames of a shard, and bytes of all. A third one ends when the shard has heard
//! the frame: what waits in a mailbox is heard in its order, so whoever sends little waits behind all that was let in before
//! him. A short mailbox keeps those who send much in the line in front of it, where turns are fair.

pub(crate) mod fair_queue;

use std::sync::Arc;

use till_protocol::header::FrameHeader;
use tokio::sync::Semaphore;

use crate::admission::fair_queue::{FairQueue, Grant, VirtualTime};
use crate::sync::{AtomicBool, AtomicU64, Notify, Ordering};

/// Bytes that a frame costs besides its payload: record, queue entries, session.
const FRAME_OVERHEAD_BYTES: u32 = 512;
/// Bytes that an event costs when it is refused: a verdict in the record, a refusal for the ack. A frame of 33 bytes can
/// announce a thousand.
const REFUSAL_BYTES: u32 = 32;
/// Bytes of a payload that pass for an event: a line of a sale has no fewer.
const LINE_BYTES: u32 = 64;
/// Events and lines in front of a shard: what frames that go together have at most, and no more than 30 to 60 ms of its work.
/// With the bound of bytes alone a flood of small events waited in front of it for a second, and everybody with it.
pub(crate) const AHEAD_MAX: u32 = 32 << 10;
/// Frames that cost more are checked one stream at a time. Hundreds of streams would check theirs side by side, and each
/// packet and each small frame of anybody else would wait for a processor behind all of them.
const SMALL_BYTES: u32 = 16 << 10;

/// What frames take from the bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) frames: u32,
    /// Until they are durable, also when all of them is refused.
    pub(crate) bytes: u32,
    /// Events, or lines of long ones, until the shard has heard them.
    pub(crate) ahead: u32,
}

impl Room {
    /// A frame's.
    pub(crate) const fn of(header: &FrameHeader) -> Self {
        let FrameHeader { length, count, .. } = *header;
        let lines = length / LINE_BYTES;
        Self {
            frames: 1,
            bytes: length
                .saturating_add(count.saturating_mul(REFUSAL_BYTES))
                .saturating_add(FRAME_OVERHEAD_BYTES),
            ahead: if count > lines { count } else { lines },
        }
    }

    /// With another one's.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_add(other.frames),
            bytes: self.bytes.saturating_add(other.bytes),
            ahead: self.ahead.saturating_add(other.ahead),
        }
    }

    const fn min(self, other: Self) -> Self {
        const fn least(one: u32, other: u32) -> u32 {
            if one < other { one } else { other }
        }
        Self {
            frames: least(self.frames, other.frames),
            bytes: least(self.bytes, other.bytes),
            ahead: least(self.ahead, other.ahead),
        }
    }

    const fn without(self, other: Self) -> Self {
        Self {
            frames: self.frames.saturating_sub(other.frames),
            bytes: self.bytes.saturating_sub(other.bytes),
            ahead: self.ahead.saturating_sub(other.ahead),
        }
    }
}

/// Permits of one shard in frames, and of all shards in bytes.
#[derive(Debug)]
pub(crate) struct Gate {
    frames: Semaphore,
    bytes: Arc<Semaphore>,
    ahead: Semaphore,
    frames_max: u32,
    paused: AtomicBool,
    resumed: Notify,
    waits: AtomicU64,
    fair_queue: Arc<FairQueue>,
}

/// Room for frames, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    room: Room,
}

impl Gate {
    pub(crate) fn new(frames_max: u32, bytes: Arc<Semaphore>) -> Self {
        Self {
            frames: Semaphore::new(size(frames_max)),
            bytes,
            ahead: Semaphore::new(size(AHEAD_MAX)),
            frames_max,
            paused: AtomicBool::new(false),
            resumed: Notify::new(),
            waits: AtomicU64::new(0),
            fair_queue: Arc::default(),
        }
    }

    /// Room for frames of a stream: at once, or in its turn. `held` is asked for what lives as long as it waits; `None` when
    /// the engine stops. A turn that comes with it is kept until the frames are checked.
    pub(crate) async fn admit<H>(
        self: &Arc<Self>,
        virtual_time: &VirtualTime,
        room: Room,
        held: impl FnOnce() -> H,
    ) -> Option<(Permit, Option<Grant>)> {
        let quantum = self.fair_queue.take(virtual_time, room.bytes);
        if room.bytes <= SMALL_BYTES
            && let Some(permit) = self.try_admit(room)
        {
            self.fair_queue.passed(quantum);
            return Some((permit, None));
        }
        let grant = self.fair_queue.try_grant(quantum);
        if grant.is_some()
            && let Some(permit) = self.try_admit(room)
        {
            return Some((permit, grant));
        }
        self.waits
            .fetch_add(u64::from(room.frames), Ordering::Relaxed);
        let _held = held();
        let grant = match grant {
            Some(grant) => grant,
            None => self.fair_queue.grant(quantum).await,
        };
        let permit = self.wait_for(room).await?;
        Some((permit, Some(grant)))
    }

    /// Room for frames, if there is any now and nobody waits before.
    pub(crate) fn try_admit(self: &Arc<Self>, room: Room) -> Option<Permit> {
        if self.paused.load(Ordering::Acquire) {
            return None;
        }
        let frames = self.frames.try_acquire_many(room.frames).ok()?;
        let ahead = self.ahead.try_acquire_many(room.ahead).ok()?;
        let bytes = self.bytes.try_acquire_many(room.bytes).ok()?;
        frames.forget();
        ahead.forget();
        bytes.forget();
        Some(self.permit(room))
    }

    async fn wait_for(self: &Arc<Self>, room: Room) -> Option<Permit> {
        while self.paused.load(Ordering::Acquire) {
            let resumed = self.resumed.notified();
            // Looked at again once the waiter is in line, so that no wake-up is missed.
            if self.paused.load(Ordering::Acquire) {
                resumed.await;
            }
        }
        let ahead = self.ahead.acquire_many(room.ahead).await.ok()?;
        let frames = self.frames.acquire_many(room.frames).await.ok()?;
        // Shared by all shards, so last: nobody holds any of it and waits for a shard.
        let bytes = self.bytes.acquire_many(room.bytes).await.ok()?;
        ahead.forget();
        frames.forget();
        bytes.forget();
        Some(self.permit(room))
    }

    fn permit(self: &Arc<Self>, room: Room) -> Permit {
        Permit {
            gate: Arc::clone(self),
            room,
        }
    }

    /// Waits until there is room for the Hello or the end of a session: it takes a position in the journal's queue as a frame
    /// does, and changes no row. `None` when the engine stops.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Permit> {
        self.frames.acquire().await.ok()?.forget();
        Some(self.permit(Room {
            frames: 1,
            ..Room::default()
        }))
    }

    /// Stops or goes on admitting: the back-pressure of the flush.
    pub(crate) fn pause(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::AcqRel) && !paused {
            self.resumed.notify_waiters();
        }
    }

    /// Whether the flush is so far behind that nothing is admitted.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Frames that are held now.
    pub(crate) fn in_use(&self) -> u32 {
        let free = u32::try_from(self.frames.available_permits()).unwrap_or(u32::MAX);
        self.frames_max.saturating_sub(free)
    }

    /// What is free now; bytes of all shards.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn free(&self) -> Room {
        let free = |permits: &Semaphore| u32::try_from(permits.available_permits());
        Room {
            frames: free(&self.frames).unwrap_or(u32::MAX),
            bytes: free(&self.bytes).unwrap_or(u32::MAX),
            ahead: free(&self.ahead).unwrap_or(u32::MAX),
        }
    }

    /// Frames that may be held.
    pub(crate) const fn frames_max(&self) -> u32 {
        self.frames_max
    }

    /// Frames that had to wait.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Permit {
    /// Takes the room of one frame out of this one.
    pub(crate) fn split(&mut self, frame: Room) -> Self {
        let room = self.room.min(frame);
        self.room = self.room.without(room);
        Self {
            gate: Arc::clone(&self.gate),
            room,
        }
    }

    /// The shard has heard the frame: what comes behind it has room in front of the shard.
    pub(crate) fn left_mailbox(&mut self) {
        #[cfg(feature = "planted")]
        if till_core::planted::is("room-twice") {
            self.gate.ahead.add_permits(size(self.room.ahead));
        }
        let ahead = std::mem::take(&mut self.room.ahead);
        if ahead > 0 {
            self.gate.ahead.add_permits(size(ahead));
        }
    }

    /// Joins another one of the same gate to this one, so that both come back at once. One of another gate comes back now.
    pub(crate) fn join(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.gate, &other.gate) {
            self.room = self.room.and(std::mem::take(&mut other.room));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        #[cfg(feature = "planted")]
        if till_core::planted::is("leak-permit") {
            return;
        }
        self.left_mailbox();
        let Room { frames, bytes, .. } = self.room;
        if frames > 0 {
            self.gate.frames.add_permits(size(frames));
        }
        if bytes > 0 {
            self.gate.bytes.add_permits(size(bytes));
        }
    }
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttled;

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests;
