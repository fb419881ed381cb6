//! Records that another engine handed off: each is a resend, at its own numbers.

use std::fmt;
use std::sync::Arc;

use till_core::{Handled, Origin, Record, RecordKind, RowsError};
use till_protocol::code::Reason;
use till_protocol::id::{Epoch, TerminalId};
use till_storage::cluster::Found;
use till_storage::rebuild::store_of;
use tokio::sync::oneshot;

use super::{Done, ShardMessage, ShardState, Stop};
use crate::commit::Companion;
use crate::lifecycle::engine::Engine;
use crate::shard::crash::PoisonMessage;
use crate::shard::handle::{ShardHandle, shard_of};

/// Records that are decided with what was fetched for them together.
const RECORDS_AT_ONCE: usize = 16;

/// A record of the inbox.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Its place in the chunk that it is in.
    pub(crate) index: u32,
    pub(crate) record: Record,
    /// The epoch under which it is released, where it has no position in its own.
    pub(crate) released: Option<Epoch>,
}

/// Why a record stays in the inbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Waits {
    /// Events of its epoch are missing before it, from this one on.
    Gap(u64),
    /// Another event is here under its numbers, the first under this one.
    Conflict(u64),
    /// Its store is registered otherwise.
    Registration,
    /// Nobody knows any more how far its epoch had come.
    Forgotten,
    /// Its store is not registered.
    Unregistered,
    /// Something else: it cannot be read, or its terminal is kept out.
    Other(String),
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(expected) => write!(f, "events from {expected} on are missing before it"),
            Self::Conflict(seq) => write!(f, "another event is here under its number {seq}"),
            Self::Registration => f.write_str("its store is registered otherwise"),
            Self::Forgotten => f.write_str("nobody knows any more how far its epoch had come"),
            Self::Unregistered => f.write_str("its store is not registered"),
            Self::Other(cause) => f.write_str(cause),
        }
    }
}

impl Waits {
    /// Why a record that got this answer stays; `None` where it does not.
    pub(crate) fn of(record: &Record, handled: &Handled) -> Option<Self> {
        match handled {
            Handled::Journal { .. } | Handled::Known { .. } => None,
            Handled::Gap { expected } => Some(Self::Gap(expected.get())),
            Handled::Conflict { .. } if record.head.kind == RecordKind::StoreRegistered => {
                Some(Self::Registration)
            }
            Handled::Conflict { seq } => Some(Self::Conflict(seq.get())),
            Handled::Closed => Some(Self::Forgotten),
            Handled::Unregistered => Some(Self::Unregistered),
        }
    }
}

/// Records that stay in the inbox, by their place there.
pub(crate) type Left = Vec<(u32, Waits)>;

/// The answer to records that were offered: which stay, or why nothing more can be said of them for now.
pub(crate) type Offered = Result<Left, String>;

impl ShardState {
    /// Takes records of another journal in, of stores that are served here, in their order.
    pub(super) fn take_in(&mut self, offers: &[Offer], reply: oneshot::Sender<Offered>) -> Done {
        let mut left = Left::new();
        let mut offered = Ok(());
        for some in offers.chunks(RECORDS_AT_ONCE) {
            offered = self.take_some_in(some, &mut left)?;
            if offered.is_err() {
                break;
            }
        }
        // Whoever asked may have gone.
        let _gone = reply.send(offered.map(|()| left));
        Ok(())
    }

    fn take_some_in(
        &mut self,
        offers: &[Offer],
        left: &mut Left,
    ) -> Result<Result<(), String>, Stop> {
        let engine = Arc::clone(&self.engine);
        let is_here = |offer: &Offer| {
            store_of(&offer.record.head).is_some_and(|store| engine.placement.is_here(store))
        };
        if !offers.iter().all(is_here) {
            return Ok(Err("its store is served elsewhere".to_owned()));
        }
        let records: Vec<&Record> = offers.iter().map(|offer| &offer.record).collect();
        let known = match self.prefetch_records(&records) {
            Ok(known) => known,
            Err(error) => return Ok(Err(error.to_string())),
        };
        for offer in offers {
            self.begin(PoisonMessage::record(&offer.record));
            if let Some(waits) = self.take_one_in(offer, &known)? {
                left.push((offer.index, waits));
            }
        }
        Ok(Ok(()))
    }

