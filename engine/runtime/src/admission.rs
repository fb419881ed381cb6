//! Permits: the only bound of what the engine holds between a device and the disk.
//!
//! A mailbox of a shard has no bound of its own, so a frame enters one only with a permit. A stream that gets none stops
//! reading, and QUIC's flow control then stops the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, Semaphore};

/// Bytes that a frame costs besides its payload: record, queue entries, session.
const FRAME_OVERHEAD_BYTES: u32 = 512;

/// Permits of one shard in frames, and of all shards in bytes.
#[derive(Debug)]
pub(crate) struct Gate {
    frames: Semaphore,
    bytes: Arc<Semaphore>,
    frames_max: u32,
    paused: AtomicBool,
    resumed: Notify,
    waits: AtomicU64,
}

/// Room for one frame, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    gate: Arc<Gate>,
    bytes: u32,
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
        }
    }

    /// Waits until there is room for a frame. `None` when the engine stops.
    pub(crate) async fn admit(self: &Arc<Self>, payload_bytes: u32) -> Option<Permit> {
        let bytes = payload_bytes.saturating_add(FRAME_OVERHEAD_BYTES);
        if self.frames.available_permits() == 0 || self.paused.load(Ordering::Acquire) {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        while self.paused.load(Ordering::Acquire) {
            let resumed = self.resumed.notified();
            // Looked at again once the waiter is in line, so that no wake-up is missed.
            if self.paused.load(Ordering::Acquire) {
                resumed.await;
            }
        }
        let frame = self.frames.acquire().await.ok()?;
        let room = self.bytes.acquire_many(bytes).await.ok()?;
        frame.forget();
        room.forget();
        Some(Permit {
            gate: Arc::clone(self),
            bytes,
        })
    }

    /// Waits until there is room for the Hello or the end of a session: it takes a place in the journal's queue as a frame
    /// does, and changes no row. `None` when the engine stops.
    pub(crate) async fn enter(self: &Arc<Self>) -> Option<Permit> {
        self.frames.acquire().await.ok()?.forget();
        Some(Permit {
            gate: Arc::clone(self),
            bytes: 0,
        })
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

    /// Frames that may be held.
    pub(crate) const fn frames_max(&self) -> u32 {
        self.frames_max
    }

    /// Frames that had to wait.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.frames.add_permits(1);
        let bytes = usize::try_from(self.bytes).unwrap_or(0);
        self.gate.bytes.add_permits(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(frames: u32, bytes: usize) -> Arc<Gate> {
        Arc::new(Gate::new(frames, Arc::new(Semaphore::new(bytes))))
    }

    #[tokio::test]
    async fn a_frame_waits_until_one_before_it_is_done() {
        let gate = gate(1, 1 << 20);
        let first = gate.admit(100).await.unwrap();
        assert_eq!(gate.in_use(), 1);
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(100).await.is_some() }
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
        let first = gate.admit(1_000).await.unwrap();
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(1_000).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(gate.bytes.available_permits(), 2_000);
    }

    #[tokio::test]
    async fn a_flush_that_is_behind_holds_everyone_back() {
        let gate = gate(8, 1 << 20);
        gate.pause(true);
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.admit(1).await.is_some() }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.pause(false);
        assert!(waiting.await.unwrap());
    }
}
