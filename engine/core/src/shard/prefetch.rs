//! What a frame is going to ask rows for, so that all of it can be fetched before the frame is decided.
//!
//! In two steps. First its standing: the store, the terminal and the event ids, which say whether its events count. Then its
//! goods: the SKUs, sums and names that those change which count. A few rows more than are asked for may be named, never one
//! less, but for the facts behind a late count.

use till_protocol::family::stock::v1 as stock;
use till_protocol::id::{SkuId, StoreId, TerminalId};
use till_protocol::verified::Verified;
use till_protocol::view::{SaleEvent, StockEvent, View};

use super::actors::{Actors, Stored, cell_key};
use super::batch::Found;
use super::decide::reason_of;
use super::handoff::{Past, sender_of};
use super::plan::Scope;
use super::recover::read_back;
use super::{SessionKey, Shard};
use crate::contribution::movement_of;
use crate::event::{Event, Sides, for_each};
use crate::read_set::ReadSet;
use crate::record::{Record, RecordKind};
use crate::row::{Dim, RollupKey, Rows, RowsError, Space};
use crate::sku::SkuKey;
use crate::terminal::Window;
use crate::zone::LocalHour;

/// Events as they were sent.
struct Sent<'a> {
    session: SessionKey,
    first_seq: u64,
    skip: u32,
    count: u32,
    found: Found<'a>,
    is_record: bool,
}

impl<'a> Sent<'a> {
    fn of_frame(session: SessionKey, batch: &'a Verified) -> Self {
        let header = &batch.frame().header;
        Self {
            session,
            first_seq: header.first_seq,
            skip: 0,
            count: header.count,
            found: Found {
                refusals: batch.refusals(),
                ..Found::default()
            },
            is_record: false,
        }
    }

    const fn store(&self) -> StoreId {
        self.session.terminal.store()
    }

    fn is_refused(&self, index: u32) -> bool {
        reason_of(self.found.refusals, index).is_some()
    }

    fn is_quarantined(&self, index: u32) -> bool {
        reason_of(self.found.quarantined, index).is_some()
    }
}

// The events of a record that was handed off.
fn read_sent<'a>(record: &Record, past: &'a Past) -> Result<(Sent<'a>, Verified), RowsError> {
    let (session, _) = sender_of(record)?;
    let sent = Sent {
        session,
        first_seq: record.head.first_seq,
        skip: record.head.skip,
        count: record.head.count,
        found: past.found(),
        is_record: true,
    };
    Ok((sent, read_back(u64::MAX, record)?))
}

impl Shard {
    /// What a terminal that says Hello asks rows for.
    pub fn read_terminal(&self, terminal: TerminalId, read_set: &mut ReadSet) {
        let store = terminal.store();
        let is_here = self.actors.stores.contains_key(&store.get());
        if !is_here {
            read_set.stores.push(store);
        }
        if self.actors.stored(store).terminals
            && !self.actors.terminals.contains_key(&terminal.to_u64())
        {
            read_set.terminals.push(terminal);
        }
    }

    /// What a frame asks rows for that say whether its events count.
    pub fn read_standing(&self, session: SessionKey, batch: &Verified, read_set: &mut ReadSet) {
        let sent = Sent::of_frame(session, batch);
        self.standing(&sent, &batch.view(), read_set);
    }

