//! The slots that are this node's, or are becoming or were so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use till_storage::cluster::{Action, Command, SlotRow, SlotWriter};

use crate::cluster::cursors::Cursors;
use crate::cluster::pipe::Pipe;

/// One ownership of a slot. A slot that is lost and taken again has another one: answers to the first writer, whose requests
/// had the same numbers, and what was put together for it, are not for the second.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Tenure {
    pub(crate) slot: u32,
    pub(crate) ownership_epoch: u64,
}

/// A slot under one ownership.
pub(super) struct Owner {
    ownership_epoch: u64,
    pub(super) writer: SlotWriter,
    /// Where in the journal its records begin to be its own; `None` until it is open.
    since: Option<u64>,
    /// It takes nothing more: it is being given up.
    is_closed: bool,
    pub(super) pipe: Pipe,
}

/// An ownership that takes part in commits.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    pub(crate) ownership_epoch: u64,
    /// Where in the journal its records begin to be its own.
    pub(crate) position: u64,
    /// How far they are in the rows.
    pub(crate) applied: Cursors,
}

/// All of them.
pub(super) struct Owners {
    /// What is taken of each slot. It is asked for each frame, and never waits.
    open: Box<[Flags]>,
    all: Mutex<BTreeMap<u32, Owner>>,
    /// A slot has become idle, was opened, or has ended.
    moved: Condvar,
    ownership_epochs: AtomicU64,
}

#[derive(Default)]
struct Flags {
    /// Frames of sessions that are there.
    serves: AtomicBool,
    /// New sessions.
    accepts: AtomicBool,
}

