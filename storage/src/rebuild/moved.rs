//! Rows together with facts, as a shard wants them.

use std::fmt;
use std::ops::ControlFlow;

use till_core::contribution::{movement_of, movements_of_sale};
use till_core::event::Event;
use till_core::{
    Dim, EventIdRow, LocalHour, MoveKey, Outcome, QuarantineKey, Record, RollupKey, RollupRow,
    Rows, RowsError, SkuRow, StoreRow, TerminalRow, Zone,
};
use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::cluster::Found;
use crate::facts::Fact;
use crate::query::{FactReader, each_event};
use crate::views::{StoreError, Views};

/// Business days before that of a count in which movements after it are looked for where their facts were dropped.
const DAYS_BEHIND: u16 = 7;

/// Views and facts: everything that [`Rows`] asks for.
///
/// `moved_after` is answered from the facts of the store since the count's hour, each at the LSN of the record with which
/// it took effect: a retried event's is that of the retry. Facts that retention dropped are made up for by the sums of the
/// hours after the count's; of the count's own hour, dropped movements count as before it. Cost: reading the store's records
/// since the count.
pub struct FactRows<'a> {
    views: &'a dyn Views,
    facts: &'a dyn FactReader,
    barrier: Option<&'a (dyn Fn() + Sync)>,
    known: Option<&'a Found>,
}

impl fmt::Debug for FactRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactRows").finish_non_exhaustive()
    }
}

impl<'a> FactRows<'a> {
    /// Rows and facts of one journal.
    pub const fn new(views: &'a dyn Views, facts: &'a dyn FactReader) -> Self {
        Self {
            views,
            facts,
            barrier: None,
            known: None,
        }
    }

    /// For a live shard: `barrier` returns once everything that the shard gave to the journal before is durable, so that
    /// the facts have it. Called before facts are read.
    #[must_use]
    pub fn with_barrier(mut self, barrier: &'a (dyn Fn() + Sync)) -> Self {
        self.barrier = Some(barrier);
        self
    }

    /// Asks no row that was asked for before, be it there or not. Nobody may have changed those rows since.
    #[must_use]
    pub const fn knowing(mut self, known: &'a Found) -> Self {
        self.known = Some(known);
        self
    }
}

// Sums of movements of one SKU after a key.
struct Wanted {
    sku: u64,
    after: MoveKey,
}

impl Wanted {
    // The movements of a fact after the key, of events whose time passes `when`.
    fn of_fact(&self, fact: &Fact, mut when: impl FnMut(i64) -> bool) -> Result<i128, StoreError> {
        let head = &fact.record.head;
        let mut sum = 0_i128;
        each_event(fact, |event, fate, index| {
            if fate.outcome != Outcome::Applied || !when(event.at_us()) {
                return Ok(());
            }
            let key = |line| MoveKey {
                at_us: event.at_us(),
                epoch: head.epoch,
                seq: fact.seq(index),
                terminal: head.terminal,
                line,
            };
            match event {
                Event::Sale(sale) => movements_of_sale(&sale, |line, sku, quantity| {
                    if sku == self.sku && key(line) > self.after {
                        sum += quantity;
                    }
                }),
                Event::Stock(stock) if stock.record.sku.to_native() == self.sku => {
                    let moved = movement_of(&stock).filter(|_| key(0) > self.after);
                    sum += moved.unwrap_or(0);
                }
                Event::Stock(_) | Event::Sensor(_) | Event::Device(_) => {}
            }
            Ok(())
        })?;
        Ok(sum)
    }
}

