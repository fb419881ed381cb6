//! Says whose events lie in damaged bytes.

use std::collections::BTreeMap;
use std::fmt;

use till_core::{RecordHead, RecordKind};

use super::Lsn;
use super::format::{Entries, EntryPrefix};
use super::owners::Owners;
use super::scan::{SegmentChunk, entries_in};
use crate::num::size32;

/// Ranges that a message names.
const NAMED_MAX: usize = 20;

/// Events that the journal held and does not give back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lost {
    /// The terminal as u64, its store in the upper 32 bits.
    pub terminal: u64,
    /// Its epoch.
    pub epoch: u32,
    /// First sequence number that is lost.
    pub first: u64,
    /// Last sequence number that is lost.
    pub last: u64,
    /// Whether its neighbours prove it. If not, it is what the damaged head of a record says, which may be wrong itself.
    pub certain: bool,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, till) = (self.terminal >> 32, self.terminal & u64::from(u32::MAX));
        write!(
            f,
            "terminal {store}-{till} epoch {} seq {} to {}",
            self.epoch, self.first, self.last
        )?;
        if !self.certain {
            f.write_str(" (read from a damaged head)")?;
        }
        Ok(())
    }
}

/// Ranges of sequence numbers by terminal and epoch, as they are met from the front of the journal to its end.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    seen: BTreeMap<(u64, u32), Vec<(u64, u64)>>,
    suspects: Vec<Lost>,
    owners: Owners,
}

impl Ledger {
    /// Takes in a range of a segment.
    pub(crate) fn add(&mut self, chunk: &SegmentChunk) {
        match chunk {
            SegmentChunk::Whole(group) => {
                let mut entries = Entries::new(&group.body);
                let steps = std::iter::from_fn(|| entries.step());
                self.add_entries(
                    group.head.lsn,
                    steps.map(|(_, prefix, entry)| (prefix, entry)),
                );
            }
            SegmentChunk::Damaged { from, bytes, .. } => {
                let entries = entries_in(*from, bytes).into_iter();
                self.add_entries(*from, entries.map(|(_, prefix, entry)| (prefix, entry)));
            }
        }
    }

    fn add_entries<'a>(&mut self, at: Lsn, entries: impl Iterator<Item = (EntryPrefix, &'a [u8])>) {
        for (prefix, entry) in entries {
            if prefix.is_hole() {
                continue;
            }
            let head = entry.get(super::ENTRY_PREFIX_BYTES..);
            let Some(Ok(head)) = head.map(RecordHead::decode) else {
                continue;
            };
            if prefix.proves(entry) {
                self.owners.add_record(at, &head);
            }
            let Some((first, last)) = range_of(&head) else {
                continue;
            };
            if prefix.proves(entry) {
                self.saw(head.terminal, head.epoch, first, last);
            } else if size32(prefix.bytes) == entry.len() {
                self.suspects.push(Lost {
                    terminal: head.terminal,
                    epoch: head.epoch,
                    first,
                    last,
                    certain: false,
                });
            }
        }
    }

    fn saw(&mut self, terminal: u64, epoch: u32, first: u64, last: u64) {
        let ranges = self.seen.entry((terminal, epoch)).or_default();
        match ranges.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => ranges.push((first, last)),
        }
    }

    /// The sequence number that comes next, by terminal and epoch, as far as records are there.
    pub(crate) fn next(&self) -> BTreeMap<(u64, u32), u64> {
        let next = |ranges: &Vec<(u64, u64)>| {
            let last = ranges.iter().map(|(_, last)| *last).max();
            last.map_or(1, |last| last.saturating_add(1))
        };
        self.seen
            .iter()
            .map(|(epoch, ranges)| (*epoch, next(ranges)))
            .collect()
    }

    /// Whose records are there.
    pub(crate) const fn owners(&self) -> &Owners {
        &self.owners
    }

    /// What is lost: the gaps between what is there, and readable heads of entries that are not whole.
    pub(crate) fn lost(mut self) -> Vec<Lost> {
        let mut lost = Vec::new();
        for ((terminal, epoch), ranges) in &self.seen {
            for pair in ranges.windows(2) {
                let [(_, before), (after, _)] = pair else {
                    continue;
                };
                lost.push(Lost {
                    terminal: *terminal,
                    epoch: *epoch,
                    first: before + 1,
                    last: after - 1,
                    certain: true,
                });
            }
        }
        for suspect in std::mem::take(&mut self.suspects) {
            let known = lost.iter().any(|gap| gap.covers(&suspect));
            let ranges = self.seen.get(&(suspect.terminal, suspect.epoch));
            let there = ranges.is_some_and(|ranges| {
                let mut ranges = ranges.iter();
                ranges.any(|(first, last)| *first <= suspect.first && suspect.last <= *last)
            });
            if !known && !there {
                lost.push(suspect);
            }
        }
        lost.sort_unstable();
        lost
    }
}

impl Lost {
    /// What two sources say is lost, in order. What is certain takes the place of what a damaged head says.
    #[must_use]
    pub fn together(mut known: Vec<Self>, more: Vec<Self>) -> Vec<Self> {
        let is_told = |one: &Self| more.iter().any(|range| range.covers(one));
        known.retain(|one| one.certain || !is_told(one));
        known.extend(more);
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Names ranges in a sentence: the first twenty, and how many more there are.
    #[must_use]
    pub fn words(lost: &[Self]) -> String {
        if lost.is_empty() {
            return "no event is known to be lost".to_owned();
        }
        let named: Vec<String> = lost.iter().take(NAMED_MAX).map(Self::to_string).collect();
        let mut words = format!("lost: {}", named.join(", "));
        if lost.len() > NAMED_MAX {
            words.push_str(&format!(" and {} more ranges", lost.len() - NAMED_MAX));
        }
        words
    }

    fn covers(&self, other: &Self) -> bool {
        self.terminal == other.terminal
            && self.epoch == other.epoch
            && self.first <= other.first
            && other.last <= self.last
    }
}

/// The sequence numbers that a record carries forward; `None` for records that carry none.
pub fn range_of(head: &RecordHead) -> Option<(u64, u64)> {
    let carries = matches!(
        head.kind,
        RecordKind::Batch | RecordKind::Tombstones | RecordKind::Duplicates
    );
    fresh(head).filter(|_| carries)
}

fn fresh(head: &RecordHead) -> Option<(u64, u64)> {
    let first = head.first_seq.checked_add(u64::from(head.skip))?;
    let last = head.first_seq.checked_add(u64::from(head.count))?;
    (first < last).then(|| (first, last - 1))
}
