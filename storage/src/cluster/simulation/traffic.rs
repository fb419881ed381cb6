//! Events on their way: from devices, and from the journals of nodes that no longer serve them.

use std::time::Duration;

use super::Mistake;
use super::world::{Event, Sender, SlotWorld, To};
use crate::cluster::Route;

impl SlotWorld {
    /// Takes in what this node's own journal has of a slot that it serves.
    pub(super) fn absorb(&mut self, to: To, slot: u32) {
        let devices: Vec<u32> = self.nodes[to.0].journal.keys().copied().collect();
        for device in devices {
            if device % self.plan.slots == slot {
                let seqs = self.nodes[to.0].journal[&device].clone();
                for seq in seqs {
                    self.accept(to, device, seq);
                }
            }
        }
    }

    pub(super) fn send_backlog(&mut self, to: To) {
        if self.is(Mistake::ForgetBacklog) {
            return;
        }
        let journal = self.nodes[to.0].journal.clone();
        for (device, seqs) in journal {
            let slot = device % self.plan.slots;
            let (Some(first), Route::At(address)) = (seqs.first(), self.member(to).route(slot))
            else {
                continue;
            };
            let run = (*first..)
                .zip(&seqs)
                .take_while(|(wanted, seq)| wanted == *seq);
            let last = first + u64::try_from(run.count()).unwrap() - 1;
            let node: usize = address.parse().unwrap();
            if !self.rng.chance(self.faults.lost) {
                let delay = self.delay();
                self.after(
                    delay,
                    Event::Frame(node, device, *first, last, Sender::Node(to)),
                );
            }
        }
    }

    /// Takes an event in if it is the next one; whether the slot is open here.
    fn accept(&mut self, to: To, device: u32, seq: u64) -> bool {
        let slot = device % self.plan.slots;
        let now = self.clock(to.0);
        let is_careless = self.is(Mistake::ServeSuspended);
        let may_serve = self.member(to).may_serve(now) || is_careless;
        let Some(host) = self.host(to, slot) else {
            return false;
        };
        if !may_serve || !host.writer.is_open() || !host.is_restored || host.is_releasing {
            return false;
        }
        let epoch = host.writer.epoch();
        if host.wanted(device) == seq {
            host.next.insert(device, seq + 1);
            host.pending.push((device, seq));
            self.nodes[to.0]
                .journal
                .entry(device)
                .or_default()
                .insert(seq);
        }
        self.oracle.accepted(slot, epoch);
        true
    }

    pub(super) fn frame(
        &mut self,
        to: To,
        now: Duration,
        device: u32,
        seqs: (u64, u64),
        from: Sender,
    ) {
        let slot = device % self.plan.slots;
        let mut is_open = false;
        for seq in seqs.0..=seqs.1 {
            is_open |= self.accept(to, device, seq);
        }
        let delay = self.delay();
        if is_open {
            let host = self.host(to, slot);
            let upto = host.map_or(0, |host| host.committed.get(&device).copied().unwrap_or(0));
            self.after(delay, Event::Committed(device, upto, from));
        } else if let (Sender::Device, Route::At(address)) = (from, self.member(to).route(slot)) {
            self.after(delay, Event::Redirect(device, address.parse().unwrap()));
        }
        self.member(to).tick(now);
    }

    pub(super) fn device_acts(&mut self, device: u32) {
        let is_calm = self.now >= self.plan.calm_at;
        let nodes = self.nodes.len();
        let wander = self.rng.chance(100).then(|| self.rng.below(nodes));
        let (now, pace) = (self.now, self.plan.pace);
        let it = self.device(device);
        if now >= it.gone_at {
            return;
        }
        if !is_calm {
            it.made += 1;
        }
        // A node that is gone for good answers nothing: a device that hears nothing tries the next address, as a real one
        // does. One that only wandered by chance could stay with a dead node until the end of the world.
        if it.unanswered >= 2 {
            (it.at, it.unanswered) = ((it.at + 1) % nodes, 0);
        }
        it.at = wander.unwrap_or(it.at);
        let (first, last) = (it.committed + 1, it.made.min(it.committed + 8));
        let at = it.at;
        if first <= last {
            it.unanswered += 1;
            let delay = self.delay();
            if !self.rng.chance(self.faults.lost) {
                self.after(delay, Event::Frame(at, device, first, last, Sender::Device));
            }
        }
        let next = self.rng.within(pace / 2, pace * 3 / 2);
        self.after(next, Event::Device(device));
    }
}
