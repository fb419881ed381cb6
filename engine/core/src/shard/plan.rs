//! What a batch will change, worked out before anything changes: all that can fail happens here.

use till_protocol::family::stock::v1 as stock;
use till_protocol::id::{SkuId, StoreId};
use till_protocol::view::{SaleEvent, StockEvent, View};

use super::actors::{Actors, Stored};
use crate::contribution::{Contributor, movement_of};
use crate::event::Event;
use crate::ledger;
use crate::row::{Dim, MoveKey, Rows, RowsError, Totals};
use crate::sku::{Part, SkuKey};
use crate::zone::LocalHour;

/// One change. Those of an event follow its [`Op::Event`].
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// An event that takes effect.
    Event { seq: u64, at_us: i64, flags: u32 },
    /// A training sale.
    Training { totals: Totals },
    /// A part of a sum by store, category, tender or operator.
    Sum {
        table_index: u32,
        part: Part,
        /// Its business day, where it is the sum of a sale by store: the terminal's totals take it too.
        sale_of: Option<u16>,
    },
    /// A line of a sale: a part of its SKU's sums, and a movement of stock where its part moves some.
    Line {
        table_index: u32,
        hour: LocalHour,
        line: u16,
        unit: u8,
        part: Part,
    },
    /// A movement of stock.
    Move {
        table_index: u32,
        hour: LocalHour,
        unit: u8,
        quantity: i128,
    },
    /// A count. `stored` is what moved after it before this batch.
    Count {
        table_index: u32,
        unit: u8,
        quantity: i64,
        stored: i128,
    },
    /// Reserved or set free.
    Reserve {
        table_index: u32,
        unit: u8,
        change: i128,
    },
}

/// The changes of one batch. The buffer is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) ops: Vec<Op>,
    /// SKUs that the batch names, sorted.
    pub(crate) named: Vec<u64>,
}

/// Whose events are planned.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) store: StoreId,
    pub(crate) terminal: u64,
    pub(crate) epoch: u32,
    /// Journal position of the record, or `u64::MAX` where it has none yet.
    pub(crate) position: u64,
    pub(crate) stored: Stored,
    pub(crate) rows: &'a dyn Rows,
}

impl Scope<'_> {
    pub(crate) const fn key(&self, at_us: i64, seq: u64, line: u16) -> MoveKey {
        MoveKey {
            at_us,
            epoch: self.epoch,
            seq,
            terminal: self.terminal,
            line,
        }
    }

    pub(crate) const fn sku(&self, sku: u64) -> SkuKey {
        SkuKey {
            store: self.store.get(),
            sku,
        }
    }
}

/// Works out changes; borrows what it activates into.
#[derive(Debug)]
pub(crate) struct Planner<'p> {
    pub(crate) actors: &'p mut Actors,
    pub(crate) contributor: &'p mut Contributor,
    pub(crate) plan: &'p mut Plan,
}

