//! What a batch touches, and what it does to it: one walk over its events, which looks at nothing else.
//!
//! From the list that the walk leaves, the read set names what is to be fetched, activation brings it into memory, and apply makes
//! the changes. There is no second account of what an event touches that could differ.

use till_protocol::code::Reason;
use till_protocol::family::sale::v1::kind as sale_kind;
use till_protocol::family::stock::v1 as stock;
use till_protocol::id::{EventId, StoreId};
use till_protocol::view::{SaleEvent, StockEvent, View};

use super::retry::Waiting;
use crate::contribution::{Contributor, movement_of};
use crate::event::{Event, Sides, visit};
use crate::flag;
use crate::ledger::{self, Balance};
use crate::record::{Outcome, RecordHead};
use crate::row::{EventIdRow, MoveKey, RollupKey, RollupRow, Space, Totals};
use crate::sku::{Part, SkuKey};
use crate::table::NO_SLOT;
use crate::zone::{LocalHour, Zone};

/// Whose events they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub(crate) store: StoreId,
    pub(crate) terminal: u64,
    pub(crate) epoch: u32,
}

impl Scope {
    pub(crate) const fn of(store: StoreId, head: &RecordHead) -> Self {
        Self {
            store,
            terminal: head.terminal,
            epoch: head.epoch,
        }
    }

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

/// One change. Each that is about a SKU belongs to the next entry of [`Touched::skus`].
#[derive(Debug)]
pub(crate) enum Change {
    /// A training sale.
    Training { totals: Box<Totals> },
    /// A line of a sale: a part of its SKU's sums, and a movement of stock where its part moves some.
    Line { line: u16, unit: u8, part: Part },
    /// A movement of stock.
    Move { unit: u8, quantity: i128 },
    /// A count. `stored` is what moved after it before this batch.
    Count {
        unit: u8,
        quantity: i64,
        stored: i128,
    },
    /// Reserved for a customer, or set free.
    Reserve { unit: u8, change: i128 },
}

/// A SKU that an event touches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TouchedSku {
    pub(crate) sku: u64,
    hour: LocalHour,
    /// Its actor, once it is brought in.
    pub(crate) table_index: u32,
    has_hour: bool,
}

impl TouchedSku {
    /// The hour whose sums change with it.
    #[inline]
    pub(crate) fn hour(&self) -> Option<LocalHour> {
        self.has_hour.then_some(self.hour)
    }
}

/// A sum by store, category, tender or operator, with what the batch adds to it. Its events mostly touch the same few, so that each
/// is written once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TouchedSum {
    pub(crate) key: RollupKey,
    pub(crate) part: RollupRow,
    /// Its actor, once it is brought in.
    pub(crate) table_index: u32,
}

/// An event that does not take effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exception {
    pub(crate) index: u32,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<Reason>,
}

/// An event of the batch. What it touches begins where that of the event before ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TouchedEvent {
    pub(crate) index: u32,
    pub(crate) at_us: i64,
    /// Flags that follow from the event alone, and whether one of its SKUs has no name.
    pub(crate) flags: u32,
    /// Where its changes end.
    pub(crate) changes: usize,
    /// Where its SKUs end.
    pub(crate) skus: usize,
}

/// An event that has an id, and what the id stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TouchedId {
    pub(crate) index: u32,
    pub(crate) id: EventId,
    /// What is remembered of the content beside the id, where other content has the id.
    pub(crate) pair: Option<EventId>,
    pub(crate) content: u64,
    /// What the id stands for.
    pub(crate) row: Option<EventIdRow>,
    /// What the pair stands for.
    pub(crate) with_content: Option<EventIdRow>,
}

/// An event that cannot be told from one of another name: it brings a name whose id has another, or uses such an id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collided {
    pub(crate) index: u32,
    pub(crate) space: Space,
    /// It brings such a name itself.
    pub(crate) brings: bool,
}

/// What the events of one batch touch. The buffer is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    pub(crate) sides: Sides,
    pub(crate) events: Vec<TouchedEvent>,
    pub(crate) changes: Vec<Change>,
    pub(crate) skus: Vec<TouchedSku>,
    pub(crate) sums: Vec<TouchedSum>,
    /// Which of the sums each dimension touched last: most events of a batch touch the same.
    last_sum: [usize; 5],
    /// Counts, by the number of their event and their change.
    pub(crate) counts: Vec<(usize, usize)>,
    pub(crate) ids: Vec<TouchedId>,
    /// SKUs that the batch names, sorted.
    pub(crate) named: Vec<u64>,
    /// It brings a name that nobody has claimed.
    pub(crate) has_new_name: bool,
    /// Ids whose names collide in this session, sorted.
    pub(crate) collided_ids: Vec<u64>,
    pub(crate) collided: Vec<Collided>,
    /// Events that do not take effect: nothing of them is among the changes and sums.
    pub(crate) exceptions: Vec<Exception>,
    /// Of a retry: what a line waits for, with its SKU's actor.
    pub(crate) waiting: Option<(u32, Waiting)>,
}

impl Touched {
    /// Forgets the batch before; keeps its room.
    pub(crate) fn clear(&mut self) {
        self.sides = Sides::default();
        self.events.clear();
        self.changes.clear();
        self.skus.clear();
        self.sums.clear();
        self.last_sum = [usize::MAX; 5];
        self.counts.clear();
        self.ids.clear();
        self.named.clear();
        self.has_new_name = false;
        self.collided_ids.clear();
        self.collided.clear();
        self.exceptions.clear();
        self.waiting = None;
    }

