//! What happens to tills: lost connections, crashes, images that are put back, days offline.

use till_client::{Outbox as _, Session};
use till_protocol::reply::Message;

use super::Till;
use crate::coverage::Sight;
use crate::plan::{MS, SECOND};
use crate::world::{Event, World};

impl Till {
    // What its outbox holds without a commit.
    fn waiting(&self) -> &[usize] {
        let committed = usize::try_from(self.pocket.standing().committed).unwrap_or(usize::MAX);
        self.numbers.get(committed..).unwrap_or_default()
    }
}

impl World {
    /// A till's connection is gone.
    pub(in crate::world) fn hang_up(&mut self, number: usize, conn: u64) {
        let till = &mut self.tills[number];
        if till.conn != Some(conn) {
            return;
        }
        till.conn = None;
        till.tick = None;
        if let Some(session) = &mut till.session {
            session.disconnected();
        }
        self.connect_later(number);
    }

    fn drop_conn(&mut self, number: usize) {
        if let Some(conn) = self.tills[number].conn.take() {
            self.tills[number].tick = None;
            if let Some(session) = &mut self.tills[number].session {
                session.disconnected();
            }
            self.leave(conn);
        }
    }

    pub(in crate::world) fn till_crash(&mut self, number: usize) {
        if self.is_calm || !self.tills[number].is_on() || self.tills[number].is_lost {
            return;
        }
        self.fault("till_crash");
        self.saw(Sight::DeviceCrash);
        self.drop_conn(number);
        let has_power = self.rng.one_in(2);
        let till = &mut self.tills[number];
        till.session = None;
        if !has_power {
            till.pocket.power_failed(&mut self.rng);
            let lost = self.outbox_opens(number, has_power);
            if !lost.is_empty() {
                self.saw(Sight::DeviceForgot);
            }
            for truth in lost {
                self.oracle.forgotten(truth);
            }
        }
        let most = self.rng.within(MS, 10 * SECOND);
        self.after(most, Event::TillStart(number));
    }

    // What an outbox finds when its device starts: all that it had where the power was there, and where it was not at least
    // what it called durable. Gives the events that it no longer has.
    fn outbox_opens(&mut self, number: usize, has_power: bool) -> Vec<usize> {
        let till = &mut self.tills[number];
        let before = till.pocket.standing();
        if let Err(error) = till.pocket.reopen() {
            self.oracle.fail("OUT-2", error.to_string());
            return Vec::new();
        }
        let after = till.pocket.standing();
        let least = if has_power {
            before.last
        } else {
            before.durable
        };
        let is_other = after.epoch != before.epoch || after.committed > before.committed;
        if is_other || after.last < least || after.last > before.last {
            let what = format!("an outbox was {before:?}, and opens as {after:?}");
            self.oracle.fail("OUT-2", what);
        }
        let till = &mut self.tills[number];
        let kept = till.first(after.last);
        let before = std::mem::replace(&mut till.numbers, kept);
        before
            .get(till.numbers.len()..)
            .unwrap_or_default()
            .to_vec()
    }

    // Events that a till no longer has, nor another one that goes on from its outbox.
    fn dropped(&mut self, before: &[usize]) {
        for truth in before {
            let holds = |till: &Till| till.numbers.contains(truth);
            if !self.tills.iter().any(holds) {
                self.oracle.known[*truth].is_dropped = true;
            }
        }
    }

    pub(in crate::world) fn till_start(&mut self, number: usize) {
        if self.tills[number].is_on() || self.tills[number].is_lost {
            return;
        }
        let lost = self.outbox_opens(number, true);
        if !lost.is_empty() {
            let what = format!("{} events went while the power was there", lost.len());
            self.oracle.fail("OUT-2", what);
        }
        self.tills[number].switch_on();
        self.connect_later(number);
    }

    pub(in crate::world) fn image(&mut self, number: usize) {
        let till = &mut self.tills[number];
        let image = till.pocket.image();
        match till.pocket.restored(&image) {
            Ok(copy) => till.image = Some((image, till.first(copy.standing().last))),
            Err(error) => self.oracle.fail("OUT-2", error.to_string()),
        }
    }

    pub(in crate::world) fn restore(&mut self, number: usize) {
        if self.is_calm || self.tills[number].is_lost {
            return;
        }
        let Some((image, numbers)) = self.tills[number].image.clone() else {
            return;
        };
        self.fault("till_restored");
        self.saw(Sight::Restored);
        self.branches(number, false);
        self.drop_conn(number);
        let till = &mut self.tills[number];
        till.session = None;
        match till.pocket.restored(&image) {
            Ok(pocket) => till.pocket = pocket,
            Err(error) => return self.oracle.fail("OUT-2", error.to_string()),
        }
        let before = std::mem::replace(&mut till.numbers, numbers);
        self.dropped(&before);
        let pause = self.rng.within(MS, 10 * SECOND);
        self.after(pause, Event::TillStart(number));
    }

