//! Records that another engine handed off: each is a resend, at its own numbers.

use crate::shard::message::Left;
use crate::shard::message::Offer;
use crate::shard::message::Offered;
use crate::shard::message::Waits;
use std::collections::BTreeSet;
use std::sync::Arc;

use till_core::{Handled, Origin, Record, RecordKind, RowsError};
use till_protocol::code::Reason;
use till_protocol::id::TerminalId;
use till_storage::cluster::Found;
use till_storage::rebuild::store_of;
use tokio::sync::oneshot;

use crate::commit::Companion;
use crate::shard::crash::PoisonMessage;
use crate::shard::state::{Done, ShardState, Stop};

/// Records that are decided with what was fetched for them together.
const RECORDS_AT_ONCE: usize = 16;

/// Terminals and epochs of which a record collides with what is here.
type Branches = BTreeSet<(u64, u32)>;

impl ShardState {
    /// Takes records of another journal in, of stores that are served here, in their order.
    ///
    /// Where one collides with what is here, its terminal has branched in that epoch: its device was put back, or another has a
    /// copy of its outbox. What lies behind it collides as well: behind the other branch it would make a device believe that the
    /// events before it are here.
    pub(super) fn take_in(&mut self, offers: &[Offer], reply: oneshot::Sender<Offered>) -> Done {
        let (mut left, mut branches) = (Left::new(), Branches::new());
        let mut offered = Ok(());
        for some in offers.chunks(RECORDS_AT_ONCE) {
            offered = self.take_some_in(some, &mut branches, &mut left)?;
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
        branches: &mut Branches,
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
            if let Some(waits) = self.take_one_in(offer, branches, &known)? {
                left.push((offer.index, waits));
            }
        }
        Ok(Ok(()))
    }

    // Why it stays, if it does.
    fn take_one_in(
        &mut self,
        offer: &Offer,
        branches: &mut Branches,
        known: &Found,
    ) -> Result<Option<Waits>, Stop> {
        let record = &offer.record;
        let terminal = TerminalId::from_u64(record.head.terminal);
        if let Some(cause) = terminal.ok().and_then(|one| self.slot.why_parked(one)) {
            return Ok(Some(Waits::Other(cause)));
        }
        let branch = (record.head.terminal, record.head.epoch);
        let handed_off = match branches.contains(&branch) {
            true => self.hand_off_behind(record, known)?,
            false => self.hand_off(record, known)?,
        };
        if let Ok(Some(Waits::Conflict(_))) = handed_off {
            branches.insert(branch);
        }
        let waits = match handed_off {
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

    // A record behind one that collides: it changes nothing.
    fn hand_off_behind(
        &mut self,
        record: &Record,
        known: &Found,
    ) -> Result<Result<Option<Waits>, RowsError>, Stop> {
        match self.with_known(known, |shard, rows| shard.has_next(record, rows)) {
            Ok(true) => Ok(Ok(Some(Waits::Conflict(record.head.first_seq)))),
            Ok(false) => self.hand_off(record, known),
            Err(error) => Ok(Err(error)),
        }
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
