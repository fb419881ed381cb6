//! A store with its tills: which event comes next.

use std::sync::Arc;

use hashbrown::HashSet;
use till_protocol::family::device::v1::{Sign, kind as sign_kind};
use till_protocol::family::sensor::v1::{Reading, kind as reading_kind};
use till_protocol::family::stock::v1::{Move, kind};
use till_protocol::quantity::{Quantity, unit};

use super::basket::basket;
use super::catalogue::{Catalogue, Item};
use super::dice::Dice;
use super::event::Event;

/// How far back a count may reach that is sent late, in us.
pub(crate) const LATE_MAX_US: i64 = 20_000_000;

/// The workload of one store.
///
/// No two of its events have the same time. Counts lie on odd, all others on even microseconds, so that a count which is
/// sent late never meets a movement.
#[derive(Debug)]
pub struct StoreWorkload {
    store: u32,
    tills: u32,
    dice: Dice,
    catalogue: Arc<Catalogue>,
    /// When its first event was due: nothing of it is older, so that what others did before needs no account.
    begun_us: Option<i64>,
    last_us: i64,
    last_count_us: i64,
    receipts: Vec<u64>,
    /// SKUs that a till has named, in its sales and in its movements: each family names what it uses first.
    named: Vec<[HashSet<u64>; 2]>,
    /// Movements that belong together: (SKU, quantity) reserved and not yet set free.
    reserved: Vec<(u64, i64, u8)>,
}

