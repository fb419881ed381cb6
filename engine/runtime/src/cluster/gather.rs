//! A round of the flush on its way to the slots: the records since the last one, read back from the journal, with the rows after
//! them, by slot.

use std::collections::BTreeMap;
use std::time::Duration;

use till_core::{Record, Space};
use till_protocol::id::StoreId;
use till_storage::cluster::{Commit, slot_of};
use till_storage::journal::{Journal, Lsn, ReadError};
use till_storage::rebuild::store_of;
use till_storage::views::FlushBatch;

use crate::cluster::cursors::Cursors;
use crate::cluster::node::Cluster;
use crate::cluster::owners::{Since, Tenure};
use crate::cluster::unread::{COMMITS, pause_after};
use crate::commit::Part;
use crate::figures::FlushState;
use crate::lifecycle::engine::Engine;
use crate::publish::door::FlushError;
use crate::shard::handle::shard_of;

/// A round on its way to the slots.
#[derive(Debug)]
pub(crate) struct Gather {
    number: u64,
    /// By slot, still without numbers of flushes.
    commits: BTreeMap<u32, Commit>,
    /// Names that the commits use; they belong to no slot, and are written before any of them.
    names: Vec<(Space, u64, String)>,
    lsn_range: LsnRange,
    is_read: bool,
    /// How often a read has failed, and when it is made the next time.
    tries: u32,
    at: Duration,
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

impl Gather {
    /// Takes the rows that shards gave. Rows and records of slots that are not this node's are left out.
    pub(crate) fn new(cluster: &Cluster, engine: &Engine, number: u64, parts: Vec<Part>) -> Self {
        let upto = parts.iter().map(|part| (part.shard, part.upto)).collect();
        let mut gather = Self {
            number,
            commits: BTreeMap::new(),
            names: Vec::new(),
            lsn_range: LsnRange {
                cursors: cluster.cursors.lock().clone(),
                since: cluster.since(),
                upto,
                shape: (engine.slots.len(), cluster.store.slots()),
            },
            is_read: false,
            tries: 0,
            at: cluster.now(),
        };
        for part in parts {
            gather.rows(FlushBatch::from(*part.dirty));
        }
        gather
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Gets on, as far as that goes without waiting. True: every slot has what is its.
    ///
    /// # Errors
    /// [`FlushError`] when the engine stops before the records are read back and the store answers.
    pub(crate) fn turn(&mut self, cluster: &Cluster, engine: &Engine) -> Result<bool, FlushError> {
        if !self.read(cluster, engine)? || !self.write_names(cluster, engine)? {
            return Ok(false);
        }
        let uptos: Vec<(usize, u64)> = self.lsn_range.upto.clone().into_iter().collect();
        let commits = std::mem::take(&mut self.commits).into_iter();
        let since = &self.lsn_range.since;
        let commits = commits.filter_map(|(slot, commit)| {
            let ownership_epoch = since.get(&slot)?.ownership_epoch;
            let is_empty = commit.records.is_empty() && commit.rows.rows() == 0;
            let tenure = Tenure {
                slot,
                ownership_epoch,
            };
            (!is_empty).then_some((tenure, commit))
        });
        cluster.deal(commits.collect(), &uptos, self.number);
        Ok(true)
    }

    // Reads what is to be committed. A read that fails is no end: the rows are gone from the shards, so this round is tried
    // until it works, and none comes before it. True: it is read.
    fn read(&mut self, cluster: &Cluster, engine: &Engine) -> Result<bool, FlushError> {
        if self.is_read {
            return Ok(true);
        }
        if cluster.now() >= self.at {
            match self.lsn_range.records(&engine.journal) {
                Ok(records) => {
                    for (slot, records) in records {
                        self.commit(slot).records = records;
                    }
                    cluster.note_read(COMMITS);
                    if self.tries > 0 {
                        cluster.unread.note_going_on();
                    }
                    self.is_read = true;
                    return Ok(true);
                }
                Err(error) => {
                    cluster.note_unread(engine, COMMITS, &error);
                    engine.figures.flush_state(FlushState::Unread);
                    self.tries += 1;
                    self.at = cluster.now().saturating_add(pause_after(self.tries));
                }
            }
        }
        if engine.is_draining() && cluster.waited() > engine.config.drain_timeout {
            let text = "what they come of cannot be read back from the journal".to_owned();
            return Err(FlushError::Rows(text));
        }
        Ok(false)
    }

    // True: they are written.
    fn write_names(&mut self, cluster: &Cluster, engine: &Engine) -> Result<bool, FlushError> {
        if self.names.is_empty() {
            return Ok(true);
        }
        match cluster.store.write_names(&self.names) {
            Ok(()) => {
                let names = self.names.iter();
                let names = names.map(|(space, id, name)| (*space, *id, name.as_str()));
                engine.names.written(names);
                self.names.clear();
                Ok(true)
            }
            Err(error) if engine.is_draining() => Err(FlushError::Rows(error.to_string())),
            Err(error) => {
                tracing::debug!(%error, "names are not written yet");
                Ok(false)
            }
        }
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

fn of_terminal(terminal: u64) -> Option<StoreId> {
    StoreId::new(u32::try_from(terminal >> 32).ok()?).ok()
}
