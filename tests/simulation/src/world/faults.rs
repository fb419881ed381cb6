//! Troubles: when they come, and what they do.

mod reads;
mod releases;
mod retries;
mod strays;

use std::sync::Arc;

use till_storage::disk::Disk;
use till_storage::journal::{Journal, Looked, OpenError};

use super::node::Node;
use super::{Event, World};
use crate::coverage::Sight;
use crate::disk::{WorldDisk, segment_start};
use crate::plan::{HOUR, MS, SECOND};

impl World {
    /// Puts the first of everything into the queue.
    pub(super) fn schedule(&mut self) {
        for n in 0..self.nodes.len() {
            let later = if n == 0 {
                0
            } else {
                self.rng.within(0, 4 * SECOND)
            };
            self.at(later, Event::Start(n));
        }
        for till in 0..self.tills.len() {
            let soon = self.rng.within(MS, SECOND);
            self.at(soon, Event::Connect(till));
            let first = self.rng.within(MS, self.plan.pace);
            self.at(first, Event::Happen(till));
            self.schedule_till(till);
        }
        for n in 0..self.nodes.len() {
            self.schedule_engine(n);
        }
        self.again(self.plan.net.partition_every, Event::Part);
        let cluster = self.plan.cluster;
        self.again(cluster.map_or(0, |plan| plan.damage_every), Event::Damage);
        self.again(self.plan.release_every, Event::Release);
        self.schedule_till_crashes();
        if let Some(when) = self.plan.copied_at {
            let till = self.rng.index(self.tills.len());
            if self.rng.one_in(4) {
                self.at(when, Event::Copy(till));
            } else {
                let made = self.rng.within(0, when);
                self.at(made, Event::Image(till));
                self.at(when, Event::Twins(till, 0));
            }
        }
        self.at(self.plan.calm_at, Event::Calm);
    }

    fn schedule_engine(&mut self, n: usize) {
        let node = self.plan.node;
        for (every, event) in [
            (node.crash_every, Event::Crash(n)),
            (node.shard_crash_every, Event::ShardCrash(n)),
            (node.leap_every, Event::Leap(n)),
            (node.full_every, Event::Fill(n)),
            (self.plan.retry_every, Event::Retry(n)),
            (self.plan.reads.blind_every, Event::Blind(n)),
        ] {
            self.again(every, event);
        }
        let Some(cluster) = self.plan.cluster else {
            return;
        };
        for (every, event) in [
            (cluster.cutoff_every, Event::Cutoff(n)),
            (cluster.freeze_every, Event::Freeze(n)),
            (cluster.burn_every, Event::Burn(n)),
        ] {
            self.again(every, event);
        }
    }

    /// An engine does not reach the shared store for a while.
    pub(super) fn cut_off(&mut self, n: usize) {
        let Some(cluster) = self.plan.cluster else {
            return;
        };
        self.again(cluster.cutoff_every, Event::Cutoff(n));
        if self.is_calm {
            return;
        }
        self.fault("engine_cut_off");
        self.saw(Sight::CutOff);
        if let Some(member) = &self.nodes[n].member {
            member.way.part(true);
        }
        let pause = self.rng.within(100 * MS, 3 * cluster.lease);
        self.after(pause, Event::Reach(n));
    }

    pub(super) fn reach(&mut self, n: usize) {
        if let Some(member) = &self.nodes[n].member {
            member.way.part(false);
        }
    }

    /// An engine's process stands still for a while, and does not know it.
    pub(super) fn freeze(&mut self, n: usize) {
        let Some(cluster) = self.plan.cluster else {
            return;
        };
        self.again(cluster.freeze_every, Event::Freeze(n));
        if self.is_calm || self.nodes[n].engine.is_none() {
            return;
        }
        self.fault("engine_frozen");
        self.saw(Sight::Frozen);
        let pause = self.rng.within(100 * MS, 3 * cluster.lease);
        self.nodes[n].frozen_until = self.now + pause;
    }

    /// An engine is lost with its disk; another one takes its place.
    pub(super) fn burn(&mut self, n: usize) {
        let Some(cluster) = self.plan.cluster else {
            return;
        };
        self.again(cluster.burn_every, Event::Burn(n));
        if self.is_calm {
            return;
        }
        self.fault("disk_lost");
        self.saw(Sight::DiskGone);
        if self.nodes[n].engine.is_some() {
            self.end_process(n);
        }
        self.nodes[n].burn(&mut self.rng);
        if let Some(member) = &mut self.nodes[n].member {
            member.disk += 1;
            self.oracle.is_disk_lost = true;
            member.read_upto = 0;
        }
    }

