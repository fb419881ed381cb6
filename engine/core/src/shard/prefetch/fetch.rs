//! What is to be fetched before a batch is prefetched.
//!
//! Where rows are on other machines, those of many batches are fetched together first, in two steps, see [`ReadSet`]. First their
//! standing: the store, the terminal and the event ids, which say whether events count. Then what those touch that count. A few
//! rows more than are needed may be named, never one less, but for the facts behind a late count, and for what tells two events
//! apart that bring one id in two frames which come together.

use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};
use till_protocol::view::View;

use super::super::actors::{Stored, cell_key};
use super::super::handle::{Frame, Origin, head_of_batch};
use super::super::handoff::{Past, sender_of};
use super::super::names::each_name;
use super::super::recover::read_back;
use super::{Arrival, Scope, Screened, Shard, list_ids};
use crate::event::Sides;
use crate::read_set::ReadSet;
use crate::record::RecordKind;
use crate::row::{RollupKey, Rows, RowsError, Space};
use crate::terminal::Window;

impl Shard {
    /// What a terminal that says Hello asks rows for.
    pub fn read_terminal(&self, terminal: TerminalId, read_set: &mut ReadSet) {
        let store = terminal.store();
        self.read_store(store, read_set);
        if self.actors.stored(store).terminals
            && !self.actors.terminals.contains_key(&terminal.to_u64())
        {
            read_set.terminals.push(terminal);
        }
    }

    fn read_store(&self, store: StoreId, read_set: &mut ReadSet) {
        if !self.actors.stores.contains_key(&store.get()) {
            read_set.stores.push(store);
        }
    }

    /// What is to be fetched to tell whether events count. Nothing where a record cannot be read: [`Shard::handle`] says so.
    pub fn read_standing(&self, origin: &Origin<'_>, read_set: &mut ReadSet) {
        match origin {
            Origin::Device { session, .. } => self.read_terminal(session.terminal, read_set),
            Origin::Handoff(record) if record.head.kind == RecordKind::StoreRegistered => {
                let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
                if let Ok(store) = StoreId::new(number) {
                    self.read_store(store, read_set);
                }
            }
            Origin::Handoff(record) => {
                if let Ok((session, _)) = sender_of(record) {
                    self.read_terminal(session.terminal, read_set);
                }
            }
        }
        with_arrival(origin, |arrival, view| {
            let Some(first) = self.first_new(arrival).filter(|_| Sides::of(view).refs) else {
                return;
            };
            let mut ids = Vec::new();
            let find = |id: &EventId| Ok(self.event_ids.recent(id));
            if list_ids(arrival, first, view, &mut ids, find).is_ok() {
                let ids = ids.iter().flat_map(|one| [Some(one.id), one.pair]);
                let missing = ids
                    .flatten()
                    .filter(|id| self.event_ids.recent(id).is_none());
                read_set.event_ids.extend(missing);
            }
        });
    }

    /// Brings stores and terminals in that were fetched. What is known of them here already stands.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read.
    pub fn bring_in(&mut self, read_set: &ReadSet, rows: &dyn Rows) -> Result<(), RowsError> {
        for store in &read_set.stores {
            self.actors.store(*store, rows)?;
        }
        for terminal in &read_set.terminals {
            if self.actors.store(terminal.store(), rows)?.is_some() {
                self.actors.terminal(*terminal, rows)?;
            }
        }
        Ok(())
    }

