//! The model: rows, facts and names in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use till_protocol::id::{EventId, SkuId, StoreId, TerminalId};

use crate::contribution::{movement_of, movements_of_sale};
use crate::event::{Event, for_each};
use crate::shard::recover::read_back;
use crate::{
    Claim, Dirty, EventIdRow, MoveKey, Names, Outcome, QuarantineKey, QuarantineRow, Record,
    RecordHead, RecordKind, RollupKey, RollupRow, Rows, RowsError, SkuRow, Space, StoreRow,
    TerminalRow,
};

/// Rows as a flush leaves them, and the movements of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) stores: BTreeMap<u32, StoreRow>,
    pub(super) terminals: BTreeMap<u64, TerminalRow>,
    pub(super) skus: BTreeMap<(u32, u64), SkuRow>,
    pub(super) rollups: BTreeMap<RollupKey, RollupRow>,
    pub(super) event_ids: BTreeMap<[u8; 16], EventIdRow>,
    pub(super) names: BTreeMap<(bool, u64), String>,
    pub(super) quarantine: BTreeMap<QuarantineKey, QuarantineRow>,
    pub(super) moves: Vec<(u64, u32, u64, MoveKey, i128)>,
    /// What was journalled.
    pub(super) facts: Vec<Record>,
    /// How often the facts were gone over for late counts.
    pub(super) passes: Passes,
}

/// A number that says nothing of what rows hold.
#[derive(Debug, Default)]
pub(super) struct Passes(AtomicUsize);

impl Passes {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Clone for Passes {
    fn clone(&self) -> Self {
        Self(AtomicUsize::new(self.get()))
    }
}

impl PartialEq for Passes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Memory {
    pub(super) fn write(&mut self, dirty: Dirty) {
        self.stores
            .extend(dirty.stores.into_iter().map(|(k, v)| (k.get(), v)));
        self.terminals
            .extend(dirty.terminals.into_iter().map(|(k, v)| (k.to_u64(), v)));
        let skus = dirty.skus.into_iter();
        self.skus
            .extend(skus.map(|((store, sku), v)| ((store.get(), sku.get()), v)));
        self.rollups.extend(dirty.rollups);
        self.event_ids
            .extend(dirty.event_ids.into_iter().map(|(k, v)| (k.to_bytes(), v)));
        let names = dirty.names.into_iter();
        self.names
            .extend(names.map(|(space, id, name)| ((space == Space::Tender, id), name)));
        for (key, row) in dirty.quarantine {
            match row {
                Some(row) => self.quarantine.insert(key, row),
                None => self.quarantine.remove(&key),
            };
        }
    }

    /// Adds the movements of a record that has been journalled.
    pub(super) fn learn(&mut self, position: u64, record: &Record) {
        self.facts.push(record.clone());
        if !matches!(record.head.kind, RecordKind::Batch | RecordKind::Retry) {
            return;
        }
        let head = record.head;
        let store = u32::try_from(head.terminal >> 32).unwrap();
        let verified = read_back(position, record).unwrap();
        let moves = &mut self.moves;
        let done: Result<(), ()> = for_each(&verified.view(), |index, event| {
            if record.outcome(index).map(|(outcome, _)| outcome) != Some(Outcome::Applied) {
                return Ok(());
            }
            let key = |line| MoveKey {
                at_us: event.at_us(),
                epoch: head.epoch,
                seq: head.first_seq + u64::from(index),
                terminal: head.terminal,
                line,
            };
            match &event {
                Event::Sale(sale) => movements_of_sale(sale, |line, sku, quantity| {
                    moves.push((position, store, sku, key(line), quantity));
                }),
                Event::Stock(stock) => {
                    let sku = stock.record.sku.to_native();
                    moves.extend(movement_of(stock).map(|q| (position, store, sku, key(0), q)));
                }
                Event::Sensor(_) | Event::Device(_) => {}
            }
            Ok(())
        });
        done.unwrap();
    }

    /// All but the journal positions, which a replay sees and a live run does not, and rows that say nothing.
    pub(super) fn comparable(&self) -> Self {
        let mut copy = self.clone();
        copy.moves.clear();
        copy.facts.clear();
        copy.stores.values_mut().for_each(|row| row.applied = 0);
        copy
    }
}

impl Rows for Memory {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        Ok(self.stores.get(&store.get()).cloned())
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        Ok(self.terminals.get(&terminal.to_u64()).cloned())
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        Ok(self.skus.get(&(store.get(), sku.get())).copied())
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        Ok(self.rollups.get(key).copied())
    }

    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        Ok(self.event_ids.get(&id.to_bytes()).copied())
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        Ok(self.quarantine.contains_key(key))
    }

    fn moved_after(
        &self,
        store: StoreId,
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, RowsError> {
        self.passes.0.fetch_add(1, Ordering::Relaxed);
        let sum = |(sku, after): &(SkuId, MoveKey)| {
            let found = self.moves.iter().filter(|(position, s, k, key, _)| {
                *position < before && (*s, *k) == (store.get(), sku.get()) && key > after
            });
            found.map(|entry| entry.4).sum()
        };
        Ok(counts.iter().map(sum).collect())
    }

    fn records(
        &self,
        terminal: TerminalId,
        epoch: u32,
        _: (u64, u64),
        each: &mut dyn FnMut(&Record) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        let own = |head: &RecordHead| (head.terminal, head.epoch) == (terminal.to_u64(), epoch);
        let facts = self.facts.iter().filter(|fact| own(&fact.head));
        facts.into_iter().try_for_each(each)
    }
}

/// Rows that cannot be read.
#[derive(Debug)]
pub(super) struct Broken;

impl Rows for Broken {
    fn store(&self, _: StoreId) -> Result<Option<StoreRow>, RowsError> {
        Err(broken())
    }
    fn terminal(&self, _: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        Err(broken())
    }
    fn sku(&self, _: StoreId, _: SkuId) -> Result<Option<SkuRow>, RowsError> {
        Err(broken())
    }
    fn rollup(&self, _: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        Err(broken())
    }
    fn event_id(&self, _: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        Err(broken())
    }
    fn is_quarantined(&self, _: &QuarantineKey) -> Result<bool, RowsError> {
        Err(broken())
    }
    fn moved_after(
        &self,
        _: StoreId,
        _: &[(SkuId, MoveKey)],
        _: u64,
    ) -> Result<Vec<i128>, RowsError> {
        Err(broken())
    }
}

fn broken() -> RowsError {
    RowsError {
        table: "test",
        cause: "broken on purpose".to_owned(),
    }
}

/// Names of a node.
#[derive(Debug, Default)]
pub(super) struct MemoryNames(pub(super) Mutex<BTreeMap<(bool, u64), String>>);

impl Names for MemoryNames {
    fn look_up(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        let names = self.0.lock().unwrap();
        let known = names.get(&(space == Space::Tender, id));
        Ok(known.map_or(Claim::New, |known| match known == name {
            true => Claim::Known,
            false => Claim::Collision,
        }))
    }

    fn claim(&self, space: Space, id: u64, name: &str) -> bool {
        let mut names = self.0.lock().unwrap();
        let key = (space == Space::Tender, id);
        names.entry(key).or_insert_with(|| name.to_owned()) == name
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        let names = self.0.lock().unwrap();
        Ok(names.contains_key(&(space == Space::Tender, id)))
    }
}
