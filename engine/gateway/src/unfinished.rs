//! Room for frames that are not complete, fairly shared: who holds most of it gives it back first.
//!
//! A stream takes room with the bytes that have come, not with those that a header promises. Nobody waits for it: where
//! there is no more, the connection that holds most loses what it has begun, and comes again with it. Half of all room is for
//! large frames: that of a whole one is taken at once, so that no two streams wait for each other's halves, and waited for.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use parking_lot::Mutex;
use till_protocol::limits::FRAME_BYTES_MAX;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The room of all connections.
#[derive(Debug)]
pub(crate) struct Room {
    /// Bytes of frames that are not large.
    max: usize,
    /// Bytes of large ones.
    large: Arc<Semaphore>,
    taken: Mutex<TakenRoom>,
}

#[derive(Debug, Default)]
struct TakenRoom {
    /// What those hold that need not give way.
    kept: usize,
    /// Connections that hold something. Who holds nothing is not here: it can't be asked to give way, and stops doing so.
    parts: HashMap<u64, UnfinishedPart>,
    shares: u64,
}

#[derive(Debug)]
struct UnfinishedPart {
    held: usize,
    /// Its streams give up what they have begun.
    gives_way: bool,
    wake: Arc<Notify>,
}

/// What the streams of one connection hold.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    number: u64,
    wake: Arc<Notify>,
}

/// What one stream holds.
#[derive(Debug)]
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: usize,
    /// Room for the largest frame, in place of `bytes`.
    large: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: u32) -> Self {
        let half = usize::try_from(bytes / 2).unwrap_or(usize::MAX);
        Self {
            max: half,
            large: Arc::new(Semaphore::new(half)),
            taken: Mutex::default(),
        }
    }

    /// A connection's part.
    pub(crate) fn share(self: &Arc<Self>) -> Arc<Share> {
        let mut taken = self.taken.lock();
        taken.shares += 1;
        Arc::new(Share {
            room: Arc::clone(self),
            number: taken.shares,
            wake: Arc::default(),
        })
    }
}

impl TakenRoom {
    // Until what is kept fits. What is given up is gone in a moment, and counts as gone: nobody has to wait for it, or to
    // give way in its place.
    fn make_room(&mut self, max: usize) {
        while self.kept > max {
            let able = self.parts.values_mut().filter(|part| !part.gives_way);
            let Some(greatest) = able.max_by_key(|part| part.held) else {
                return;
            };
            greatest.gives_way = true;
            self.kept = self.kept.saturating_sub(greatest.held);
            greatest.wake.notify_waiters();
        }
    }
}

impl Share {
    /// What a stream of this connection holds: nothing yet.
    pub(crate) fn stream(self: &Arc<Self>) -> Held {
        Held {
            share: Arc::clone(self),
            bytes: 0,
            large: None,
        }
    }

    /// Waits until the connection has to give up what it has begun.
    pub(crate) async fn evicted(&self) {
        loop {
            let woken = self.wake.notified();
            if self.gives_way() {
                return;
            }
            woken.await;
        }
    }

    fn gives_way(&self) -> bool {
        let taken = self.room.taken.lock();
        let part = taken.parts.get(&self.number);
        part.is_some_and(|part| part.gives_way)
    }
}

impl Held {
    /// Takes room until it holds so many bytes. `false`: there is none, and this connection has to give up what it has begun.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return !self.share.gives_way();
        }
        let Share { room, number, wake } = self.share.as_ref();
        let taken = &mut *room.taken.lock();
        let part = taken
            .parts
            .entry(*number)
            .or_insert_with(|| UnfinishedPart {
                held: 0,
                gives_way: false,
                wake: Arc::clone(wake),
            });
        if part.gives_way {
            return false;
        }
        part.held += more;
        self.bytes = bytes;
        taken.kept += more;
        taken.make_room(room.max);
        let part = taken.parts.get(number);
        part.is_some_and(|part| !part.gives_way)
    }

    /// Waits for room for the largest frame; nobody takes that back.
    pub(crate) async fn grow_to_largest(&mut self) {
        let large = Arc::clone(&self.share.room.large);
        // It is never closed.
        let large = large.acquire_many_owned(FRAME_BYTES_MAX).await.ok();
        self.clear();
        self.large = large;
    }

    /// Gives everything back: the frame is complete, or nobody waits for it any more.
    pub(crate) fn clear(&mut self) {
        self.large = None;
        let bytes = std::mem::take(&mut self.bytes);
        if bytes == 0 {
            return;
        }
        let taken = &mut *self.share.room.taken.lock();
        let Entry::Occupied(mut part) = taken.parts.entry(self.share.number) else {
            return;
        };
        part.get_mut().held -= bytes;
        if !part.get().gives_way {
            taken.kept -= bytes;
        }
        if part.get().held == 0 {
            part.remove();
        }
    }

    /// Whose it is a part of.
    pub(crate) fn share(&self) -> Arc<Share> {
        Arc::clone(&self.share)
    }

    /// Whether it holds nothing.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes == 0 && self.large.is_none()
    }

    /// Whether it holds room for the largest frame.
    pub(crate) const fn is_largest(&self) -> bool {
        self.large.is_some()
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

    fn kept(room: &Room) -> usize {
        room.taken.lock().kept
    }

    #[tokio::test]
    async fn who_holds_most_gives_way_to_who_holds_little() {
        let room = Arc::new(Room::new(2_000));
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
        assert_eq!(kept(&room), 200);
        drop(small);
        assert_eq!(kept(&room), 0);
    }

    #[test]
    fn who_holds_most_and_wants_more_gives_up_itself() {
        let room = Arc::new(Room::new(2_000));
        let (greedy, modest) = (room.share(), room.share());
        let (mut much, mut little) = (greedy.stream(), modest.stream());
        assert!(little.grow(10) && much.grow(900));
        assert!(!much.grow(1_100));
        assert!(!little.grow(1_001), "more than there is");
        drop(much);
        drop(little);
        assert_eq!(kept(&room), 0);
        assert!(modest.stream().grow(1_000));
    }

    /// Those who give way take a moment for it, hundreds of them where hundreds begin as much as they can.
    #[test]
    fn who_holds_little_does_not_give_way_while_others_are_at_it() {
        let room = Arc::new(Room::new(2_000));
        let (greedy, late, modest) = (room.share(), room.share(), room.share());
        let (mut much, mut more, mut little) = (greedy.stream(), late.stream(), modest.stream());
        assert!(little.grow(100) && much.grow(900));
        assert!(more.grow(50), "the greedy one makes room");
        assert!(greedy.gives_way() && more.grow(800));
        assert!(!modest.gives_way() && little.grow(200));
        // What they still hold is told apart from what is kept.
        assert_eq!(kept(&room), 1_000);
        drop(much);
        assert_eq!(kept(&room), 1_000);
    }

    /// One that was told to give way when it had done so already would never get room again.
    #[test]
    fn who_has_given_everything_back_is_not_asked_for_it() {
        let room = Arc::new(Room::new(2_000));
        let (first, second) = (room.share(), room.share());
        let mut one = first.stream();
        assert!(one.grow(900));
        one.clear();
        let mut other = second.stream();
        assert!(!other.grow(1_001) && second.gives_way() && !first.gives_way());
        other.clear();
        assert!(!second.gives_way() && other.grow(1_000));
    }

    #[test]
    fn connections_that_hold_nothing_are_forgotten() {
        let room = Arc::new(Room::new(2_000));
        for _ in 0..10_000 {
            let mut held = room.share().stream();
            assert!(held.grow(1_000));
        }
        assert!(room.taken.lock().parts.is_empty());
    }
}