    fn schedule_till(&mut self, till: usize) {
        let (faults, end) = (self.plan.till, self.plan.calm_at);
        if faults.restore_every > 0 && self.rng.one_in(2) {
            let made = self.rng.within(0, end / 2);
            let back = self.rng.within(made, end);
            let again = self.rng.within(back, end);
            self.at(made, Event::Image(till));
            self.at(back, Event::Restore(till));
            // The same image once more: by then the till has lived another epoch.
            if self.rng.one_in(2) {
                self.at(again, Event::Restore(till));
            }
            if self.plan.cluster.is_some() {
                let then = self.rng.within(made, end * 2 / 3);
                self.at(then, Event::Rewind(till, 0));
            }
        }
        if self.rng.chance(faults.offline) {
            let from = self.rng.within(0, end / 3);
            let until = self.rng.within(end / 2, end);
            self.at(from, Event::Offline(till));
            self.at(until, Event::Online(till));
        }
        if self.rng.chance(faults.lost) {
            let when = self.rng.within(end / 4, end);
            self.at(when, Event::Lost(till));
        }
    }

    pub(super) fn again(&mut self, every: u64, event: Event) {
        if every > 0 && !self.is_calm {
            let pause = self.rng.within(1, 2 * every);
            self.after(pause, event);
        }
    }

    fn schedule_till_crashes(&mut self) {
        let (mut at, every) = (0, self.plan.till.crash_every);
        while every > 0 && at < self.plan.calm_at {
            at += self.rng.within(1, 2 * every);
            let till = self.rng.index(self.tills.len());
            self.at(at, Event::TillCrash(till));
        }
    }

    /// The process ends: at once, in the middle of something, or in good order.
    pub(super) fn crash(&mut self, n: usize) {
        let node = self.plan.node;
        self.again(node.crash_every, Event::Crash(n));
        if self.nodes[n].engine.is_none() {
            return;
        }
        if self.is_calm {
            return self.end_process(n);
        }
        if self.rng.chance(node.orderly) {
            return match self.shared {
                None => self.stop(n),
                Some(_) => self.begin_stop(n),
            };
        }
        if self.rng.chance(node.midway) {
            let operations = self.rng.within(0, 12);
            return self.nodes[n].disk.stop_after(operations);
        }
        self.end_process(n);
    }

    /// What waits is made durable, rows are synced, the journal is closed.
    pub(super) fn stop(&mut self, n: usize) {
        while self.nodes[n]
            .engine
            .as_ref()
            .is_some_and(till_runtime::testing::Stepped::has_waiting)
        {
            self.commit(n);
            if self.nodes[n].disk.is_limited() {
                break;
            }
        }
        let Some(engine) = self.nodes[n].engine.take() else {
            return;
        };
        if engine.close().is_err() {
            self.fault("not_closed");
        }
        self.end_process(n);
    }

    pub(super) fn crash_shard(&mut self, n: usize) {
        self.again(self.plan.node.shard_crash_every, Event::ShardCrash(n));
        let Some(engine) = &mut self.nodes[n].engine else {
            return;
        };
        if engine.is_writing() {
            return;
        }
        self.coverage.saw(Sight::ShardCrashed);
        *self.faults.entry("shard_crashed").or_default() += 1;
        let shard = self.rng.index(usize::from(self.plan.shards));
        let restarted = engine.restart_shard(shard);
        self.oracle.counts_rebuilt();
        match restarted {
            Ok(()) => {
                self.may_damage();
                self.engine_moved(n);
            }
            Err(halt) => self.halted(n, &halt),
        }
    }

    pub(super) fn leap(&mut self, n: usize) {
        self.again(self.plan.node.leap_every, Event::Leap(n));
        if self.is_calm {
            return;
        }
        self.fault("clock_leap");
        self.saw(Sight::ClockLeap);
        let most = i64::try_from(30 * HOUR).unwrap_or(0);
        self.nodes[n].leapt = self.rng.signed(-most, most);
        self.advance_time(n);
    }

    pub(super) fn fill(&mut self, n: usize) {
        self.again(self.plan.node.full_every, Event::Fill(n));
        if self.is_calm || self.nodes[n].disk.is_limited() {
            return;
        }
        self.fault("disk_full");
        let room = self.rng.within(0, 3_000);
        self.nodes[n].disk.leave_room(Some(room));
        let pause = self.rng.within(100 * MS, 15 * SECOND);
        self.after(pause, Event::Free(n));
    }

    pub(super) fn free(&mut self, n: usize) {
        self.nodes[n].disk.leave_room(None);
    }

    pub(super) fn part(&mut self) {
        self.again(self.plan.net.partition_every, Event::Part);
        if self.is_calm {
            return;
        }
        self.fault("partition");
        self.saw(Sight::Partition);
        for till in 0..self.tills.len() {
            if self.rng.one_in(2) {
                self.tills[till].is_parted = true;
                if let Some(conn) = self.tills[till].conn {
                    self.cut(conn);
                }
            }
        }
        let pause = self.rng.within(SECOND, 20 * SECOND);
        self.after(pause, Event::Heal);
    }

    pub(super) fn heal(&mut self) {
        for till in &mut self.tills {
            till.is_parted = false;
        }
    }

