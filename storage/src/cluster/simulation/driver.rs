//! What a driver does with the commands of writers, and what goes wrong on the way.

use std::sync::Arc;

use super::oracle::{cells, load};
use super::store::RowWrite;
use super::world::{Event, SlotWorld, To};
use super::{Faults, MS, Mistake, SECOND};
use crate::cluster::{Action, Answer, Commit, Conditional, End};

impl SlotWorld {
    /// Carries a command out. `tag` is the writer and the number of the request.
    pub(super) fn carry_out(
        &mut self,
        to: To,
        slot: u32,
        tag: (u64, u64),
        action: Action,
        wait: u64,
    ) {
        let (born, request) = tag;
        let reply = |answer| Event::Answer(to, slot, born, request, answer);
        let is_lost = self.rng.chance(self.faults.lost);
        match action {
            Action::WriteLog {
                flush,
                epoch,
                parts,
            } => {
                let (mut is_whole, mut longest) = (true, 0);
                for (part, body) in (0..).zip(parts) {
                    let (delay, is_acknowledged) = self.plain();
                    is_whole &= is_acknowledged;
                    if let Some(delay) = delay {
                        longest = longest.max(if is_acknowledged { delay } else { 0 });
                        let write = Event::PutPart((slot, flush), epoch, part, body);
                        self.after(wait + delay, write);
                    }
                }
                if self.is(Mistake::NotifyBeforeCommit) {
                    self.notify_committed(to, slot, flush);
                }
                let answer = if is_whole {
                    Answer::Done
                } else {
                    Answer::Failed
                };
                self.after(wait + longest + MS, reply(answer));
            }
            Action::Swap(swap) => self.swap(to, slot, tag, swap, wait),
            Action::ReadSlot if is_lost => self.after(wait + 300 * MS, reply(Answer::Failed)),
            Action::ReadSlot => {
                let delay = wait + self.delay();
                self.after(delay, Event::ReadSlot(to, slot, born, request));
            }
            Action::ReadLog(_) if is_lost => self.after(wait + 300 * MS, reply(Answer::Failed)),
            Action::ReadLog(key) => {
                let delay = wait + self.delay();
                self.after(delay, Event::ReadLog(to, slot, born, request, key));
            }
            Action::Materialise(commit) => {
                let is_restored = self.host(to, slot).is_some_and(|host| host.is_restored);
                if !is_restored && self.is(Mistake::NoRestore) {
                    return self.after(wait + MS, reply(Answer::Done));
                }
                let (is_whole, delay) = self.put_rows(to, &commit, wait);
                let is_hasty = is_restored && self.is(Mistake::CommitBeforeRows);
                let answer = if is_whole || is_hasty {
                    Answer::Done
                } else {
                    Answer::Failed
                };
                self.after(if is_hasty { MS } else { delay }, reply(answer));
            }
            Action::DeleteLog { flush } => {
                if let (Some(delay), _) = self.plain() {
                    self.after(delay, Event::DeleteLog((slot, flush)));
                }
            }
            action => self.notified(to, slot, action),
        }
    }

    fn swap(&mut self, to: To, slot: u32, tag: (u64, u64), swap: Conditional, wait: u64) {
        let (born, request) = tag;
        let arrival = |is_answered| Event::Swap(to, slot, born, request, swap, is_answered);
        if !self.rng.chance(self.faults.unknown) {
            let delay = wait + self.delay();
            return self.after(delay, arrival(true));
        }
        match self.rng.below(3) {
            0 => {}
            1 => {
                let delay = wait + self.delay();
                self.after(delay, arrival(false));
            }
            _ => {
                let late = wait + self.rng.within(MS, 8 * SECOND);
                self.after(late, arrival(false));
            }
        }
        let answer = if self.is(Mistake::UnknownIsSuccess) {
            Answer::Applied
        } else {
            Answer::Unknown
        };
        self.after(
            wait + 300 * MS,
            Event::Answer(to, slot, born, request, answer),
        );
    }

    pub(super) fn put_rows(&mut self, to: To, commit: &Arc<Commit>, wait: u64) -> (bool, u64) {
        let (mut is_whole, mut longest) = (true, 0);
        let wall = self.nodes[to.0].wall(self.now);
        for cell in cells(commit) {
            let stamp = if self.is(Mistake::StampByClock) {
                wall
            } else {
                i64::try_from(commit.flush).unwrap()
            };
            let write = RowWrite {
                slot: commit.slot,
                flush: commit.flush,
                stamp,
                cell,
            };
            let (delay, is_acknowledged) = self.plain();
            is_whole &= is_acknowledged;
            if let Some(delay) = delay {
                longest = longest.max(if is_acknowledged { delay } else { 0 });
                self.after(wait + delay, Event::PutRow(write));
            }
        }
        (is_whole, wait + longest + MS)
    }

