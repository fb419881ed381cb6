//! Frames that were journalled while the shared store did not answer, and how they are decided once it does.
//!
//! They are handed over like what another engine left: through the shared store, to whoever has their slots by then, who may
//! be this very node. So there is one way in which records without a commit become events that count, and it bears whatever
//! happens meanwhile. Up to the first of them, and no further, the journal of this node counts as committed until they are.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use till_core::{Record, RecordKind};
use till_protocol::code::Reason;
use till_protocol::id::TerminalId;
use till_storage::journal::Lsn;
use till_storage::rebuild::store_of;
use tokio::sync::oneshot;

use super::backlog::{Stuck, Tender};
use super::round::Cursors;
use super::{Cluster, HandoverError, PIECES_MAX};
use crate::engine::Engine;
use crate::flush::FlushError;
use crate::route::shard_of;
use crate::shard_actor::ShardMessage;

/// Devices wait for the rest where it is decided within this time: without that, frames might come as fast as they are decided.
const CLOSING_WITHIN: Duration = Duration::from_secs(3);
/// They wait longer where waiting for less would have no end, because frames do come as fast. Behind a store that takes longer
/// than that, they are journalled undecided as long as it does.
const CLOSING_AT_LAST: Duration = Duration::from_secs(30);

/// What of one shard is journalled and not decided.
#[derive(Debug, Default)]
pub(crate) struct Undecided {
    /// Frames are journalled undecided.
    is_deferring: AtomicBool,
    /// Few are left: nothing more is taken in until they are decided.
    is_closing: AtomicBool,
    stretch: Mutex<Option<Stretch>>,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    /// None lies before this place of the journal.
    from: u64,
    /// How many there are.
    records: u64,
}

impl Undecided {
    /// Whether frames are journalled undecided. Asked for each frame.
    pub(crate) fn is_deferring(&self) -> bool {
        self.is_deferring.load(Ordering::Acquire)
    }

    /// Whether devices wait for the last of them.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Frames are journalled undecided from here on; none of them lies before `end`.
    pub(crate) fn begin(&self, end: Lsn) {
        let mut stretch = self.stretch.lock();
        stretch.get_or_insert(Stretch {
            from: end.get(),
            records: 0,
        });
        self.is_deferring.store(true, Ordering::Release);
    }

    /// One more is on its way to the journal.
    pub(crate) fn add(&self) {
        if let Some(stretch) = &mut *self.stretch.lock() {
            stretch.records += 1;
        }
    }

    /// Frames are decided again, if there are no more than the `decided` ones. Called by the shard alone.
    pub(crate) fn close(&self, decided: u64) -> bool {
        let is_over = self.records() == decided;
        if is_over {
            self.is_deferring.store(false, Ordering::Release);
            self.is_closing.store(false, Ordering::Release);
        }
        is_over
    }

    /// How many there are, those that are decided and not yet committed among them.
    pub(super) fn records(&self) -> u64 {
        self.stretch.lock().map_or(0, |stretch| stretch.records)
    }

    fn from(&self) -> Option<u64> {
        self.stretch.lock().map(|stretch| stretch.from)
    }

    // Everything is decided and committed. False where there is more by now.
    fn end(&self, decided: u64) -> bool {
        let mut stretch = self.stretch.lock();
        let is_over = !self.is_deferring() && stretch.is_some_and(|one| one.records == decided);
        if is_over {
            *stretch = None;
        }
        is_over
    }

    // Place up to which a shard is dealt with, where everything up to `place` is that was decided.
    fn cap(&self, place: u64) -> u64 {
        self.from()
            .map_or(place, |from| place.min(from.saturating_sub(1)))
    }
}

/// How far the frames of a shard have been handed over.
#[derive(Debug)]
struct Progress {
    next: Lsn,
    handed: u64,
    /// A stretch of the journal and the number of its first piece, until the store has all of it.
    pending: Option<((Lsn, Lsn), u64)>,
    /// The numbers of the first pieces that the store has got.
    numbers: Vec<u64>,
    /// The last of them, until they are taken in: how much of the journal they were in, and when they were handed over.
    under_way: Option<(u64, Duration)>,
    /// The last that were taken in: how much of the journal that was, and how long it took.
    last: Option<(u64, Duration)>,
    /// Since when devices wait for the rest.
    closing: Option<Duration>,
}

