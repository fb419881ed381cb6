//! Whose turn it is where there is no room for all: theirs who will have taken least once they are served.
//!
//! Each stream has a virtual time that rises with what it takes, and never lies behind the time of the line. That time goes on by
//! what is let in, shared among those who wait; so it has gone on by one quantum when each of them had one. Whose quantum ends at
//! the lowest virtual time goes next (fair queueing: Demers, Keshav, Shenker, SIGCOMM 1989). So a till that sends little is let in
//! at once beside hundreds that send as much as they can, and those share what is left. Where the quantum begins would not do:
//! hundreds that began together keep the same virtual times, and a till would wait for one quantum of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// Virtual time of a byte. The time of the line also goes on by little things that many wait for.
const TIME_PER_BYTE: u64 = 1 << 12;

/// What a stream has taken, as a virtual time. Of one stream: nobody else moves it.
#[derive(Debug, Default)]
pub(crate) struct VirtualTime(AtomicU64);

/// What a stream takes next: from one virtual time to another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quantum {
    start: u64,
    end: u64,
}

/// The line in front of one shard.
#[derive(Debug, Default)]
pub(crate) struct FairQueue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    /// The time of the line, as a virtual time.
    now: u64,
    /// Somebody has the turn.
    is_granted: bool,
    tickets: u64,
    /// By the end of the quantum. Equal ones in the order in which they came.
    waiting: BTreeMap<(u64, u64), (Quantum, oneshot::Sender<Grant>)>,
}

/// The turn. It goes on to the next one when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Grant(Arc<FairQueue>);

impl QueueState {
    // The turn, if nobody has it.
    fn take(&mut self, quantum: Quantum) -> bool {
        if self.is_granted {
            return false;
        }
        self.is_granted = true;
        self.let_in(quantum);
        true
    }

    fn let_in(&mut self, quantum: Quantum) {
        let all = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        let size = quantum.end - quantum.start;
        self.now = quantum
            .start
            .max(self.now.saturating_add(size / all.saturating_add(1)));
    }
}

impl FairQueue {
    /// A stream takes so many bytes, now or after its turn.
    pub(crate) fn take(&self, virtual_time: &VirtualTime, bytes: u32) -> Quantum {
        let start = virtual_time
            .0
            .load(Ordering::Relaxed)
            .max(self.0.lock().now);
        let end = start.saturating_add(u64::from(bytes) * TIME_PER_BYTE);
        virtual_time.0.store(end, Ordering::Relaxed);
        Quantum { start, end }
    }

    /// Somebody was let in without a turn: there was room.
    pub(crate) fn passed(&self, quantum: Quantum) {
        let mut line = self.0.lock();
        line.now = line.now.max(quantum.start);
    }

    /// The turn to take a quantum, if nobody has it.
    pub(crate) fn try_grant(self: &Arc<Self>, quantum: Quantum) -> Option<Grant> {
        let is_free = self.0.lock().take(quantum);
        is_free.then(|| Grant(Arc::clone(self)))
    }