    /// What a record that was handed off asks rows for that say whether its events count. Nothing where it cannot be read:
    /// [`Shard::handle`] says so.
    pub fn read_standing_of_record(&self, record: &Record, read_set: &mut ReadSet) {
        match record.head.kind {
            RecordKind::Batch => {
                let past = Past::of(record);
                if let Ok((sent, batch)) = read_sent(record, &past) {
                    self.standing(&sent, &batch.view(), read_set);
                }
            }
            RecordKind::Tombstones | RecordKind::Duplicates | RecordKind::Retry => {
                if let Ok((session, _)) = sender_of(record) {
                    self.read_terminal(session.terminal, read_set);
                }
            }
            RecordKind::StoreRegistered => {
                let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
                let store = StoreId::new(number).ok();
                let is_here = self.actors.stores.contains_key(&number);
                read_set.stores.extend(store.filter(|_| !is_here));
            }
            RecordKind::SkuAlias | RecordKind::BaseRow => {}
        }
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

    /// What the events of a frame that count ask rows for. To be called once its standing is known to `rows` and brought in.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read.
    pub fn read_skus(
        &mut self,
        session: SessionKey,
        batch: &Verified,
        rows: &dyn Rows,
        read_set: &mut ReadSet,
    ) -> Result<(), RowsError> {
        let sent = Sent::of_frame(session, batch);
        self.skus_of(&sent, &batch.view(), rows, read_set)
    }

    /// What the events of a record that count ask rows for. Nothing where it cannot be read.
    ///
    /// # Errors
    /// As [`Shard::read_skus`].
    pub fn read_skus_of_record(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
        read_set: &mut ReadSet,
    ) -> Result<(), RowsError> {
        if record.head.kind != RecordKind::Batch {
            return Ok(());
        }
        let past = Past::of(record);
        match read_sent(record, &past) {
            Ok((sent, batch)) => self.skus_of(&sent, &batch.view(), rows, read_set),
            Err(_) => Ok(()),
        }
    }

    // The first event that may be new, as far as that is known here; `None` where none is. A frame behind a gap counts whole:
    // what closes the gap may come before it.
    fn first_new(&self, sent: &Sent<'_>) -> Option<u32> {
        let fresh = sent.count.saturating_sub(sent.skip);
        let Some(actor) = self.actors.terminals.get(&sent.session.terminal.to_u64()) else {
            return Some(sent.skip);
        };
        let (row, epoch) = (&actor.row, sent.session.epoch.get());
        let first = sent.first_seq + u64::from(sent.skip);
        let window = match sent.is_record {
            true => row.window_of_record(epoch, first, fresh),
            false => row.window(epoch, first, fresh),
        };
        match window {
            Window::Next { skip } => Some(sent.skip + skip),
            Window::Gap { .. } => Some(sent.skip),
            Window::Known | Window::Closed => None,
        }
    }

    fn standing(&self, sent: &Sent<'_>, view: &View<'_>, read_set: &mut ReadSet) {
        self.read_terminal(sent.session.terminal, read_set);
        let Some(first) = self.first_new(sent).filter(|_| Sides::of(view).refs) else {
            return;
        };
        let done: Result<(), std::convert::Infallible> = for_each(view, |index, event| {
            if index >= first
                && !sent.is_refused(index)
                && let Some(id) = event.event_id().map(|id| id.in_store(sent.store()))
                && !self.event_ids.has(&id)
            {
                read_set.event_ids.push(id);
            }
            Ok(())
        });
        if let Err(never) = done {
            match never {}
        }
    }

    fn skus_of(
        &mut self,
        sent: &Sent<'_>,
        view: &View<'_>,
        rows: &dyn Rows,
        read_set: &mut ReadSet,
    ) -> Result<(), RowsError> {
        if self.actors.store(sent.store(), rows)?.is_none() {
            return Ok(());
        }
        let Some(first) = self.first_new(sent) else {
            return Ok(());
        };
        let terminal = sent.session.terminal;
        let scope = self.scope(terminal, sent.session.epoch.get(), u64::MAX, rows);
        self.plan.named.clear();
        if Sides::of(view).texts {
            self.read_names(sent, first, view, read_set);
        }
        for_each(view, |index, event| {
            if index < first || index >= sent.count || sent.is_refused(index) {
                return Ok(());
            }
            let counts = self.may_count(&event, (&scope, sent, index), read_set)?;
            if counts && !sent.is_quarantined(index) {
                self.read_skus_of_event(&scope, &event, read_set);
            }
            Ok(())
        })
    }

    // Whether an event may take effect, as far as its id says. Where the id is another event's, what tells whether it has come
    // before is asked for as well.
    fn may_count(
        &self,
        event: &Event<'_>,
        (scope, sent, index): (&Scope<'_>, &Sent<'_>, u32),
        read_set: &mut ReadSet,
    ) -> Result<bool, RowsError> {
        let Some(id) = event.event_id().map(|id| id.in_store(scope.store)) else {
            return Ok(true);
        };
        let Some(row) = self.event_ids.find(&id, scope.rows)? else {
            return Ok(true);
        };
        let seq = sent.first_seq + u64::from(index);
        if (row.terminal, row.epoch, row.seq) == (scope.terminal, scope.epoch, seq) {
            return Ok(true);
        }
        let content = event.content();
        if row.content != content {
            read_set.event_ids.push(id.with_content(content));
        }
        Ok(false)
    }

    // Leaves the SKUs that the events name in `plan.named`.
    fn read_names(&mut self, sent: &Sent<'_>, first: u32, view: &View<'_>, read_set: &mut ReadSet) {
        let (book, named) = (&mut self.names, &mut self.plan.named);
        let done: Result<(), std::convert::Infallible> = for_each(view, |index, event| {
            if index >= first && !sent.is_refused(index) && !sent.is_quarantined(index) {
                for (space, id, is_ours) in event.texts().filter_map(|text| book.look_up(&text)) {
                    if !is_ours {
                        read_set.names.push((space, id));
                    }
                    if space == Space::Sku {
                        named.push(id);
                    }
                }
            }
            Ok(())
        });
        if let Err(never) = done {
            match never {}
        }
        self.plan.named.sort_unstable();
    }

    fn read_skus_of_event(&mut self, scope: &Scope<'_>, event: &Event<'_>, read_set: &mut ReadSet) {
        match event {
            Event::Sale(sale) => self.read_skus_of_sale(scope, sale, read_set),
            Event::Stock(stock) => self.read_skus_of_stock(scope, stock, read_set),
            Event::Sensor(_) | Event::Device(_) => {}
        }
    }

    fn read_skus_of_sale(
        &mut self,
        scope: &Scope<'_>,
        sale: &SaleEvent<'_>,
        read_set: &mut ReadSet,
    ) {
        let local = self.local(scope.store, sale.sale.at.to_native());
        let (actors, named) = (&self.actors, &self.plan.named);
        let prefetcher = Prefetcher {
            actors,
            named,
            stored: scope.stored,
        };
        let done: Result<(), std::convert::Infallible> =
            self.contributor
                .of_sale(scope.store, local, sale, &mut |key, _, _| {
                    match key.dim {
                        Dim::Sku => {
                            let hour = LocalHour {
                                hour_us: key.hour_us,
                                day: key.day,
                            };
                            prefetcher.sku(scope.sku(key.key), Some(hour), read_set);
                        }
                        Dim::Store | Dim::Category | Dim::Tender | Dim::Operator => {
                            prefetcher.rollup(key, read_set);
                        }
                    }
                    Ok(())
                });
        if let Err(never) = done {
            match never {}
        }
    }

    fn read_skus_of_stock(
        &mut self,
        scope: &Scope<'_>,
        event: &StockEvent<'_>,
        read_set: &mut ReadSet,
    ) {
        if event.record.flags.to_native() & stock::flag::TRAINING != 0 {
            return;
        }
        let hour = movement_of(event).map(|_| self.local(scope.store, event.record.at.to_native()));
        let prefetcher = Prefetcher {
            actors: &self.actors,
            named: &self.plan.named,
            stored: scope.stored,
        };
        prefetcher.sku(scope.sku(event.record.sku.to_native()), hour, read_set);
    }

    fn local(&mut self, store: StoreId, at_us: i64) -> LocalHour {
        let found = self.actors.stores.get_mut(&store.get());
        found.map_or(LocalHour { hour_us: 0, day: 0 }, |store| {
            store.zone.local(at_us)
        })
    }
}

/// Looks what is in memory, and what may be in rows.
struct Prefetcher<'l> {
    actors: &'l Actors,
    named: &'l [u64],
    stored: Stored,
}

impl Prefetcher<'_> {
    fn sku(&self, key: SkuKey, hour: Option<LocalHour>, read_set: &mut ReadSet) {
        let table_index = self.actors.skus.find(&key);
        let actor = table_index.map(|table_index| self.actors.skus.get(table_index));
        if actor.is_none()
            && self.stored.skus
            && let Ok(store) = StoreId::new(key.store)
        {
            read_set.skus.push((store, SkuId::from_u64(key.sku)));
        }
        let may_lack_name =
            actor.is_none_or(|actor| actor.level.is_unnamed() || actor.level.is_virgin());
        if may_lack_name && self.named.binary_search(&key.sku).is_err() {
            read_set.names.push((Space::Sku, key.sku));
        }
        if let Some(hour) = hour
            && actor.is_none_or(|actor| !actor.cell.is_of(hour))
        {
            self.rollup(&cell_key(key, hour), read_set);
        }
    }

    fn rollup(&self, key: &RollupKey, read_set: &mut ReadSet) {
        if key.hour_us <= self.stored.hours && self.actors.rollups.find(key).is_none() {
            read_set.rollups.push(*key);
        }
    }
}
