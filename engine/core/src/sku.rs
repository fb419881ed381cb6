//! The actor of one SKU in one store: its stock level, and its sums of the newest hour beside it.
//!
//! Level = counted + moved. A count stands for everything before it; a movement before the count changes nothing. A level
//! that leaves its range parks the actor: nothing is lost, the movement waits in the quarantine, the shard goes on.

use crate::flag;
use crate::hash::fold;
use crate::recent::RingIndex;
use crate::row::{MoveKey, RollupRow, SkuRow, Totals};
use crate::table::{Actor, Stamp};
use crate::zone::LocalHour;

/// What became of a movement or count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum Effect {
    /// It is in the level, or had no position in it (it lies before the count).
    Done,
    /// The actor is parked: it waits.
    Waits,
}

/// The stock of one SKU: a [`SkuRow`] in one cache line, with the SKU's name on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    sku: u64,
    moved: i64,
    last_at_us: i64,
    last_seq: u64,
    rare: Option<Box<Rare>>,
    store: u32,
    last_epoch: u32,
    /// The till of the last movement: its terminal is this till of this store. 0 while nothing has moved.
    last_till: u32,
    last_line: u16,
    flags: u16,
    unit: u8,
    /// Changed since its row was last taken.
    pub(crate) dirty: bool,
    /// Its newest movement among the recent ones.
    pub(crate) ring_index: RingIndex,
}

/// What few SKUs have.
#[derive(Clone, Copy, Debug, Default)]
struct Rare {
    counted: Option<(MoveKey, i64)>,
    reserved: i64,
}

impl Level {
    /// The stock of a SKU as its row says; one without a row has none.
    pub(crate) fn new(key: SkuKey, row: Option<&SkuRow>) -> Self {
        let mut level = Self {
            store: key.store,
            sku: key.sku,
            ..Self::default()
        };
        let Some(row) = row else {
            return level;
        };
        if row.counted.is_some() || row.reserved != 0 {
            level.rare = Some(Box::new(Rare {
                counted: row.counted,
                reserved: row.reserved,
            }));
        }
        level.moved = row.moved;
        level.set_last_move(&row.last_move);
        // All flags of a SKU lie in the lower half (see the assertion below).
        level.flags = u16::try_from(row.flags & u32::from(u16::MAX)).unwrap_or(0);
        level.unit = row.unit;
        level
    }

    pub(crate) fn row(&self) -> SkuRow {
        let counted = self.counted();
        let counted_at = counted.map_or(0, |(key, _)| key.at_us);
        SkuRow {
            counted,
            moved: self.moved,
            reserved: self.reserved(),
            last_move: self.last_move(),
            as_of_us: self.last_at_us.max(counted_at),
            flags: u32::from(self.flags),
            unit: self.unit,
        }
    }

    pub(crate) const fn key(&self) -> SkuKey {
        SkuKey {
            store: self.store,
            sku: self.sku,
        }
    }

    /// Whether nothing ever touched it: the same as having no row.
    pub(crate) fn is_virgin(&self) -> bool {
        self.flags == 0
            && self.unit == 0
            && self.last_move() == MoveKey::default()
            && self.counted().is_none()
            && self.reserved() == 0
    }

    pub(crate) const fn is_parked(&self) -> bool {
        self.has(flag::sku::PARKED)
    }

    pub(crate) const fn is_unnamed(&self) -> bool {
        self.has(flag::sku::UNNAMED)
    }

    /// The largest key of a movement so far.
    #[inline]
    pub(crate) fn last_move(&self) -> MoveKey {
        let store = if self.last_till == 0 { 0 } else { self.store };
        MoveKey {
            at_us: self.last_at_us,
            epoch: self.last_epoch,
            seq: self.last_seq,
            terminal: u64::from(store) << 32 | u64::from(self.last_till),
            line: self.last_line,
        }
    }

    // A terminal sells and moves the SKUs of its own store, so that its till says it all.
    fn set_last_move(&mut self, key: &MoveKey) {
        self.last_at_us = key.at_us;
        self.last_epoch = key.epoch;
        self.last_seq = key.seq;
        self.last_till = u32::try_from(key.terminal & u64::from(u32::MAX)).unwrap_or(0);
        self.last_line = key.line;
    }

    /// The key that the level starts from: movements after it count.
    pub(crate) fn base_key(&self) -> MoveKey {
        self.counted().map_or_else(MoveKey::default, |(key, _)| key)
    }

    /// Whether its name has to be looked up: of one that was used without the flag it is known.
    #[inline]
    pub(crate) fn may_lack_name(&self) -> bool {
        self.is_unnamed() || self.is_virgin()
    }

