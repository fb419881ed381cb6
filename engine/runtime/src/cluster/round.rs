//! From what shards flush to what slots commit: the records since the last round, read back from the journal, with the rows
//! after them, by slot.

use std::collections::BTreeMap;

use till_core::RecordKind;
use till_protocol::id::StoreId;
use till_storage::cluster::{Commit, slot_of};
use till_storage::journal::{Journal, Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::FlushBatch;

use super::owners::Since;
use crate::flush::Part;
use crate::route::shard_of;

/// How far the records of each shard have been put into commits: the place of the last one.
#[derive(Clone, Debug)]
pub(crate) struct Cursors(Vec<u64>);

impl Cursors {
    /// Everything before `end` is dealt with otherwise.
    pub(crate) fn new(shards: usize, end: Lsn) -> Self {
        Self(vec![end.get().saturating_sub(1); shards])
    }

    /// Place of the last record of a shard that was dealt with.
    pub(crate) fn of(&self, shard: usize) -> u64 {
        self.0.get(shard).copied().unwrap_or(u64::MAX)
    }

    /// Place up to which every shard is dealt with.
    pub(crate) fn least(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(0)
    }

    /// These, with each place as `cap` has it.
    pub(crate) fn capped(mut self, cap: impl Fn(usize, u64) -> u64) -> Self {
        for (shard, place) in self.0.iter_mut().enumerate() {
            *place = cap(shard, *place);
        }
        self
    }

    /// What a round held is dealt with: shards, and the place up to which it held all of theirs.
    pub(crate) fn pass(&mut self, parts: &[(usize, u64)]) {
        for (shard, upto) in parts {
            if let Some(cursor) = self.0.get_mut(*shard) {
                *cursor = (*cursor).max(*upto);
            }
        }
    }
}

/// What a round commits.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// By slot, still without the number of its flush.
    pub(crate) commits: BTreeMap<u32, Commit>,
    /// Names that the commits use; they belong to no slot.
    pub(crate) names: Vec<(till_core::Space, u64, String)>,
}

impl Round {
    /// Puts together what shards gave. Rows and records of slots that are not among `since` are left out: they are another
    /// node's now.
    pub(crate) fn gather(
        parts: Vec<Part>,
        (cursors, since): (&Cursors, &BTreeMap<u32, Since>),
        journal: &Journal,
        (shards, slots): (usize, u32),
    ) -> Result<Self, ReadError> {
        let mut round = Self::default();
        let mut upto: BTreeMap<usize, u64> = BTreeMap::new();
        for part in parts {
            upto.insert(part.shard, part.upto);
            round.rows(FlushBatch::from(*part.dirty), since, slots);
        }
        let from = upto.keys().map(|shard| cursors.of(*shard)).min();
        let last = upto.values().copied().max().unwrap_or(0);
        let Some(from) = from.filter(|from| *from < last) else {
            return Ok(round);
        };
        for item in journal.records(Lsn::new(from)) {
            let (lsn, record) = item?;
            if lsn.get() > last {
                break;
            }
            // What is not decided comes to a commit with another record.
            let store = store_of(&record.head).filter(|_| record.head.kind != RecordKind::Received);
            let Some(store) = store else {
                continue;
            };
            let shard = shard_of(store, shards);
            let is_new = lsn.get() > cursors.of(shard);
            let is_in = upto.get(&shard).is_some_and(|last| lsn.get() <= *last);
            let slot = slot_of(store, slots);
            let is_ours = since
                .get(&slot)
                .is_some_and(|since| lsn.get() >= since.place);
            if is_new && is_in && is_ours {
                round.commit(slot).records.push(record);
            }
        }
        Ok(round)
    }

    fn commit(&mut self, slot: u32) -> &mut Commit {
        self.commits.entry(slot).or_insert_with(|| Commit {
            slot,
            ..Commit::default()
        })
    }

    fn rows(&mut self, batch: FlushBatch, since: &BTreeMap<u32, Since>, slots: u32) {
        self.names.extend(batch.names);
        let slot_of = |store: Option<StoreId>| {
            let slot = slot_of(store?, slots);
            since.contains_key(&slot).then_some(slot)
        };
        for (key, row) in batch.stores {
            if let Some(slot) = slot_of(Some(key)) {
                self.commit(slot).rows.stores.push((key, row));
            }
        }
        for (key, row) in batch.terminals {
            if let Some(slot) = slot_of(Some(key.store())) {
                self.commit(slot).rows.terminals.push((key, row));
            }
        }
        for (key, row) in batch.skus {
            if let Some(slot) = slot_of(Some(key.0)) {
                self.commit(slot).rows.skus.push((key, row));
            }
        }
        for (key, row) in batch.rollups {
            if let Some(slot) = slot_of(StoreId::new(key.store).ok()) {
                self.commit(slot).rows.rollups.push((key, row));
            }
        }
        for (key, row) in batch.event_ids {
            if let Some(slot) = slot_of(of_terminal(row.terminal)) {
                self.commit(slot).rows.event_ids.push((key, row));
            }
        }
        for (key, row) in batch.quarantine {
            if let Some(slot) = slot_of(of_terminal(key.terminal)) {
                self.commit(slot).rows.quarantine.push((key, row));
            }
        }
    }
}

/// The commit as number `flush`: its rows say so.
pub(crate) fn numbered(mut commit: Commit, flush: u64) -> Commit {
    commit.flush = flush;
    let last = commit.records.len().saturating_sub(1);
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    let position = Commit::position(flush, last);
    for (_, store) in &mut commit.rows.stores {
        store.applied = position;
    }
    commit
}

fn of_terminal(terminal: u64) -> Option<StoreId> {
    StoreId::new(u32::try_from(terminal >> 32).ok()?).ok()
}