impl StoreWorkload {
    /// The workload of a store with so many tills; receipts begin behind `first_receipt`.
    pub fn new(
        seed: u64,
        (store, tills): (u32, u32),
        catalogue: &Arc<Catalogue>,
        first_receipt: u64,
    ) -> Self {
        let dice = Dice::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ u64::from(store));
        let tills = tills.max(1);
        Self {
            store,
            tills,
            dice,
            catalogue: Arc::clone(catalogue),
            begun_us: None,
            last_us: 0,
            last_count_us: 0,
            receipts: (0..tills).map(|_| first_receipt).collect(),
            named: (0..tills).map(|_| Default::default()).collect(),
            reserved: Vec::new(),
        }
    }

    /// The store's number.
    pub const fn store(&self) -> u32 {
        self.store
    }

    /// The next event at a time: on which till (from 0), and what.
    pub fn next(&mut self, now_us: i64) -> (u32, Event) {
        let till = u32::try_from(self.dice.below(u64::from(self.tills))).unwrap_or(0);
        (till, self.next_at(till, now_us))
    }

    /// The next event of a till.
    pub fn next_at(&mut self, till: u32, now_us: i64) -> Event {
        let place = usize::try_from(till).unwrap_or(0);
        self.begun_us.get_or_insert(now_us);
        match self.dice.below(1_000) {
            0..400 => self.sale(place, now_us),
            400..940 => self.movement(place, now_us),
            940..960 => self.count(place, now_us),
            960..985 => self.reading(now_us),
            _ => self.sign(now_us),
        }
    }

    /// A till has a new session and names SKUs again before their first use.
    pub fn forget_names(&mut self, till: u32) {
        if let Some(named) = usize::try_from(till)
            .ok()
            .and_then(|till| self.named.get_mut(till))
        {
            named.iter_mut().for_each(HashSet::clear);
        }
    }

    fn tick(&mut self, now_us: i64) -> i64 {
        self.last_us = (now_us & !1).max(self.last_us + 2);
        self.last_us
    }

    fn sale(&mut self, till: usize, now_us: i64) -> Event {
        let at = self.tick(now_us);
        let receipt = self.receipts.get_mut(till).map_or(1, |last| {
            *last += 1;
            *last
        });
        let catalogue = Arc::clone(&self.catalogue);
        let mut event = basket(&mut self.dice, &catalogue, at, receipt);
        if let Some([named, _]) = self.named.get_mut(till) {
            for (place, line) in event.lines.iter().enumerate() {
                if named.insert(line.sku) {
                    let code = catalogue.by_id(line.sku);
                    let place = u16::try_from(place).unwrap_or(0);
                    event
                        .codes
                        .extend(code.map(|item| (place, item.code.clone())));
                }
            }
        }
        Event::Sale(Box::new(event))
    }

    fn movement(&mut self, till: usize, now_us: i64) -> Event {
        let at = self.tick(now_us);
        let catalogue = Arc::clone(&self.catalogue);
        let item = catalogue.pick(&mut self.dice);
        let each = Quantity::ONE.raw();
        let (kind, quantity) = match self.dice.below(100) {
            0..45 => (kind::RECEIVED, each * self.dice.between(1, 48)),
            45..65 => (kind::ADJUSTED, each * self.dice.between(-3, 3)),
            65..75 => (kind::TRANSFER_OUT, each * self.dice.between(1, 6)),
            75..85 => (kind::TRANSFER_IN, each * self.dice.between(1, 6)),
            85..92 => (kind::WASTE, each * self.dice.between(1, 2)),
            92..96 => return self.reserve(till, at, item),
            _ => return self.release(till, at, item),
        };
        self.moved(
            till,
            Move {
                at,
                sku: item.id,
                quantity,
                kind,
                unit: item.unit,
                ..Move::default()
            },
            item,
        )
    }

    fn reserve(&mut self, till: usize, at: i64, item: &Item) -> Event {
        let quantity = Quantity::ONE.raw();
        self.reserved.push((item.id, quantity, item.unit));
        let movement = Move {
            at,
            sku: item.id,
            quantity,
            kind: kind::RESERVED,
            unit: item.unit,
            ..Move::default()
        };
        self.moved(till, movement, item)
    }

    /// Sets free what was reserved longest; reserves something where there is nothing.
    fn release(&mut self, till: usize, at: i64, item: &Item) -> Event {
        if self.reserved.is_empty() {
            return self.reserve(till, at, item);
        }
        let (sku, quantity, unit) = self.reserved.swap_remove(0);
        let movement = Move {
            at,
            sku,
            quantity,
            kind: kind::RELEASED,
            unit,
            ..Move::default()
        };
        let catalogue = Arc::clone(&self.catalogue);
        let item = catalogue.by_id(sku).unwrap_or(item);
        self.moved(till, movement, item)
    }

    fn count(&mut self, till: usize, now_us: i64) -> Event {
        let age = now_us - self.begun_us.unwrap_or(now_us);
        let catalogue = Arc::clone(&self.catalogue);
        let item = catalogue.any(&mut self.dice);
        // One count in five is sent late.
        let back = if self.dice.in_1000(200) {
            self.dice.between(0, age.clamp(1, LATE_MAX_US) - 1)
        } else {
            0
        };
        let at = ((now_us - back) | 1).max(self.last_count_us - LATE_MAX_US);
        let at = if at == self.last_count_us { at + 2 } else { at };
        self.last_count_us = self.last_count_us.max(at);
        let quantity = Quantity::ONE.raw() * self.dice.between(0, 200);
        let movement = Move {
            at,
            sku: item.id,
            quantity,
            kind: kind::COUNTED,
            unit: item.unit,
            ..Move::default()
        };
        self.moved(till, movement, item)
    }

    fn moved(&mut self, till: usize, movement: Move, item: &Item) -> Event {
        let is_new = self
            .named
            .get_mut(till)
            .is_some_and(|[_, named]| named.insert(movement.sku));
        Event::Move(movement, is_new.then(|| item.code.clone()))
    }

    fn reading(&mut self, now_us: i64) -> Event {
        let at = self.tick(now_us);
        let catalogue = Arc::clone(&self.catalogue);
        let is_shelf = self.dice.in_1000(600);
        let sensor = u32::try_from(self.dice.below(64)).unwrap_or(0) + 1;
        let (kind, unit, value) = if is_shelf {
            (
                reading_kind::MASS,
                unit::GRAM,
                self.dice.between(0, 40_000_000),
            )
        } else {
            (
                reading_kind::TEMPERATURE,
                unit::CELSIUS,
                self.dice.between(-24_000, 9_000),
            )
        };
        let sku = if is_shelf {
            catalogue.pick(&mut self.dice).id
        } else {
            0
        };
        Event::Reading(Reading {
            at,
            sku,
            value,
            sensor,
            kind,
            unit,
            ..Reading::default()
        })
    }

    fn sign(&mut self, now_us: i64) -> Event {
        let at = self.tick(now_us);
        let uptime_ms = u64::try_from(at / 1_000).unwrap_or(0) % 86_400_000;
        Event::Sign(Sign {
            at,
            kind: sign_kind::HEARTBEAT,
            uptime_ms,
            ..Sign::default()
        })
    }
}

/// How busy a store is at a local time of day, given in minutes: quiet at night, a rush at noon and a larger one at six.
///
/// Never 0: the night shift sells too. 100 is the middle of the day.
pub const fn daily_curve(minute_of_day: i64) -> u64 {
    match minute_of_day.rem_euclid(1_440) / 60 {
        0..=5 => 5,
        6 => 20,
        7..=8 => 60,
        9..=10 => 90,
        11 => 130,
        12 => 170,
        13 => 140,
        14..=15 => 100,
        16 => 140,
        17 => 200,
        18 => 210,
        19 => 150,
        20 => 80,
        21 => 40,
        _ => 15,
    }
}