    // Why it stays, if it does.
    fn take_one_in(&mut self, offer: &Offer, known: &Found) -> Result<Option<Waits>, Stop> {
        let record = &offer.record;
        let terminal = TerminalId::from_u64(record.head.terminal);
        if let Some(cause) = terminal.ok().and_then(|one| self.slot.why_parked(one)) {
            return Ok(Some(Waits::Other(cause)));
        }
        let waits = match self.hand_off(record, known)? {
            Ok(None) => return Ok(None),
            Ok(Some(waits)) => waits,
            Err(error) => return Ok(Some(Waits::Other(error.to_string()))),
        };
        let Some(epoch) = offer.released else {
            return Ok(Some(waits));
        };
        // Of a registration nothing can count.
        if record.head.kind == RecordKind::StoreRegistered {
            return Ok(None);
        }
        let renumbered =
            self.with_known(known, |shard, rows| shard.renumbered(record, epoch, rows));
        let handed_off = match renumbered {
            Ok(renumbered) => self.hand_off(&renumbered, known)?,
            Err(error) => Err(error),
        };
        Ok(handed_off.unwrap_or_else(|error| Some(Waits::Other(error.to_string()))))
    }

    fn hand_off(
        &mut self,
        record: &Record,
        known: &Found,
    ) -> Result<Result<Option<Waits>, RowsError>, Stop> {
        let names = Arc::clone(&self.engine);
        let handled = self.with_known(known, |shard, rows| {
            shard.handle(Origin::Handoff(record), rows, &names.names)
        });
        if let Ok(Handled::Journal { record, .. }) = &handled {
            self.append(record, |shard| Companion::Registered { shard })?;
            self.end_session_behind(record);
        }
        Ok(handled.map(|handled| Waits::of(record, &handled)))
    }

    // A device that has not sent these events in its session may have others under their numbers (it was put back from an image,
    // or copied, while the engine that had them was down), which would be taken for known. It comes again, and compares.
    fn end_session_behind(&self, record: &Record) {
        let head = &record.head;
        if head.kind == RecordKind::StoreRegistered || head.kind == RecordKind::Retry {
            return;
        }
        let Some(session) = self.slot.session_of(head.terminal) else {
            return;
        };
        let end = head.first_seq.saturating_add(u64::from(head.count));
        let is_in = session
            .key()
            .is_some_and(|key| key.epoch.get() == head.epoch);
        if is_in && session.expected() < end {
            self.slot.leave(&session);
            session.bye(Reason::Moved, None);
        }
    }
}

/// Gives records of another journal to the shards of their stores, in their order. For threads that may block.
///
/// # Errors
/// Says why nothing is known of some of them; all may be given again.
pub(crate) fn take_in(engine: &Engine, offers: Vec<Offer>) -> Offered {
    let mut by_shard: Vec<Vec<Offer>> = Vec::new();
    by_shard.resize_with(engine.slots.len(), Vec::new);
    for offer in offers {
        let shard = store_of(&offer.record.head).map(|store| shard_of(store, engine.slots.len()));
        if let Some(some) = shard.and_then(|shard| by_shard.get_mut(shard)) {
            some.push(offer);
        }
    }
    let mut left = Left::new();
    for (slot, offers) in engine.slots.iter().zip(by_shard) {
        if !offers.is_empty() {
            left.extend(offer(slot, offers)?);
        }
    }
    left.sort_unstable_by_key(|(index, _)| *index);
    Ok(left)
}

fn offer(slot: &ShardHandle, offers: Vec<Offer>) -> Offered {
    let (reply, answer) = oneshot::channel();
    let sent = slot.send(ShardMessage::TakeIn { offers, reply });
    sent.map_err(|_| "its shard does not run".to_owned())?;
    let offered = answer.blocking_recv();
    offered.map_err(|_| "its shard failed".to_owned())?
}

/// Takes the next epoch of a terminal; `None` where its store is not registered. For threads that may block.
///
/// # Errors
/// Says why it is not known.
pub(crate) fn take_epoch(engine: &Engine, terminal: TerminalId) -> Result<Option<Epoch>, String> {
    let shard = engine.slot(terminal.store()).ok_or("it has no shard")?;
    let (reply, answer) = oneshot::channel();
    let sent = shard.send(ShardMessage::TakeEpoch { terminal, reply });
    sent.map_err(|_| "its shard does not run".to_owned())?;
    let taken = answer.blocking_recv();
    let taken = taken.map_err(|_| "its shard failed".to_owned())?;
    taken.map_err(|error| error.to_string())
}
