use till_protocol::code::Reason;
use till_protocol::id::Seq;

use super::*;

fn gate(frames: u32, bytes: usize) -> Arc<Gate> {
    Arc::new(Gate::new(frames, Arc::new(Semaphore::new(bytes))))
}

fn room(frames: u32, bytes: u32) -> Room {
    Room {
        frames,
        bytes,
        ahead: frames,
    }
}

fn header(length: u32, count: u32) -> FrameHeader {
    FrameHeader {
        family: 1,
        version: 1,
        length,
        count,
        first_seq: 1,
        crc: 0,
    }
}

/// As a stream that has taken nothing before.
async fn admit(gate: &Arc<Gate>, frames: u32, bytes: u32) -> Option<Permit> {
    let virtual_time = VirtualTime::default();
    let admitted = gate.admit(&virtual_time, room(frames, bytes), || ()).await;
    admitted.map(|(permit, _)| permit)
}

#[tokio::test]
async fn a_frame_waits_until_one_before_it_is_done() {
    let gate = gate(1, 1 << 20);
    let first = admit(&gate, 1, 644).await.unwrap();
    assert_eq!(gate.in_use(), 1);
    let second = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { admit(&gate, 1, 644).await.is_some() }
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
    let first = admit(&gate, 1, 1_544).await.unwrap();
    let second = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { admit(&gate, 1, 1_544).await.is_some() }
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
    let of = |length, count| Room::of(&header(length, count));
    let refused = u32::try_from(size_of::<(Seq, Reason)>()).unwrap();
    assert!(of(1, 1_024).bytes >= 1_024 * refused);
    assert_eq!(of(u32::MAX, u32::MAX).bytes, u32::MAX);
    // The largest frame behind a batch that is nearly full has room in the least bound of bytes.
    assert!((256 << 10) + of(1 << 20, 1_024).bytes < 4 << 20);
}

/// A batch that fits nowhere would wait for ever.
#[test]
fn the_largest_batch_has_room_in_front_of_a_shard() {
    let of = |length, count| Room::of(&header(length, count));
    // Small events of all batches below the bound of bytes, or long ones, and then the largest frame.
    let events = (256 << 10) / of(0, 1_024).bytes * 1_024;
    let lines = of(256 << 10, 1).ahead;
    let largest = of(1 << 20, 1_024).ahead;
    assert!(events.max(16 * 1_024) + largest <= AHEAD_MAX);
    assert!(lines + largest <= AHEAD_MAX);
}

/// What waits in a mailbox is heard before whoever comes later.
#[tokio::test]
async fn a_mailbox_is_short_and_frees_its_room_when_a_frame_is_heard() {
    let gate = gate(1 << 20, 1 << 30);
    let frame = Room::of(&header(10_000, 1_024));
    let mut held: Vec<_> = std::iter::from_fn(|| gate.try_admit(frame)).collect();
    assert_eq!(held.len(), size(AHEAD_MAX / 1_024));
    let next = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            gate.admit(&VirtualTime::default(), frame, || ())
                .await
                .is_some()
        }
    });
    tokio::task::yield_now().await;
    assert!(!next.is_finished());
    // Heard, and not durable yet.
    held[0].left_mailbox();
    assert!(next.await.unwrap());
    let bytes = gate.free().bytes;
    drop(held);
    assert!(gate.free().bytes > bytes);
    assert_eq!(gate.in_use(), 0);
}

/// Of those who send much one at a time is let through until its frames are checked; who sends little passes by.
#[tokio::test]
async fn much_is_checked_one_after_another_and_little_passes_by() {
    let gate = gate(1 << 20, 1 << 30);
    let (one, other) = (VirtualTime::default(), VirtualTime::default());
    let much = room(1, SMALL_BYTES + 1);
    let (_permit, grant) = gate.admit(&one, much, || ()).await.unwrap();
    assert!(grant.is_some());
    let second = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move {
            gate.admit(&VirtualTime::default(), much, || ())
                .await
                .is_some()
        }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    let little = gate.admit(&other, room(1, SMALL_BYTES), || ()).await;
    assert!(little.is_some_and(|(_, grant)| grant.is_none()));
    drop(grant);
    assert!(second.await.unwrap());
}

#[tokio::test]
async fn a_flush_that_is_behind_holds_everyone_back() {
    let gate = gate(8, 1 << 20);
    gate.pause(true);
    let waiting = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { admit(&gate, 1, 545).await.is_some() }
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
                let virtual_time = VirtualTime::default();
                if name < 5 {
                    // What it has taken before.
                    gate.fair_queue.take(&virtual_time, 1_000_000);
                }
                let permit = gate.admit(&virtual_time, room(1, bytes), || ()).await;
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
    let mut taken = one.try_admit(room(3, 3 * 644)).unwrap();
    assert!(one.try_admit(room(6, 6)).is_none(), "more than there is");
    assert_eq!(one.in_use(), 3);
    let mut first = taken.split(room(1, 644));
    first.join(taken.split(room(1, 644)));
    first.join(other.try_admit(room(1, 545)).unwrap());
    assert_eq!((one.in_use(), other.in_use()), (3, 0));
    drop(first);
    assert_eq!(one.in_use(), 1);
    drop(taken);
    assert_eq!((one.in_use(), one.bytes.available_permits()), (0, 10_000));
    assert_eq!(other.bytes.available_permits(), 10_000);
}
