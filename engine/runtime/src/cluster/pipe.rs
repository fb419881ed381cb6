//! What a slot's owner has gathered of its shards and not committed, and what it has committed whose rows are not written.

use std::collections::VecDeque;

use till_storage::cluster::Commit;

use crate::cluster::cursors::Cursors;

/// What shards gave for a slot, in one gather or in several that waited together.
#[derive(Debug)]
struct Piece {
    commit: Commit,
    standing: BegunFlush,
}

/// What is so once a piece is dealt with.
#[derive(Clone, Debug)]
struct BegunFlush {
    /// How far the records of each shard are then dealt with.
    upto: Cursors,
    /// The first gather that it is of.
    first: u64,
}

/// From gathers to rows, in order.
#[derive(Debug)]
pub(super) struct Pipe {
    waiting: Option<Piece>,
    /// The piece that waits is being made a flush.
    is_making: bool,
    /// Flushes that were begun and whose rows may not all be written.
    begun: VecDeque<(u64, BegunFlush)>,
    committed: Cursors,
    applied: Cursors,
    is_news: bool,
}

impl Pipe {
    /// An empty one; what lies before `cursors` is not its own.
    pub(super) const fn new(committed: Cursors, applied: Cursors) -> Self {
        Self {
            waiting: None,
            is_making: false,
            begun: VecDeque::new(),
            committed,
            applied,
            is_news: false,
        }
    }

    /// Takes in what a gather has of the slot, which may be nothing, and how far everything is with it.
    pub(super) fn add(&mut self, commit: Option<Commit>, upto: &Cursors, gather: u64) {
        let last = match &mut self.waiting {
            Some(piece) => Some(&mut piece.standing),
            None => self.begun.back_mut().map(|(_, standing)| standing),
        };
        match (commit, last) {
            (None, Some(last)) => last.upto.clone_from(upto),
            (None, None) => {
                self.committed.clone_from(upto);
                self.applied.clone_from(upto);
                self.is_news = true;
            }
            (Some(commit), _) => match &mut self.waiting {
                Some(piece) => {
                    piece.commit.records.extend(commit.records);
                    piece.commit.rows.append(commit.rows);
                    piece.standing.upto.clone_from(upto);
                }
                none => {
                    let standing = BegunFlush {
                        upto: upto.clone(),
                        first: gather,
                    };
                    *none = Some(Piece { commit, standing });
                }
            },
        }
    }

    /// Takes what waits, to be made flush `number`, unless something is being made already.
    pub(super) fn take(&mut self, number: u64) -> Option<Commit> {
        if self.is_making {
            return None;
        }
        let Piece { commit, standing } = self.waiting.take()?;
        self.is_making = true;
        self.begun.push_back((number, standing));
        Some(commit)
    }

    /// What was taken is on its way.
    pub(super) const fn made(&mut self) {
        self.is_making = false;
    }

    /// What was taken cannot be begun now: it waits again, before what came meanwhile.
    pub(super) fn put_back(&mut self, mut commit: Commit) {
        self.is_making = false;
        let Some((_, mut standing)) = self.begun.pop_back() else {
            return;
        };
        if let Some(later) = self.waiting.take() {
            commit.records.extend(later.commit.records);
            commit.rows.append(later.commit.rows);
            standing.upto = later.standing.upto;
        }
        self.waiting = Some(Piece { commit, standing });
    }

    /// Flushes up to this one are committed.
    pub(super) fn committed_upto(&mut self, flush: u64) {
        let committed = self.begun.iter().rev().find(|(of, _)| *of <= flush);
        if let Some((_, standing)) = committed {
            self.committed.clone_from(&standing.upto);
            self.is_news = true;
        }
    }

    /// All rows of flushes up to this one are written.
    pub(super) fn applied_upto(&mut self, flush: u64) {
        while let Some((_, standing)) = self.begun.pop_front_if(|(of, _)| *of <= flush) {
            self.applied = standing.upto;
        }
    }

    /// The first gather of which something is not written; `None` where all is.
    pub(super) fn oldest(&self) -> Option<u64> {
        let begun = self.begun.front().map(|(_, standing)| standing.first);
        begun.or_else(|| self.waiting.as_ref().map(|piece| piece.standing.first))
    }

    /// How far the records of the slot are in commits. `Some` where that is news since the last look.
    pub(super) fn take_news(&mut self) -> Option<Cursors> {
        std::mem::take(&mut self.is_news).then(|| self.committed.clone())
    }

    /// How far the records of the slot are in commits.
    pub(super) const fn committed(&self) -> &Cursors {
        &self.committed
    }

    /// How far the records of the slot are in the rows.
    pub(super) const fn applied(&self) -> &Cursors {
        &self.applied
    }
}

#[cfg(test)]
mod tests {
    use till_storage::journal::Lsn;

    use super::*;

    fn upto(lsn: u64) -> Cursors {
        let mut cursors = Cursors::new(1, Lsn::new(1));
        cursors.pass(&[(0, lsn)]);
        cursors
    }

    fn commit(names: &str) -> Commit {
        let mut commit = Commit::default();
        let name = (till_core::Space::Sku, 1, names.to_owned());
        commit.rows.names.push(name);
        commit
    }

    fn pipe() -> Pipe {
        Pipe::new(upto(5), upto(5))
    }

    fn names(commit: &Commit) -> Vec<&str> {
        let names = commit.rows.names.iter();
        names.map(|(_, _, name)| name.as_str()).collect()
    }

    #[test]
    fn a_gather_without_anything_of_a_slot_passes_it() {
        let mut pipe = pipe();
        assert!(pipe.take_news().is_none());
        pipe.add(None, &upto(10), 1);
        assert_eq!(pipe.take_news().unwrap().of(0), 10);
        assert_eq!((pipe.applied().of(0), pipe.oldest()), (10, None));
        assert!(pipe.take(1).is_none());
    }

    #[test]
    fn what_waits_is_committed_together_and_passes_in_order() {
        let mut pipe = pipe();
        pipe.add(Some(commit("a")), &upto(10), 1);
        assert_eq!(names(&pipe.take(1).unwrap()), ["a"]);
        // While it is made, nothing overtakes it.
        pipe.add(Some(commit("b")), &upto(20), 2);
        assert!(pipe.take(2).is_none());
        pipe.made();
        pipe.add(None, &upto(30), 3);
        pipe.add(Some(commit("c")), &upto(40), 4);
        assert_eq!(names(&pipe.take(2).unwrap()), ["b", "c"]);
        pipe.made();
        assert_eq!((pipe.oldest(), pipe.committed().of(0)), (Some(1), 5));
        pipe.committed_upto(1);
        assert_eq!((pipe.oldest(), pipe.committed().of(0)), (Some(1), 10));
        pipe.applied_upto(1);
        assert_eq!((pipe.oldest(), pipe.applied().of(0)), (Some(2), 10));
        pipe.committed_upto(2);
        pipe.applied_upto(2);
        assert_eq!((pipe.oldest(), pipe.applied().of(0)), (None, 40));
    }

    #[test]
    fn what_cannot_be_begun_waits_again_before_what_came_meanwhile() {
        let mut pipe = pipe();
        pipe.add(Some(commit("a")), &upto(10), 1);
        let taken = pipe.take(1).unwrap();
        pipe.add(Some(commit("b")), &upto(20), 2);
        pipe.put_back(taken);
        assert_eq!(pipe.oldest(), Some(1));
        assert_eq!(names(&pipe.take(1).unwrap()), ["a", "b"]);
        pipe.made();
        pipe.committed_upto(1);
        assert_eq!(pipe.take_news().unwrap().of(0), 20);
    }
}