impl Progress {
    // Whether devices may wait until so much of the journal is decided. It takes about as long as the last did.
    fn may_close(&self, left: u64) -> bool {
        let Some((bytes, took)) = self.last else {
            return false;
        };
        let took_ms = took.as_millis();
        let expected = took_ms * u128::from(left) / u128::from(bytes.max(1));
        let gets_no_less = left >= bytes - bytes / 4;
        expected <= CLOSING_WITHIN.as_millis() || (gets_no_less && took <= CLOSING_AT_LAST)
    }
}

/// How far those of all shards have.
#[derive(Debug, Default)]
pub(super) struct Deciding(BTreeMap<usize, Progress>);

/// Shards whose frames are all decided, and how many these were.
pub(super) type Decided = Vec<(usize, u64)>;

impl Cluster {
    /// What of a shard is journalled and not decided.
    pub(crate) fn undecided(&self, shard: usize) -> Option<&Undecided> {
        self.undecided.get(shard)
    }

    /// How far every shard is dealt with: that what is not decided is not, is the difference to the cursors of rounds.
    pub(super) fn settled(&self) -> Cursors {
        let cursors = self.cursors.lock().clone();
        cursors.capped(|shard, place| match self.undecided.get(shard) {
            Some(one) => one.cap(place),
            None => place,
        })
    }

    /// Place up to which nothing is undecided.
    pub(crate) fn decided_upto(&self, place: u64) -> u64 {
        self.undecided
            .iter()
            .fold(place, |place, one| one.cap(place))
    }

    /// Looks after what is not decided: to be called every now and then. Gives the shards of which everything is, with the
    /// number of their frames. It is then committed, with [`flush`](crate::flush::FlushDoor::flush), before [`Self::decided`].
    pub(super) fn decide(&self, engine: &Engine, tender: &mut Tender) -> Decided {
        let Tender {
            deciding, stuck, ..
        } = tender;
        let mut decided = Decided::new();
        for (shard, undecided) in self.undecided.iter().enumerate() {
            let Some(from) = undecided.from() else {
                continue;
            };
            let progress = deciding.0.entry(shard).or_insert_with(|| Progress {
                next: Lsn::new(from),
                handed: 0,
                pending: None,
                numbers: Vec::new(),
                under_way: None,
                last: None,
                closing: None,
            });
            match self.decide_shard(engine, shard, (progress, stuck)) {
                Ok(true) => decided.push((shard, progress.handed)),
                Ok(false) => {
                    let since = progress.closing.filter(|_| undecided.is_closing());
                    let waited = since.map(|since| self.now().saturating_sub(since));
                    if waited.is_some_and(|waited| waited > CLOSING_AT_LAST) {
                        self.open_again(engine, shard);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, shard, "frames are not decided yet");
                    self.open_again(engine, shard);
                }
            }
        }
        decided
    }

    /// What was decided is committed, or was not.
    pub(super) fn decided(
        &self,
        engine: &Engine,
        deciding: &mut Deciding,
        decided: Decided,
        flushed: Result<(), FlushError>,
    ) {
        if let Err(error) = flushed {
            tracing::debug!(%error, "what was decided is not committed yet");
            return;
        }
        for (shard, frames) in decided {
            if self.undecided.get(shard).is_none_or(|one| !one.end(frames)) {
                continue;
            }
            tracing::info!(
                shard,
                frames,
                "all frames are decided that came while the shared store did not answer"
            );
            deciding.0.remove(&shard);
            let settled = self.settled();
            self.owners.pass(&settled);
            self.tell_devices(engine, shard, settled.of(shard));
        }
    }

    // The store is away once more, or holds up what was handed over: devices do not wait for it.
    fn open_again(&self, engine: &Engine, shard: usize) {
        let Some(undecided) = self.undecided.get(shard) else {
            return;
        };
        if undecided.is_closing.swap(false, Ordering::AcqRel) {
            // Tells the shard to let devices in; it has more than none.
            self.ask(engine, shard, u64::MAX);
        }
    }

