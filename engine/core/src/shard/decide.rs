//! The verdicts on a batch: for each event, refused, known, quarantined, or taken with its flags. In this order; the first that
//! holds wins.
//!
//! A pure function of what came and of what prefetch has found out about it: it asks nobody and cannot fail. In two steps: what keeps
//! events back is known before the batch is walked, so that the walk lists what takes effect and nothing else; flags need the SKUs that
//! the walk has found.

use bytes::Bytes;
use till_protocol::code::Reason;
#[cfg(feature = "planted")]
use till_protocol::family::Family;
use till_protocol::id::EventId;
use till_protocol::view::View;

use super::Shard;
use super::prefetch::{Arrival, is_same, reason_of};
use super::touch::{Exception, Touched, TouchedEvent, TouchedId};
use crate::event::{Event, time_flags, visit};
use crate::flag;
use crate::hash::Map;
use crate::record::{Outcome, Record, RecordKind, Verdict};
use crate::row::{EventIdRow, Space};
use crate::shard::tally::compress;

/// What an event comes to, with the reason where there is one.
type Conclusion = (Outcome, Option<Reason>);

impl Shard {
    /// Lists the events that do not take effect, so that what the batch touches is what takes effect.
    pub(super) fn find_exceptions(&mut self, arrival: &Arrival<'_>, view: &View<'_>) {
        let mut found = std::mem::take(&mut self.touched.exceptions);
        let mut screen = Screen {
            arrival,
            touched: &self.touched,
            in_batch: Map::default(),
        };
        if screen.may_find_some() {
            visit(view, |index, event| {
                if arrival.asks_about(index) {
                    let exception = screen.exception(index, &event);
                    found.extend(exception.map(|(outcome, reason)| Exception {
                        index,
                        outcome,
                        reason,
                    }));
                }
            });
        }
        self.touched.exceptions = found;
    }

    /// Decides the events that were asked about. Those without a verdict take effect, without flags.
    pub(super) fn decide(&self, arrival: &Arrival<'_>) -> Vec<Verdict> {
        let events = self.touched.events.iter();
        let asked = events.filter(|event| arrival.asks_about(event.index));
        asked
            .filter_map(|event| self.verdict(arrival, event))
            .collect()
    }

    // `None`: it takes effect, without flags.
    fn verdict(&self, arrival: &Arrival<'_>, event: &TouchedEvent) -> Option<Verdict> {
        let index = event.index;
        let mut flags = event.flags | flags_of_receipt(arrival, event);
        let (outcome, reason) = match self.touched.exception_of(index) {
            None if flags == 0 => return None,
            None => (Outcome::Applied, None),
            Some(exception) => {
                flags &= !flag::UNNAMED_SKU;
                let brings = self
                    .touched
                    .collided_at(index)
                    .is_some_and(|one| one.brings)
                    || arrival.screened.collided.binary_search(&index).is_ok();
                if exception.outcome != Outcome::Refused && brings {
                    flags |= flag::UNNAMED_SKU;
                }
                (exception.outcome, exception.reason)
            }
        };
        Some(Verdict {
            index,
            outcome,
            reason: reason.map_or(0, Reason::code),
            flags,
        })
    }

    /// The record of what was decided. Events that are all known by their ids need no payload, unless it brings names.
    pub(super) fn record_of(
        &self,
        arrival: &Arrival<'_>,
        payload: &Bytes,
        verdicts: Vec<Verdict>,
    ) -> Record {
        let mut head = arrival.head;
        let fresh = head.count - head.skip;
        let is_duplicate = |verdict: &&Verdict| verdict.outcome == Outcome::Duplicate;
        let duplicates = verdicts.iter().filter(is_duplicate).count();
        if u32::try_from(duplicates) == Ok(fresh) && !self.touched.has_new_name {
            head.kind = RecordKind::Duplicates;
            return Record {
                head,
                payload: Bytes::new(),
                verdicts: vec![Verdict {
                    index: Verdict::ALL,
                    outcome: Outcome::Duplicate,
                    reason: 0,
                    flags: 0,
                }],
            };
        }
        Record {
            head,
            payload: payload.clone(),
            verdicts: compress(verdicts, fresh),
        }
    }
}

/// Finds the events of one batch that do not take effect, one after another.
struct Screen<'d> {
    arrival: &'d Arrival<'d>,
    touched: &'d Touched,
    /// Event ids of this batch.
    in_batch: Map<[u8; 16], EventIdRow>,
}