    pub(crate) const fn set_unnamed(&mut self, unnamed: bool) {
        self.set(flag::sku::UNNAMED, unnamed);
    }

    const fn has(&self, flag: u32) -> bool {
        self.flags & low_half(flag) != 0
    }

    const fn set(&mut self, flag: u32, on: bool) {
        if on {
            self.flags |= low_half(flag);
        } else {
            self.flags &= !low_half(flag);
        }
    }

    /// Goods came or went.
    pub(crate) fn movement(&mut self, key: MoveKey, quantity: i128, unit: u8) -> Effect {
        if self.last_move() < key {
            self.set_last_move(&key);
        }
        self.unit = unit;
        if key < self.base_key() {
            return Effect::Done;
        }
        if self.is_parked() {
            return Effect::Waits;
        }
        self.set_moved(i128::from(self.moved).saturating_add(quantity))
    }

    /// The level was counted at `key`; `moved_after` is what has moved after it so far.
    pub(crate) fn count(
        &mut self,
        key: MoveKey,
        quantity: i64,
        moved_after: i128,
        unit: u8,
    ) -> Effect {
        #[cfg(feature = "planted")]
        let moved_after = moved_after * i128::from(!crate::planted::is("count-forgets-later"));
        self.unit = unit;
        if key <= self.base_key() {
            return Effect::Done;
        }
        if self.is_parked() {
            return Effect::Waits;
        }
        self.recount(key, quantity, moved_after)
    }

    /// Makes a count the base of the level, parked or not.
    pub(crate) fn recount(&mut self, key: MoveKey, quantity: i64, moved_after: i128) -> Effect {
        if !fits(quantity, moved_after) {
            self.set(flag::sku::PARKED, true);
            return Effect::Waits;
        }
        self.set(flag::sku::PARKED, false);
        self.rare.get_or_insert_default().counted = Some((key, quantity));
        self.set_moved(moved_after)
    }

    /// Goods were reserved (positive) or set free again. Waits where the sum leaves its range; the level is not parked.
    pub(crate) fn reserve(&mut self, change: i128, unit: u8) -> Effect {
        let Ok(reserved) = i64::try_from(i128::from(self.reserved()).saturating_add(change)) else {
            return Effect::Waits;
        };
        self.unit = unit;
        if reserved != self.reserved() {
            self.rare.get_or_insert_default().reserved = reserved;
        }
        Effect::Done
    }

    /// Takes the sum of all movements after the base as it is in the facts, and un-parks when it fits.
    pub(crate) fn recompute(&mut self, moved: i128) -> Effect {
        let effect = self.set_moved(moved);
        if effect == Effect::Done {
            self.set(flag::sku::PARKED, false);
        }
        effect
    }

    fn set_moved(&mut self, moved: i128) -> Effect {
        let counted = self.counted_quantity();
        let level = i64::try_from(moved).ok().and_then(|moved| {
            self.moved = if counted.checked_add(moved).is_some() {
                moved
            } else {
                self.moved
            };
            counted.checked_add(moved)
        });
        let Some(level) = level else {
            self.set(flag::sku::PARKED, true);
            return Effect::Waits;
        };
        self.set(flag::sku::NEGATIVE, level < 0);
        Effect::Done
    }

    fn counted_quantity(&self) -> i64 {
        self.counted().map_or(0, |(_, quantity)| quantity)
    }

    #[inline]
    fn counted(&self) -> Option<(MoveKey, i64)> {
        self.rare.as_deref().and_then(|rare| rare.counted)
    }

    fn reserved(&self) -> i64 {
        self.rare.as_deref().map_or(0, |rare| rare.reserved)
    }
}

// All flags of a SKU fit into the lower half of the row's.
#[expect(
    clippy::as_conversions,
    reason = "a constant that is checked here; TryFrom is not const"
)]
const fn low_half(flag: u32) -> u16 {
    debug_assert!(flag <= u16::MAX as u32);
    flag as u16
}

fn fits(counted: i64, moved: i128) -> bool {
    i64::try_from(moved).is_ok_and(|moved| counted.checked_add(moved).is_some())
}

/// The sums of one hour in fewer bytes; what does not fit lies in the table of sums. As a part of a sum it has no hour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Cell {
    hour_us: i64,
    quantity: i64,
    net: i64,
    moved: i64,
    transactions: u32,
    lines: u32,
    discount: i32,
    tax: i32,
    returns_net: i32,
    day: u16,
    /// Changed since its row was last taken.
    pub(crate) dirty: bool,
}

/// The hour of a cell that has none.
const NO_HOUR: i64 = i64::MIN;

