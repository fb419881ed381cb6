//! From what shards flush to what slots commit: the records since the last round, read back from the journal, with the rows
//! after them, by slot.

use crate::cluster::cursors::Cursors;
use std::collections::BTreeMap;

use till_core::Record;
use till_protocol::id::StoreId;
use till_storage::cluster::{Commit, slot_of};
use till_storage::journal::{Journal, Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::FlushBatch;

use crate::cluster::owners::{Since, Tenure};
use crate::commit::Part;
use crate::shard::handle::shard_of;

/// What a round commits.
#[derive(Debug)]
pub(crate) struct Round {
    /// By slot, still without the number of its flush.
    pub(crate) commits: BTreeMap<u32, Commit>,
    /// Names that the commits use; they belong to no slot.
    pub(crate) names: Vec<(till_core::Space, u64, String)>,
    lsn_range: LsnRange,
}

/// What of the journal is in a round: records of these ownerships, behind what was dealt with before.
#[derive(Debug)]
struct LsnRange {
    cursors: Cursors,
    since: BTreeMap<u32, Since>,
    /// By shard, the LSN up to which the round holds all of its records.
    upto: BTreeMap<usize, u64>,
    /// Shards and slots.
    shape: (usize, u32),
}

impl Round {
    /// Takes the rows that shards gave. Rows and records of slots that are not among `since` are left out: they are another
    /// node's now.
    pub(crate) fn of(
        parts: Vec<Part>,
        (cursors, since): (Cursors, BTreeMap<u32, Since>),
        shape: (usize, u32),
    ) -> Self {
        let upto = parts.iter().map(|part| (part.shard, part.upto)).collect();
        let mut round = Self {
            commits: BTreeMap::new(),
            names: Vec::new(),
            lsn_range: LsnRange {
                cursors,
                since,
                upto,
                shape,
            },
        };
        for part in parts {
            round.rows(FlushBatch::from(*part.dirty));
        }
        round
    }

    /// Reads the records behind these rows. All of them, or none: where one cannot be read, this is to be called again, and
    /// nothing of the round is committed before it has worked.
    pub(crate) fn read(&mut self, journal: &Journal) -> Result<(), ReadError> {
        for (slot, records) in self.lsn_range.records(journal)? {
            self.commit(slot).records = records;
        }
        Ok(())
    }

    /// The commits of ownerships that have something to commit.
    pub(crate) fn into_commits(self) -> impl Iterator<Item = (Tenure, Commit)> {
        let since = self.lsn_range.since;
        let commits = self.commits.into_iter();
        commits.filter_map(move |(slot, commit)| {
            let ownership_epoch = since.get(&slot)?.ownership_epoch;
            let is_empty = commit.records.is_empty() && commit.rows.rows() == 0;
            (!is_empty).then_some((
                Tenure {
                    slot,
                    ownership_epoch,
                },
                commit,
            ))
        })
    }

    fn commit(&mut self, slot: u32) -> &mut Commit {
        self.commits.entry(slot).or_insert_with(|| Commit {
            slot,
            ..Commit::default()
        })
    }

    // The slot of a store, if it is among those of the round.
    fn slot_of(&self, store: Option<StoreId>) -> Option<u32> {
        let (_, slots) = self.lsn_range.shape;
        let slot = slot_of(store?, slots);
        self.lsn_range.since.contains_key(&slot).then_some(slot)
    }

    fn rows(&mut self, batch: FlushBatch) {
        self.names.extend(batch.names);
        for (key, row) in batch.stores {
            if let Some(slot) = self.slot_of(Some(key)) {
                self.commit(slot).rows.stores.push((key, row));
            }
        }
        for (key, row) in batch.terminals {
            if let Some(slot) = self.slot_of(Some(key.store())) {
                self.commit(slot).rows.terminals.push((key, row));
            }
        }
        for (key, row) in batch.skus {
            if let Some(slot) = self.slot_of(Some(key.0)) {
                self.commit(slot).rows.skus.push((key, row));
            }
        }
        for (key, row) in batch.rollups {
            if let Some(slot) = self.slot_of(StoreId::new(key.store).ok()) {
                self.commit(slot).rows.rollups.push((key, row));
            }
        }
        for (key, row) in batch.event_ids {
            if let Some(slot) = self.slot_of(of_terminal(row.terminal)) {
                self.commit(slot).rows.event_ids.push((key, row));
            }
        }
        for (key, row) in batch.quarantine {
            if key.line == u16::MAX && crate::planted::is("drop-quarantine") {
                continue;
            }
            if let Some(slot) = self.slot_of(of_terminal(key.terminal)) {
                self.commit(slot).rows.quarantine.push((key, row));
            }
        }
    }
}

impl LsnRange {
    fn records(&self, journal: &Journal) -> Result<BTreeMap<u32, Vec<Record>>, ReadError> {
        let mut records: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        let (shards, slots) = self.shape;
        let from = self.upto.keys().map(|shard| self.cursors.of(*shard)).min();
        let last = self.upto.values().copied().max().unwrap_or(0);
        let Some(from) = from.filter(|from| *from < last) else {
            return Ok(records);
        };
        // No further: what is damaged behind it is of a later round.
        let behind = Lsn::new(last.saturating_add(1));
        for item in journal.records_between(Lsn::new(from), behind) {
            let (lsn, record) = item?;
            let Some(store) = store_of(&record.head) else {
                continue;
            };
            let shard = shard_of(store, shards);
            let is_new = lsn.get() > self.cursors.of(shard);
            let upto = self.upto.get(&shard);
            let is_in = upto.is_some_and(|last| lsn.get() <= *last);
            let slot = slot_of(store, slots);
            let since = self.since.get(&slot);
            let is_ours = since.is_some_and(|since| lsn.get() >= since.position);
            if is_new && is_in && is_ours {
                records.entry(slot).or_default().push(record);
            }
        }
        Ok(records)
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