impl Screen<'_> {
    // Nothing was found out about most batches that could keep an event back.
    fn may_find_some(&self) -> bool {
        let screened = &self.arrival.screened;
        #[cfg(feature = "planted")]
        if ["drop-telemetry", "refuse-good", "aside-good"]
            .map(crate::planted::is)
            .contains(&true)
        {
            return true;
        }
        !screened.refusals.is_empty()
            || !screened.duplicates.is_empty()
            || !screened.quarantined.is_empty()
            || !self.touched.ids.is_empty()
            || !self.touched.collided.is_empty()
    }

    // Why an event does not take effect.
    #[cfg_attr(
        not(feature = "planted"),
        expect(unused_variables, reason = "only a planted mistake looks at the event")
    )]
    fn exception(&mut self, index: u32, event: &Event<'_>) -> Option<Conclusion> {
        let screened = &self.arrival.screened;
        if let Some(reason) = reason_of(screened.refusals, index) {
            return Some((Outcome::Refused, Some(reason)));
        }
        #[cfg(feature = "planted")]
        if let Some(outcome) = self.odd(event) {
            return Some((outcome, Some(Reason::Overflow)));
        }
        if screened.duplicates.binary_search(&index).is_ok() {
            return Some((Outcome::Duplicate, None));
        }
        if let Some(id) = self.touched.id_of(index)
            && let Some(known) = self.known_by_id(id)
        {
            return Some(known);
        }
        let reason = reason_of(screened.quarantined, index).or_else(|| self.collision(index));
        reason.map(|reason| (Outcome::Quarantined, Some(reason)))
    }

    // What is merely odd does not take effect.
    #[cfg(feature = "planted")]
    fn odd(&self, event: &Event<'_>) -> Option<Outcome> {
        if crate::planted::is("drop-telemetry") {
            let family = Family::from_u8(self.arrival.head.family);
            let is_told = matches!(family, Some(Family::Sensor | Family::Device));
            return is_told.then_some(Outcome::Duplicate);
        }
        let is_odd = time_flags(event.at_us(), self.arrival.head.received_at_us) != 0;
        match is_odd {
            true if crate::planted::is("refuse-good") => Some(Outcome::Refused),
            true if crate::planted::is("aside-good") => Some(Outcome::Quarantined),
            _ => None,
        }
    }

    // Whether the id of an event has come before, this batch included.
    fn known_by_id(&mut self, one: &TouchedId) -> Option<Conclusion> {
        let own = self.arrival.event_id_row(one.index, one.content);
        match self.or_in_batch(&one.id, one.row) {
            Some(row) if is_same(&row, &own) => None,
            Some(row) if row.content == one.content => Some((Outcome::Duplicate, None)),
            Some(_) => Some(self.conflict(one, own)),
            None => {
                self.in_batch.insert(one.id.to_bytes(), own);
                None
            }
        }
    }

    // An event whose id stands for other content is quarantined once, however often it comes.
    fn conflict(&mut self, one: &TouchedId, own: EventIdRow) -> Conclusion {
        let pair = one.id.with_content(one.content);
        match self.or_in_batch(&pair, one.with_content) {
            Some(row) if !is_same(&row, &own) => return (Outcome::Duplicate, None),
            Some(_) => {}
            None => {
                self.in_batch.insert(pair.to_bytes(), own);
            }
        }
        (Outcome::Quarantined, Some(Reason::Conflict))
    }

    fn or_in_batch(&self, id: &EventId, row: Option<EventIdRow>) -> Option<EventIdRow> {
        self.in_batch.get(&id.to_bytes()).copied().or(row)
    }

    // An event that uses an id of two names is quarantined: merging them could not be undone.
    fn collision(&self, index: u32) -> Option<Reason> {
        let collided = self.touched.collided_at(index)?;
        Some(match collided.space {
            Space::Sku => Reason::SkuCollision,
            Space::Tender => Reason::TenderCollision,
        })
    }
}

// Flags that follow from the receipt of an event and its session.
fn flags_of_receipt(arrival: &Arrival<'_>, event: &TouchedEvent) -> u32 {
    let mut flags = time_flags(event.at_us, arrival.head.received_at_us);
    if arrival.session.clock_suspect {
        flags |= flag::CLOCK_SUSPECT;
    }
    if arrival.screened.masked.contains(&event.index) {
        flags |= flag::CARD_MASKED;
    }
    flags
}