    /// When a plain write arrives, if ever, and whether it is acknowledged.
    pub(super) fn plain(&mut self) -> (Option<u64>, bool) {
        if !self.rng.chance(self.faults.lost) {
            return (Some(self.delay()), true);
        }
        match self.rng.below(3) {
            0 => (None, false),
            1 => (Some(self.delay()), false),
            _ => (Some(self.rng.within(MS, 8 * SECOND)), false),
        }
    }

    /// A writer tells something that needs no answer.
    pub(super) fn notified(&mut self, to: To, slot: u32, action: Action) {
        match action {
            Action::NotifyCommitted { flush } => self.notify_committed(to, slot, flush),
            Action::Serve { flush, epoch } => {
                self.oracle.serves(&self.store, slot, flush, epoch);
                let closed = self.closed.remove(&slot);
                self.pauses.extend(closed.map(|since| self.now - since));
                let next = load(&self.store, slot);
                if let Some(host) = self.host(to, slot) {
                    if host.is_restored {
                        return;
                    }
                    host.is_restored = true;
                    host.committed = next
                        .iter()
                        .map(|(device, next)| (*device, next - 1))
                        .collect();
                    host.base.clone_from(&next);
                    host.next = next;
                }
                let now = self.clock(to.0);
                self.member(to).taken(now, slot);
            }
            Action::Report(error) => self.oracle.fail(format!("slot {slot}: {error}")),
            Action::Stop(end) => {
                self.oracle.seen.insert(match &end {
                    End::Lost(_) => "lost a race",
                    End::Fenced(_) => "fenced",
                    End::Released => "released",
                });
                if let Some(process) = &mut self.nodes[to.0].process {
                    process.hosts.remove(&slot);
                }
                let now = self.clock(to.0);
                let row = match &end {
                    End::Lost(row) | End::Fenced(row) => Some(row),
                    End::Released => None,
                };
                self.member(to).ended(now, slot, row);
                self.duties(to);
            }
            _ => {}
        }
    }

    pub(super) fn notify_committed(&mut self, to: To, slot: u32, flush: u64) {
        let is_early = self.is(Mistake::DeleteLogEarly);
        if is_early {
            self.after(MS, Event::DeleteLog((slot, flush)));
        }
        let Some(host) = self.host(to, slot) else {
            return;
        };
        let events = std::mem::take(&mut host.flying);
        for (device, seq) in &events {
            host.committed.insert(*device, *seq);
        }
        for (device, seq) in events {
            self.oracle.notified(slot, device, seq);
            if let Some(seqs) = self.nodes[to.0].journal.get_mut(&device) {
                seqs.remove(&seq);
            }
        }
    }

    /// What happens to the nodes themselves.
    pub(super) fn nemesis(&mut self, event: &Event) {
        match *event {
            Event::Crash(node, back) => {
                let (now, node) = (self.now, &mut self.nodes[node]);
                if let Some(process) = node.process.take() {
                    self.oracle.seen.insert("crashed");
                    let open = process
                        .hosts
                        .iter()
                        .filter(|(_, host)| host.writer.is_open());
                    self.closed.extend(open.map(|(slot, _)| (*slot, now)));
                }
                node.paused_until = now;
                let number = node.number;
                match back {
                    Some(delay) => self.after(delay, Event::Start(number)),
                    None => self.nodes[number].is_lost = true,
                }
            }
            Event::Start(node) => {
                let (now, salt) = (self.now, self.plan.salt);
                let (slots, lease) = (self.plan.slots, self.plan.lease);
                let lease = std::time::Duration::from_micros(lease);
                let clock = self.clock(node);
                let node = &mut self.nodes[node];
                if node.process.is_none() && !node.is_lost {
                    node.paused_until = now;
                    node.start(clock, slots, lease, salt);
                    let to = (node.number, node.incarnation);
                    self.after(0, Event::Tick(to));
                }
            }
            Event::Pause(node, until) => {
                self.oracle.seen.insert("paused");
                self.nodes[node].paused_until = until;
            }
            Event::Jump(node, by) => self.nodes[node].wall_us += by,
            Event::Calm => {
                self.faults = Faults::default();
                for node in 0..self.nodes.len() {
                    self.nodes[node].paused_until = 0;
                    self.after(0, Event::Start(node));
                }
            }
            _ => {}
        }
    }
}
