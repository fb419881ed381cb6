//! Rows together with facts, as a shard wants them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use till_core::contribution::{movement_of, movements_of_sale};
use till_core::event::Event;
use till_core::{
    Dim, EventIdRow, MoveKey, Outcome, QuarantineKey, Record, RollupKey, RollupRow, Rows,
    RowsError, SkuRow, StoreRow, TerminalRow, Zone,
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

// A count that arrives late, and what its SKU has moved since.
struct LateCount {
    after: MoveKey,
    /// The local hour that it was made in.
    hour_us: i64,
    moved: i128,
}

// All late counts of a batch, by SKU: a few counts of one SKU at most.
struct LateCounts<'a> {
    asked: &'a [(SkuId, MoveKey)],
    by_sku: BTreeMap<SkuId, Vec<LateCount>>,
}

impl<'a> LateCounts<'a> {
    fn new(asked: &'a [(SkuId, MoveKey)], mut hour_of: impl FnMut(i64) -> i64) -> Self {
        let mut by_sku: BTreeMap<SkuId, Vec<LateCount>> = BTreeMap::new();
        for (sku, after) in asked {
            by_sku.entry(*sku).or_default().push(LateCount {
                after: *after,
                hour_us: hour_of(after.at_us),
                moved: 0,
            });
        }
        Self { asked, by_sku }
    }

    // When the earliest of them was made.
    fn first_at_us(&self) -> i64 {
        let times = self.asked.iter().map(|(_, after)| after.at_us);
        times.min().unwrap_or(i64::MAX)
    }

    // Movements that were added up with others are counted from here on.
    fn reset(&mut self) {
        for late in self.by_sku.values_mut().flatten() {
            late.moved = 0;
        }
    }

    // A movement of a SKU, which counts for those counts that it comes after.
    fn add(&mut self, sku: u64, moved: i128, comes_after: impl Fn(&LateCount) -> bool) {
        let counts = self.by_sku.get_mut(&SkuId::from_u64(sku));
        for late in counts.into_iter().flatten() {
            if comes_after(late) {
                late.moved += moved;
            }
        }
    }

    // The movements of a fact. Where `only_of` gives an hour for an event's time, they are those of counts in that hour alone.
    fn add_fact(
        &mut self,
        fact: &Fact,
        mut only_of: impl FnMut(i64) -> Option<i64>,
    ) -> Result<(), StoreError> {
        let head = &fact.record.head;
        each_event(fact, |event, fate, index| {
            if fate.outcome != Outcome::Applied {
                return Ok(());
            }
            let at_us = event.at_us();
            let key = |line| MoveKey {
                at_us,
                epoch: head.epoch,
                seq: fact.seq(index),
                terminal: head.terminal,
                line,
            };
            let hour = only_of(at_us);
            let is_after = |line, late: &LateCount| {
                key(line) > late.after && hour.is_none_or(|hour| hour == late.hour_us)
            };
            match event {
                Event::Sale(sale) => movements_of_sale(&sale, |line, sku, moved| {
                    self.add(sku, moved, |late| is_after(line, late));
                }),
                Event::Stock(stock) => {
                    let sku = stock.record.sku.to_native();
                    let moved = movement_of(&stock).unwrap_or(0);
                    self.add(sku, moved, |late| is_after(0, late));
                }
                Event::Sensor(_) | Event::Device(_) => {}
            }
            Ok(())
        })
    }

    // What was moved after each, in the order in which they were asked for.
    fn into_moved(self) -> Vec<i128> {
        let moved = self.asked.iter().map(|(sku, after)| {
            let counts = self.by_sku.get(sku)?;
            let late = counts.iter().find(|late| late.after == *after)?;
            Some(late.moved)
        });
        moved.map(Option::unwrap_or_default).collect()
    }
}

impl FactRows<'_> {
    fn movements(
        &self,
        store: StoreId,
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, StoreError> {
        if let Some(barrier) = self.barrier {
            barrier();
        }
        let counted_at = counts.iter().map(|(_, after)| after.at_us).min();
        // What moved after a count was received after it, by a clock that is right.
        if self.facts.is_whole(store, counted_at.unwrap_or(i64::MAX))? {
            let mut late = LateCounts::new(counts, |_| 0);
            self.of_facts(store, &mut late, before, |_, _| None)?;
            return Ok(late.into_moved());
        }
        let mut row = self.views.store(store)?;
        let mut zone = zone_of(row.as_ref())?;
        let mut late = LateCounts::new(counts, |at_us| zone.local(at_us).hour_us);
        loop {
            // The sums of the hours after have what the store's row holds, but for the count's own hour.
            let stored = row.as_ref().map_or(0, |row| row.applied);
            late.reset();
            self.of_facts(store, &mut late, before, |position, at_us| {
                (position <= stored).then(|| zone.local(at_us).hour_us)
            })?;
            let first = zone.local(late.first_at_us()).day;
            self.of_later_hours(store, &mut late, first)?;
            let after = self.views.store(store)?;
            // A flush came between row and sums: they are of two states. The shard that asks gives no other meanwhile.
            if after.as_ref().map_or(0, |row| row.applied) == stored {
                return Ok(late.into_moved());
            }
            row = after;
        }
    }

    // Adds the movements that took effect before an LSN, in one pass over the facts since the first count. `only_of` says of
    // the LSN and time of an event of which hour's counts it is taken from here; `None`: of all.
    fn of_facts(
        &self,
        store: StoreId,
        late: &mut LateCounts<'_>,
        before: u64,
        mut only_of: impl FnMut(u64, i64) -> Option<i64>,
    ) -> Result<(), StoreError> {
        let from = late.first_at_us();
        self.facts.of_hours(store, from, i64::MAX, &mut |fact| {
            let position = fact.lsn.get();
            if position >= before {
                return Ok(());
            }
            late.add_fact(fact, |at_us| only_of(position, at_us))
        })
    }

    // Adds the sums of the hours after each count's own; `first` is the business day of the earliest count.
    fn of_later_hours(
        &self,
        store: StoreId,
        late: &mut LateCounts<'_>,
        first: u16,
    ) -> Result<(), StoreError> {
        let days = first.saturating_sub(DAYS_BEHIND)..=u16::MAX;
        self.views.rollups(store, Dim::Sku, days, &mut |key, row| {
            late.add(key.key, row.moved, |late| key.hour_us > late.hour_us);
            ControlFlow::Continue(())
        })
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
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, RowsError> {
        Ok(self.movements(store, counts, before)?)
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
