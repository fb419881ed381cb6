//! What engines hand off to each other: all of it is committed in the end, or waits with a reason.

use till_core::Record;
use till_storage::cluster::Handoff;

use super::Oracle;
use super::read::{Read, places_of, reported};

impl Oracle {
    /// Records are handed off.
    pub(crate) fn hands_off(&mut self, records: &[Record]) {
        let positions = records.iter().flat_map(places_of);
        self.handed_off.extend(positions);
    }

    /// Records that waited for the owner of their slot were taken away: each of their events is committed.
    pub(crate) fn taken_away(&mut self, records: &[Record]) {
        for record in records {
            let lost = self.truths_of(record);
            let lost = lost.into_iter().find(|truth| self.quiesced[*truth] == 0);
            if let Some(truth) = lost {
                let what = format!("event {truth} was handed off, and taken away uncommitted");
                self.fail("HND-1", what);
            }
        }
    }

    /// What waits for the owner of its slot is not all committed under its own numbers: that would have been taken away. And it
    /// waits only where two things went wrong: a device has a branch, or a disk is gone.
    pub(crate) fn none_waits_to_no_effect(&mut self, waiting: &[Handoff]) {
        let is_there = |record: &Record| {
            let head = &record.head;
            let is_same = |(index, event): &(u32, Read)| {
                let position = (
                    head.terminal,
                    head.epoch,
                    head.first_seq + u64::from(*index),
                );
                let own = self.by_key.get(&(head.terminal, event.at)).copied();
                self.committed.get(&position).copied().flatten() == own
            };
            let events = reported(record);
            places_of(record).all(|position| self.committed.contains_key(&position))
                && events
                    .iter()
                    .filter(|(index, _)| *index >= head.skip)
                    .all(is_same)
        };
        let to_no_effect = |chunk: &&Handoff| chunk.records.iter().all(is_there);
        let is_single =
            |record: &&Record| !is_there(record) && !self.branched.contains(&record.head.terminal);
        if !self.is_disk_lost
            && let Some(record) = waiting.iter().flat_map(|one| &one.records).find(is_single)
        {
            let what = format!("{:?} is stranded, and nothing else went wrong", record.head);
            return self.fail("HND-3", what);
        }
        if let Some(chunk) = waiting.iter().find(to_no_effect) {
            let what = format!(
                "all of piece {} for slot {} is committed, and it still waits",
                chunk.number, chunk.slot
            );
            self.fail("HND-2", what);
        }
    }

    /// What lies in a journal whose disk was not lost is committed, or waits with a reason.
    pub(crate) fn all_handed_off(&mut self, disks: &[u64], stuck: &[Record]) {
        let waits: Vec<usize> = stuck.iter().flat_map(|one| self.truths_of(one)).collect();
        let left = self.journals.iter().filter(|(truth, journals)| {
            let is_kept = |(node, disk): &(usize, u64)| disks.get(*node) == Some(disk);
            self.quiesced[**truth] == 0 && journals.iter().any(is_kept) && !waits.contains(truth)
        });
        if let Some(truth) = left.map(|(truth, _)| *truth).min() {
            let what = format!(
                "event {truth} ({:?}) is in a journal and in no commit; {:?}",
                self.truths[truth], self.known[truth]
            );
            self.fail("HND-1", what);
        }
    }
}
