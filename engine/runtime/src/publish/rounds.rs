//! Rounds of a flush: which shards are asked, which have answered, and up to where the rows then hold everything.

use std::collections::BTreeSet;

use crate::commit::Part;

/// One round at a time, each with those who wait for it.
#[derive(Debug)]
pub(crate) struct Rounds<W> {
    number: u64,
    round: Option<FlushRound<W>>,
}

#[derive(Debug)]
struct FlushRound<W> {
    expected: BTreeSet<usize>,
    parts: Vec<Part>,
    /// Every shard takes part, so that the checkpoint may move.
    is_whole: bool,
    waiting: Vec<W>,
}

/// A round that every shard has answered.
#[derive(Debug)]
pub(crate) struct Finished<W> {
    pub(crate) parts: Vec<Part>,
    /// LSN up to which the rows hold every record once the parts are written; `None` where a shard did not take part.
    pub(crate) checkpoint: Option<u64>,
    pub(crate) waiting: Vec<W>,
    /// Of each shard: which take it was, and its rows.
    pub(crate) takes: Vec<(usize, u32, usize)>,
}

impl<W> Default for Rounds<W> {
    fn default() -> Self {
        Self {
            number: 0,
            round: None,
        }
    }
}

impl<W> Rounds<W> {
    /// Whether a round has begun and not ended.
    pub(crate) const fn is_running(&self) -> bool {
        self.round.is_some()
    }

    /// Whether every shard that was asked has answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.round
            .as_ref()
            .is_some_and(|round| round.expected.is_empty())
    }

    /// Begins a round: `ask` asks a shard for its rows, and says whether it runs.
    pub(crate) fn begin(
        &mut self,
        shards: usize,
        waiting: Vec<W>,
        mut ask: impl FnMut(usize, u64) -> bool,
    ) {
        self.number += 1;
        let number = self.number;
        let expected: BTreeSet<usize> = (0..shards).filter(|shard| ask(*shard, number)).collect();
        self.round = Some(FlushRound {
            is_whole: expected.len() == shards,
            expected,
            parts: Vec::new(),
            waiting,
        });
    }

    /// Takes in what a shard gave.
    pub(crate) fn take(&mut self, part: Part) {
        let Some(round) = &mut self.round else {
            return;
        };
        // A part of another round is of a shard that has started again since: its records are replayed.
        if part.round == self.number && round.expected.remove(&part.shard) {
            round.parts.push(part);
        }
    }

    /// A shard starts again: what came of it is forgotten.
    pub(crate) fn restart(&mut self, shard: usize) {
        if let Some(round) = &mut self.round {
            round.expected.remove(&shard);
            round.parts.retain(|part| part.shard != shard);
            round.is_whole = false;
        }
    }

    /// Ends the round.
    pub(crate) fn finish(&mut self) -> Option<Finished<W>> {
        let round = self.round.take()?;
        let upto = round.parts.iter().map(|part| part.upto).min();
        let takes = round
            .parts
            .iter()
            .map(|part| (part.shard, part.dirty.generation, part.dirty.rows()));
        Some(Finished {
            takes: takes.collect(),
            checkpoint: upto.filter(|_| round.is_whole),
            parts: round.parts,
            waiting: round.waiting,
        })
    }
}
