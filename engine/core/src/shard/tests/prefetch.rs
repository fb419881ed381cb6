use std::sync::Mutex;

use proptest::collection::vec;
use proptest::prelude::*;
use till_protocol::builder::{DeviceBuilder, SensorBuilder};
use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::family::device::v1::{Sign, kind as sign};
use till_protocol::family::sensor::v1::{Reading, kind as sensor};
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{EventId, Seq, SkuId, StoreId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::memory::{Memory, MemoryNames};
use super::properties::{Act, Step, a_step, a_step_of_stock, acts, take_id};
use super::world::{
    Basket, HOUR, NOW, ONE, World, basket, id_ref, movement, record_of, sales, session, sku_of,
    stock, store,
};
use crate::event::visit;
use crate::shard::recover::read_back;
use crate::{
    Claim, EventIdRow, Handled, MoveKey, Names, Origin, QuarantineKey, ReadSet, Record, RecordKind,
    RollupKey, RollupRow, Rows, RowsError, SessionKey, ShardConfig, SkuRow, Space, StoreRow,
    TerminalRow,
};

/// Rows and names that write down what they are asked for and was not wanted.
struct Told {
    rows: Memory,
    names: MemoryNames,
    wanted: ReadSet,
    missed: Mutex<Vec<String>>,
    /// The ids that stand in the frames, and each with its content.
    ids: Vec<(EventId, EventId)>,
}

impl Told {
    // Of a world, which has its names back in the end.
    fn of(world: &mut World) -> Self {
        Self {
            rows: world.rows.clone(),
            names: std::mem::take(&mut world.names),
            wanted: ReadSet::default(),
            missed: Mutex::default(),
            ids: Vec::new(),
        }
    }

    fn add(&mut self, read_set: &mut ReadSet) {
        read_set.normalize();
        self.wanted.stores.append(&mut read_set.stores);
        self.wanted.terminals.append(&mut read_set.terminals);
        self.wanted.skus.append(&mut read_set.skus);
        self.wanted.rollups.append(&mut read_set.rollups);
        self.wanted.event_ids.append(&mut read_set.event_ids);
        self.wanted.names.append(&mut read_set.names);
    }

    // What may tell events apart that come together.
    fn note_ids(&mut self, batch: &Verified) {
        visit(&batch.view(), |_, event| {
            let id = event.event_id().map(|id| id.in_store(store()));
            let pair = id.map(|id| (id, id.with_content(event.content())));
            self.ids.extend(pair);
        });
    }

    // A record is journalled: the world has it, and its movements are facts. Rows stay as they were fetched.
    fn keep(&mut self, world: &mut World, handled: &Handled) {
        world.keep(handled);
        self.rows.moves.clone_from(&world.rows.moves);
        self.rows.facts.clone_from(&world.rows.facts);
    }

    fn end(self, world: &mut World) -> Vec<String> {
        world.names = self.names;
        self.missed.into_inner().unwrap()
    }

    fn check(&self, was_in_read_set: bool, what: impl Fn() -> String) {
        if !was_in_read_set {
            self.missed.lock().unwrap().push(what());
        }
    }
}

impl Rows for Told {
    fn store(&self, store: StoreId) -> Result<Option<StoreRow>, RowsError> {
        self.check(self.wanted.stores.contains(&store), || format!("{store}"));
        self.rows.store(store)
    }

    fn terminal(&self, terminal: TerminalId) -> Result<Option<TerminalRow>, RowsError> {
        let wanted = &self.wanted.terminals;
        self.check(wanted.contains(&terminal), || format!("{terminal}"));
        self.rows.terminal(terminal)
    }

    fn sku(&self, store: StoreId, sku: SkuId) -> Result<Option<SkuRow>, RowsError> {
        let wanted = &self.wanted.skus;
        self.check(wanted.contains(&(store, sku)), || format!("SKU {sku}"));
        self.rows.sku(store, sku)
    }

    fn rollup(&self, key: &RollupKey) -> Result<Option<RollupRow>, RowsError> {
        self.check(self.wanted.rollups.contains(key), || format!("{key:?}"));
        self.rows.rollup(key)
    }

    // Two events of one id in frames that come together: what tells them apart is asked for when the second is handled.
    fn event_id(&self, id: &EventId) -> Result<Option<EventIdRow>, RowsError> {
        let is_pair = || self.ids.iter().any(|(one, pair)| one != id && pair == id);
        let wanted = self.wanted.event_ids.contains(id) || is_pair();
        self.check(wanted, || format!("event id {id}"));
        self.rows.event_id(id)
    }

    fn is_quarantined(&self, key: &QuarantineKey) -> Result<bool, RowsError> {
        self.rows.is_quarantined(key)
    }

    fn moved_after(
        &self,
        store: StoreId,
        counts: &[(SkuId, MoveKey)],
        before: u64,
    ) -> Result<Vec<i128>, RowsError> {
        self.rows.moved_after(store, counts, before)
    }

    fn records(
        &self,
        terminal: TerminalId,
        epoch: u32,
        run: (u64, u64),
        each: &mut dyn FnMut(&Record) -> Result<(), RowsError>,
    ) -> Result<(), RowsError> {
        self.rows.records(terminal, epoch, run, each)
    }
}

impl Names for Told {
    fn look_up(&self, space: Space, id: u64, name: &str) -> Result<Claim, RowsError> {
        let wanted = self.wanted.names.contains(&(space, id));
        self.check(wanted, || format!("name {name}"));
        self.names.look_up(space, id, name)
    }

    fn claim(&self, space: Space, id: u64, name: &str) -> bool {
        self.names.claim(space, id, name)
    }

    fn known(&self, space: Space, id: u64) -> Result<bool, RowsError> {
        let wanted = self.wanted.names.contains(&(space, id));
        self.check(wanted, || format!("name of {id}"));
        self.names.known(space, id)
    }
}

/// Sends frames of a session that came together, and says what was asked for and not prefetched.
fn send(world: &mut World, session: SessionKey, frames: Vec<Frame>) -> (Vec<Handled>, Vec<String>) {
    let key = ScreenKey::new([7; 32]);
    let batches = frames.into_iter().map(|one| Verified::check(one, &key));
    let batches: Vec<Verified> = batches.map(Result::unwrap).collect();
    let mut told = Told::of(world);
    let (shard, mut read_set) = (&mut world.shard, ReadSet::default());
    let now = Timestamp::from_us(world.now);
    for batch in &batches {
        told.note_ids(batch);
        shard.read_standing(&Origin::batch(now, session, batch), &mut read_set);
    }
    told.add(&mut read_set.clone());
    shard.bring_in(&read_set, &told).unwrap();
    read_set.clear();
    for batch in &batches {
        let origin = Origin::batch(now, session, batch);
        shard.read_touched(&origin, &told, &mut read_set).unwrap();
    }
    told.add(&mut read_set);
    let mut all = Vec::new();
    for batch in &batches {
        let shard = &mut world.shard;
        let handled = shard.handle(Origin::batch(now, session, batch), &told, &told);
        let handled = handled.unwrap();
        told.keep(world, &handled);
        all.push(handled);
    }
    (all, told.end(world))
}

/// Hands off records together, and says what was asked for and not prefetched.
fn hand_off(world: &mut World, records: &[Record]) -> Vec<String> {
    let mut told = Told::of(world);
    let (shard, mut read_set) = (&mut world.shard, ReadSet::default());
    for record in records {
        if record.head.kind == RecordKind::Batch {
            told.note_ids(&read_back(0, record).unwrap());
        }
        shard.read_standing(&Origin::Handoff(record), &mut read_set);
    }
    told.add(&mut read_set.clone());
    shard.bring_in(&read_set, &told).unwrap();
    read_set.clear();
    for record in records {
        let origin = Origin::Handoff(record);
        shard.read_touched(&origin, &told, &mut read_set).unwrap();
    }
    told.add(&mut read_set);
    for record in records {
        let handled = world.shard.handle(Origin::Handoff(record), &told, &told);
        let handled = handled.unwrap();
        told.keep(world, &handled);
    }
    told.end(world)
}

// Both steps, of a frame of till 1.
fn read_all(world: &mut World, batch: &Verified, read_set: &mut ReadSet) {
    let (shard, now) = (&mut world.shard, Timestamp::from_us(world.now));
    let origin = Origin::batch(now, session(1, 1), batch);
    shard.read_standing(&origin, read_set);
    shard.read_touched(&origin, &world.rows, read_set).unwrap();
}

fn nothing() -> Vec<String> {
    Vec::new()
}

fn named(at: i64, id: u8, code: &'static str, pieces: i64) -> Basket {
    let mut basket = basket(at, &[(sku_of(code), 250), (9, 40)]);
    basket.lines[0].quantity = pieces * ONE;
    basket.id = Some(id);
    basket.codes = vec![(0, code)];
    basket
}

// A world whose shard has nothing in memory, and everything in rows.
fn emptied(budget: usize) -> World {
    let mut world = World::with_budget(budget);
    for (seq, id) in (1..).zip(1..4) {
        let sale = named(NOW + i64::from(id) * HOUR, id, "tea", 1);
        record_of(world.send(1, 1, sales(seq, &[sale])));
    }
    let moves = [movement(kind::RECEIVED, 9, 5 * ONE, NOW)];
    record_of(world.send(2, 1, stock(1, &moves)));
    world.leave();
    world
}

#[test]
fn sales_of_a_store_that_came_back_ask_for_nothing_more() {
    let mut world = emptied(1 << 20);
    let known = named(NOW + HOUR, 1, "tea", 1);
    let conflict = named(NOW + HOUR, 2, "tea", 7);
    let new = named(NOW + 40 * HOUR, 9, "rice", 2);
    let frames = vec![
        sales(4, &[known, conflict]),
        sales(6, &[new, named(NOW, 10, "tea", 3)]),
    ];
    let (handled, missed) = send(&mut world, session(1, 1), frames);
    assert_eq!(missed, nothing());
    let outcomes: Vec<usize> = handled
        .into_iter()
        .map(|handled| record_of(handled).verdicts.len())
        .collect();
    assert_eq!(outcomes, [2, 2]);
    world.check_replay();
}

#[test]
fn stock_sensors_and_devices_ask_for_nothing_more() {
    let mut world = emptied(1 << 20);
    let moves = [
        movement(kind::RECEIVED, 9, ONE, NOW + HOUR),
        movement(kind::COUNTED, 9, 7 * ONE, NOW + 2 * HOUR),
        movement(kind::RESERVED, 77, ONE, NOW + 2 * HOUR),
    ];
    let (_, missed) = send(&mut world, session(2, 1), vec![stock(2, &moves)]);
    assert_eq!(missed, nothing());
    let refs = [id_ref(3)];
    let mut sensors = SensorBuilder::new();
    let reading = Reading {
        at: NOW,
        sku: 9,
        kind: sensor::COUNT,
        ..Reading::default()
    };
    sensors.push(&reading, &refs, &[]).unwrap();
    let mut devices = DeviceBuilder::new();
    let alive = Sign {
        at: NOW,
        kind: sign::HEARTBEAT,
        ..Sign::default()
    };
    devices.push(&alive, &[id_ref(31)], &[]).unwrap();
    let seq = |number| Seq::new(number).unwrap();
    let frames = vec![
        sensors.finish_frame(seq(1)).unwrap(),
        devices.finish_frame(seq(2)).unwrap(),
    ];
    let (handled, missed) = send(&mut world, session(3, 1), frames);
    assert_eq!((handled.len(), missed), (2, nothing()));
}

#[test]
fn a_hello_asks_for_nothing_more_and_what_is_in_memory_is_not_wanted() {
    let mut world = emptied(1 << 20);
    let terminal = session(1, 1).terminal;
    let mut read_set = ReadSet::default();
    world.shard.read_terminal(terminal, &mut read_set);
    assert_eq!((read_set.stores.len(), read_set.terminals.len()), (1, 1));
    world.shard.bring_in(&read_set, &world.rows).unwrap();
    let frame = sales(4, &[named(NOW, 20, "tea", 1)]);
    record_of(world.send(1, 1, frame));
    read_set.clear();
    world.shard.read_terminal(terminal, &mut read_set);
    let next = sales(5, &[named(NOW, 20, "tea", 1)]);
    let batch = Verified::check(next, &ScreenKey::new([7; 32])).unwrap();
    read_all(&mut world, &batch, &mut read_set);
    assert!(read_set.is_empty(), "{read_set:?}");
}

#[test]
fn a_store_that_was_just_registered_is_not_looked_for() {
    let mut world = World::new();
    let sale = basket(NOW, &[(1, 250)]);
    let batch = Verified::check(sales(1, &[sale]), &ScreenKey::new([7; 32])).unwrap();
    let mut read_set = ReadSet::default();
    read_all(&mut world, &batch, &mut read_set);
    let names = vec![(Space::Sku, 1)];
    assert_eq!(
        read_set,
        ReadSet {
            names,
            ..ReadSet::default()
        }
    );
    let registration = Origin::Handoff(&world.journal[0]);
    world.shard.read_standing(&registration, &mut read_set);
    assert_eq!(read_set.stores, [], "{}", store());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_read_set_is_all_that_is_asked_for_and_changes_nothing(
        steps in vec(a_step(), 1..30),
        late in vec(a_step_of_stock(), 1..20),
        actors_max in prop_oneof![Just(0_usize), Just(4), Just(1 << 20)],
        leaves in any::<bool>(),
    ) {
        for steps in [steps, late] {
            prefetch_all(&steps, actors_max, leaves)?;
        }
    }
}

// Plays steps twice: frame by frame, and prefetched with the frames of a till that come one after another together.
fn prefetch_all(steps: &[Step], actors_max: usize, leaves: bool) -> Result<(), TestCaseError> {
    let config = ShardConfig {
        actors_max,
        ..ShardConfig::default()
    };
    let (mut plain, mut prefetched) = (World::with(config), World::with(config));
    take_id(&plain);
    take_id(&prefetched);
    let mut together: Option<(SessionKey, Vec<Frame>)> = None;
    for act in acts(steps).into_iter().map(Some).chain([None]) {
        if let Some(Act::Frame(till, epoch, frame)) = &act {
            drop(plain.send(*till, *epoch, frame.clone()));
            let key = session(*till, *epoch);
            match &mut together {
                Some((of, frames)) if *of == key => {
                    frames.push(frame.clone());
                    continue;
                }
                _ => {}
            }
            let before = together.replace((key, vec![frame.clone()]));
            if let Some((key, frames)) = before {
                prop_assert_eq!(send(&mut prefetched, key, frames).1, nothing());
            }
            continue;
        }
        if let Some((key, frames)) = together.take() {
            prop_assert_eq!(send(&mut prefetched, key, frames).1, nothing());
        }
        match act {
            Some(Act::Write) if leaves => {
                plain.leave();
                prefetched.leave();
            }
            Some(_) => {
                plain.flush();
                prefetched.flush();
            }
            None => {}
        }
    }
    prop_assert_eq!(&plain.journal, &prefetched.journal);
    let mut heir = World::new();
    take_id(&heir);
    heir.flush();
    heir.shard.release(&|_| true);
    for some in prefetched.journal[1..].chunks(5) {
        prop_assert_eq!(hand_off(&mut heir, some), nothing());
    }
    prop_assert_eq!(plain.state(), prefetched.state());
    Ok(())
}