impl Planner<'_> {
    /// Adds the changes of an event that takes effect. Returns where its [`Op::Event`] stands.
    pub(crate) fn event(
        &mut self,
        scope: &Scope<'_>,
        event: &Event<'_>,
        seq: u64,
        flags: u32,
    ) -> Result<usize, RowsError> {
        let at_us = event.at_us();
        let start = self.plan.ops.len();
        self.plan.ops.push(Op::Event { seq, at_us, flags });
        match event {
            Event::Sale(sale) => self.sale(scope, sale, at_us)?,
            Event::Stock(stock) => self.stock(scope, stock, at_us, seq)?,
            Event::Sensor(_) | Event::Device(_) => {}
        }
        Ok(start)
    }

    fn sale(
        &mut self,
        scope: &Scope<'_>,
        sale: &SaleEvent<'_>,
        at_us: i64,
    ) -> Result<(), RowsError> {
        if ledger::is_training(sale) {
            let totals = self.contributor.totals_of(sale);
            self.plan.ops.push(Op::Training { totals });
            return Ok(());
        }
        let local = self.local(scope.store, at_us);
        let (actors, ops) = (&mut *self.actors, &mut self.plan.ops);
        self.contributor
            .of_sale(scope.store, local, sale, &mut |key, part, line| {
                let Some(line) = line else {
                    let table_index = actors.rollup(key, scope.stored, scope.rows)?;
                    let sale_of = (key.dim == Dim::Store).then_some(key.day);
                    let part = Part::new(part);
                    ops.push(Op::Sum {
                        table_index,
                        part,
                        sale_of,
                    });
                    return Ok(());
                };
                let hour = LocalHour {
                    hour_us: key.hour_us,
                    day: key.day,
                };
                let table_index = actors.sku(scope.sku(key.key), scope.stored, scope.rows)?;
                actors.cell(table_index, hour, scope.stored, scope.rows)?;
                let unit = sale
                    .lines
                    .get(usize::from(line))
                    .map_or(0, |line| line.unit);
                ops.push(Op::Line {
                    table_index,
                    hour,
                    line,
                    unit,
                    part: Part::new(part),
                });
                Ok(())
            })
    }

    fn stock(
        &mut self,
        scope: &Scope<'_>,
        event: &StockEvent<'_>,
        at_us: i64,
        seq: u64,
    ) -> Result<(), RowsError> {
        let record = event.record;
        if record.flags.to_native() & stock::flag::TRAINING != 0 {
            return Ok(());
        }
        let sku = record.sku.to_native();
        let unit = record.unit;
        let quantity = record.quantity.to_native();
        let table_index = self.actors.sku(scope.sku(sku), scope.stored, scope.rows)?;
        if let Some(quantity) = movement_of(event) {
            let hour = self.local(scope.store, at_us);
            self.actors
                .cell(table_index, hour, scope.stored, scope.rows)?;
            self.plan.ops.push(Op::Move {
                table_index,
                hour,
                unit,
                quantity,
            });
            return Ok(());
        }
        let op = match record.kind {
            stock::kind::RESERVED => Op::Reserve {
                table_index,
                unit,
                change: i128::from(quantity),
            },
            stock::kind::RELEASED => Op::Reserve {
                table_index,
                unit,
                change: -i128::from(quantity),
            },
            _ => {
                let key = scope.key(at_us, seq, 0);
                let level = &self.actors.skus.get(table_index).level;
                let is_late = level.base_key() < key && key < level.last_move();
                let stored = if is_late {
                    let id = SkuId::from_u64(sku);
                    self.actors.moved_after(table_index, &key, || {
                        let rows = scope.rows;
                        rows.moved_after(scope.store, id, key, scope.position)
                    })?
                } else {
                    0
                };
                Op::Count {
                    table_index,
                    unit,
                    quantity,
                    stored,
                }
            }
        };
        self.plan.ops.push(op);
        Ok(())
    }

    /// Looks up the SKUs of a frame before its events are planned one by one.
    pub(crate) fn prefetch(&mut self, scope: &Scope<'_>, view: &View<'_>) {
        let actors = &mut *self.actors;
        match view {
            View::Sale(sales) => {
                let lines = sales.batch().lines.iter();
                actors.prefetch(scope.store, lines.map(|line| line.sku.to_native()));
            }
            View::Stock(moves) => {
                let records = moves.records().iter();
                actors.prefetch(scope.store, records.map(|record| record.sku.to_native()));
            }
            View::Sensor(_) | View::Device(_) => {}
        }
    }

    /// The local hour of an instant in a store that has been brought in.
    pub(crate) fn local(&mut self, store: StoreId, at_us: i64) -> LocalHour {
        let found = self.actors.stores.get_mut(&store.get());
        found.map_or(LocalHour { hour_us: 0, day: 0 }, |store| {
            store.zone.local(at_us)
        })
    }

    /// Sets the flags of an event, which are known once its SKUs are in memory.
    pub(crate) fn flag(&mut self, start: usize, all: u32) {
        if let Some(Op::Event { flags, .. }) = self.plan.ops.get_mut(start) {
            *flags = all;
        }
    }

    /// The slots of the SKUs that the event planned last is about.
    pub(crate) fn skus_since(&self, start: usize) -> impl Iterator<Item = u32> {
        self.plan.ops.iter().skip(start).filter_map(Op::sku_index)
    }
}

impl Op {
    pub(crate) const fn sku_index(&self) -> Option<u32> {
        match self {
            Self::Line { table_index, .. }
            | Self::Move { table_index, .. }
            | Self::Count { table_index, .. }
            | Self::Reserve { table_index, .. } => Some(*table_index),
            Self::Event { .. } | Self::Training { .. } | Self::Sum { .. } => None,
        }
    }
}
