//! The fact tables, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use scylla::DeserializeRow;
use scylla::value::{CqlDate, CqlVarint};

use crate::world::World;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;
/// 1970-01-01 in CQL's dates.
const EPOCH_DAY: u32 = 1 << 31;
/// `training` among the flags of an event.
const TRAINING: i64 = 128;

/// What a sum is split by; the numbers of `rollups.dim`.
pub(super) const STORE: i8 = 0;
pub(super) const SKU: i8 = 1;
pub(super) const CATEGORY: i8 = 2;
pub(super) const OPERATOR: i8 = 4;

/// Store, dimension, day, hour, key.
pub(super) type Key = (i32, i8, u32, i64, i64);
/// An event: terminal, epoch, sequence number.
pub(crate) type Event = (i64, i32, i64);
/// Where an event of a SKU stands in their order: time, epoch, sequence number, terminal, line.
type RollupCell = (i64, i32, i64, i64, i32);

#[derive(DeserializeRow)]
pub(super) struct Transaction {
    store: i32,
    at_us: i64,
    pub(super) terminal: i64,
    epoch: i32,
    seq: i64,
    lines: i32,
    quantity_e5: CqlVarint,
    net_minor: CqlVarint,
    discount_minor: CqlVarint,
    tax_minor: CqlVarint,
    operator: Option<i64>,
    day: CqlDate,
    counts: bool,
}

#[derive(DeserializeRow)]
struct Line {
    store: i32,
    at_us: i64,
    terminal: i64,
    epoch: i32,
    seq: i64,
    line: i32,
    sku: i64,
    kind: String,
    quantity_e5: i64,
    net_minor: i64,
    category: i64,
    day: CqlDate,
    counts: bool,
}

#[derive(DeserializeRow)]
struct Move {
    store: i32,
    at_us: i64,
    terminal: i64,
    epoch: i32,
    seq: i64,
    sku: i64,
    kind: String,
    quantity_e5: i64,
    outcome: String,
    flags: i64,
}

/// Every fact that a sum comes from.
pub(super) struct Facts {
    transactions: Vec<Transaction>,
    lines: Vec<Line>,
    moves: Vec<Move>,
    /// Readings and heartbeats.
    signs: Vec<Event>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sum {
    pub(super) transactions: i128,
    pub(super) lines: i128,
    pub(super) quantity: i128,
    pub(super) net: i128,
    pub(super) discount: i128,
    pub(super) tax: i128,
    pub(super) returns: i128,
    pub(super) moved: i128,
}

impl Sum {
    pub(super) const fn add(&mut self, other: &Self) {
        self.transactions += other.transactions;
        self.lines += other.lines;
        self.quantity += other.quantity;
        self.net += other.net;
        self.discount += other.discount;
        self.tax += other.tax;
        self.returns += other.returns;
        self.moved += other.moved;
    }
}

/// The stock of a SKU: what was last counted, what moved after that, what is reserved.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Level {
    pub(super) counted: Option<i64>,
    pub(super) moved: i128,
    pub(super) reserved: i128,
}

/// A number of any size: two's complement, the highest byte first.
pub(super) fn whole(number: &CqlVarint) -> i128 {
    let bytes = number.as_signed_bytes_be_slice();
    let is_negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let sign = -i128::from(is_negative);
    bytes
        .iter()
        .fold(sign, |sum, byte| sum << 8 | i128::from(*byte))
}

const fn hour_of(at_us: i64) -> i64 {
    at_us.div_euclid(HOUR_US) * HOUR_US
}

fn day_of(at_us: i64) -> u32 {
    EPOCH_DAY + u32::try_from(at_us.div_euclid(DAY_US)).unwrap_or(0)
}

impl Transaction {
    const fn event(&self) -> Event {
        (self.terminal, self.epoch, self.seq)
    }

    pub(super) fn sum(&self) -> Sum {
        Sum {
            transactions: 1,
            lines: self.lines.into(),
            quantity: whole(&self.quantity_e5),
            net: whole(&self.net_minor),
            discount: whole(&self.discount_minor),
            tax: whole(&self.tax_minor),
            ..Sum::default()
        }
    }
}

impl Line {
    const fn event(&self) -> Event {
        (self.terminal, self.epoch, self.seq)
    }
}

impl Move {
    /// What it adds to the level; nothing for counts and what is quarantined.
    fn moved(&self) -> Option<i128> {
        match self.kind.as_str() {
            "received" | "adjusted" | "transfer_in" => Some(self.quantity_e5.into()),
            "transfer_out" | "waste" => Some(-i128::from(self.quantity_e5)),
            _ => None,
        }
    }
}

