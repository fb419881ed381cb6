//! Whose turn it is where there is no room for all: theirs who have taken least.
//!
//! Each stream has a mark that rises with what it takes, and never lies behind the mark of whoever was let in last. The
//! lowest goes next (start-time fair queueing). So a till that sends little is let in at once beside hundreds that send as
//! much as they can, and those share what is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// What a stream has taken, as a mark. Of one stream: nobody else moves it.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

/// The line in front of one shard.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// Mark of the last one that was let in.
    now: u64,
    /// Somebody has the turn.
    is_taken: bool,
    tickets: u64,
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
}

/// The turn. It goes on to the next one when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn(Arc<Turns>);

impl Turns {
    /// A stream takes so much, now or after its turn. Gives the mark from which it does.
    pub(crate) fn take(&self, mark: &Mark, cost: u32) -> u64 {
        let start = mark.0.load(Ordering::Relaxed).max(self.0.lock().now);
        let end = start.saturating_add(u64::from(cost));
        mark.0.store(end, Ordering::Relaxed);
        start
    }

    /// Somebody was let in without a turn: there was room.
    pub(crate) fn passed(&self, start: u64) {
        let mut line = self.0.lock();
        line.now = line.now.max(start);
    }

    /// Waits for the turn of a stream that takes from some mark on.
    pub(crate) async fn turn(self: &Arc<Self>, start: u64) -> Turn {
        loop {
            let told = {
                let mut line = self.0.lock();
                if !line.is_taken {
                    line.is_taken = true;
                    line.now = line.now.max(start);
                    return Turn(Arc::clone(self));
                }
                let ticket = line.tickets;
                line.tickets += 1;
                let (tell, told) = oneshot::channel();
                line.waiting.insert((start, ticket), tell);
                told
            };
            // The line never forgets whom it has, but what it cannot give it asks for again.
            if let Ok(turn) = told.await {
                return turn;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut line = self.0.0.lock();
            let next = line.waiting.pop_first();
            match &next {
                Some(((start, _), _)) => line.now = line.now.max(*start),
                None => line.is_taken = false,
            }
            next
        };
        if let Some((_, tell)) = next {
            // Whoever does not wait any more drops the turn, and it goes on.
            drop(tell.send(Self(Arc::clone(&self.0))));
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    /// One task of a stream that wants its turn, and says its name when it has it.
    fn wants(turns: &Arc<Turns>, said: &Arc<Mutex<Vec<u32>>>, (name, start): (u32, u64)) {
        let (turns, said) = (Arc::clone(turns), Arc::clone(said));
        drop(tokio::spawn(async move {
            let _turn = turns.turn(start).await;
            said.lock().push(name);
        }));
    }

    #[tokio::test]
    async fn who_has_taken_least_goes_first() {
        let (turns, said) = (Arc::new(Turns::default()), Arc::default());
        let (greedy, modest) = (Mark::default(), Mark::default());
        let first = turns.turn(turns.take(&greedy, 1_000)).await;
        let starts = [
            (1, turns.take(&greedy, 1_000)),
            (2, turns.take(&greedy, 1_000)),
            (3, turns.take(&modest, 10)),
            (4, turns.take(&modest, 10)),
        ];
        for one in starts {
            wants(&turns, &said, one);
            tokio::task::yield_now().await;
        }
        drop(first);
        while said.lock().len() < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*said.lock(), [3, 4, 1, 2]);
        // What was saved up long ago is no credit: a late one begins where the others are.
        assert_eq!(turns.take(&Mark::default(), 1), 2_000);
        drop(turns.turn(0).await);
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_on() {
        let (turns, said) = (Arc::new(Turns::default()), Arc::default());
        let first = turns.turn(0).await;
        let gone = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { drop(turns.turn(0).await) }
        });
        tokio::task::yield_now().await;
        wants(&turns, &said, (1, 5));
        tokio::task::yield_now().await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(first);
        while said.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn whoever_passes_takes_the_others_along() {
        let turns = Turns::default();
        let (old, new) = (Mark::default(), Mark::default());
        for _ in 0..1_000 {
            turns.passed(turns.take(&old, 100));
        }
        let (late, early) = (turns.take(&old, 100), turns.take(&new, 100));
        assert_eq!((late, early), (100_000, 99_900));
    }
}
