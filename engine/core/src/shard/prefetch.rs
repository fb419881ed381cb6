//! Brings in all that a batch needs before it is decided: the store, the terminal, the events behind event ids, what names stand
//! for, SKUs, sums, and what the facts say of late counts. Nothing after it asks anybody, so nothing after it can fail.

mod fetch; // where rows are on other machines

use till_protocol::code::Reason;
use till_protocol::id::{EventId, SkuId, StoreId};
use till_protocol::view::View;

use super::handoff::Past;
use super::touch::{Change, Scope, Touched, TouchedId, TouchedSku, Walk};
use super::{SessionKey, Shard};
use crate::event::{Sides, for_each};
use crate::flag;
use crate::hash::Map;
use crate::record::{Outcome, Record, RecordHead, RecordKind};
use crate::row::{EventIdRow, MoveKey, Names, Rows, RowsError, Space};
use crate::table::NO_SLOT;

/// Events that came and are to be decided. Those below `head.skip` are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) head: RecordHead,
    pub(super) session: SessionKey,
    pub(super) screened: Screened<'a>,
    /// The one event that is asked about, where not all are.
    only: Option<u32>,
    /// A device sends only in its newest epoch; a record continues its own.
    is_record: bool,
}

/// What was found out about the events of a frame before they are decided; all by rising index.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Screened<'a> {
    /// Events that are refused.
    pub(super) refusals: &'a [(u32, Reason)],
    /// Events in which card data was masked.
    pub(super) masked: &'a [u32],
    /// Events that stay quarantined, as they were when they were received.
    pub(super) quarantined: &'a [(u32, Reason)],
    /// Events that stay duplicates, as they were when they were received.
    pub(super) duplicates: &'a [u32],
    /// Quarantined events that bring a name whose id had another where they were received.
    pub(super) collided: &'a [u32],
}

impl<'a> Arrival<'a> {
    /// Events of a device's frame.
    pub(super) const fn of_frame(
        head: RecordHead,
        session: SessionKey,
        screened: Screened<'a>,
    ) -> Self {
        Self {
            head,
            session,
            screened,
            only: None,
            is_record: false,
        }
    }

    /// As if only one event were asked about.
    pub(super) const fn only(self, index: u32) -> Self {
        Self {
            only: Some(index),
            ..self
        }
    }

    /// Events of a record that was handed off.
    pub(super) fn of_record(head: RecordHead, session: SessionKey, past: &'a Past) -> Self {
        Self {
            head,
            session,
            screened: past.screened(),
            only: None,
            is_record: true,
        }
    }

    const fn store(&self) -> StoreId {
        self.session.terminal.store()
    }

    pub(super) const fn scope(&self) -> Scope {
        Scope::of(self.store(), &self.head)
    }

    /// What an event is remembered as under its event id.
    pub(super) fn event_id_row(&self, index: u32, content: u64) -> EventIdRow {
        EventIdRow {
            terminal: self.head.terminal,
            epoch: self.head.epoch,
            seq: self.head.first_seq + u64::from(index),
            content,
        }
    }

    /// Whether they come in a session: what collided in it is remembered.
    pub(super) const fn is_in_session(&self) -> bool {
        self.only.is_none()
    }

    /// Whether an event is asked about.
    pub(super) fn asks_about(&self, index: u32) -> bool {
        self.head.skip <= index && self.only.is_none_or(|only| only == index)
    }

    // Whether it is asked about and not refused.
    fn is_asked(&self, index: u32) -> bool {
        self.asks_about(index) && reason_of(self.screened.refusals, index).is_none()
    }

    // Whether its event id is looked at.
    fn needs_id(&self, index: u32) -> bool {
        let duplicates = self.screened.duplicates;
        self.is_asked(index) && duplicates.binary_search(&index).is_err()
    }

    // Whether the names that it brings may be taken.
    pub(super) fn may_name(&self, index: u32) -> bool {
        self.is_asked(index) && reason_of(self.screened.quarantined, index).is_none()
    }
}

/// The reason that stands beside an index, if there is one.
pub(super) fn reason_of(reasons: &[(u32, Reason)], index: u32) -> Option<Reason> {
    if reasons.is_empty() {
        return None;
    }
    let at = reasons.binary_search_by_key(&index, |(other, _)| *other);
    at.ok()
        .and_then(|at| reasons.get(at).map(|(_, reason)| *reason))
}

