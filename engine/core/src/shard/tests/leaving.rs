use proptest::collection::vec;
use proptest::prelude::*;
use till_protocol::card::ScreenKey;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{StoreId, TerminalId, TillId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::properties::{Act, Step, a_step, a_step_of_stock, acts};
use super::world::{
    MINUTE, NOW, ONE, World, basket, movement, record_of, sales, session, sku_of, stock, store,
};
use crate::{Handled, Origin, SessionKey, Shard, ShardConfig};

// Where one world flushes, the other lets its store leave as well.
fn run(steps: &[Step], config: ShardConfig, leaves: bool) -> World {
    let mut world = World::with(config);
    for act in acts(steps) {
        match act {
            Act::Frame(till, epoch, frame) => drop(world.send(till, epoch, frame)),
            Act::Write if leaves => world.leave(),
            Act::Take | Act::Write => world.flush(),
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_store_that_leaves_and_comes_back_gets_the_same_answers(
        steps in vec(a_step(), 1..30),
        late in vec(a_step_of_stock(), 1..30),
        recent_bytes in prop_oneof![Just(1_000_usize), Just(1 << 20)],
    ) {
        for steps in [steps, late] {
            let config = ShardConfig { actors_max: 1 << 20, recent_bytes };
            let mut stays = run(&steps, config, false);
            let mut leaves = run(&steps, config, true);
            prop_assert_eq!(&leaves.journal, &stays.journal);
            prop_assert_eq!(leaves.state(), stays.state());
            prop_assert!(leaves.shard.violations().is_empty());
            let (left, stayed) = (leaves.shard.counters(), stays.shard.counters());
            prop_assert_eq!((left.received, left.applied), (stayed.received, stayed.applied));
        }
    }
}

#[test]
fn what_was_not_flushed_is_forgotten_with_its_store() {
    let mut world = World::new();
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 250)])])));
    world.flush();
    let flushed = world.rows.comparable();
    let mut with_id = basket(NOW, &[(1, 100), (2, 10)]);
    with_id.id = Some(3);
    let lost = sales(2, &[with_id, basket(NOW, &[(1, 5)])]);
    record_of(world.send(1, 1, lost.clone()));
    world.shard.release(&|_| true);
    assert_eq!(world.shard.dirty_rows(), 0);
    assert_eq!(world.state(), flushed);
    // The same events are new again.
    let record = record_of(world.send(1, 1, lost));
    assert_eq!((record.head.skip, record.head.count), (0, 2));
    assert!(
        record
            .verdicts
            .iter()
            .all(|v| v.outcome == crate::Outcome::Applied)
    );
}

#[test]
fn a_late_count_after_the_return_is_not_computed_from_what_was_remembered() {
    let mut world = World::new();
    let received = |at, quantity| movement(kind::RECEIVED, 7, quantity * ONE, at);
    record_of(world.send(1, 1, stock(1, &[received(NOW + 2 * MINUTE, 5)])));
    world.leave();
    // Elsewhere, in the meantime.
    let mut other = World::new();
    other.rows = world.rows.clone();
    other.shard = Shard::new(ShardConfig::default());
    other.journal.clone_from(&world.journal);
    record_of(other.send(1, 1, stock(2, &[received(NOW + 3 * MINUTE, 11)])));
    other.flush();
    world.rows = other.rows;
    world.journal = other.journal;
    let count = movement(kind::COUNTED, 7, 100 * ONE, NOW);
    record_of(world.send(1, 1, stock(3, &[count])));
    assert_eq!(world.level(7), 116 * ONE);
    assert_eq!(world.shard.counters().counts_from_facts, 1);
    world.check_replay();
}

#[test]
fn a_store_that_stays_keeps_what_it_has() {
    let mut world = World::new();
    let other = StoreId::new(2).unwrap();
    let now = Timestamp::from_us(NOW);
    let registered = world
        .shard
        .register_store(now, other, 978, "Europe/Paris", &world.rows)
        .unwrap();
    world.keep_record(registered.unwrap());
    let theirs = SessionKey {
        terminal: TerminalId::new(other, TillId::new(1).unwrap()),
        ..session(1, 1)
    };
    let send = |world: &mut World, first| {
        let frame = sales(first, &[basket(NOW, &[(1, 10), (2, 20)])]);
        let batch = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
        let (rows, names) = (&world.rows, &world.names);
        let handled = world
            .shard
            .handle(Origin::batch(now, theirs, &batch), rows, names);
        record_of(handled.unwrap())
    };
    send(&mut world, 1);
    let alone = world.shard.dirty_rows();
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 10), (3, 1)])])));
    assert!(world.shard.dirty_rows() > alone);
    world.shard.release(&|left| left == store());
    let dirty = world.shard.take_dirty();
    assert!(dirty.stores.iter().all(|(store, _)| *store == other));
    assert!(dirty.skus.iter().all(|((store, _), _)| *store == other));
    assert!(dirty.rollups.iter().all(|(key, _)| key.store == 2));
    assert_eq!(
        (dirty.stores.len(), dirty.terminals.len(), dirty.skus.len()),
        (1, 1, 2)
    );
    // Its own slots were not mixed up with those that are free now.
    send(&mut world, 2);
    let dirty = world.shard.take_dirty();
    let rollups: std::collections::BTreeSet<_> = dirty
        .rollups
        .iter()
        .map(|(key, _)| (key.store, key.hour_us, key.key, key.dim.number()))
        .collect();
    assert_eq!(rollups.len(), dirty.rollups.len());
    assert_eq!(dirty.terminals[0].1.totals.net, 60);
}

#[test]
fn a_name_is_given_out_again_after_a_store_has_left() {
    let mut world = World::new();
    world.flush();
    let sku = sku_of("apple");
    let mut named = basket(NOW, &[(sku, 10)]);
    named.codes = vec![(0, "apple")];
    record_of(world.send(1, 1, sales(1, &[named.clone()])));
    // This take is given up, as one of a shard that lost its store.
    assert_eq!(world.shard.take_dirty().names.len(), 1);
    world.shard.release(&|_| true);
    assert!(matches!(
        world.send(1, 1, sales(1, &[named])),
        Handled::Journal { .. }
    ));
    assert_eq!(world.shard.names_to_flush().len(), 1);
}
