//! How far records have been put into commits.

use till_storage::journal::Lsn;

/// How far the records of each shard have been put into commits: the LSN of the last one.
#[derive(Clone, Debug)]
pub(crate) struct Cursors(Vec<u64>);

impl Cursors {
    /// Everything before `end` is dealt with otherwise.
    pub(crate) fn new(shards: usize, end: Lsn) -> Self {
        Self(vec![end.get().saturating_sub(1); shards])
    }

    /// LSN of the last record of a shard that was dealt with.
    pub(crate) fn of(&self, shard: usize) -> u64 {
        self.0.get(shard).copied().unwrap_or(u64::MAX)
    }

    /// LSN up to which every shard is dealt with.
    pub(crate) fn least(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(0)
    }

    /// What a round held is dealt with: shards, and the LSN up to which it held all of theirs.
    pub(crate) fn pass(&mut self, parts: &[(usize, u64)]) {
        for (shard, upto) in parts {
            if let Some(cursor) = self.0.get_mut(*shard) {
                *cursor = (*cursor).max(*upto);
            }
        }
    }
}