    /// Looks at the journal as it would be with one bit turned over, or cut short: that is found, or changes nothing.
    pub(super) fn look_at_rot(&mut self, n: usize) {
        if self.plan.is_excused() || !self.rng.chance(self.plan.node.rot) {
            return;
        }
        let dir = Node::journal_dir();
        let disk = self.nodes[n].disk.image();
        let files = disk.lengths(&dir);
        let segments = files
            .iter()
            .filter(|(path, _)| segment_start(path).is_some());
        let segments: Vec<_> = segments.cloned().collect();
        let (Some((path, bytes)), Ok(whole)) =
            (segments.get(self.rng.index(segments.len())), look(&disk))
        else {
            return;
        };
        let is_cut = self.rng.one_in(4);
        if is_cut {
            self.fault("truncated");
            let at = self.rng.index(*bytes);
            disk.cut(path, at);
        } else {
            self.fault("bit_rot");
            let at = self.rng.index(*bytes * 8);
            disk.flip_bit(path, at);
        }
        let found = look(&disk);
        self.judge_rot(n, &whole, found, is_cut);
    }

    fn judge_rot(
        &mut self,
        n: usize,
        whole: &Looked,
        found: Result<Looked, OpenError>,
        is_cut: bool,
    ) {
        let sight = if is_cut {
            Sight::CutFound
        } else {
            Sight::RotFound
        };
        let Ok(found) = found else {
            return self.saw(sight);
        };
        let (Some(before), Some(after)) = (records(whole), records(&found)) else {
            return self.saw(sight);
        };
        if before == after {
            return;
        }
        self.saw(sight);
        let is_front = before.starts_with(&after);
        // Only the last group may be taken for torn, and the next start says so.
        let last = self.nodes[n].last_group();
        let missing = before
            .get(after.len())
            .map_or(u64::MAX, |(position, _)| *position);
        if !is_front || missing < last || (found.torn.is_none() && !is_cut) {
            let what = format!(
                "damage was not found: {} records of {} are left, the first that is missing lies at {missing}",
                after.len(),
                before.len()
            );
            self.oracle.fail("JRN-1", what);
        }
    }

    /// What disk, rows and network did.
    pub(super) fn count_faults(&mut self) {
        for n in 0..self.nodes.len() {
            self.count_engine_faults(n);
        }
        self.count_shared_faults();
    }

    fn count_shared_faults(&mut self) {
        let Some(shared) = &self.shared else {
            return;
        };
        let counts = shared.store.counts();
        for (kind, times) in [
            ("store_refused", counts.refused),
            ("store_answer_lost", counts.answers_lost),
            ("store_late", counts.late),
            ("store_stale", counts.stale),
            ("store_wrote_partly", counts.partly),
        ] {
            self.faulted(kind, times);
        }
        for (times, sight) in [
            (counts.fenced, Sight::Fenced),
            (counts.commits_fenced, Sight::CommitFenced),
            (counts.unknown_made, Sight::UnknownMade),
            (counts.unknown_refused, Sight::UnknownRefused),
            (counts.taken_over, Sight::TakenOver),
            (counts.after_the_next, Sight::LateAfterNext),
            (counts.handed_off, Sight::HandedOff),
            (counts.answers_lost, Sight::ShareAnswerLost),
            (counts.partly, Sight::RowsInPart),
        ] {
            self.coverage.saw_times(sight, times);
        }
    }

    fn count_engine_faults(&mut self, n: usize) {
        let (disk, rows) = (self.nodes[n].disk.counts(), self.nodes[n].rows.counts());
        let unread = disk.reads_failed - self.nodes[n].unread_at_start;
        for (kind, times) in [
            ("sync_failed", disk.sync_failed),
            ("sync_lied", disk.sync_lied),
            ("short_write", disk.short_writes),
            ("torn_write", disk.torn),
            ("lost_write", disk.lost_writes),
            ("stopped_midway", disk.stopped),
            ("no_room", disk.full),
            ("read_failed", disk.reads_failed),
            ("write_strayed", disk.strayed),
            ("rows_failed", rows.failed),
            ("rows_answer_lost", rows.answers_lost),
            ("rows_read_failed", rows.reads_failed),
            ("rows_calls_lost", rows.calls_lost),
        ] {
            self.faulted(kind, times);
        }
        for (times, sight) in [
            (disk.sync_lied, Sight::SyncLied),
            (disk.short_writes, Sight::ShortWrite),
            (unread, Sight::RunUnread),
            (rows.failed, Sight::RowsFailed),
            (rows.answers_lost, Sight::AnswerLost),
            (rows.reads_failed, Sight::RowReadFailed),
            (rows.calls_lost, Sight::CallsLost),
        ] {
            self.coverage.saw_times(sight, times);
        }
    }
}

fn look(disk: &WorldDisk) -> Result<Looked, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Journal::look(disk, &Node::journal_dir())
}

// Places and payloads of all records; `None` where one cannot be read.
fn records(looked: &Looked) -> Option<Vec<(u64, bytes::Bytes)>> {
    let records = looked.journal.records(looked.journal.start());
    records
        .map(|item| {
            item.ok()
                .map(|(position, record)| (position.get(), record.payload))
        })
        .collect()
}
