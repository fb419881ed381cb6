//! Commits of slots: each slot begins one as soon as it may and has something, whatever the others are at.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::MutexGuard;
use till_protocol::id::StoreId;
use till_storage::cluster::{Commit, Flush, slot_of};

use crate::cluster::node::Cluster;
use crate::cluster::owners::{Asked, Owner, Tenure};
use crate::lifecycle::engine::Engine;

impl Cluster {
    /// Gives each slot what a gather has of it, and begins what may begin.
    pub(super) fn deal(
        &self,
        commits: BTreeMap<Tenure, Commit>,
        uptos: &[(usize, u64)],
        gather: u64,
    ) {
        let mut all = self.owners.lock();
        let mut cursors = self.cursors.lock();
        cursors.pass(uptos);
        let mut commits: BTreeMap<u32, (Tenure, Commit)> = commits
            .into_iter()
            .map(|(tenure, commit)| (tenure.slot, (tenure, commit)))
            .collect();
        let mut begin = Vec::new();
        for (slot, owner) in all.iter_mut() {
            if owner.writer.has_ended() {
                continue;
            }
            // What was gathered for an ownership that has ended is handed off.
            let own = commits.remove(slot).filter(|(of, _)| owner.is_of(*of));
            begin.extend(own.as_ref().map(|(tenure, _)| *tenure));
            owner
                .pipe
                .add(own.map(|(_, commit)| commit), &cursors, gather);
        }
        drop((all, cursors));
        begin.into_iter().for_each(|tenure| self.begin(tenure));
    }

    /// Begins the next commit of a slot, if it has one and nothing else is on its way there. The log is made while the owners
    /// are free for others.
    pub(super) fn begin(&self, tenure: Tenure) {
        let mut all = self.owners.lock();
        let Some(commit) = taken(&mut all, tenure) else {
            return;
        };
        let flush = MutexGuard::unlocked(&mut all, || Flush::new(commit));
        let Some(owner) = owner(&mut all, tenure) else {
            return;
        };
        let flush = match flush {
            Ok(flush) => flush,
            Err(error) => {
                // Entries of a journal fit; so do the rows of all that may be uncommitted.
                tracing::error!(slot = tenure.slot, %error, "a commit cannot be made");
                return;
            }
        };
        match owner.writer.commit_made(flush) {
            Ok(()) => {
                owner.pipe.made();
                let asked = Asked::of(owner);
                drop(all);
                self.change(Some(asked));
            }
            // A renewal has come between.
            Err(flush) => owner.pipe.put_back(flush.into_commit()),
        }
    }

    /// The first gather of which something is not written.
    pub(super) fn oldest_gather(&self) -> Option<u64> {
        self.owners.oldest()
    }

    /// Something was committed, or rows were written.
    pub(super) fn gets_on(&self) {
        *self.got_on.lock() = self.now();
    }

    /// For how long nothing was.
    pub(super) fn waited(&self) -> Duration {
        self.now().saturating_sub(*self.got_on.lock())
    }

    /// Devices hear how far what they sent is in commits.
    pub(super) fn notify_devices(&self, engine: &Engine) {
        let news = self.owners.take_news();
        if news.is_empty() {
            return;
        }
        let slots = self.store.slots();
        let of_store = |store: StoreId| news.get(&slot_of(store, slots));
        for (index, shard) in engine.slots.iter().enumerate() {
            for session in shard.sessions_of(&|store| of_store(store).is_some()) {
                let Some((since, cursors)) = of_store(session.terminal().store()) else {
                    continue;
                };
                let upto = cursors.of(index);
                if *since <= upto {
                    session.committed_upto(upto);
                }
            }
        }
    }
}

fn owner(all: &mut BTreeMap<u32, Owner>, tenure: Tenure) -> Option<&mut Owner> {
    let owner = all.get_mut(&tenure.slot);
    owner.filter(|one| one.is_of(tenure) && !one.writer.has_ended())
}

// What is to be committed next, with its number: its rows say so.
fn taken(all: &mut BTreeMap<u32, Owner>, tenure: Tenure) -> Option<Commit> {
    let owner = owner(all, tenure)?;
    if !owner.writer.is_idle() {
        return None;
    }
    let (flush, epoch) = (owner.writer.next_flush(), owner.writer.epoch());
    let mut commit = owner.pipe.take(flush)?;
    (commit.flush, commit.epoch) = (flush, epoch);
    let last = commit.records.len().saturating_sub(1);
    let last = u32::try_from(last).unwrap_or(u32::MAX);
    let position = Commit::position(flush, last);
    for (_, store) in &mut commit.rows.stores {
        store.applied = position;
    }
    Some(commit)
}
