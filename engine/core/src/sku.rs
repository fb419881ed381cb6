//! The actor of one SKU in one store: its stock level, and its sums of the newest hour beside it.
//!
//! Level = counted + moved. A count stands for everything before it; a movement before the count changes nothing. A level
//! that leaves its range parks the actor: nothing is lost, the movement waits in the quarantine, the shard goes on.

use crate::flag;
use crate::hash::fold;
use crate::row::{MoveKey, RollupRow, SkuRow, Totals};
use crate::table::{Actor, Stamp};
use crate::zone::LocalHour;

/// What became of a movement or count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub(crate) enum Effect {
    /// It is in the level, or had no place in it (it lies before the count).
    Done,
    /// The actor is parked: it waits.
    Waits,
}

/// The stock of one SKU: a [`SkuRow`] in fewer bytes.
#[derive(Debug, Default)]
pub(crate) struct Level {
    counted: Option<Box<(MoveKey, i64)>>,
    moved: i64,
    reserved: i64,
    last_move: MoveKey,
    flags: u32,
    unit: u8,
}

impl Level {
    pub(crate) fn from_row(row: &SkuRow) -> Self {
        Self {
            counted: row.counted.map(Box::new),
            moved: row.moved,
            reserved: row.reserved,
            last_move: row.last_move,
            flags: row.flags,
            unit: row.unit,
        }
    }

    pub(crate) fn row(&self) -> SkuRow {
        let counted = self.counted.as_deref().copied();
        let counted_at = counted.map_or(0, |(key, _)| key.at_us);
        SkuRow {
            counted,
            moved: self.moved,
            reserved: self.reserved,
            last_move: self.last_move,
            as_of_us: self.last_move.at_us.max(counted_at),
            flags: self.flags,
            unit: self.unit,
        }
    }

    /// Whether nothing ever touched it: the same as having no row.
    pub(crate) fn is_virgin(&self) -> bool {
        self.flags == 0
            && self.last_move == MoveKey::default()
            && self.counted.is_none()
            && self.reserved == 0
            && self.unit == 0
    }

    pub(crate) const fn is_parked(&self) -> bool {
        self.flags & flag::sku::PARKED != 0
    }

    pub(crate) const fn is_unnamed(&self) -> bool {
        self.flags & flag::sku::UNNAMED != 0
    }

    pub(crate) const fn last_move(&self) -> MoveKey {
        self.last_move
    }

    /// The key that the level starts from: movements after it count.
    pub(crate) fn base_key(&self) -> MoveKey {
        self.counted
            .as_deref()
            .map_or_else(MoveKey::default, |(key, _)| *key)
    }

    pub(crate) const fn set_unnamed(&mut self, unnamed: bool) {
        if unnamed {
            self.flags |= flag::sku::UNNAMED;
        } else {
            self.flags &= !flag::sku::UNNAMED;
        }
    }

    /// Goods came or went.
    pub(crate) fn movement(&mut self, key: MoveKey, quantity: i128, unit: u8) -> Effect {
        self.last_move = self.last_move.max(key);
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
            self.flags |= flag::sku::PARKED;
            return Effect::Waits;
        }
        self.flags &= !flag::sku::PARKED;
        match &mut self.counted {
            Some(counted) => **counted = (key, quantity),
            None => self.counted = Some(Box::new((key, quantity))),
        }
        self.set_moved(moved_after)
    }

    /// Goods were set aside (positive) or set free again. Waits where the sum leaves its range; the level is not parked.
    pub(crate) fn reserve(&mut self, change: i128, unit: u8) -> Effect {
        let Ok(reserved) = i64::try_from(i128::from(self.reserved).saturating_add(change)) else {
            return Effect::Waits;
        };
        self.unit = unit;
        self.reserved = reserved;
        Effect::Done
    }

    /// Takes the sum of all movements after the base as it is in the facts, and un-parks when it fits.
    pub(crate) fn recompute(&mut self, moved: i128) -> Effect {
        let effect = self.set_moved(moved);
        if effect == Effect::Done {
            self.flags &= !flag::sku::PARKED;
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
            self.flags |= flag::sku::PARKED;
            return Effect::Waits;
        };
        if level < 0 {
            self.flags |= flag::sku::NEGATIVE;
        } else {
            self.flags &= !flag::sku::NEGATIVE;
        }
        Effect::Done
    }

    fn counted_quantity(&self) -> i64 {
        self.counted.as_deref().map_or(0, |(_, quantity)| *quantity)
    }
}

fn fits(counted: i64, moved: i128) -> bool {
    i64::try_from(moved).is_ok_and(|moved| counted.checked_add(moved).is_some())
}

/// The sums of one hour in fewer bytes; what does not fit lies in the table of sums.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cell {
    transactions: u32,
    lines: u32,
    quantity: i64,
    net: i64,
    discount: i64,
    tax: i64,
    returns_net: i64,
    moved: i64,
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
        })
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

    /// The sum, if it still fits.
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

/// The actor of a SKU: level and the sums of one hour.
#[derive(Debug, Default)]
pub(crate) struct SkuActor {
    pub(crate) key: SkuKey,
    pub(crate) level: Level,
    pub(crate) level_dirty: bool,
    pub(crate) cell_dirty: bool,
    /// The hour and business day of `cell`; `None` while it holds nothing.
    pub(crate) hour: Option<LocalHour>,
    pub(crate) cell: Cell,
    stamp: Stamp,
}

impl SkuActor {
    pub(crate) fn new(key: SkuKey, row: Option<&SkuRow>) -> Self {
        Self {
            key,
            level: row.map(Level::from_row).unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl Actor for SkuActor {
    type Key = SkuKey;

    fn key(&self) -> SkuKey {
        self.key
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
