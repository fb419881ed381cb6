//! Gathers the index of a segment, entry by entry. Answers for the segment that is still being written.

use std::collections::BTreeMap;

use till_core::{RecordHead, RecordKind};

use super::Filter;
use super::keys::Keys;
use crate::journal::Lsn;
use crate::journal::range_of;
use crate::num::narrow;

/// The index of a segment as it grows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Builder {
    pub(crate) start: Lsn,
    /// Everything before this LSN is in.
    pub(crate) upto: Lsn,
    pub(crate) hours: BTreeMap<(u32, i32), Vec<u32>>,
    pub(crate) terminals: BTreeMap<(u64, u32), Run>,
    pub(crate) receipts: Vec<(u32, u32)>,
    pub(crate) retries: Vec<u32>,
    pub(crate) records: u32,
    pub(crate) first_at_us: i64,
    pub(crate) last_at_us: i64,
    pub(crate) received_us: i64,
}

/// Records of one epoch of a terminal in a segment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) entries: Vec<u32>,
}

impl Run {
    pub(super) const fn touches(&self, (first, last): (u64, u64)) -> bool {
        self.first <= last && first <= self.last
    }
}

impl Builder {
    pub(crate) const fn new(start: Lsn) -> Self {
        Self {
            start,
            upto: start,
            hours: BTreeMap::new(),
            terminals: BTreeMap::new(),
            receipts: Vec::new(),
            retries: Vec::new(),
            records: 0,
            first_at_us: i64::MAX,
            last_at_us: i64::MIN,
            received_us: i64::MIN,
        }
    }

    /// Takes a record in. Records come in the order of the journal.
    pub(crate) fn add(&mut self, lsn: Lsn, head: &RecordHead, keys: &Keys) {
        let offset = u32::try_from(lsn.since(self.start)).unwrap_or(u32::MAX);
        self.records += 1;
        if crate::planted::is("index-without-first") && self.records == 1 {
            return;
        }
        self.received_us = self.received_us.max(head.received_at_us);
        self.add_sequence(offset, head);
        let store = u32::try_from(head.terminal >> 32).unwrap_or(u32::MAX);
        self.first_at_us = self.first_at_us.min(keys.first_at_us);
        self.last_at_us = self.last_at_us.max(keys.last_at_us);
        for hour in &keys.hours {
            let entries = self.hours.entry((store, *hour)).or_default();
            if entries.last() != Some(&offset) {
                entries.push(offset);
            }
        }
        for receipt in &keys.receipts {
            if self.receipts.last() != Some(&(*receipt, offset)) {
                self.receipts.push((*receipt, offset));
            }
        }
    }

    fn add_sequence(&mut self, offset: u32, head: &RecordHead) {
        if head.kind == RecordKind::Retry {
            self.retries.push(offset);
        }
        if let Some((first, last)) = range_of(head) {
            let run = self
                .terminals
                .entry((head.terminal, head.epoch))
                .or_insert_with(|| Run {
                    first,
                    ..Run::default()
                });
            run.first = run.first.min(first);
            run.last = run.last.max(last);
            run.entries.push(offset);
        }
    }

    /// Entries with events of a store in hours from `from` to `to`, both included.
    pub(crate) fn store_hours(&self, store: u32, from: i32, to: i32) -> Vec<u32> {
        let mut found = Vec::new();
        if from <= to {
            for (_, entries) in self.hours.range((store, from)..=(store, to)) {
                found.extend_from_slice(entries);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The records of one epoch of a terminal; without entries where none of them may lie between two sequence numbers.
    pub(crate) fn terminal(&self, terminal: u64, epoch: u32, range: (u64, u64)) -> Option<Run> {
        let run = self.terminals.get(&(terminal, epoch))?;
        let mut found = Run {
            entries: Vec::new(),
            ..*run
        };
        if found.touches(range) {
            found.entries.clone_from(&run.entries);
        }
        Some(found)
    }

    /// Entries with a receipt of this hash.
    pub(crate) fn receipt(&self, hash: u32) -> Vec<u32> {
        let hits = self.receipts.iter().filter(|(one, _)| *one == hash);
        let mut found: Vec<u32> = hits.map(|(_, offset)| *offset).collect();
        found.dedup();
        found
    }

    /// The receipts as the file has them, with the filter over them.
    pub(crate) fn sorted_receipts(&self) -> (Vec<(u32, u32)>, Filter) {
        let mut sorted = self.receipts.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let filter = Filter::of(sorted.iter().map(|(hash, _)| *hash));
        debug_assert!(narrow(sorted.len()) < u32::MAX);
        (sorted, filter)
    }
}