    /// Why an event does not take effect.
    pub(crate) fn exception_of(&self, index: u32) -> Option<&Exception> {
        let at = self
            .exceptions
            .binary_search_by_key(&index, |one| one.index);
        at.ok().and_then(|at| self.exceptions.get(at))
    }

    /// The id of an event, if it has one.
    pub(crate) fn id_of(&self, index: u32) -> Option<&TouchedId> {
        let at = self.ids.binary_search_by_key(&index, |one| one.index);
        at.ok().and_then(|at| self.ids.get(at))
    }

    /// The collision that an event has part in.
    pub(crate) fn collided_at(&self, index: u32) -> Option<&Collided> {
        let at = self.collided.binary_search_by_key(&index, |one| one.index);
        at.ok().and_then(|at| self.collided.get(at))
    }

    /// The events with the SKUs that each touches.
    pub(crate) fn skus_by_event(
        &mut self,
    ) -> impl Iterator<Item = (&mut TouchedEvent, &[TouchedSku])> {
        let (skus, mut from) = (&self.skus, 0);
        self.events.iter_mut().map(move |event| {
            let own = skus.get(from..event.skus).unwrap_or_default();
            from = event.skus;
            (event, own)
        })
    }

    #[inline]
    fn touch_sku(&mut self, sku: u64, hour: Option<LocalHour>) {
        self.skus.push(TouchedSku {
            sku,
            hour: hour.unwrap_or(LocalHour { hour_us: 0, day: 0 }),
            table_index: NO_SLOT,
            has_hour: hour.is_some(),
        });
    }

    #[inline]
    fn touch_sum(&mut self, key: &RollupKey, part: &RollupRow) {
        let dim = usize::from(key.dim.number());
        let last = self.last_sum.get(dim).copied().unwrap_or(usize::MAX);
        if let Some(sum) = self.sums.get_mut(last)
            && sum.key == *key
        {
            return sum.part.add(part);
        }
        if let Some(last) = self.last_sum.get_mut(dim) {
            *last = self.sums.len();
        }
        self.sums.push(TouchedSum {
            key: *key,
            part: *part,
            table_index: NO_SLOT,
        });
    }
}

/// Goes over the events of a batch.
pub(crate) struct Walk<'w> {
    pub(crate) store: StoreId,
    pub(crate) zone: &'w mut Zone,
    pub(crate) contributor: &'w mut Contributor,
    pub(crate) touched: &'w mut Touched,
    /// Flags of the events are wanted: they are not decided yet.
    pub(crate) with_flags: bool,
}

impl Walk<'_> {
    /// Lists the events from `skip` on, and what those of them touch that may take effect.
    pub(crate) fn events(&mut self, view: &View<'_>, skip: u32, which: impl Fn(u32) -> bool) {
        visit(view, |index, event| {
            if index < skip {
                return;
            }
            if which(index) && self.touched.exception_of(index).is_none() {
                self.event(&event);
            }
            let flags = if self.with_flags { flags_of(&event) } else { 0 };
            self.touched.events.push(TouchedEvent {
                index,
                at_us: event.at_us(),
                flags,
                changes: self.touched.changes.len(),
                skus: self.touched.skus.len(),
            });
        });
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Sale(sale) => self.sale(sale),
            Event::Stock(stock) => self.stock(stock),
            Event::Sensor(_) | Event::Device(_) => {}
        }
    }

    fn sale(&mut self, sale: &SaleEvent<'_>) {
        if ledger::is_training(sale) {
            let totals = Box::new(self.contributor.totals_of(sale));
            return self.touched.changes.push(Change::Training { totals });
        }
        let local = self.zone.local(sale.sale.at.to_native());
        let touched = &mut *self.touched;
        self.contributor
            .of_sale(self.store, local, sale, &mut |key, part, line| {
                let Some(line) = line else {
                    return touched.touch_sum(key, part);
                };
                let part = Part::new(part);
                let hour = LocalHour {
                    hour_us: key.hour_us,
                    day: key.day,
                };
                touched.touch_sku(key.key, Some(hour));
                let unit = sale
                    .lines
                    .get(usize::from(line))
                    .map_or(0, |line| line.unit);
                touched.changes.push(Change::Line { line, unit, part });
            });
    }

    fn stock(&mut self, event: &StockEvent<'_>) {
        let record = event.record;
        if record.flags.to_native() & stock::flag::TRAINING != 0 {
            return;
        }
        let (sku, unit) = (record.sku.to_native(), record.unit);
        if let Some(quantity) = movement_of(event) {
            let hour = self.zone.local(record.at.to_native());
            self.touched.touch_sku(sku, Some(hour));
            return self.touched.changes.push(Change::Move { unit, quantity });
        }
        self.touched.touch_sku(sku, None);
        let quantity = record.quantity.to_native();
        let change = match record.kind {
            stock::kind::RESERVED => Change::Reserve {
                unit,
                change: i128::from(quantity),
            },
            stock::kind::RELEASED => Change::Reserve {
                unit,
                change: -i128::from(quantity),
            },
            _ => {
                let place = (self.touched.events.len(), self.touched.changes.len());
                self.touched.counts.push(place);
                Change::Count {
                    unit,
                    quantity,
                    stored: 0,
                }
            }
        };
        self.touched.changes.push(change);
    }
}

// Flags that follow from an event alone.
fn flags_of(event: &Event<'_>) -> u32 {
    let mut flags = 0;
    if event.is_training() {
        flags |= flag::TRAINING;
    }
    if let Event::Sale(sale) = event
        && sale.sale.kind != sale_kind::VOID
        && !Balance::of(sale).is_even()
    {
        flags |= flag::UNBALANCED;
    }
    flags
}
