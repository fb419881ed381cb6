//! Permits: the only bound of what the engine holds between a device and the disk.
//!
//! A mailbox of a shard has no bound of its own, so a frame enters one only with a permit. A stream that gets none stops
//! reading, and QUIC's flow control then stops the device.

use std::sync::Arc;

use tokio::sync::{Notify, Semaphore};

use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::turns::{Mark, Turns};

/// Bytes that a frame costs besides its payload: record, queue entries, session.
const FRAME_OVERHEAD_BYTES: u32 = 512;
/// Bytes that an event costs when it is refused: a verdict in the record, a refusal for the ack. A frame of 33 bytes can
/// announce a thousand.
const REFUSAL_BYTES: u32 = 32;

/// Permits of one shard in frames, and of all shards in bytes.
#[derive(Debug)]
pub(crate) struct Gate {
    frames: Semaphore,
    bytes: Arc<Semaphore>,
    frames_max: u32,
    paused: AtomicBool,
    resumed: Notify,
    waits: AtomicU64,
    turns: Arc<Turns>,
}

/// Room for frames, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    frames: u32,
    bytes: usize,
}

/// What a frame of so many payload bytes and events takes from the bound of bytes, also when all of it is refused.
pub(crate) const fn cost(payload_bytes: u32, events: u32) -> u32 {
    payload_bytes
        .saturating_add(events.saturating_mul(REFUSAL_BYTES))
        .saturating_add(FRAME_OVERHEAD_BYTES)
}

impl Gate {
    pub(crate) fn new(frames_max: u32, bytes: Arc<Semaphore>) -> Self {
        Self {
            frames: Semaphore::new(usize::try_from(frames_max).unwrap_or(1)),
            bytes,
            frames_max,
            paused: AtomicBool::new(false),
            resumed: Notify::new(),
            waits: AtomicU64::new(0),
            turns: Arc::default(),
        }
    }

    /// Room for frames of a stream whose [`cost`]s sum up to `bytes`: at once, or in its turn. `held` is asked for what
    /// lives as long as it waits; `None` when the engine stops.
    pub(crate) async fn admit<H>(
        self: &Arc<Self>,
        mark: &Mark,
        (frames, bytes): (u32, u32),
        held: impl FnOnce() -> H,
    ) -> Option<Permit> {
        let start = self.turns.take(mark, bytes);
        if let Some(permit) = self.try_admit(frames, bytes) {
            self.turns.passed(start);
            return Some(permit);
        }
        self.waits.fetch_add(u64::from(frames), Ordering::Relaxed);
        let _held = held();
        let _turn = self.turns.turn(start).await;
        self.room(frames, bytes).await
    }

    /// Room for frames whose [`cost`]s sum up to `bytes`, if there is any now and nobody waits before.
    pub(crate) fn try_admit(self: &Arc<Self>, frames: u32, bytes: u32) -> Option<Permit> {
        if self.paused.load(Ordering::Acquire) {
            return None;
        }
        let frame = self.frames.try_acquire_many(frames).ok()?;
        let room = self.bytes.try_acquire_many(bytes).ok()?;
        frame.forget();
        room.forget();
        Some(self.permit(frames, bytes))
    }

    async fn room(self: &Arc<Self>, frames: u32, bytes: u32) -> Option<Permit> {
        while self.paused.load(Ordering::Acquire) {
            let resumed = self.resumed.notified();
            // Looked at again once the waiter is in line, so that no wake-up is missed.
            if self.paused.load(Ordering::Acquire) {
                resumed.await;
            }
        }
        let frame = self.frames.acquire_many(frames).await.ok()?;
        let room = self.bytes.acquire_many(bytes).await.ok()?;
        frame.forget();
        room.forget();
        Some(self.permit(frames, bytes))
    }

    fn permit(self: &Arc<Self>, frames: u32, bytes: u32) -> Permit {
        Permit {
            gate: Arc::clone(self),
            frames,
            bytes: usize::try_from(bytes).unwrap_or(0),
        }
    }

    /// Waits until there is room for the Hello or the end of a session: it takes a place in the journal's queue as a frame
    /// does, and changes no row. `None` when the engine stops.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Permit> {
        self.frames.acquire().await.ok()?.forget();
        Some(self.permit(1, 0))
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