impl Facts {
    pub(super) fn read(world: &World) -> Result<Self> {
        let (cql, k) = (&world.cql, &world.keyspace);
        Ok(Self {
            transactions: cql.rows(&format!(
                "SELECT store, at_us, terminal, epoch, seq, lines, quantity_e5, net_minor, discount_minor, tax_minor, operator, \
                 day, counts FROM {k}.transactions"
            ))?,
            lines: cql.rows(&format!(
                "SELECT store, at_us, terminal, epoch, seq, line, blobAsBigint(sku) AS sku, kind, quantity_e5, net_minor, category, day, counts \
                 FROM {k}.lines"
            ))?,
            moves: cql.rows(&format!(
                "SELECT store, at_us, terminal, epoch, seq, blobAsBigint(sku) AS sku, kind, quantity_e5, outcome, flags FROM {k}.stock_moves"
            ))?,
            signs: cql.rows(&format!("SELECT terminal, epoch, seq FROM {k}.telemetry"))?,
        })
    }

    /// Every event, once.
    pub(super) fn events(&self) -> BTreeSet<Event> {
        let sales = self.transactions.iter().map(Transaction::event);
        let moves = self.moves.iter();
        let moves = moves.map(|one| (one.terminal, one.epoch, one.seq));
        sales
            .chain(moves)
            .chain(self.signs.iter().copied())
            .collect()
    }

    /// Sales that sums have in them.
    pub(super) fn sales(&self) -> impl Iterator<Item = &Transaction> {
        self.transactions.iter().filter(|one| one.counts)
    }

    fn standing_lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(|one| one.counts)
    }

    /// Movements that took effect, training left out.
    fn moves(&self) -> impl Iterator<Item = &Move> {
        let counts = |one: &&Move| one.outcome == "applied" && one.flags & TRAINING == 0;
        self.moves.iter().filter(counts)
    }

    /// The sums that the facts alone decide: discounts and taxes by SKU and category stand in no fact table.
    pub(super) fn sums(&self) -> BTreeMap<Key, Sum> {
        let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
        let mut operators: BTreeMap<Event, i64> = BTreeMap::new();
        for one in self.sales() {
            let operator = one.operator.unwrap_or(0);
            operators.insert(one.event(), operator);
            for (dim, key) in [(STORE, 0), (OPERATOR, operator)] {
                let cell = (one.store, dim, one.day.0, hour_of(one.at_us), key);
                sums.entry(cell).or_default().add(&one.sum());
            }
        }
        let mut baskets = BTreeSet::new();
        for one in self.standing_lines() {
            let net = one.net_minor.into();
            let returned = Sum {
                returns: if one.kind == "return" { net } else { 0 },
                ..Sum::default()
            };
            let part = Sum {
                lines: 1,
                quantity: one.quantity_e5.into(),
                net,
                ..returned
            };
            let of_sku = Sum {
                transactions: baskets.insert((one.event(), one.sku)).into(),
                moved: -part.quantity,
                ..part
            };
            let operator = operators.get(&one.event()).copied().unwrap_or(0);
            for (dim, key, part) in [
                (SKU, one.sku, of_sku),
                (CATEGORY, one.category, part),
                (STORE, 0, returned),
                (OPERATOR, operator, returned),
            ] {
                let cell = (one.store, dim, one.day.0, hour_of(one.at_us), key);
                sums.entry(cell).or_default().add(&part);
            }
        }
        for one in self.moves() {
            let Some(moved) = one.moved() else { continue };
            let (day, hour) = (day_of(one.at_us), hour_of(one.at_us));
            let cell = (one.store, SKU, day, hour, one.sku);
            sums.entry(cell).or_default().moved += moved;
        }
        sums
    }

    /// Stock by store and SKU.
    pub(super) fn levels(&self) -> BTreeMap<(i32, i64), Level> {
        let mut levels: BTreeMap<(i32, i64), Level> = BTreeMap::new();
        let mut counted: BTreeMap<(i32, i64), RollupCell> = BTreeMap::new();
        let mut moves: Vec<((i32, i64), RollupCell, i128)> = Vec::new();
        for one in self.moves() {
            let key = (one.store, one.sku);
            let cell = (one.at_us, one.epoch, one.seq, one.terminal, 0);
            let level = levels.entry(key).or_default();
            match one.kind.as_str() {
                "counted" if counted.get(&key).is_none_or(|last| *last < cell) => {
                    level.counted = Some(one.quantity_e5);
                    counted.insert(key, cell);
                }
                "reserved" => level.reserved += i128::from(one.quantity_e5),
                "released" => level.reserved -= i128::from(one.quantity_e5),
                _ => moves.extend(one.moved().map(|moved| (key, cell, moved))),
            }
        }
        for one in self.standing_lines() {
            let cell = (one.at_us, one.epoch, one.seq, one.terminal, one.line);
            let key = (one.store, one.sku);
            moves.push((key, cell, -i128::from(one.quantity_e5)));
        }
        for (key, cell, moved) in moves {
            let level = levels.entry(key).or_default();
            if counted.get(&key).is_none_or(|last| *last < cell) {
                level.moved += moved;
            }
        }
        levels
    }
}