    /// What is to be fetched of that which the events touch that count. To be called once their standing is known to `rows` and
    /// brought in.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read.
    pub fn read_touched(
        &mut self,
        origin: &Origin<'_>,
        rows: &dyn Rows,
        read_set: &mut ReadSet,
    ) -> Result<(), RowsError> {
        with_arrival(origin, |arrival, view| {
            let scope = arrival.scope();
            let first = self.first_new(arrival);
            let (Some(_), Some(first)) = (self.actors.store(scope.store, rows)?, first) else {
                return Ok(());
            };
            self.touched.clear();
            let sides = Sides::of(view);
            if sides.refs {
                let (event_ids, ids) = (&self.event_ids, &mut self.touched.ids);
                list_ids(arrival, first, view, ids, |id| event_ids.find(id, rows))?;
                let pairs = ids.iter().filter_map(|one| one.pair);
                let missing = pairs.filter(|pair| event_ids.recent(pair).is_none());
                read_set.event_ids.extend(missing);
            }
            if sides.texts {
                let may_name = |index| index >= first && arrival.may_name(index);
                let Ok(()) = each_name(view, may_name, |_, space, name| {
                    let (id, is_ours) = self.names.look_up(space, name);
                    if !is_ours {
                        read_set.names.push((space, id));
                    }
                    Ok::<(), std::convert::Infallible>(())
                });
            }
            self.find_exceptions(arrival, view);
            self.walk(&scope, view, first, false, |index| {
                arrival.asks_about(index)
            });
            self.read_actors(&scope, read_set);
            Ok(())
        })
        .unwrap_or(Ok(()))
    }

    // Of what the walk has listed, what is not in memory and may be in rows.
    fn read_actors(&self, scope: &Scope, read_set: &mut ReadSet) {
        let stored = self.actors.stored(scope.store);
        for one in &self.touched.skus {
            let key = scope.sku(one.sku);
            let table_index = self.actors.skus.find(&key);
            let actor = table_index.map(|table_index| self.actors.skus.get(table_index));
            if actor.is_none() && stored.skus {
                let sku = SkuId::from_u64(one.sku);
                read_set.skus.push((scope.store, sku));
            }
            if actor.is_none_or(|actor| actor.level.may_lack_name()) {
                read_set.names.push((Space::Sku, one.sku));
            }
            let is_here = |hour| actor.is_some_and(|actor| actor.cell.is_of(hour));
            if let Some(hour) = one.hour().filter(|hour| !is_here(*hour)) {
                self.read_rollup(&cell_key(key, hour), stored, read_set);
            }
        }
        for sum in &self.touched.sums {
            self.read_rollup(&sum.key, stored, read_set);
        }
    }

    fn read_rollup(&self, key: &RollupKey, stored: Stored, read_set: &mut ReadSet) {
        if key.hour_us <= stored.hours && self.actors.rollups.find(key).is_none() {
            read_set.rollups.push(*key);
        }
    }

    // The first event that may be new, as far as that is known here; `None` where none is. A frame behind a gap counts whole:
    // what closes the gap may come before it.
    fn first_new(&self, arrival: &Arrival<'_>) -> Option<u32> {
        let head = &arrival.head;
        let fresh = head.count.saturating_sub(head.skip);
        let Some(actor) = self.actors.terminals.get(&head.terminal) else {
            return Some(head.skip);
        };
        let first = head.first_seq + u64::from(head.skip);
        let window = match arrival.is_record {
            true => actor.row.window_of_record(head.epoch, first, fresh),
            false => actor.row.window(head.epoch, first, fresh),
        };
        match window {
            Window::Next { skip } => Some(head.skip + skip),
            Window::Gap { .. } => Some(head.skip),
            Window::Known | Window::Closed => None,
        }
    }
}

// Gives the events of an origin that has some. Nothing where they cannot be read.
fn with_arrival<T>(
    origin: &Origin<'_>,
    work: impl FnOnce(&Arrival<'_>, &View<'_>) -> T,
) -> Option<T> {
    match origin {
        Origin::Device {
            now,
            session,
            frame: Frame::Batch(batch),
        } => {
            let head = head_of_batch(*session, *now, batch);
            let screened = Screened {
                refusals: batch.refusals(),
                ..Screened::default()
            };
            let arrival = Arrival::of_frame(head, *session, screened);
            Some(work(&arrival, &batch.view()))
        }
        Origin::Handoff(record) if record.head.kind == RecordKind::Batch => {
            let (session, _) = sender_of(record).ok()?;
            let batch = read_back(u64::MAX, record).ok()?;
            let past = Past::of(record);
            let arrival = Arrival::of_record(record.head, session, &past);
            Some(work(&arrival, &batch.view()))
        }
        Origin::Device { .. } | Origin::Handoff(_) => None,
    }
}