impl Owners {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            open: (0..slots).map(|_| Flags::default()).collect(),
            all: Mutex::default(),
            moved: Condvar::new(),
            ownership_epochs: AtomicU64::new(1),
        }
    }

    fn flags(&self, slot: u32) -> Option<&Flags> {
        self.open.get(usize::try_from(slot).ok()?)
    }

    /// Whether events of a slot are taken in.
    ///
    /// Also where the shared store does not hear this node, of sessions that are there: such a device was nowhere else
    /// since, and keeps its numbers. What is replayed is on the disk, and counts once the node is heard again, or once it is handed
    /// off to whoever has the slot then.
    pub(super) fn is_open(&self, slot: u32) -> bool {
        self.flags(slot)
            .is_some_and(|flags| flags.serves.load(Ordering::Acquire))
    }

    /// Whether a slot is surely this node's, as far as the slot is concerned, so that devices may be told how far they are.
    /// A device that heard an old number would give its events new ones, and they would count twice.
    pub(super) fn accepts(&self, slot: u32) -> bool {
        self.flags(slot)
            .is_some_and(|flags| flags.accepts.load(Ordering::Acquire))
    }

    /// Slots that are served here.
    pub(super) fn open_slots(&self) -> usize {
        let is_open = |flags: &&Flags| flags.serves.load(Ordering::Relaxed);
        self.open.iter().filter(is_open).count()
    }

    /// The ownership under which a slot is served here.
    pub(super) fn tenure(&self, slot: u32) -> Option<Tenure> {
        let all = self.all.lock();
        let owner = all.get(&slot).filter(|owner| owner.is_open())?;
        Some(Tenure {
            slot,
            ownership_epoch: owner.ownership_epoch,
        })
    }

    /// The flush up to which all rows of a slot are written that is served here.
    pub(super) fn applied(&self, slot: u32) -> Option<u64> {
        let all = self.all.lock();
        let owner = all.get(&slot).filter(|owner| owner.is_open())?;
        Some(owner.writer.applied())
    }

    /// Begins an ownership; what its writer asks for first.
    pub(super) fn begin(&self, writer: SlotWriter, cursors: Cursors) -> Asked {
        let (slot, ownership_epoch) = (
            writer.slot(),
            self.ownership_epochs.fetch_add(1, Ordering::Relaxed),
        );
        let mut owner = Owner {
            ownership_epoch,
            writer,
            since: None,
            is_closed: false,
            pipe: Pipe::new(cursors.clone(), cursors),
        };
        let asked = Asked::of(&mut owner);
        self.all.lock().insert(slot, owner);
        asked
    }

    /// Does something to a slot's ownership; what its writer asks for then. Nothing where it is not `ownership_epoch`'s any more.
    pub(super) fn change(&self, tenure: Tenure, act: impl FnOnce(&mut Owner)) -> Option<Asked> {
        let mut all = self.all.lock();
        let owner = all
            .get_mut(&tenure.slot)
            .filter(|owner| owner.is_of(tenure))?;
        Some(self.changed(owner, act))
    }

    /// Does something to the ownership that a slot has, whichever it is.
    pub(super) fn change_any(&self, slot: u32, act: impl FnOnce(&mut Owner)) -> Option<Asked> {
        let mut all = self.all.lock();
        let owner = all.get_mut(&slot)?;
        Some(self.changed(owner, act))
    }

    /// Does something to each of them.
    pub(super) fn change_all(&self, act: impl Fn(&mut Owner)) -> Vec<Asked> {
        let mut all = self.all.lock();
        all.values_mut()
            .map(|owner| self.changed(owner, &act))
            .collect()
    }

    // Every change comes by here, so that the flags of a slot are never behind its writer.
    fn changed(&self, owner: &mut Owner, act: impl FnOnce(&mut Owner)) -> Asked {
        act(owner);
        if let Some(flags) = self.flags(owner.writer.slot()) {
            let (is_open, is_sure) = (owner.is_open(), owner.writer.is_open());
            flags.serves.store(is_open, Ordering::Release);
            flags.accepts.store(is_open && is_sure, Ordering::Release);
        }
        self.moved.notify_all();
        Asked::of(owner)
    }

    /// Forgets an ownership that has ended.
    pub(super) fn forget(&self, tenure: Tenure) {
        let mut all = self.all.lock();
        if all
            .get(&tenure.slot)
            .is_some_and(|owner| owner.ownership_epoch == tenure.ownership_epoch)
        {
            all.remove(&tenure.slot);
        }
        self.moved.notify_all();
    }

    /// The ownerships that take part in commits.
    pub(super) fn since(&self) -> BTreeMap<u32, Since> {
        let all = self.all.lock();
        let of_one = |(slot, owner): (&u32, &Owner)| {
            let position = owner.since.filter(|_| !owner.writer.has_ended())?;
            let since = Since {
                ownership_epoch: owner.ownership_epoch,
                position,
                applied: owner.pipe.applied().clone(),
            };
            Some((*slot, since))
        };
        all.iter().filter_map(of_one).collect()
    }

    /// Slots of which more is committed than at the last look: from where on their records are their own, and how far they are
    /// in commits.
    pub(super) fn take_news(&self) -> BTreeMap<u32, (u64, Cursors)> {
        let mut all = self.all.lock();
        let news = all.iter_mut().filter_map(|(slot, owner)| {
            let since = owner.since.filter(|_| !owner.writer.has_ended())?;
            Some((*slot, (since, owner.pipe.take_news()?)))
        });
        news.collect()
    }

    /// The first gather of which something is not written.
    pub(super) fn oldest(&self) -> Option<u64> {
        let all = self.all.lock();
        let running = all.values().filter(|owner| !owner.writer.has_ended());
        running.filter_map(|owner| owner.pipe.oldest()).min()
    }

    /// LSN up to which every ownership that is not forgotten has its records in commits.
    pub(super) fn committed_upto(&self) -> u64 {
        let all = self.all.lock();
        let least = all
            .values()
            .map(|owner| owner.pipe.committed().least())
            .min();
        least.unwrap_or(u64::MAX)
    }

    /// LSN up to which every ownership that is not forgotten has its records in the rows.
    pub(super) fn applied_upto(&self) -> u64 {
        let all = self.all.lock();
        let least = all.values().map(|owner| owner.pipe.applied().least()).min();
        least.unwrap_or(u64::MAX)
    }

    /// From where on a slot's records are its own here, and how far they are surely in commits. `None` if it was never open.
    pub(super) fn standing(&self, tenure: Tenure) -> Option<(u64, Cursors)> {
        let all = self.all.lock();
        let owner = all
            .get(&tenure.slot)
            .filter(|owner| owner.ownership_epoch == tenure.ownership_epoch)?;
        Some((owner.since?, owner.pipe.committed().clone()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Owner>> {
        self.all.lock()
    }

    /// Waits until something has changed, or for so long; `false` when nothing has.
    pub(super) fn wait(
        &self,
        all: &mut MutexGuard<'_, BTreeMap<u32, Owner>>,
        within: Duration,
    ) -> bool {
        !self.moved.wait_for(all, within).timed_out()
    }
}

impl Owner {
    pub(super) fn is_of(&self, tenure: Tenure) -> bool {
        self.ownership_epoch == tenure.ownership_epoch
    }

    fn is_open(&self) -> bool {
        self.since.is_some() && !self.is_closed && !self.writer.has_ended()
    }

    /// Its records are its own from a position in the journal on. After a renewal it is as it was.
    pub(super) fn open(&mut self, from: u64) {
        self.since.get_or_insert(from);
    }

    /// It takes nothing more.
    pub(super) const fn close(&mut self) {
        self.is_closed = true;
    }

    /// A row of a slot as somebody read it: an owner that was passed over ends.
    pub(super) fn observe(&mut self, row: &SlotRow) {
        self.writer.observe(row);
    }
}

/// What the writer of an ownership asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tenure: Tenure,
    pub(super) commands: Vec<Command>,
}

impl Asked {
    /// What its writer has told is noted on the way.
    pub(super) fn of(owner: &mut Owner) -> Self {
        let commands: Vec<Command> = owner.writer.drain().collect();
        for command in &commands {
            match command.action {
                Action::NotifyCommitted { flush } => owner.pipe.committed_upto(flush),
                Action::Applied { flush } => owner.pipe.applied_upto(flush),
                _ => {}
            }
        }
        Self {
            tenure: Tenure {
                slot: owner.writer.slot(),
                ownership_epoch: owner.ownership_epoch,
            },
            commands,
        }
    }
}