/// Whether two rows are of one event: a retry meets itself.
pub(super) fn is_same(one: &EventIdRow, other: &EventIdRow) -> bool {
    (one.terminal, one.epoch, one.seq) == (other.terminal, other.epoch, other.seq)
}

/// Whom to ask.
#[derive(Clone, Copy)]
pub(super) struct Lookup<'r> {
    pub(super) rows: &'r dyn Rows,
    pub(super) names: &'r dyn Names,
}

impl Shard {
    /// Brings in what events need to be decided and applied.
    pub(super) fn prefetch(
        &mut self,
        arrival: &Arrival<'_>,
        view: &View<'_>,
        ask: Lookup<'_>,
    ) -> Result<(), RowsError> {
        let scope = arrival.scope();
        self.touched.clear();
        self.touched.sides = Sides::of(view);
        if self.touched.sides.refs {
            let (event_ids, ids) = (&self.event_ids, &mut self.touched.ids);
            let find = |id: &EventId| event_ids.find(id, ask.rows);
            list_ids(arrival, arrival.head.skip, view, ids, find)?;
            for one in ids {
                if let Some(pair) = one.pair {
                    one.with_content = find(&pair)?;
                }
            }
        }
        self.look_up_names(arrival, view, ask.names)?;
        self.find_exceptions(arrival, view);
        let skip = arrival.head.skip;
        self.walk(&scope, view, skip, true, |index| arrival.asks_about(index));
        self.activate(&scope, ask.rows)?;
        self.flag_unnamed(ask.names)?;
        self.sum_after_counts(&scope, arrival.head.first_seq, u64::MAX, ask.rows)
    }

    /// Brings in what a record of the past needs to be applied. `position` is its position in the journal.
    pub(super) fn prefetch_record(
        &mut self,
        (position, record): (u64, &Record),
        view: &View<'_>,
        scope: &Scope,
        rows: &dyn Rows,
    ) -> Result<(), RowsError> {
        self.touched.clear();
        self.touched.sides = Sides::of(view);
        self.walk(scope, view, record.head.skip, false, |index| {
            matches!(record.outcome(index), Some((Outcome::Applied, _)))
        });
        self.activate(scope, rows)?;
        if let Some(verdict) = record.verdicts.first()
            && record.head.kind == RecordKind::Retry
            && let Some(line) = verdict.waiting_line()
        {
            let seq = record.head.first_seq + u64::from(verdict.index);
            self.prefetch_waiting(scope, view, (verdict.index, seq, line), (position, rows))?;
        }
        self.sum_after_counts(scope, record.head.first_seq, position, rows)
    }

    // Lists what events touch; their store has been brought in.
    fn walk(
        &mut self,
        scope: &Scope,
        view: &View<'_>,
        skip: u32,
        with_flags: bool,
        which: impl Fn(u32) -> bool,
    ) {
        if let Some(actor) = self.actors.stores.get_mut(&scope.store.get()) {
            let mut walk = Walk {
                store: scope.store,
                zone: &mut actor.zone,
                contributor: &mut self.contributor,
                touched: &mut self.touched,
                with_flags,
            };
            walk.events(view, skip, which);
        }
    }

    // Brings in SKUs, with the sums of the hours that are touched, and all other sums.
    //
    // Where actors are many, each is far away in memory. One after another, in the midst of other work, a processor would wait for
    // each; here the look-ups depend on nothing but the list, and it waits for many at a time.
    fn activate(&mut self, scope: &Scope, rows: &dyn Rows) -> Result<(), RowsError> {
        let stored = self.actors.stored(scope.store);
        for one in &mut self.touched.skus {
            one.table_index = self.actors.skus.slot_of(&scope.sku(one.sku));
        }
        for one in &mut self.touched.skus {
            if one.table_index == NO_SLOT {
                one.table_index = self.actors.sku(scope.sku(one.sku), stored, rows)?;
            }
            if let Some(hour) = one.hour() {
                self.actors.cell(one.table_index, hour, stored, rows)?;
            }
        }
        for sum in &mut self.touched.sums {
            sum.table_index = self.actors.rollup(&sum.key, stored, rows)?;
        }
        Ok(())
    }

