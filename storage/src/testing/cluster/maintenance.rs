//! What commands do to the model of a cluster.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;

use super::days::Days;
use super::{MemoryCluster, MemoryFacts, Stamps};
use crate::cluster::{Commit, LogNote, LogStart, Maintenance, SlotBase};
use crate::num::narrow;
use crate::rebuild::store_of;
use crate::views::StoreError;

impl Maintenance for MemoryCluster {
    fn may_clear(&self) -> Result<(), StoreError> {
        self.answer().map(drop)
    }

    fn clear(&self) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        state.logs.values_mut().for_each(|log| log.rows.clear());
        state.stamps = Stamps::default();
        state.days = Days::default();
        self.facts.clear();
        self.views.clear_but_names();
        self.notified(())
    }

    fn log_start(&self, slot: u32) -> Result<LogStart, StoreError> {
        let start = self.answer()?.log_starts.get(&slot).copied();
        Ok(start.unwrap_or_default())
    }

    fn note(&self, slot: u32, note: &LogNote) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        let start = state.log_starts.entry(slot).or_default();
        match note {
            LogNote::Base(base) => {
                let flush = start.base.map_or(0, |base| base.flush);
                if base.flush > flush {
                    start.base = Some(*base);
                }
            }
            LogNote::Dropped(flush, before_us) if *flush > start.dropped => {
                (start.dropped, start.before_us) = (*flush, *before_us);
            }
            LogNote::Dropped(..) => {}
            LogNote::Cleared(flush) => start.cleared = start.cleared.max(*flush),
        }
        self.notified(())
    }

    fn put_base(&self, base: &SlotBase, from: u32, records: &[Bytes]) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        let written = state.bases.entry((base.slot, base.id)).or_default();
        written.extend((from..).zip(records.iter().cloned()));
        self.notified(())
    }

    fn base_records(
        &self,
        base: &SlotBase,
        from: u32,
        count: u32,
    ) -> Result<Vec<Bytes>, StoreError> {
        let state = self.answer()?;
        let Some(written) = state.bases.get(&(base.slot, base.id)) else {
            return Ok(Vec::new());
        };
        let range = from..from.saturating_add(count);
        Ok(written.range(range).map(|(_, one)| one.clone()).collect())
    }

    fn forget_base(&self, base: &SlotBase) -> Result<(), StoreError> {
        self.answer()?.bases.remove(&(base.slot, base.id));
        self.notified(())
    }

    fn forget_facts(&self, commits: &[Arc<Commit>], before_us: i64) -> Result<(), StoreError> {
        let _answers = self.answer()?;
        commits
            .iter()
            .for_each(|commit| self.facts.forget(commit, before_us));
        self.notified(())
    }

    fn forget_log(&self, slot: u32, (first, last): (u64, u64)) -> Result<(), StoreError> {
        let mut state = self.answer()?;
        let is_gone = |of: u32, flush: u64| of == slot && (first..=last).contains(&flush);
        state.logs.retain(|(of, flush, _), _| !is_gone(*of, *flush));
        state.seals.retain(|(of, flush), _| !is_gone(*of, *flush));
        self.notified(())
    }
}

impl MemoryFacts {
    fn forget(&self, commit: &Commit, before_us: i64) {
        let mut records = self.records.write().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = self.dropped.write().unwrap_or_else(PoisonError::into_inner);
        for (index, record) in commit.records.iter().enumerate() {
            let position = Commit::position(commit.flush, narrow(index));
            records.remove(&(commit.slot, position));
            if let Some(store) = store_of(&record.head) {
                let before = dropped.entry(store).or_insert(before_us);
                *before = before_us.max(*before);
            }
        }
    }
}
