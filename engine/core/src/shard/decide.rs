//! The verdict on one event: refused, known, quarantined, or taken with its flags. In this order; the first that holds wins.

use till_protocol::code::Reason;
use till_protocol::id::EventId;
use till_protocol::time::Timestamp;

use super::SessionKey;
use super::batch::Found;
use super::ids::EventIds;
use super::names::names_any;
use super::plan::{Planner, Scope};
use crate::event::{Event, time_flags};
use crate::flag;
use crate::hash::Map;
use crate::ledger::Balance;
use crate::record::{Outcome, Verdict};
use crate::row::{EventIdRow, Names, RowsError, Space};

/// Decides the events of one batch, one after another.
pub(super) struct Decider<'d> {
    pub(super) now: Timestamp,
    pub(super) session: SessionKey,
    pub(super) found: Found<'d>,
    pub(super) names: &'d dyn Names,
    pub(super) event_ids: &'d EventIds,
    /// SKUs that the batch names, sorted.
    pub(super) named: Vec<u64>,
    /// Ids whose names collide, sorted.
    pub(super) collided: Vec<u64>,
    /// Event ids of this batch.
    pub(super) in_batch: Map<[u8; 16], EventIdRow>,
    pub(super) verdicts: Vec<Verdict>,
}

impl Decider<'_> {
    /// Decides an event; what takes effect goes into the plan.
    pub(super) fn event(
        &mut self,
        planner: &mut Planner<'_>,
        scope: &Scope<'_>,
        event: &Event<'_>,
        index: u32,
        seq: u64,
    ) -> Result<(), RowsError> {
        if let Some((outcome, reason)) = self.exception(scope, event, index, seq)? {
            let reason = reason.map_or(0, Reason::code);
            let mut flags = self.own_flags(event, index);
            if outcome != Outcome::Refused && names_any(event, &self.collided) {
                flags |= flag::UNNAMED_SKU;
            }
            self.verdicts.push(Verdict {
                index,
                outcome,
                reason,
                flags,
            });
            return Ok(());
        }
        let start = planner.event(scope, event, seq, 0)?;
        let mut flags = self.own_flags(event, index);
        if self.has_unnamed(planner, start)? {
            flags |= flag::UNNAMED_SKU;
        }
        if flags != 0 {
            planner.flag(start, flags);
            self.verdicts.push(Verdict {
                index,
                outcome: Outcome::Applied,
                reason: 0,
                flags,
            });
        }
        Ok(())
    }

    // Why an event does not take effect.
    fn exception(
        &mut self,
        scope: &Scope<'_>,
        event: &Event<'_>,
        index: u32,
        seq: u64,
    ) -> Result<Option<(Outcome, Option<Reason>)>, RowsError> {
        if let Some(reason) = reason_of(self.found.refusals, index) {
            return Ok(Some((Outcome::Refused, Some(reason))));
        }
        #[cfg(feature = "planted")]
        if let Some(outcome) = self.odd(event) {
            return Ok(Some((outcome, Some(Reason::Overflow))));
        }
        if self.found.duplicates.binary_search(&index).is_ok() {
            return Ok(Some((Outcome::Duplicate, None)));
        }
        if let Some(id) = event.event_id().map(|id| id.in_store(scope.store)) {
            let content = event.content();
            let own = EventIdRow {
                terminal: scope.terminal,
                epoch: scope.epoch,
                seq,
                content,
            };
            match self.known(&id, scope)? {
                Some(row) if is_same(&row, &own) => {}
                Some(row) if row.content == content => {
                    return Ok(Some((Outcome::Duplicate, None)));
                }
                Some(_) => return Ok(Some(self.conflict(&id, own, scope)?)),
                None => {
                    self.in_batch.insert(id.to_bytes(), own);
                }
            }
        }
        Ok(reason_of(self.found.quarantined, index)
            .or_else(|| self.collision(event))
            .map(|reason| (Outcome::Quarantined, Some(reason))))
    }

    // What is merely odd does not take effect.
    #[cfg(feature = "planted")]
    fn odd(&self, event: &Event<'_>) -> Option<Outcome> {
        let is_odd = time_flags(event.at_us(), self.now.us()) != 0;
        match is_odd {
            true if crate::planted::is("refuse-good") => Some(Outcome::Refused),
            true if crate::planted::is("aside-good") => Some(Outcome::Quarantined),
            _ => None,
        }
    }

    // The event that an id stands for, this batch included.
    fn known(&self, id: &EventId, scope: &Scope<'_>) -> Result<Option<EventIdRow>, RowsError> {
        match self.in_batch.get(&id.to_bytes()) {
            Some(row) => Ok(Some(*row)),
            None => self.event_ids.find(id, scope.rows),
        }
    }

    // An event whose id stands for other content is quarantined once, however often it comes.
    fn conflict(
        &mut self,
        id: &EventId,
        own: EventIdRow,
        scope: &Scope<'_>,
    ) -> Result<(Outcome, Option<Reason>), RowsError> {
        let pair = id.with_content(own.content);
        match self.known(&pair, scope)? {
            Some(row) if !is_same(&row, &own) => return Ok((Outcome::Duplicate, None)),
            Some(_) => {}
            None => {
                self.in_batch.insert(pair.to_bytes(), own);
            }
        }
        Ok((Outcome::Quarantined, Some(Reason::Conflict)))
    }

    // An event that uses an id of two names is quarantined: merging them could not be undone.
    fn collision(&self, event: &Event<'_>) -> Option<Reason> {
        if self.collided.is_empty() {
            return None;
        }
        let uses = |id: u64| self.collided.binary_search(&id).is_ok();
        match event {
            Event::Sale(sale) => {
                if sale.lines.iter().any(|line| uses(line.sku.to_native())) {
                    return Some(Reason::SkuCollision);
                }
                let tenders = u16::try_from(sale.tenders.len()).unwrap_or(u16::MAX);
                (0..tenders)
                    .any(|tender| uses(sale.tender_key(tender)))
                    .then_some(Reason::TenderCollision)
            }
            Event::Stock(stock) => {
                uses(stock.record.sku.to_native()).then_some(Reason::SkuCollision)
            }
            Event::Sensor(reading) => {
                uses(reading.record.sku.to_native()).then_some(Reason::SkuCollision)
            }
            Event::Device(_) => None,
        }
    }

    // Flags that follow from the event, its receipt and its session.
    fn own_flags(&self, event: &Event<'_>, index: u32) -> u32 {
        let mut flags = time_flags(event.at_us(), self.now.us());
        if self.session.clock_suspect {
            flags |= flag::CLOCK_SUSPECT;
        }
        if self.found.masked.contains(&index) {
            flags |= flag::CARD_MASKED;
        }
        if event.is_training() {
            flags |= flag::TRAINING;
        }
        if let Event::Sale(sale) = event
            && sale.sale.kind != till_protocol::family::sale::v1::kind::VOID
            && !Balance::of(sale).is_even()
        {
            flags |= flag::UNBALANCED;
        }
        flags
    }

    // A SKU that was used before without the flag has a name; only others are looked up.
    fn has_unnamed(&self, planner: &Planner<'_>, start: usize) -> Result<bool, RowsError> {
        for table_index in planner.skus_since(start) {
            let actor = planner.actors.skus.get(table_index);
            if !actor.level.is_unnamed() && !actor.level.is_virgin() {
                continue;
            }
            let sku = actor.level.key().sku;
            let is_named =
                self.named.binary_search(&sku).is_ok() || self.names.known(Space::Sku, sku)?;
            if !is_named {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

// Whether two rows are of one event: a retry meets itself.
fn is_same(one: &EventIdRow, other: &EventIdRow) -> bool {
    (one.terminal, one.epoch, one.seq) == (other.terminal, other.epoch, other.seq)
}

/// The reason that stands beside an index, if there is one.
pub(super) fn reason_of(reasons: &[(u32, Reason)], index: u32) -> Option<Reason> {
    if reasons.is_empty() {
        return None;
    }
    let at = reasons
        .binary_search_by_key(&index, |(other, _)| *other)
        .ok()?;
    reasons.get(at).map(|(_, reason)| *reason)
}
