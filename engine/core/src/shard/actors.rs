//! The actors of a shard: activated from rows, and changed in place.

use till_protocol::id::{SkuId, StoreId, TerminalId};

use crate::hash::Map;
use crate::recent::Recent;
use crate::rollup::RollupActor;
use crate::row::{Dim, MoveKey, RollupKey, RollupRow, Rows, RowsError};
use crate::sku::{Cell, Effect, Part, SkuActor, SkuKey};
use crate::store::StoreActor;
use crate::table::{Actor as _, Stamp, Table};
use crate::terminal::TerminalActor;
use crate::zone::LocalHour;

/// All actors of a shard.
#[derive(Debug, Default)]
pub(crate) struct Actors {
    pub(crate) stores: Map<u32, StoreActor>,
    pub(crate) terminals: Map<u64, TerminalActor>,
    pub(crate) skus: Table<SkuActor>,
    pub(crate) rollups: Table<RollupActor>,
    /// The newest movements of all SKUs.
    pub(crate) recent: Recent,
    /// The generation that the next take will have.
    pub(crate) generation: u32,
    /// Rows that were looked up.
    pub(crate) activations: u64,
    /// Late counts that reached back behind the recent movements.
    pub(crate) counts_from_facts: u64,
}

/// What may be stored of a store and not be in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored {
    pub(crate) hours: i64,
    pub(crate) skus: bool,
    pub(crate) terminals: bool,
}

impl Actors {
    /// Brings a store in, if it is registered.
    pub(crate) fn store(
        &mut self,
        store: StoreId,
        rows: &dyn Rows,
    ) -> Result<Option<&mut StoreActor>, RowsError> {
        if !self.stores.contains_key(&store.get()) {
            self.activations += 1;
            let Some(row) = rows.store(store)? else {
                return Ok(None);
            };
            let actor = StoreActor::stored(row).map_err(|unknown| RowsError {
                table: "stores",
                cause: unknown.to_string(),
            })?;
            self.stores.insert(store.get(), actor);
        }
        Ok(self.stores.get_mut(&store.get()))
    }

    /// What may be stored of a store that is in memory.
    pub(crate) fn stored(&self, store: StoreId) -> Stored {
        let all = Stored {
            hours: i64::MAX,
            skus: true,
            terminals: true,
        };
        self.stores.get(&store.get()).map_or(all, |actor| Stored {
            hours: actor.hours_stored,
            skus: actor.skus_stored,
            terminals: actor.terminals_stored,
        })
    }

    /// Brings a terminal in; one without a row is new.
    pub(crate) fn terminal(
        &mut self,
        terminal: TerminalId,
        rows: &dyn Rows,
    ) -> Result<&mut TerminalActor, RowsError> {
        let key = terminal.to_u64();
        let generation = self.generation;
        if !self.terminals.contains_key(&key) {
            let mut actor = TerminalActor {
                stamp: Stamp {
                    generation,
                    dirty: false,
                    occupied: true,
                },
                ..TerminalActor::default()
            };
            if self.stored(terminal.store()).terminals {
                self.activations += 1;
                actor.row = rows.terminal(terminal)?.unwrap_or_default();
            }
            self.terminals.insert(key, actor);
        }
        Ok(self.terminals.entry(key).or_default())
    }

    /// Brings a SKU in; one without a row is new.
    #[inline]
    pub(crate) fn sku(
        &mut self,
        key: SkuKey,
        stored: Stored,
        rows: &dyn Rows,
    ) -> Result<u32, RowsError> {
        if let Some(table_index) = self.skus.find(&key) {
            return Ok(table_index);
        }
        let mut row = None;
        if stored.skus {
            self.activations += 1;
            let store = StoreId::new(key.store).map_err(|error| RowsError {
                table: "skus",
                cause: error.to_string(),
            })?;
            row = rows.sku(store, SkuId::from_u64(key.sku))?;
        }
        Ok(self
            .skus
            .insert(SkuActor::new(key, row.as_ref()), self.generation))
    }

    /// Brings a sum in; one without a row is zero.
    #[inline]
    pub(crate) fn rollup(
        &mut self,
        key: &RollupKey,
        stored: Stored,
        rows: &dyn Rows,
    ) -> Result<u32, RowsError> {
        if let Some(table_index) = self.rollups.find(key) {
            return Ok(table_index);
        }
        let row = self.stored_rollup(key, stored, rows)?;
        Ok(self
            .rollups
            .insert(RollupActor::new(*key, row), self.generation))
    }

    fn stored_rollup(
        &mut self,
        key: &RollupKey,
        stored: Stored,
        rows: &dyn Rows,
    ) -> Result<RollupRow, RowsError> {
        if key.hour_us > stored.hours {
            return Ok(RollupRow::default());
        }
        self.activations += 1;
        Ok(rows.rollup(key)?.unwrap_or_default())
    }