    // Flags events with a SKU that has no name. One that was used before without the flag has one; only others are looked up.
    fn flag_unnamed(&mut self, names: &dyn Names) -> Result<(), RowsError> {
        let actors = &self.actors;
        let may_lack_name =
            |one: &TouchedSku| actors.skus.get(one.table_index).level.may_lack_name();
        if !self.touched.skus.iter().any(may_lack_name) {
            return Ok(());
        }
        let named = std::mem::take(&mut self.touched.named);
        for (event, skus) in self.touched.skus_by_event() {
            for one in skus.iter().filter(|one| may_lack_name(one)) {
                let has_name = named.binary_search(&one.sku).is_ok();
                if !has_name && !names.known(Space::Sku, one.sku)? {
                    event.flags |= flag::UNNAMED_SKU;
                }
            }
        }
        self.touched.named = named;
        Ok(())
    }

    // What moved of a SKU after a count that arrives late: from memory, or from the facts where that does not reach back far
    // enough. All counts of the batch are asked of the facts at once.
    fn sum_after_counts(
        &mut self,
        scope: &Scope,
        first_seq: u64,
        position: u64,
        rows: &dyn Rows,
    ) -> Result<(), RowsError> {
        if self.touched.counts.is_empty() {
            return Ok(());
        }
        let late = self.late_counts(scope, first_seq);
        if late.is_empty() {
            return Ok(());
        }
        self.actors.counts_from_facts += u64::try_from(late.len()).unwrap_or(0);
        let (changes, counts): (Vec<usize>, Vec<(SkuId, MoveKey)>) = late.into_iter().unzip();
        let sums = rows.moved_after(scope.store, &counts, position)?;
        for (change, sum) in changes.into_iter().zip(sums) {
            if let Some(Change::Count { stored, .. }) = self.touched.changes.get_mut(change) {
                *stored = sum;
            }
        }
        Ok(())
    }

    // The late counts that memory does not reach back behind, by their change. Others get what memory says.
    fn late_counts(&mut self, scope: &Scope, first_seq: u64) -> Vec<(usize, (SkuId, MoveKey))> {
        let Touched {
            events,
            skus,
            changes,
            counts,
            ..
        } = &mut self.touched;
        let mut late = Vec::new();
        for &(number, change) in &*counts {
            // A count is the one change of its event, and its SKU the one that the event touches.
            let event = events.get(number);
            let sku = event.and_then(|event| skus.get(event.skus.checked_sub(1)?));
            let (Some(event), Some(sku)) = (event, sku) else {
                continue;
            };
            let key = scope.key(event.at_us, first_seq + u64::from(event.index), 0);
            let level = &self.actors.skus.get(sku.table_index).level;
            if level.base_key() >= key || key >= level.last_move() {
                continue;
            }
            match self.actors.recent.moved_after(level.ring_index, &key) {
                Some(moved) => {
                    if let Some(Change::Count { stored, .. }) = changes.get_mut(change) {
                        *stored = moved;
                    }
                }
                None => late.push((change, (SkuId::from_u64(sku.sku), key))),
            }
        }
        late
    }
}

// Lists the event ids of events from `skip` on that need them, with what `find` says that each stands for.
fn list_ids(
    arrival: &Arrival<'_>,
    skip: u32,
    view: &View<'_>,
    ids: &mut Vec<TouchedId>,
    find: impl Fn(&EventId) -> Result<Option<EventIdRow>, RowsError>,
) -> Result<(), RowsError> {
    let mut before: Map<[u8; 16], u64> = Map::default();
    for_each(view, |index, event| {
        let id = event.event_id().map(|id| id.in_store(arrival.store()));
        let Some(id) = id.filter(|_| index >= skip && arrival.needs_id(index)) else {
            return Ok(());
        };
        let content = event.content();
        let row = find(&id)?;
        let own = arrival.event_id_row(index, content);
        let other = row.filter(|row| !is_same(row, &own));
        // Two events of one id may come together.
        let first = *before.entry(id.to_bytes()).or_insert(content);
        let is_conflict = first != content || other.is_some_and(|row| row.content != content);
        ids.push(TouchedId {
            index,
            id,
            pair: is_conflict.then(|| id.with_content(content)),
            content,
            row,
            with_content: None,
        });
        Ok(())
    })
}