impl Default for Cell {
    fn default() -> Self {
        Self {
            hour_us: NO_HOUR,
            quantity: 0,
            net: 0,
            moved: 0,
            transactions: 0,
            lines: 0,
            discount: 0,
            tax: 0,
            returns_net: 0,
            day: 0,
            dirty: false,
        }
    }
}

impl Cell {
    pub(crate) fn from_row(row: &RollupRow) -> Option<Self> {
        Some(Self {
            transactions: row.totals.transactions.try_into().ok()?,
            lines: row.totals.lines.try_into().ok()?,
            quantity: row.totals.quantity.try_into().ok()?,
            net: row.totals.net.try_into().ok()?,
            discount: row.totals.discount.try_into().ok()?,
            tax: row.totals.tax.try_into().ok()?,
            returns_net: row.returns_net.try_into().ok()?,
            moved: row.moved.try_into().ok()?,
            ..Self::default()
        })
    }

    /// The same sums, of this hour.
    pub(crate) const fn of(self, hour: LocalHour) -> Self {
        Self {
            hour_us: hour.hour_us,
            day: hour.day,
            ..self
        }
    }

    /// The hour and business day whose sums they are.
    pub(crate) fn hour(&self) -> Option<LocalHour> {
        (self.hour_us != NO_HOUR).then_some(LocalHour {
            hour_us: self.hour_us,
            day: self.day,
        })
    }

    #[inline]
    pub(crate) const fn is_of(&self, hour: LocalHour) -> bool {
        self.hour_us == hour.hour_us && self.day == hour.day
    }

    pub(crate) fn row(&self) -> RollupRow {
        RollupRow {
            totals: Totals {
                transactions: u64::from(self.transactions),
                lines: u64::from(self.lines),
                quantity: i128::from(self.quantity),
                net: i128::from(self.net),
                discount: i128::from(self.discount),
                tax: i128::from(self.tax),
            },
            returns_net: i128::from(self.returns_net),
            moved: i128::from(self.moved),
        }
    }

    /// The sum, if it still fits; of the same hour.
    #[inline]
    pub(crate) fn plus(&self, part: &Self) -> Option<Self> {
        Some(Self {
            transactions: self.transactions.checked_add(part.transactions)?,
            lines: self.lines.checked_add(part.lines)?,
            quantity: self.quantity.checked_add(part.quantity)?,
            net: self.net.checked_add(part.net)?,
            discount: self.discount.checked_add(part.discount)?,
            tax: self.tax.checked_add(part.tax)?,
            returns_net: self.returns_net.checked_add(part.returns_net)?,
            moved: self.moved.checked_add(part.moved)?,
            ..*self
        })
    }
}

/// What an event adds to a sum, in few bytes unless it is huge.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Small(Cell),
    Wide(Box<RollupRow>),
}

impl Part {
    #[inline]
    pub(crate) fn new(row: &RollupRow) -> Self {
        Cell::from_row(row).map_or_else(|| Self::Wide(Box::new(*row)), Self::Small)
    }

    /// A movement of stock alone.
    pub(crate) fn moving(quantity: i128) -> Self {
        match i64::try_from(quantity) {
            Ok(moved) => Self::Small(Cell {
                moved,
                ..Cell::default()
            }),
            Err(_) => Self::new(&RollupRow {
                moved: quantity,
                ..RollupRow::default()
            }),
        }
    }

    pub(crate) fn row(&self) -> RollupRow {
        match self {
            Self::Small(cell) => cell.row(),
            Self::Wide(row) => **row,
        }
    }

    #[inline]
    pub(crate) fn moved(&self) -> i128 {
        match self {
            Self::Small(cell) => i128::from(cell.moved),
            Self::Wide(row) => row.moved,
        }
    }
}

/// A SKU in a store.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct SkuKey {
    pub(crate) store: u32,
    pub(crate) sku: u64,
}

/// The actor of a SKU: its level in one cache line, the sums of its newest hour in the next.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SkuActor {
    pub(crate) level: Level,
    pub(crate) cell: Cell,
    stamp: Stamp,
}

const _: () = assert!(size_of::<Level>() == 64 && size_of::<SkuActor>() == 128);

impl SkuActor {
    pub(crate) fn new(key: SkuKey, row: Option<&SkuRow>) -> Self {
        Self {
            level: Level::new(key, row),
            ..Self::default()
        }
    }
}

impl Actor for SkuActor {
    type Key = SkuKey;

    #[inline]
    fn key(&self) -> SkuKey {
        self.level.key()
    }

    #[inline]
    fn hash(key: &SkuKey) -> u64 {
        fold(key.sku, u64::from(key.store))
    }

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn stamp_mut(&mut self) -> &mut Stamp {
        &mut self.stamp
    }
}

#[cfg(test)]
mod tests;