    /// Brings the sums of a SKU's hour in: beside its level if no newer hour is there, else into the table of sums.
    #[inline]
    pub(crate) fn cell(
        &mut self,
        table_index: u32,
        hour: LocalHour,
        stored: Stored,
        rows: &dyn Rows,
    ) -> Result<(), RowsError> {
        if self.skus.get(table_index).cell.is_of(hour) {
            return Ok(());
        }
        self.other_cell(table_index, hour, stored, rows)
    }

    #[cold]
    fn other_cell(
        &mut self,
        table_index: u32,
        hour: LocalHour,
        stored: Stored,
        rows: &dyn Rows,
    ) -> Result<(), RowsError> {
        let actor = self.skus.get(table_index);
        let key = cell_key(actor.key(), hour);
        let is_newest = actor.cell.hour().is_none_or(|there| there < hour);
        if self.rollups.find(&key).is_some() {
            return Ok(());
        }
        let row = self.stored_rollup(&key, stored, rows)?;
        match Cell::from_row(&row) {
            Some(cell) if is_newest => {
                self.spill(table_index);
                self.skus.get_mut(table_index).cell = cell.of(hour);
            }
            _ => {
                self.rollups
                    .insert(RollupActor::new(key, row), self.generation);
            }
        }
        Ok(())
    }

    /// Moves the sums beside a level into the table of sums.
    pub(crate) fn spill(&mut self, table_index: u32) {
        let actor = self.skus.get_mut(table_index);
        let cell = std::mem::take(&mut actor.cell);
        let Some(hour) = cell.hour() else {
            return;
        };
        let sum = RollupActor::new(cell_key(actor.key(), hour), cell.row());
        let to = self.rollups.insert(sum, self.generation);
        if cell.dirty {
            self.rollups.touch(to, self.generation);
        }
    }

    /// Adds to the sums of a SKU's hour, which [`Self::cell`] has brought in.
    pub(crate) fn add_to_cell(&mut self, table_index: u32, hour: LocalHour, part: &Part) {
        let generation = self.generation;
        let actor = self.skus.get_mut(table_index);
        if actor.cell.is_of(hour) {
            if let Part::Small(small) = part
                && let Some(cell) = actor.cell.plus(small)
            {
                actor.cell = cell;
                actor.cell.dirty = true;
                self.skus.touch(table_index, generation);
                return;
            }
            self.spill(table_index);
        }
        let key = cell_key(self.skus.get(table_index).key(), hour);
        let to = self.rollups.find(&key).unwrap_or_else(|| {
            self.rollups
                .insert(RollupActor::new(key, RollupRow::default()), generation)
        });
        self.add_to_sum(to, &part.row());
    }

    /// A movement of goods that needs nothing but its SKU's actor: the sums of its newest hour, and a level with a name.
    /// `None`: it needs more, and nothing has changed.
    #[inline]
    pub(crate) fn move_here(
        &mut self,
        (table_index, hour, unit): (u32, LocalHour, u8),
        part: &Part,
        key: MoveKey,
    ) -> Option<Effect> {
        let Part::Small(small) = part else {
            return None;
        };
        let actor = self.skus.get_mut(table_index);
        if !actor.cell.is_of(hour) || actor.level.is_unnamed() {
            return None;
        }
        actor.cell = actor.cell.plus(small)?;
        actor.cell.dirty = true;
        let moved = part.moved();
        if moved != 0 {
            return Some(self.move_level(table_index, key, moved, unit));
        }
        self.skus.touch(table_index, self.generation);
        Some(Effect::Done)
    }

    /// A movement of goods, for the level alone. It is kept among the recent ones whether it has a place in the level now
    /// or not: a count that arrives later may want it.
    #[inline]
    pub(crate) fn move_level(
        &mut self,
        table_index: u32,
        key: MoveKey,
        quantity: i128,
        unit: u8,
    ) -> Effect {
        let level = &mut self.skus.get_mut(table_index).level;
        level.ring_index = self
            .recent
            .push(level.ring_index, &level.last_move(), &key, quantity);
        level.dirty = true;
        let effect = level.movement(key, quantity, unit);
        self.skus.touch(table_index, self.generation);
        effect
    }

    /// Adds to a sum that has been brought in.
    #[inline]
    pub(crate) fn add_to_sum(&mut self, table_index: u32, part: &RollupRow) {
        self.rollups.get_mut(table_index).row.add(part);
        self.rollups.touch(table_index, self.generation);
    }
}

/// The key of the sums of a SKU's hour.
pub(crate) const fn cell_key(sku: SkuKey, hour: LocalHour) -> RollupKey {
    RollupKey {
        store: sku.store,
        dim: Dim::Sku,
        day: hour.day,
        hour_us: hour.hour_us,
        key: sku.sku,
    }
}
