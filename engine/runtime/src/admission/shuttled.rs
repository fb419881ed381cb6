//! The gate, in whatever order threads take turns.

use shuttle::future::{block_on, spawn};
use shuttle::thread;

use super::*;

fn room(frames: u32, bytes: u32) -> Room {
    Room {
        frames,
        bytes,
        ahead: bytes,
    }
}

/// Orders of turns that are tried.
const ORDERS: usize = 10_000;

#[test]
fn whoever_waits_at_a_paused_gate_goes_on_when_it_opens() {
    shuttle::check_random(
        || {
            let gate = Arc::new(Gate::new(2, Arc::new(Semaphore::new(1_000))));
            gate.pause(true);
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let gate = Arc::clone(&gate);
                    spawn(async move {
                        gate.admit(&VirtualTime::default(), room(1, 100), || ())
                            .await
                            .is_some()
                    })
                })
                .collect();
            let flusher = thread::spawn({
                let gate = Arc::clone(&gate);
                move || {
                    gate.pause(false);
                    gate.pause(true);
                    gate.pause(false);
                }
            });
            flusher.join().unwrap();
            // One that missed the word waits for ever, which is a deadlock here.
            for waiter in waiters {
                assert!(block_on(waiter).unwrap());
            }
            assert_eq!((gate.in_use(), gate.free().bytes), (0, 1_000));
        },
        ORDERS,
    );
}

#[test]
fn permits_never_exceed_the_bound_and_all_come_back() {
    shuttle::check_random(
        || {
            let gate = Arc::new(Gate::new(3, Arc::new(Semaphore::new(300))));
            let held = Arc::new(AtomicU64::new(0));
            let takers: Vec<_> = [1_u32, 2, 3, 1]
                .into_iter()
                .map(|frames| {
                    let (gate, held) = (Arc::clone(&gate), Arc::clone(&held));
                    spawn(async move {
                        let Some((mut taken, grant)) = gate
                            .admit(&VirtualTime::default(), room(frames, frames * 100), || ())
                            .await
                        else {
                            return;
                        };
                        let all = held.fetch_add(u64::from(frames), Ordering::AcqRel);
                        assert!(all + u64::from(frames) <= 3, "more than the bound");
                        drop(grant);
                        let mut first = taken.split(room(1, 100));
                        first.left_mailbox();
                        shuttle::future::yield_now().await;
                        held.fetch_sub(u64::from(frames), Ordering::AcqRel);
                        drop(first);
                        drop(taken);
                    })
                })
                .collect();
            for taker in takers {
                block_on(taker).unwrap();
            }
            assert_eq!((gate.in_use(), gate.free().bytes), (0, 300));
        },
        ORDERS,
    );
}
