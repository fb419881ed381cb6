//! Room for frames that are not complete, fairly shared: who holds most of it gives it back first.
//!
//! A stream takes room with the bytes that have come, not with those that a header promises. Nobody waits for it: where
//! there is no more, the connection that holds most loses what it has begun, and comes again with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The room of all connections.
#[derive(Debug)]
pub(crate) struct Room {
    max: usize,
    held: AtomicUsize,
    shares: Mutex<Vec<Weak<Share>>>,
}

/// What the streams of one connection hold.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    held: AtomicUsize,
    /// Its streams give up what they have begun.
    evicted: AtomicBool,
    wake: Notify,
}

/// What one stream holds.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            held: AtomicUsize::new(0),
            shares: Mutex::default(),
        }
    }

    /// A connection's part.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        let share = Arc::new(Share {
            room: Arc::clone(self),
            held: AtomicUsize::new(0),
            evicted: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let mut shares = self.shares.lock();
        if shares.len() == shares.capacity() {
            shares.retain(|share| share.strong_count() > 0);
        }
        shares.push(Arc::downgrade(&share));
        share
    }

    // Those that give up already are not asked again.
    fn greatest(&self) -> Option<Arc<Share>> {
        let shares = self.shares.lock();
        let alive = shares.iter().filter_map(Weak::upgrade);
        let able = alive.filter(|share| !share.evicted.load(Ordering::Acquire));
        able.max_by_key(|share| share.held.load(Ordering::Relaxed))
    }
}

impl Share {
    /// What a stream of this connection holds: nothing yet.
    pub(crate) fn stream(self: &Arc<Self>) -> Held {
        Held {
            share: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Waits until the connection has to give up what it has begun.
    pub(crate) async fn evicted(&self) {
        loop {
            let woken = self.wake.notified();
            if self.evicted.load(Ordering::Acquire) {
                return;
            }
            woken.await;
        }
    }

    fn evict(&self) {
        self.evicted.store(true, Ordering::Release);
        self.wake.notify_waiters();
    }
}

impl Held {
    /// Takes room until it holds so many bytes. `false`: there is none, and this connection has to give up what it has begun.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.share.evicted.load(Ordering::Acquire) {
            return false;
        }
        if bytes <= self.bytes {
            return true;
        }
        let more = bytes - self.bytes;
        self.bytes = bytes;
        self.share.held.fetch_add(more, Ordering::AcqRel);
        let room = &self.share.room;
        let held = room.held.fetch_add(more, Ordering::AcqRel) + more;
        if held <= room.max {
            return true;
        }
        // What it gives up is gone in a moment: nobody has to wait for that.
        match room.greatest() {
            Some(greatest) => {
                greatest.evict();
                !Arc::ptr_eq(&greatest, &self.share)
            }
            None => false,
        }
    }

    /// Gives everything back: the frame is complete, or nobody waits for it any more.
    pub(crate) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        self.share.room.held.fetch_sub(bytes, Ordering::AcqRel);
        if self.share.held.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.share.evicted.store(false, Ordering::Release);
        }
    }

    /// Whose it is a part of.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Whether it holds anything.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_holds_most_gives_way_to_who_holds_little() {
        let room = Arc::new(Room::new(1_000));
        let (greedy, modest) = (room.share(), room.share());
        let (mut one, mut two) = (greedy.stream(), greedy.stream());
        assert!(one.grow(500) && two.grow(400));
        let mut small = modest.stream();
        assert!(small.grow(100), "there is room for it");
        assert!(small.grow(200), "and it is made where there is none");
        greedy.evicted().await;
        // Until all of it is given back, it gets nothing new.
        assert!(!one.grow(501));
        one.clear();
        assert!(!greedy.stream().grow(1));
        two.clear();
        assert!(greedy.stream().grow(1));
        assert_eq!(room.held.load(Ordering::Relaxed), 200);
        drop(small);
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_holds_most_and_wants_more_gives_up_itself() {
        let room = Arc::new(Room::new(1_000));
        let (greedy, modest) = (room.share(), room.share());
        let (mut much, mut little) = (greedy.stream(), modest.stream());
        assert!(little.grow(10) && much.grow(900));
        assert!(!much.grow(1_100));
        // One that is asked already is not asked twice: it is the next one's turn, or nobody's.
        assert!(!little.grow(950));
        drop(much);
        drop(little);
        assert_eq!(room.held.load(Ordering::Relaxed), 0);
        assert!(modest.stream().grow(1_000));
    }

    #[test]
    fn connections_that_are_gone_are_forgotten() {
        let room = Arc::new(Room::new(1_000));
        for _ in 0..10_000 {
            drop(room.share());
        }
        assert!(room.shares.lock().len() < 100);
    }
}
