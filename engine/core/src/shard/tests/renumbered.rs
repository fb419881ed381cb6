//! A device that was put back from an image sends events again under new numbers, while its first ones lie in a journal that
//! nobody reads.

use till_protocol::family::stock::v1::kind;
use till_protocol::verified::Verified;

use super::world::{
    NOW, ONE, World, basket, movement, record_of, sales, session, sku_of, stock, terminal,
};
use crate::{Handled, Outcome, Record, RecordKind, Wants, flag};

fn sale(amount: i64) -> super::world::Basket {
    basket(NOW + amount, &[(1, amount)])
}

fn net(world: &mut World) -> i128 {
    let state = world.state();
    let row = state.terminals.get(&terminal(1).to_u64());
    row.map_or(0, |row| row.totals.net)
}

fn outcomes(record: &Record) -> Vec<Outcome> {
    let events = record.head.skip..record.head.count;
    events.map(|at| record.outcome(at).unwrap().0).collect()
}

#[test]
fn what_counts_in_another_life_is_a_duplicate_when_it_is_adopted() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let mut b = World::new();
    record_of(b.send(1, 2, sales(1, &[sale(10), sale(100), sale(1_000)])));
    let record = record_of(b.adopt_without(&sent, &[1, 2]));
    assert_eq!(
        outcomes(&record),
        [Outcome::Applied, Outcome::Duplicate, Outcome::Duplicate]
    );
    assert_eq!(net(&mut b), 1_111);
    let row = &b.state().terminals[&terminal(1).to_u64()];
    assert_eq!((row.applied, row.duplicates), (4, 2));
    assert!(b.shard.counters().adds_up());
    b.check_replay();
}

#[test]
fn a_record_all_of_which_counts_in_another_life_is_known_in_a_third() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let mut b = World::new();
    record_of(b.send(1, 2, sales(1, &[sale(1), sale(10)])));
    let record = record_of(b.adopt_without(&sent, &[0, 1]));
    assert_eq!(outcomes(&record), [Outcome::Duplicate, Outcome::Duplicate]);
    assert!(matches!(b.adopt(&sent), Handled::Known { .. }));
    let record = record_of(b.send(1, 3, sales(1, &[sale(1), sale(10)])));
    assert_eq!(outcomes(&record), [Outcome::Duplicate, Outcome::Duplicate]);
    assert_eq!(net(&mut b), 11);
    b.check_replay();
}

#[test]
fn what_was_adopted_is_known_when_its_device_sends_it_in_another_life() {
    let mut a = World::new();
    let first = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let second = record_of(a.send(1, 1, sales(3, &[sale(100)])));
    let mut b = World::new();
    record_of(b.adopt(&first));
    let record = record_of(b.send(1, 2, sales(1, &[sale(10), sale(1_000)])));
    assert_eq!(outcomes(&record), [Outcome::Duplicate, Outcome::Applied]);
    record_of(b.adopt(&second));
    // Another engine takes the store over: rows are all that it has.
    b.leave();
    let record = record_of(b.send(1, 3, sales(1, &[sale(1), sale(100), sale(10_000)])));
    assert_eq!(
        outcomes(&record),
        [Outcome::Duplicate, Outcome::Duplicate, Outcome::Applied]
    );
    assert_eq!(net(&mut b), 11_111);
    b.check_replay();
}

#[test]
fn duplicates_by_what_they_say_can_still_be_compared() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let mut b = World::new();
    record_of(b.adopt(&sent));
    let frame = sales(1, &[sale(1), sale(10)]);
    let record = record_of(b.send(1, 2, frame.clone()));
    assert_eq!(outcomes(&record), [Outcome::Duplicate, Outcome::Duplicate]);
    // Another journal may hold other events under these numbers.
    assert_eq!(record.head.kind, RecordKind::Batch);
    assert_eq!(record.payload, frame.payload);
    assert_eq!(net(&mut b), 11);
    b.check_replay();
}

#[test]
fn within_a_life_numbers_alone_say_what_is_known() {
    let mut a = World::new();
    let twice = record_of(a.send(1, 1, sales(1, &[sale(1), sale(1)])));
    let mut b = World::new();
    record_of(b.adopt(&twice));
    assert_eq!(net(&mut b), 2);
    record_of(b.send(1, 1, sales(3, &[sale(1)])));
    assert_eq!(net(&mut b), 3);
    let record = record_of(b.send(1, 2, sales(1, &[sale(1), sale(1)])));
    assert_eq!(outcomes(&record), [Outcome::Duplicate, Outcome::Duplicate]);
    b.check_replay();
}

#[test]
fn events_of_another_till_or_goods_are_others() {
    let mut a = World::new();
    let moved = [movement(kind::RECEIVED, 5, ONE, NOW)];
    let sent = record_of(a.send(1, 1, stock(1, &moved)));
    let mut b = World::new();
    record_of(b.adopt(&sent));
    record_of(b.send(2, 2, stock(1, &moved)));
    // The mark of an event leaves the goods out; what it says does not.
    record_of(b.send(
        1,
        2,
        stock(1, &[movement(kind::RECEIVED, 6, ONE, NOW), moved[0]]),
    ));
    assert_eq!((b.level(5), b.level(6)), (2 * ONE, ONE));
    b.check_replay();
}

#[test]
fn what_was_set_aside_in_one_life_is_not_set_aside_again_in_another() {
    let sku = sku_of("apple");
    let taken = |world: &World| {
        let name = "another name of this id".to_owned();
        world.names.0.lock().unwrap().insert((false, sku), name);
    };
    let mut named = basket(NOW, &[(sku, 30)]);
    named.codes = vec![(0, "apple")];
    let mut a = World::new();
    taken(&a);
    let aside = record_of(a.send(1, 1, sales(1, std::slice::from_ref(&named))));
    let mut b = World::new();
    taken(&b);
    record_of(b.adopt(&aside));
    let again = record_of(b.send(1, 2, sales(1, &[named])));
    assert_eq!(outcomes(&again), [Outcome::Duplicate]);
    assert_eq!(b.state().quarantine.len(), 1);
    b.check_replay();
}

#[test]
fn only_terminals_with_several_lives_of_which_some_was_adopted_ask_for_what_events_say() {
    let asked = |world: &mut World, life| {
        let frame = sales(9, &[sale(7), sale(8)]);
        let batch = Verified::check(frame, &till_protocol::card::ScreenKey::new([7; 32])).unwrap();
        let (shard, mut wants) = (&mut world.shard, Wants::default());
        let goods = shard.want_goods(session(1, life), &batch, &world.rows, &mut wants);
        goods.unwrap();
        wants.event_ids.len()
    };
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = World::new();
    record_of(b.adopt(&sent));
    assert_eq!(asked(&mut b, 1), 0);
    assert_eq!(asked(&mut b, 2), 2);
    let mut c = World::new();
    record_of(c.send(1, 1, sales(1, &[sale(1)])));
    record_of(c.send(1, 2, sales(1, &[sale(2)])));
    assert_eq!(asked(&mut c, 2), 0);
    assert_eq!(
        b.state().terminals[&terminal(1).to_u64()].flags & flag::ADOPTED,
        flag::ADOPTED
    );
}
