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
use crate::record::{Record, RecordKind};
use crate::row::{Dim, RollupKey, Rows, RowsError, Space};
use crate::sku::SkuKey;
use crate::terminal::Window;
use crate::wants::Wants;
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

    fn is_aside(&self, index: u32) -> bool {
        reason_of(self.found.aside, index).is_some()
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
    pub fn want_terminal(&self, terminal: TerminalId, wants: &mut Wants) {
        let store = terminal.store();
        let is_here = self.actors.stores.contains_key(&store.get());
        if !is_here {
            wants.stores.push(store);
        }
        if self.actors.stored(store).terminals
            && !self.actors.terminals.contains_key(&terminal.to_u64())
        {
            wants.terminals.push(terminal);
        }
    }

    /// What a frame asks rows for that say whether its events count.
    pub fn want_standing(&self, session: SessionKey, batch: &Verified, wants: &mut Wants) {
        let sent = Sent::of_frame(session, batch);
        self.standing(&sent, &batch.view(), wants);
    }

    /// What a record that was handed off asks rows for that say whether its events count. Nothing where it cannot be read:
    /// [`Shard::handle`] says so.
    pub fn want_standing_of_record(&self, record: &Record, wants: &mut Wants) {
        match record.head.kind {
            RecordKind::Batch => {
                let past = Past::of(record);
                if let Ok((sent, batch)) = read_sent(record, &past) {
                    self.standing(&sent, &batch.view(), wants);
                }
            }
            RecordKind::Tombstones | RecordKind::Duplicates | RecordKind::Retry => {
                if let Ok((session, _)) = sender_of(record) {
                    self.want_terminal(session.terminal, wants);
                }
            }
            RecordKind::StoreRegistered => {
                let number = u32::try_from(record.head.terminal >> 32).unwrap_or(0);
                let store = StoreId::new(number).ok();
                let is_here = self.actors.stores.contains_key(&number);
                wants.stores.extend(store.filter(|_| !is_here));
            }
            RecordKind::SkuAlias | RecordKind::BaseRow => {}
        }
    }

    /// Brings stores and terminals in that were fetched. What is known of them here already stands.
    ///
    /// # Errors
    /// Returns [`RowsError`] when a row could not be read.
    pub fn bring_in(&mut self, wants: &Wants, rows: &dyn Rows) -> Result<(), RowsError> {
        for store in &wants.stores {
            self.actors.store(*store, rows)?;
        }
        for terminal in &wants.terminals {
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
    pub fn want_goods(
        &mut self,
        session: SessionKey,
        batch: &Verified,
        rows: &dyn Rows,
        wants: &mut Wants,
    ) -> Result<(), RowsError> {
        let sent = Sent::of_frame(session, batch);
        self.goods_of(&sent, &batch.view(), rows, wants)
    }

    /// What the events of a record that count ask rows for. Nothing where it cannot be read.
    ///
    /// # Errors
    /// As [`Shard::want_goods`].
    pub fn want_goods_of_record(
        &mut self,
        record: &Record,
        rows: &dyn Rows,
        wants: &mut Wants,
    ) -> Result<(), RowsError> {
        if record.head.kind != RecordKind::Batch {
            return Ok(());
        }
        let past = Past::of(record);
        match read_sent(record, &past) {
            Ok((sent, batch)) => self.goods_of(&sent, &batch.view(), rows, wants),
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

    fn standing(&self, sent: &Sent<'_>, view: &View<'_>, wants: &mut Wants) {
        self.want_terminal(sent.session.terminal, wants);
        let Some(first) = self.first_new(sent).filter(|_| Sides::of(view).refs) else {
            return;
        };
        let done: Result<(), std::convert::Infallible> = for_each(view, |index, event| {
            if index >= first
                && !sent.is_refused(index)
                && let Some(id) = event.event_id().map(|id| id.in_store(sent.store()))
                && !self.event_ids.has(&id)
            {
                wants.event_ids.push(id);
            }
            Ok(())
        });
        if let Err(never) = done {
            match never {}
        }
    }

    fn goods_of(
        &mut self,
        sent: &Sent<'_>,
        view: &View<'_>,
        rows: &dyn Rows,
        wants: &mut Wants,
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
            self.want_names(sent, first, view, wants);
        }
        for_each(view, |index, event| {
            if index < first || index >= sent.count || sent.is_refused(index) {
                return Ok(());
            }
            let counts = self.may_count(&event, (&scope, sent, index), wants)?;
            if counts && !sent.is_aside(index) {
                self.want_goods_of_event(&scope, &event, wants);
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
        wants: &mut Wants,
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
            wants.event_ids.push(id.with_content(content));
        }
        Ok(false)
    }

    // Leaves the SKUs that the events name in `plan.named`.
    fn want_names(&mut self, sent: &Sent<'_>, first: u32, view: &View<'_>, wants: &mut Wants) {
        let (book, named) = (&mut self.names, &mut self.plan.named);
        let done: Result<(), std::convert::Infallible> = for_each(view, |index, event| {
            if index >= first && !sent.is_refused(index) && !sent.is_aside(index) {
                for (space, id, is_ours) in event.texts().filter_map(|text| book.look_up(&text)) {
                    if !is_ours {
                        wants.names.push((space, id));
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

    fn want_goods_of_event(&mut self, scope: &Scope<'_>, event: &Event<'_>, wants: &mut Wants) {
        match event {
            Event::Sale(sale) => self.want_goods_of_sale(scope, sale, wants),
            Event::Stock(stock) => self.want_goods_of_stock(scope, stock, wants),
            Event::Sensor(_) | Event::Device(_) => {}
        }
    }

    fn want_goods_of_sale(&mut self, scope: &Scope<'_>, sale: &SaleEvent<'_>, wants: &mut Wants) {
        let local = self.local(scope.store, sale.sale.at.to_native());
        let (actors, named) = (&self.actors, &self.plan.named);
        let looker = Looker {
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
                            looker.sku(scope.sku(key.key), Some(hour), wants);
                        }
                        Dim::Store | Dim::Category | Dim::Tender | Dim::Operator => {
                            looker.rollup(key, wants);
                        }
                    }
                    Ok(())
                });
        if let Err(never) = done {
            match never {}
        }
    }

    fn want_goods_of_stock(
        &mut self,
        scope: &Scope<'_>,
        event: &StockEvent<'_>,
        wants: &mut Wants,
    ) {
        if event.record.flags.to_native() & stock::flag::TRAINING != 0 {
            return;
        }
        let hour = movement_of(event).map(|_| self.local(scope.store, event.record.at.to_native()));
        let looker = Looker {
            actors: &self.actors,
            named: &self.plan.named,
            stored: scope.stored,
        };
        looker.sku(scope.sku(event.record.sku.to_native()), hour, wants);
    }

    fn local(&mut self, store: StoreId, at_us: i64) -> LocalHour {
        let found = self.actors.stores.get_mut(&store.get());
        found.map_or(LocalHour { hour_us: 0, day: 0 }, |store| {
            store.zone.local(at_us)
        })
    }
}

/// Looks what is in memory, and what may be in rows.
struct Looker<'l> {
    actors: &'l Actors,
    named: &'l [u64],
    stored: Stored,
}

impl Looker<'_> {
    fn sku(&self, key: SkuKey, hour: Option<LocalHour>, wants: &mut Wants) {
        let slot = self.actors.skus.find(&key);
        let actor = slot.map(|slot| self.actors.skus.get(slot));
        if actor.is_none()
            && self.stored.skus
            && let Ok(store) = StoreId::new(key.store)
        {
            wants.skus.push((store, SkuId::from_u64(key.sku)));
        }
        let may_lack_name =
            actor.is_none_or(|actor| actor.level.is_unnamed() || actor.level.is_virgin());
        if may_lack_name && self.named.binary_search(&key.sku).is_err() {
            wants.names.push((Space::Sku, key.sku));
        }
        if let Some(hour) = hour
            && actor.is_none_or(|actor| !actor.cell.is_of(hour))
        {
            self.rollup(&cell_key(key, hour), wants);
        }
    }

    fn rollup(&self, key: &RollupKey, wants: &mut Wants) {
        if key.hour_us <= self.stored.hours && self.actors.rollups.find(key).is_none() {
            wants.rollups.push(*key);
        }
    }
}