    // True when all are decided.
    fn decide_shard(
        &self,
        engine: &Engine,
        shard: usize,
        (progress, stuck): (&mut Progress, &Stuck),
    ) -> Result<bool, HandoverError> {
        // Also of a slot that is being given up: its devices are told until it is, and the next owner takes in what waits.
        let since = self.since();
        let waiting = self.store.waiting()?;
        let is_own = |(slot, from, number): &&(u32, _, u64)| {
            let mut firsts = progress.numbers.iter();
            *from == self.me
                && firsts.any(|first| (*first..first + PIECES_MAX).contains(number))
                && since.contains_key(slot)
        };
        for piece in waiting.iter().filter(is_own) {
            // What does not fit what is here waits on, and the devices that sent it say Hello again and compare: they must not
            // hear that it is committed. All others go on.
            let waits = stuck.get(piece).filter(|one| !one.terminals.is_empty());
            let Some(waits) = waits else {
                return Ok(false);
            };
            part_from(engine, &waits.terminals);
        }
        if let Some((bytes, since)) = progress.under_way.take() {
            progress.last = Some((bytes, self.now().saturating_sub(since)));
        }
        if self.hand_over_received(engine, shard, progress)? > 0 {
            return Ok(false);
        }
        Ok(self.ask(engine, shard, progress.handed))
    }

    // Hands over what has become durable since the last time; how many frames that were.
    fn hand_over_received(
        &self,
        engine: &Engine,
        shard: usize,
        progress: &mut Progress,
    ) -> Result<u64, HandoverError> {
        let shards = engine.slots.len();
        let end = engine.journal.end();
        if progress.pending.is_none() {
            progress.pending = Some(((progress.next, end), self.numbers()));
        }
        let Some((range, number)) = progress.pending else {
            return Ok(0);
        };
        let left = range.1.get().saturating_sub(range.0.get());
        let undecided = self.undecided.get(shard);
        if progress.may_close(left)
            && let Some(undecided) = undecided.filter(|one| one.is_deferring())
            && let Some(slot) = engine.slots.get(shard)
        {
            if !undecided.is_closing.swap(true, Ordering::AcqRel) {
                progress.closing = Some(self.now());
            }
            slot.gate.pause(true);
        }
        let wanted = |_: u32, record: &Record, _: u64| {
            record.head.kind == RecordKind::Received
                && store_of(&record.head).is_some_and(|store| shard_of(store, shards) == shard)
        };
        let began = self.now();
        let handed = self.submit(engine, range, number, &wanted)?;
        if handed > 0 {
            progress.numbers.push(number);
            progress.under_way = Some((left, began));
        }
        progress.handed += handed;
        (progress.next, progress.pending) = (range.1, None);
        Ok(handed)
    }

    // Whether a shard decides again, as all of its frames are decided. One that does not run is asked again later.
    fn ask(&self, engine: &Engine, shard: usize, decided: u64) -> bool {
        let (reply, answer) = oneshot::channel();
        let asked = engine
            .slots
            .get(shard)
            .is_some_and(|slot| slot.send(ShardMessage::Decide { decided, reply }).is_ok());
        asked && answer.blocking_recv().unwrap_or(false)
    }
}

// Ends the sessions of terminals.
fn part_from(engine: &Engine, terminals: &[TerminalId]) {
    for terminal in terminals {
        let slot = engine.slot(terminal.store());
        if let Some(slot) = slot
            && let Some(session) = slot.session_of(terminal.to_u64())
        {
            slot.leave(&session);
            session.bye(Reason::Moved, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(bytes: u64, seconds: u64) -> Progress {
        Progress {
            next: Lsn::ZERO,
            handed: 0,
            pending: None,
            numbers: Vec::new(),
            under_way: None,
            last: Some((bytes, Duration::from_secs(seconds))),
            closing: None,
        }
    }

    #[test]
    fn devices_wait_for_what_takes_short_or_gets_no_less() {
        const MIB: u64 = 1 << 20;
        let first = Progress {
            last: None,
            ..after(0, 0)
        };
        assert!(!first.may_close(0), "nothing is known of how long it takes");
        // Ten minutes' worth of frames, and what came in the minute in which they were decided.
        assert!(!after(600 * MIB, 60).may_close(60 * MIB));
        assert!(after(60 * MIB, 6).may_close(6 * MIB));
        // Everything is slow, or as much comes as is decided.
        assert!(after(6 * MIB, 20).may_close(5 * MIB));
        assert!(
            !after(6 * MIB, 20).may_close(3 * MIB),
            "it gets less by itself"
        );
        assert!(after(0, 20).may_close(0));
        assert!(!after(6 * MIB, 40).may_close(6 * MIB), "that is no wait");
        assert!(after(u64::MAX, 2).may_close(u64::MAX));
    }
}
