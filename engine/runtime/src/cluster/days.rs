//! Sums of days: an engine makes those of the stores whose slots it serves, when a day is over.
//!
//! Nothing has to hold it back where it has lost a slot: see [`sum_day`](till_storage::cluster::SharedStore::sum_day). Nor is
//! anything lost where it stops: a day stays due until its sums are there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use till_core::Zone;
use till_protocol::id::StoreId;
use till_storage::cluster::DueDay;
use till_storage::views::StoreError;

use crate::clock::Clock;
use crate::cluster::node::Cluster;

/// Time between two looks. A till that was away for long sends its days in one go: a day that has changed since the look before
/// waits for the next one, so that it is added up once and not for each of its frames. Nobody waits for that: until then a
/// question is answered from hours.
const LOOK: Duration = Duration::from_secs(30);
/// Days of one look. What is left is taken with the next one: by then an engine may have lost some of its slots, and their new
/// owner adds the same days up.
const DAYS_A_LOOK: usize = 256;

/// Makes sums of days, one call to the shared store after another.
pub(crate) struct DaySums {
    clock: Clock,
    cluster: Arc<Cluster>,
    steps: VecDeque<Step>,
    /// Days that are taken with this look.
    taken: usize,
    next: Duration,
    /// What was due at the last look, by slot.
    seen: BTreeMap<u32, Vec<DueDay>>,
    zones: BTreeMap<StoreId, Zone>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Look(u32),
    Sum(u32, DueDay),
}

impl DaySums {
    pub(super) fn new(clock: Clock, cluster: &Arc<Cluster>) -> Self {
        Self {
            clock,
            steps: VecDeque::new(),
            taken: 0,
            next: cluster.now(),
            seen: BTreeMap::new(),
            zones: BTreeMap::new(),
            cluster: Arc::clone(cluster),
        }
    }

    /// Starts the thread. It ends when `stopped` is without its other end.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub(super) fn start(mut self, stopped: Receiver<()>) -> std::io::Result<JoinHandle<()>> {
        let thread = std::thread::Builder::new().name("days".to_owned());
        thread.spawn(move || {
            while stopped.recv_timeout(self.pause()) == Err(RecvTimeoutError::Timeout) {
                self.turn();
            }
        })
    }

    /// For how long there is nothing to do.
    pub(crate) fn pause(&self) -> Duration {
        match self.steps.is_empty() {
            true => self.next.saturating_sub(self.cluster.now()),
            false => Duration::ZERO,
        }
    }

    /// The next step: a slot whose days are looked at, or a day.
    pub(crate) fn turn(&mut self) {
        let now = self.cluster.now();
        if self.steps.is_empty() && now >= self.next {
            self.next = now.saturating_add(LOOK);
            self.taken = 0;
            let served = self.cluster.since();
            self.seen.retain(|slot, _| served.contains_key(slot));
            self.steps.extend(served.into_keys().map(Step::Look));
        }
        let Some(step) = self.steps.pop_front() else {
            return;
        };
        let done = match step {
            Step::Look(slot) => self.look(slot),
            Step::Sum(slot, due) => self.sum(slot, &due),
        };
        if let Err(error) = done {
            tracing::warn!(?step, %error, "sums of days were not made; the next look tries it again");
            // A store that does not answer is not asked for all the rest. One row that makes no sense keeps no other back.
            if matches!(error, StoreError::Failed { .. }) {
                self.steps.clear();
            }
        }
    }

    // Notes what is due in a slot, and takes what is over and was due like this at the look before.
    fn look(&mut self, slot: u32) -> Result<(), StoreError> {
        let due = self.cluster.store.days_due(slot)?;
        let before = self.seen.insert(slot, due.clone()).unwrap_or_default();
        for day in due {
            if self.taken >= DAYS_A_LOOK {
                return Ok(());
            }
            if before.contains(&day) && self.is_over(&day)? {
                self.taken += 1;
                self.steps.push_back(Step::Sum(slot, day));
            }
        }
        Ok(())
    }

    fn is_over(&mut self, due: &DueDay) -> Result<bool, StoreError> {
        let now_us = (self.clock)().us();
        if let Some(zone) = self.zones.get_mut(&due.store) {
            return Ok(due.day < zone.local(now_us).day);
        }
        let Some(row) = self.cluster.store.views().store(due.store)? else {
            return Ok(false);
        };
        // It never changes.
        let zone = Zone::new(&row.zone).map_err(|error| StoreError::Damaged {
            table: "stores",
            cause: error.to_string(),
        })?;
        let zone = self.zones.entry(due.store).or_insert(zone);
        Ok(due.day < zone.local(now_us).day)
    }

    fn sum(&self, slot: u32, due: &DueDay) -> Result<(), StoreError> {
        // Before the hours are read: all that was written up to there is in what is read.
        match self.cluster.applied(slot) {
            Some(applied) if due.flush <= applied => self.cluster.store.sum_day(slot, due, applied),
            // It has gone, or its rows are not all known to be written.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