impl FactRows<'_> {
    fn movements(
        &self,
        store: StoreId,
        sku: SkuId,
        after: MoveKey,
        before: u64,
    ) -> Result<i128, StoreError> {
        if let Some(barrier) = self.barrier {
            barrier();
        }
        let wanted = Wanted {
            sku: sku.get(),
            after,
        };
        let mut row = self.views.store(store)?;
        if self.facts.start() == 0 {
            return self.of_facts(store, &wanted, before, |_, _| true);
        }
        let mut zone = zone_of(row.as_ref())?;
        let own = zone.local(after.at_us);
        loop {
            // The sums of the hours after have what the store's row holds, but for the count's own hour.
            let stored = row.as_ref().map_or(0, |row| row.applied);
            let mut sum = self.of_facts(store, &wanted, before, |position, at_us| {
                position > stored || zone.local(at_us).hour_us == own.hour_us
            })?;
            sum += self.of_later_hours(store, sku, own)?;
            let after = self.views.store(store)?;
            // A flush came between row and sums: they are of two states. The shard that asks gives no other meanwhile.
            if after.as_ref().map_or(0, |row| row.applied) == stored {
                return Ok(sum);
            }
            row = after;
        }
    }

    // The sum of the movements after a key that took effect before an LSN and pass `counts` with their place and time.
    fn of_facts(
        &self,
        store: StoreId,
        wanted: &Wanted,
        before: u64,
        mut counts: impl FnMut(u64, i64) -> bool,
    ) -> Result<i128, StoreError> {
        let mut sum = 0_i128;
        let from = wanted.after.at_us;
        self.facts.of_hours(store, from, i64::MAX, &mut |fact| {
            let position = fact.lsn.get();
            if position < before {
                sum += wanted.of_fact(fact, |at_us| counts(position, at_us))?;
            }
            Ok(())
        })?;
        Ok(sum)
    }

    fn of_later_hours(
        &self,
        store: StoreId,
        sku: SkuId,
        own: LocalHour,
    ) -> Result<i128, StoreError> {
        let mut sum = 0_i128;
        let days = own.day.saturating_sub(DAYS_BEHIND)..=u16::MAX;
        self.views.rollups(store, Dim::Sku, days, &mut |key, row| {
            if key.key == sku.get() && key.hour_us > own.hour_us {
                sum += row.moved;
            }
            ControlFlow::Continue(())
        })?;
        Ok(sum)
    }
}

fn zone_of(store: Option<&StoreRow>) -> Result<Zone, StoreError> {
    Zone::new(store.map_or("UTC", |store| store.zone.as_str())).map_err(|error| {
        StoreError::Damaged {
            table: "stores",
            cause: error.to_string(),
        }
    })
}

impl Rows for FactRows<'_> {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        match self.known.and_then(|known| known.stores.get(&store)) {
            Some(row) => Ok(row.clone()),
            None => self.views.store(store),
        }
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        match self.known.and_then(|known| known.terminals.get(&terminal)) {
            Some(row) => Ok(row.clone()),
            None => self.views.terminal(terminal),
        }
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        match self.known.and_then(|known| known.skus.get(&(store, sku))) {
            Some(row) => Ok(*row),
            None => self.views.sku(store, sku),
        }
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        match self.known.and_then(|known| known.rollups.get(key)) {
            Some(row) => Ok(*row),
            None => self.views.rollup(key),
        }
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        let known = self.known.map(|known| &known.event_ids);
        match known.and_then(|known| known.get(&id.to_bytes())) {
            Some(row) => Ok(*row),
            None => self.views.event_id(id),
        }
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(self.views.quarantined(key)?.is_some())
    }

    fn moved_after(
        &self,
        store: StoreId,
        sku: SkuId,
        after: MoveKey,
        before: u64,
    ) -> Result<i128, RowsError> {
        Ok(self.movements(store, sku, after, before)?)
    }

    fn records(
        &self,
        terminal: TerminalId,
        epoch: u32,
        run: (u64, u64),
        each: &mut dyn FnMut(&Record) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        if let Some(barrier) = self.barrier {
            barrier();
        }
        let own = (terminal.to_u64(), epoch);
        let mut said = Ok(());
        self.facts.of_run(terminal, epoch, run, &mut |fact| {
            let head = &fact.record.head;
            if (head.terminal, head.epoch) == own && said.is_ok() {
                said = each(&fact.record);
            }
            Ok(())
        })?;
        said
    }
}