    /// Waits for the turn to take a quantum.
    pub(crate) async fn grant(self: &Arc<Self>, quantum: Quantum) -> Grant {
        loop {
            let granted = {
                let mut line = self.0.lock();
                if line.take(quantum) {
                    return Grant(Arc::clone(self));
                }
                let ticket = line.tickets;
                line.tickets += 1;
                let (grantee, granted) = oneshot::channel();
                line.waiting
                    .insert((quantum.end, ticket), (quantum, grantee));
                granted
            };
            // The line never forgets whom it has, but what it cannot give it asks for again.
            if let Ok(grant) = granted.await {
                return grant;
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let next = {
            let mut line = self.0.0.lock();
            let next = line.waiting.pop_first();
            match &next {
                Some((_, (quantum, _))) => line.let_in(*quantum),
                None => line.is_granted = false,
            }
            next
        };
        if let Some((_, (_, grantee))) = next {
            // Whoever does not wait any more drops the turn, and it goes on.
            drop(grantee.send(Self(Arc::clone(&self.0))));
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    type Granted = Arc<Mutex<Vec<u32>>>;

    /// One task of a stream that wants its turn, and says its name when it has it.
    async fn read_set(fair_queue: &Arc<FairQueue>, granted: &Granted, name: u32, quantum: Quantum) {
        let (fair_queue, granted) = (Arc::clone(fair_queue), Arc::clone(granted));
        drop(tokio::spawn(async move {
            let _turn = fair_queue.grant(quantum).await;
            granted.lock().push(name);
        }));
        tokio::task::yield_now().await;
    }

    async fn all_granted(granted: &Granted, count: usize) -> Vec<u32> {
        while granted.lock().len() < count {
            tokio::task::yield_now().await;
        }
        granted.lock().clone()
    }

    #[tokio::test]
    async fn who_has_taken_least_goes_first() {
        let (fair_queue, granted) = (Arc::new(FairQueue::default()), Granted::default());
        let (greedy, modest) = (VirtualTime::default(), VirtualTime::default());
        let first = fair_queue.grant(fair_queue.take(&greedy, 1_000)).await;
        for (name, virtual_time, bytes) in [
            (1, &greedy, 1_000),
            (2, &greedy, 1_000),
            (3, &modest, 10),
            (4, &modest, 10),
        ] {
            read_set(
                &fair_queue,
                &granted,
                name,
                fair_queue.take(virtual_time, bytes),
            )
            .await;
        }
        drop(first);
        assert_eq!(all_granted(&granted, 4).await, [3, 4, 1, 2]);
        // What was saved up long ago is no credit: a late one begins where the others are.
        let late = fair_queue.take(&VirtualTime::default(), 1);
        assert!(late.start >= 2_000 * TIME_PER_BYTE);
    }

    /// Hundreds that began together keep the same virtual times. Who comes with little, time and again, does not wait for one
    /// quantum of each.
    #[tokio::test]
    async fn who_takes_little_does_not_wait_for_a_round_of_those_who_take_much() {
        let (fair_queue, granted) = (Arc::new(FairQueue::default()), Granted::default());
        let first = fair_queue.grant(Quantum::default()).await;
        for name in 0..100 {
            read_set(
                &fair_queue,
                &granted,
                name,
                fair_queue.take(&VirtualTime::default(), 100_000),
            )
            .await;
        }
        let modest = VirtualTime::default();
        for name in 1_000..1_003 {
            read_set(&fair_queue, &granted, name, fair_queue.take(&modest, 100)).await;
        }
        drop(first);
        let order = all_granted(&granted, 103).await;
        assert_eq!(order.get(..3), Some(&[1_000, 1_001, 1_002][..]));
    }

    /// Streams that are always new and take little do not keep out one that takes much for ever.
    #[tokio::test]
    async fn a_crowd_of_newcomers_does_not_keep_out_who_takes_much() {
        let (fair_queue, granted) = (Arc::new(FairQueue::default()), Granted::default());
        let mut grant = fair_queue.grant(Quantum::default()).await;
        read_set(
            &fair_queue,
            &granted,
            0,
            fair_queue.take(&VirtualTime::default(), 10_000),
        )
        .await;
        for name in 1..1_000 {
            // There is always another one when the turn goes on.
            read_set(
                &fair_queue,
                &granted,
                name,
                fair_queue.take(&VirtualTime::default(), 100),
            )
            .await;
            let next = fair_queue.take(&VirtualTime::default(), 100);
            drop(grant);
            grant = fair_queue.grant(next).await;
            if granted.lock().contains(&0) {
                // So much was let in before it as it wants itself, and as much again.
                assert!(name <= 200, "{name}");
                return;
            }
        }
        panic!("it was never let in");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_on() {
        let (fair_queue, granted) = (Arc::new(FairQueue::default()), Granted::default());
        let first = fair_queue.grant(Quantum::default()).await;
        let gone = tokio::spawn({
            let fair_queue = Arc::clone(&fair_queue);
            async move { drop(fair_queue.grant(Quantum::default()).await) }
        });
        tokio::task::yield_now().await;
        read_set(&fair_queue, &granted, 1, Quantum::default()).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(first);
        assert_eq!(all_granted(&granted, 1).await, [1]);
    }

    #[test]
    fn whoever_passes_takes_the_others_along() {
        let fair_queue = FairQueue::default();
        let (old, new) = (VirtualTime::default(), VirtualTime::default());
        for _ in 0..1_000 {
            fair_queue.passed(fair_queue.take(&old, 100));
        }
        let (late, early) = (fair_queue.take(&old, 100), fair_queue.take(&new, 100));
        assert_eq!(late.start, 100_000 * TIME_PER_BYTE);
        assert_eq!(early.start, 99_900 * TIME_PER_BYTE);
    }
}
