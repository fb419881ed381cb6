//! Whose turn it is where there is no room for all: theirs who will have taken least once they are served.
//!
//! Each stream has a mark that rises with what it takes, and never lies behind the time of the line. That time goes on by what
//! is let in, shared among those who wait; so it has gone on by one helping when each of them had one. Whose helping ends at
//! the lowest mark goes next (fair queueing: Demers, Keshav, Shenker, SIGCOMM 1989). So a till that sends little is let in at
//! once beside hundreds that send as much as they can, and those share what is left. Where the helping begins would not do:
//! hundreds that began together keep the same marks, and a till would wait for one helping of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::sync::{AtomicU64, Mutex, Ordering};

/// Marks of a byte. The time of the line also goes on by little things that many wait for.
const MARKS: u64 = 1 << 12;

/// What a stream has taken, as a mark. Of one stream: nobody else moves it.
#[derive(Debug, Default)]
pub(crate) struct Mark(AtomicU64);

/// What a stream takes next: from one mark to another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Helping {
    start: u64,
    end: u64,
}

/// The line in front of one shard.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    /// The time of the line, as a mark.
    now: u64,
    /// Somebody has the turn.
    is_taken: bool,
    tickets: u64,
    /// By the end of the helping. Equal ones in the order in which they came.
    waiting: BTreeMap<(u64, u64), (Helping, oneshot::Sender<Turn>)>,
}

/// The turn. It goes on to the next one when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn(Arc<Turns>);

impl Line {
    // The turn, if nobody has it.
    fn take(&mut self, helping: Helping) -> bool {
        if self.is_taken {
            return false;
        }
        self.is_taken = true;
        self.let_in(helping);
        true
    }

    fn let_in(&mut self, helping: Helping) {
        let all = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        let size = helping.end - helping.start;
        self.now = helping
            .start
            .max(self.now.saturating_add(size / all.saturating_add(1)));
    }
}

impl Turns {
    /// A stream takes so many bytes, now or after its turn.
    pub(crate) fn take(&self, mark: &Mark, bytes: u32) -> Helping {
        let start = mark.0.load(Ordering::Relaxed).max(self.0.lock().now);
        let end = start.saturating_add(u64::from(bytes) * MARKS);
        mark.0.store(end, Ordering::Relaxed);
        Helping { start, end }
    }

    /// Somebody was let in without a turn: there was room.
    pub(crate) fn passed(&self, helping: Helping) {
        let mut line = self.0.lock();
        line.now = line.now.max(helping.start);
    }

    /// The turn to take a helping, if nobody has it.
    pub(crate) fn try_turn(self: &Arc<Self>, helping: Helping) -> Option<Turn> {
        let is_free = self.0.lock().take(helping);
        is_free.then(|| Turn(Arc::clone(self)))
    }

    /// Waits for the turn to take a helping.
    pub(crate) async fn turn(self: &Arc<Self>, helping: Helping) -> Turn {
        loop {
            let told = {
                let mut line = self.0.lock();
                if line.take(helping) {
                    return Turn(Arc::clone(self));
                }
                let ticket = line.tickets;
                line.tickets += 1;
                let (tell, told) = oneshot::channel();
                line.waiting.insert((helping.end, ticket), (helping, tell));
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
                Some((_, (helping, _))) => line.let_in(*helping),
                None => line.is_taken = false,
            }
            next
        };
        if let Some((_, (_, tell))) = next {
            // Whoever does not wait any more drops the turn, and it goes on.
            drop(tell.send(Self(Arc::clone(&self.0))));
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    type Said = Arc<Mutex<Vec<u32>>>;

    /// One task of a stream that wants its turn, and says its name when it has it.
    async fn wants(turns: &Arc<Turns>, said: &Said, name: u32, helping: Helping) {
        let (turns, said) = (Arc::clone(turns), Arc::clone(said));
        drop(tokio::spawn(async move {
            let _turn = turns.turn(helping).await;
            said.lock().push(name);
        }));
        tokio::task::yield_now().await;
    }

    async fn all_said(said: &Said, count: usize) -> Vec<u32> {
        while said.lock().len() < count {
            tokio::task::yield_now().await;
        }
        said.lock().clone()
    }

    #[tokio::test]
    async fn who_has_taken_least_goes_first() {
        let (turns, said) = (Arc::new(Turns::default()), Said::default());
        let (greedy, modest) = (Mark::default(), Mark::default());
        let first = turns.turn(turns.take(&greedy, 1_000)).await;
        for (name, mark, bytes) in [
            (1, &greedy, 1_000),
            (2, &greedy, 1_000),
            (3, &modest, 10),
            (4, &modest, 10),
        ] {
            wants(&turns, &said, name, turns.take(mark, bytes)).await;
        }
        drop(first);
        assert_eq!(all_said(&said, 4).await, [3, 4, 1, 2]);
        // What was saved up long ago is no credit: a late one begins where the others are.
        let late = turns.take(&Mark::default(), 1);
        assert!(late.start >= 2_000 * MARKS);
    }

    /// Hundreds that began together keep the same marks. Who comes with little, time and again, does not wait for one helping
    /// of each.
    #[tokio::test]
    async fn who_takes_little_does_not_wait_for_a_round_of_those_who_take_much() {
        let (turns, said) = (Arc::new(Turns::default()), Said::default());
        let first = turns.turn(Helping::default()).await;
        for name in 0..100 {
            wants(&turns, &said, name, turns.take(&Mark::default(), 100_000)).await;
        }
        let modest = Mark::default();
        for name in 1_000..1_003 {
            wants(&turns, &said, name, turns.take(&modest, 100)).await;
        }
        drop(first);
        let order = all_said(&said, 103).await;
        assert_eq!(order.get(..3), Some(&[1_000, 1_001, 1_002][..]));
    }

    /// Streams that are always new and take little do not keep out one that takes much for ever.
    #[tokio::test]
    async fn a_crowd_of_newcomers_does_not_keep_out_who_takes_much() {
        let (turns, said) = (Arc::new(Turns::default()), Said::default());
        let mut turn = turns.turn(Helping::default()).await;
        wants(&turns, &said, 0, turns.take(&Mark::default(), 10_000)).await;
        for name in 1..1_000 {
            // There is always another one when the turn goes on.
            wants(&turns, &said, name, turns.take(&Mark::default(), 100)).await;
            let next = turns.take(&Mark::default(), 100);
            drop(turn);
            turn = turns.turn(next).await;
            if said.lock().contains(&0) {
                // So much was let in before it as it wants itself, and as much again.
                assert!(name <= 200, "{name}");
                return;
            }
        }
        panic!("it was never let in");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_waits_for_any_more_goes_on() {
        let (turns, said) = (Arc::new(Turns::default()), Said::default());
        let first = turns.turn(Helping::default()).await;
        let gone = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { drop(turns.turn(Helping::default()).await) }
        });
        tokio::task::yield_now().await;
        wants(&turns, &said, 1, Helping::default()).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        drop(first);
        assert_eq!(all_said(&said, 1).await, [1]);
    }

    #[test]
    fn whoever_passes_takes_the_others_along() {
        let turns = Turns::default();
        let (old, new) = (Mark::default(), Mark::default());
        for _ in 0..1_000 {
            turns.passed(turns.take(&old, 100));
        }
        let (late, early) = (turns.take(&old, 100), turns.take(&new, 100));
        assert_eq!(late.start, 100_000 * MARKS);
        assert_eq!(early.start, 99_900 * MARKS);
    }
}