    // From here on two devices, or two states of one, may say different things under the same numbers.
    fn branches(&mut self, number: usize, is_copy: bool) {
        let terminal = self.tills[number].terminal.to_u64();
        self.oracle.branches(terminal, is_copy);
    }

    /// A till's outbox is copied to another device, and both go on under one name.
    pub(in crate::world) fn copy(&mut self, number: usize) {
        if self.is_calm || self.tills[number].is_lost {
            return;
        }
        self.fault("till_copied");
        self.saw(Sight::Copied);
        self.branches(number, true);
        let second = self.tills.len();
        match self.tills[number].copied() {
            Ok(copy) => {
                self.oracle.copied(copy.waiting());
                self.tills.push(copy);
            }
            Err(error) => return self.oracle.fail("OUT-2", error.to_string()),
        }
        self.connect_later(second);
        let first = self.rng.within(MS, self.plan.pace);
        self.after(first, Event::Happen(second));
    }

    /// A till is put back and goes on without a network. Then there is another one with the same outbox: both have events
    /// that the engine knows in no epoch, and both are cut off when they have one for them: each may count them.
    pub(in crate::world) fn twins(&mut self, number: usize, step: u8) {
        if self.is_calm || self.tills[number].is_lost || self.tills[number].image.is_none() {
            return;
        }
        if step == 0 {
            self.restore(number);
            self.tills[number].is_online = false;
            let pause = self.rng.within(8 * SECOND, 14 * SECOND);
            return self.after(pause, Event::Twins(number, 1));
        }
        self.copy(number);
        for one in [number, self.tills.len() - 1] {
            self.tills[one].stumbles = 2;
        }
        self.online(number);
    }

    /// Whether a till is cut off before it can say anything in the epoch that it has just been given.
    pub(in crate::world) fn stumbles(&mut self, number: usize, was_live: bool) -> bool {
        let till = &mut self.tills[number];
        let is_live = till.session.as_ref().is_some_and(Session::is_live);
        if was_live || !is_live || till.stumbles == 0 {
            return false;
        }
        till.stumbles -= 1;
        true
    }

    /// A till is put back, goes on without a network, and is copied again. What it then sends in a new epoch reaches an engine
    /// that ends with it; the copy is put back, and its events get numbers at another engine. Or the old image is put back once
    /// more: then there is nothing to say in the epoch that the other engine grants, and what comes next must not pass for known.
    pub(in crate::world) fn rewind(&mut self, number: usize, step: u8) {
        if self.is_calm || self.tills[number].is_lost || self.tills[number].image.is_none() {
            return;
        }
        match step {
            0 => {
                self.restore(number);
                self.tills[number].is_online = false;
                let pause = self.rng.within(8 * SECOND, 14 * SECOND);
                self.after(pause, Event::Rewind(number, 1));
            }
            1 => {
                if self.rng.one_in(2) {
                    self.image(number);
                }
                self.tills[number].rewinds = true;
                self.online(number);
            }
            _ => {
                let n = self.tills[number].engine;
                if self.nodes[n].engine.is_some() {
                    self.end_process(n);
                }
                self.nodes[n].down_until = self.now + self.rng.within(5 * SECOND, 25 * SECOND);
                self.restore(number);
                self.tills[number].loses_grant = !self.rng.one_in(3);
            }
        }
    }

    /// Whether a till does not hear that it has a new epoch. The engine has granted it.
    pub(in crate::world) fn is_grant_lost(&mut self, number: usize, message: &Message) -> bool {
        let till = &mut self.tills[number];
        let Message::Welcome(welcome) = message else {
            return false;
        };
        till.loses_grant
            && welcome.epoch > welcome.latest_epoch
            && std::mem::take(&mut till.loses_grant)
    }

    pub(in crate::world) fn drop_conn_for_now(&mut self, number: usize) {
        self.drop_conn(number);
        self.connect_later(number);
    }

    pub(in crate::world) fn offline(&mut self, number: usize) {
        if self.is_calm {
            return;
        }
        self.fault("offline");
        self.saw(Sight::Offline);
        self.drop_conn(number);
        self.tills[number].is_online = false;
    }

    pub(in crate::world) fn online(&mut self, number: usize) {
        self.tills[number].is_online = true;
        self.connect_later(number);
    }

    pub(in crate::world) fn lost(&mut self, number: usize) {
        if self.is_calm {
            return;
        }
        self.fault("till_lost");
        self.saw(Sight::DeviceLost);
        self.drop_conn(number);
        let till = &mut self.tills[number];
        till.session = None;
        till.is_lost = true;
        let before = std::mem::take(&mut till.numbers);
        self.dropped(&before);
    }
}