    /// Bytes that are free, of all shards.
    #[cfg(test)]
    pub(crate) fn free_bytes(&self) -> usize {
        self.bytes.available_permits()
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
    /// Takes the room of one frame of a [`cost`] out of this one.
    pub(crate) fn split(&mut self, bytes: u32) -> Self {
        let frames = self.frames.min(1);
        let bytes = usize::try_from(bytes).unwrap_or(0).min(self.bytes);
        self.frames -= frames;
        self.bytes -= bytes;
        Self {
            gate: Arc::clone(&self.gate),
            frames,
            bytes,
        }
    }

    /// Joins another one of the same gate to this one, so that both come back at once. One of another gate comes back now.
    pub(crate) fn join(&mut self, mut other: Self) {
        if Arc::ptr_eq(&self.gate, &other.gate) {
            self.frames += std::mem::take(&mut other.frames);
            self.bytes += std::mem::take(&mut other.bytes);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        #[cfg(feature = "planted")]
        if till_core::planted::is("leak-permit") {
            return;
        }
        if self.frames > 0 {
            let frames = usize::try_from(self.frames).unwrap_or(0);
            self.gate.frames.add_permits(frames);
        }
        if self.bytes > 0 {
            self.gate.bytes.add_permits(self.bytes);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "shuttle")]
mod shuttled;

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use till_protocol::code::Reason;
    use till_protocol::id::Seq;

    use super::*;

    fn gate(frames: u32, bytes: usize) -> Arc<Gate> {
        Arc::new(Gate::new(frames, Arc::new(Semaphore::new(bytes))))
    }

    /// As a stream that has taken nothing before.
    async fn admit(gate: &Arc<Gate>, frames: u32, bytes: u32) -> Option<Permit> {
        gate.admit(&Mark::default(), (frames, bytes), || ()).await
    }

    #[tokio::test]
    async fn a_frame_waits_until_one_before_it_is_done() {
        let gate = gate(1, 1 << 20);
        let first = admit(&gate, 1, cost(100, 1)).await.unwrap();
        assert_eq!(gate.in_use(), 1);
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { admit(&gate, 1, cost(100, 1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!((gate.in_use(), gate.waits()), (0, 1));
    }

    #[tokio::test]
    async fn bytes_are_a_bound_of_their_own_and_come_back() {
        let gate = gate(8, 2_000);
        let first = admit(&gate, 1, cost(1_000, 1)).await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { admit(&gate, 1, cost(1_000, 1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(gate.bytes.available_permits(), 2_000);
    }

    /// 33 bytes may announce 1,024 events, and each leaves a verdict and a refusal.
    #[test]
    fn a_frame_takes_the_room_of_its_refusals_too() {
        let refused = u32::try_from(size_of::<(Seq, Reason)>()).unwrap();
        assert!(cost(1, 1_024) >= 1_024 * refused);
        assert_eq!(cost(u32::MAX, u32::MAX), u32::MAX);
        // The largest frame behind a batch that is nearly full has room in the least bound of bytes.
        assert!((256 << 10) + cost(1 << 20, 1_024) < 4 << 20);
    }

    #[tokio::test]
    async fn a_flush_that_is_behind_holds_everyone_back() {
        let gate = gate(8, 1 << 20);
        gate.pause(true);
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { admit(&gate, 1, cost(1, 1)).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.pause(false);
        assert!(waiting.await.unwrap());
    }

    /// One that sends little waits for one turn, and not for everything that others have begun to wait for.
    #[tokio::test]
    async fn who_sends_little_is_let_in_before_those_who_send_much() {
        let gate = gate(1, 1 << 20);
        let full = admit(&gate, 1, 1).await.unwrap();
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        // Each of the first five comes three times.
        for (name, bytes) in [
            (0..5, 100_000),
            (0..5, 100_000),
            (0..5, 100_000),
            (5..6, 100),
        ] {
            for name in name {
                let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
                waiting.push(tokio::spawn(async move {
                    let mark = Mark::default();
                    if name < 5 {
                        // What it has taken before.
                        gate.turns.take(&mark, 1_000_000);
                    }
                    let permit = gate.admit(&mark, (1, bytes), || ()).await;
                    order.lock().push(name);
                    drop(permit);
                }));
                tokio::task::yield_now().await;
            }
        }
        drop(full);
        for one in waiting {
            one.await.unwrap();
        }
        let place = order.lock().iter().position(|name| *name == 5);
        assert!(place.is_some_and(|place| place <= 1), "{:?}", order.lock());
    }

    #[tokio::test]
    async fn room_that_is_split_and_joined_comes_back_whole() {
        let (one, other) = (gate(8, 10_000), gate(8, 10_000));
        let mut taken = one.try_admit(3, 3 * cost(100, 1)).unwrap();
        assert!(one.try_admit(6, 6).is_none(), "more than there is");
        assert_eq!(one.in_use(), 3);
        let mut first = taken.split(cost(100, 1));
        first.join(taken.split(cost(100, 1)));
        first.join(other.try_admit(1, cost(1, 1)).unwrap());
        assert_eq!((one.in_use(), other.in_use()), (3, 0));
        drop(first);
        assert_eq!(one.in_use(), 1);
        drop(taken);
        assert_eq!((one.in_use(), one.bytes.available_permits()), (0, 10_000));
        assert_eq!(other.bytes.available_permits(), 10_000);
    }
}
