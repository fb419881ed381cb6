use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{StoreId, TerminalId};
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::world::{
    MINUTE, NOW, ONE, World, basket, movement, record_of, sales, session, sku_of, stock, terminal,
};
use crate::{
    Handled, Origin, Outcome, QuarantineKey, RecordKind, RetryError, Shard, ShardConfig, flag,
};

fn key(till: u32, seq: u64, line: u16) -> QuarantineKey {
    QuarantineKey {
        terminal: terminal(till).to_u64(),
        epoch: 1,
        seq,
        line,
    }
}

#[test]
fn the_same_event_id_and_content_is_a_duplicate_also_after_a_flush() {
    let mut world = World::new();
    let mut sale = basket(NOW, &[(1, 100)]);
    sale.id = Some(9);
    let twice = [sale.clone(), sale.clone()];
    let record = record_of(world.send(1, 1, sales(1, &twice)));
    assert_eq!(record.outcome(1).unwrap().0, Outcome::Duplicate);
    for till in [2, 3] {
        let handled = world.send(till, 1, sales(1, std::slice::from_ref(&sale)));
        let Handled::Journal {
            record, duplicates, ..
        } = handled
        else {
            panic!()
        };
        assert_eq!((record.head.kind, duplicates), (RecordKind::Duplicates, 1));
        assert!(record.payload.is_empty());
        world.flush();
    }
    let state = world.state();
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 100);
    assert_eq!(state.terminals[&terminal(2).to_u64()].duplicates, 1);
    world.check_replay();
}

#[test]
fn the_same_event_id_with_other_content_is_quarantined_as_a_conflict() {
    let mut world = World::new();
    let mut sale = basket(NOW, &[(1, 100)]);
    sale.id = Some(9);
    let mut other = basket(NOW, &[(1, 200)]);
    other.id = Some(9);
    record_of(world.send(1, 1, sales(1, &[sale])));
    let record = record_of(world.send(1, 1, sales(2, &[other])));
    assert_eq!(record.outcome(0).unwrap().0, Outcome::Quarantined);
    let state = world.state();
    assert_eq!(
        state.quarantine[&key(1, 2, u16::MAX)].reason,
        Reason::Conflict.code()
    );
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 100);
    let again = world.shard.retry(
        Timestamp::from_us(NOW),
        key(1, 2, u16::MAX),
        &record,
        &world.rows,
        &world.names,
    );
    assert_eq!(again, Err(RetryError::Still(Reason::Conflict)));
    world.check_replay();
}

#[test]
fn a_conflict_that_comes_again_is_a_duplicate_also_after_a_flush() {
    let mut world = World::new();
    let sale = |net| {
        let mut sale = basket(NOW, &[(1, net)]);
        sale.id = Some(9);
        sale
    };
    record_of(world.send(1, 1, sales(1, &[sale(100)])));
    // Twice in one frame, then in frames of other tills.
    let record = record_of(world.send(1, 1, sales(2, &[sale(200), sale(200)])));
    let outcomes = [0, 1].map(|index| record.outcome(index).unwrap().0);
    assert_eq!(outcomes, [Outcome::Quarantined, Outcome::Duplicate]);
    for till in [2, 3] {
        let handled = world.send(till, 1, sales(1, &[sale(200)]));
        assert_eq!(record_of(handled).head.kind, RecordKind::Duplicates);
        world.flush();
    }
    // A third content is another conflict, and the first one still the event itself.
    let record = record_of(world.send(4, 1, sales(1, &[sale(300), sale(100)])));
    let outcomes = [0, 1].map(|index| record.outcome(index).unwrap().0);
    assert_eq!(outcomes, [Outcome::Quarantined, Outcome::Duplicate]);
    let state = world.state();
    let quarantined: Vec<_> = state.quarantine.keys().copied().collect();
    assert_eq!(quarantined, [key(1, 2, u16::MAX), key(4, 1, u16::MAX)]);
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 100);
    world.check_replay();
}

#[test]
fn the_same_event_id_in_two_stores_names_two_events() {
    let mut world = World::new();
    let other_store = StoreId::new(99).unwrap();
    let now = Timestamp::from_us(NOW);
    let registered = world
        .shard
        .register_store(now, other_store, 840, "UTC", &world.rows);
    world.keep_record(registered.unwrap().unwrap());
    let mut sale = basket(NOW, &[(1, 100)]);
    sale.id = Some(9);
    let frame = || sales(1, std::slice::from_ref(&sale));
    record_of(world.send(1, 1, frame()));

    let mut away = session(1, 1);
    away.terminal = TerminalId::new(other_store, away.terminal.till());
    let batch = Verified::check(frame(), &ScreenKey::new([7; 32])).unwrap();
    let handled = world
        .shard
        .handle(Origin::batch(now, away, &batch), &world.rows, &world.names)
        .unwrap();
    world.keep(&handled);
    assert_eq!(record_of(handled).outcome(0).unwrap().0, Outcome::Applied);
    world.check_replay();
}

#[test]
fn an_id_with_two_names_is_never_merged_and_can_be_retried() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    world
        .names
        .0
        .lock()
        .unwrap()
        .insert((false, sku), "BREAD".to_owned());
    let mut named = basket(NOW, &[(sku, 100)]);
    named.codes = vec![(0, "MILK-1")];
    let plain = basket(NOW, &[(sku, 100), (2, 7)]);
    let record = record_of(world.send(1, 1, sales(1, &[plain.clone(), named])));
    for index in 0..2 {
        assert_eq!(record.outcome(index).unwrap().0, Outcome::Quarantined);
    }
    // A later frame of the session uses the id without naming it.
    let later = record_of(world.send(1, 1, sales(3, &[plain])));
    assert_eq!(later.outcome(0).unwrap().0, Outcome::Quarantined);
    assert!(world.state().skus.is_empty());
    world
        .names
        .0
        .lock()
        .unwrap()
        .insert((false, sku), "MILK-1".to_owned());
    let now = Timestamp::from_us(NOW + MINUTE);
    let retried = world
        .shard
        .retry(now, key(1, 2, u16::MAX), &record, &world.rows, &world.names)
        .unwrap();
    world.keep_record(retried);
    assert_eq!(
        world
            .shard
            .retry(now, key(1, 2, u16::MAX), &record, &world.rows, &world.names),
        Err(RetryError::Gone)
    );
    let state = world.state();
    assert_eq!(state.quarantine.len(), 2);
    assert_eq!(state.names[&(false, sku)], "MILK-1");
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 100);
    assert!(world.shard.counters().adds_up());
    world.check_replay();
}

#[test]
fn a_level_out_of_range_parks_its_sku_alone_and_a_retry_brings_it_back() {
    let mut world = World::new();
    let huge = |sign: i64| movement(kind::ADJUSTED, 1, sign * (i64::MAX - 1), NOW);
    record_of(world.send(1, 1, stock(1, &[huge(1), huge(1), huge(-1)])));
    let parked = world.state();
    assert_ne!(parked.skus[&(1, 1)].flags & flag::sku::PARKED, 0);
    assert_eq!(parked.quarantine.len(), 2);
    let record = record_of(world.send(1, 1, sales(4, &[basket(NOW, &[(1, 100), (2, 50)])])));
    let state = world.state();
    assert_eq!(state.quarantine[&key(1, 4, 0)].quantity, -ONE);
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 150);
    assert_eq!(world.level(2), -ONE);
    let now = Timestamp::from_us(NOW + MINUTE);
    let retried = world
        .shard
        .retry(now, key(1, 4, 0), &record, &world.rows, &world.names)
        .unwrap();
    world.keep_record(retried);
    assert_eq!(world.level(1), i64::MAX - 1 - ONE);
    assert_eq!(world.rows.skus[&(1, 1)].flags & flag::sku::PARKED, 0);
    // The others are in the level already; their retries only remove them.
    let first = world.journal[1].clone();
    for seq in [2, 3] {
        let retried = world
            .shard
            .retry(now, key(1, seq, 0), &first, &world.rows, &world.names)
            .unwrap();
        world.keep_record(retried);
    }
    assert_eq!(world.level(1), i64::MAX - 1 - ONE);
    assert!(world.state().quarantine.is_empty());
    world.check_replay();
}

/// Two who retry at the same time have the same list of entries; between them the shard may have started again.
#[test]
fn an_entry_that_an_earlier_run_of_the_shard_retried_is_gone() {
    let mut world = World::new();
    let huge = || movement(kind::ADJUSTED, 1, i64::MAX - 1, NOW);
    let record = record_of(world.send(1, 1, stock(1, &[huge(), huge()])));
    let moved = movement(kind::RESERVED, 2, ONE, NOW);
    record_of(world.send(1, 1, stock(3, &[moved])));
    record_of(world.send(
        1,
        1,
        stock(4, &[movement(kind::COUNTED, 1, ONE, NOW + MINUTE)]),
    ));
    world.flush();
    let now = Timestamp::from_us(NOW + MINUTE);
    // The count is what un-parks; the movement before it then has no position any more.
    let count = world.journal[3].clone();
    let waiting = [(key(1, 4, 0), count), (key(1, 2, 0), record)];
    for (key, original) in &waiting {
        let retried = world
            .shard
            .retry(now, *key, original, &world.rows, &world.names);
        world.keep_record(retried.unwrap());
    }
    world.flush();
    let before = world.state();
    assert!(before.quarantine.is_empty());
    assert_eq!(world.level(1), ONE);
    world.shard = Shard::new(ShardConfig::default());
    for (key, original) in &waiting {
        let again = world
            .shard
            .retry(now, *key, original, &world.rows, &world.names);
        assert_eq!(again, Err(RetryError::Gone));
    }
    assert_eq!(world.state(), before);
}

#[test]
fn counters_add_up_where_an_earlier_run_of_the_shard_quarantined_an_event() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    let held = |world: &World, name: &str| {
        let mut names = world.names.0.lock().unwrap();
        names.insert((false, sku), name.to_owned());
    };
    held(&world, "BREAD");
    let mut named = basket(NOW, &[(sku, 100)]);
    named.codes = vec![(0, "MILK-1")];
    let record = record_of(world.send(1, 1, sales(1, &[named])));
    world.flush();
    held(&world, "MILK-1");
    world.shard = Shard::new(ShardConfig::default());
    let now = Timestamp::from_us(NOW + MINUTE);
    let key = key(1, 1, u16::MAX);
    let retried = world
        .shard
        .retry(now, key, &record, &world.rows, &world.names);
    world.keep_record(retried.unwrap());
    assert!(world.shard.counters().adds_up());
    world.check_replay();
}

/// Whoever used the code first was quarantined, and whoever uses it then leaves it out.
#[test]
fn a_name_that_only_a_conflict_brings_is_written() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    let mut sale = basket(NOW, &[(1, 100)]);
    sale.id = Some(9);
    record_of(world.send(1, 1, sales(1, &[sale])));
    let mut other = basket(NOW, &[(sku, 200)]);
    other.id = Some(9);
    other.codes = vec![(0, "MILK-1")];
    let record = record_of(world.send(1, 1, sales(2, &[other])));
    assert_eq!(record.verdicts[0].reason, Reason::Conflict.code());
    let later = record_of(world.send(1, 1, sales(3, &[basket(NOW, &[(sku, 100)])])));
    assert_eq!(later.outcome(0).unwrap(), (Outcome::Applied, 0));
    let state = world.state();
    assert_eq!(state.names.get(&(false, sku)).unwrap(), "MILK-1");
    assert_eq!(state.skus[&(1, sku)].flags & flag::sku::UNNAMED, 0);
    world.check_replay();
}

#[test]
fn a_name_whose_id_has_another_is_not_written_whoever_brings_it() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    let mut names = world.names.0.lock().unwrap();
    names.insert((false, sku), "BREAD".to_owned());
    drop(names);
    let mut sale = basket(NOW, &[(1, 100)]);
    sale.id = Some(9);
    record_of(world.send(1, 1, sales(1, std::slice::from_ref(&sale))));
    // A known event, a conflicting one, and one that is new, so that the frame is kept.
    let mut conflict = basket(NOW, &[(sku, 200)]);
    conflict.id = Some(9);
    for event in [&mut sale, &mut conflict] {
        event.codes = vec![(0, "MILK-1")];
    }
    let fresh = basket(NOW, &[(1, 50)]);
    let record = record_of(world.send(1, 1, sales(2, &[sale, conflict, fresh])));
    let outcomes = [0, 1, 2].map(|index| record.outcome(index).unwrap().0);
    assert_eq!(
        outcomes,
        [Outcome::Duplicate, Outcome::Quarantined, Outcome::Applied]
    );
    assert_eq!(world.state().names.get(&(false, sku)), None);
    world.check_replay();
}

/// An earlier event of the session said the code: the retried one does not say whether it means the id's other name.
#[test]
fn a_retry_does_not_merge_an_event_that_brings_no_name_for_its_id() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    let mut names = world.names.0.lock().unwrap();
    names.insert((false, sku), "BREAD".to_owned());
    drop(names);
    let mut named = basket(NOW, &[(sku, 100)]);
    named.codes = vec![(0, "MILK-1")];
    let plain = basket(NOW, &[(sku, 70)]);
    let first = record_of(world.send(1, 1, sales(1, &[plain.clone(), named])));
    let later = record_of(world.send(1, 1, sales(3, &[plain])));
    let now = Timestamp::from_us(NOW + MINUTE);
    for (seq, record) in [(1, &first), (2, &first), (3, &later)] {
        let again = world.shard.retry(
            now,
            key(1, seq, u16::MAX),
            record,
            &world.rows,
            &world.names,
        );
        assert_eq!(again, Err(RetryError::Still(Reason::SkuCollision)), "{seq}");
    }
    let state = world.state();
    assert!(state.skus.is_empty());
    assert_eq!(state.quarantine.len(), 3);
    world.check_replay();
}

#[test]
fn a_retry_under_a_lagging_clock_is_not_received_before_its_event() {
    let mut world = World::new();
    let code = "tea";
    let mut sale = basket(NOW, &[(sku_of(code), 100)]);
    sale.codes = vec![(0, code)];
    let names = &world.names.0;
    let id = (false, sku_of(code));
    names.lock().unwrap().insert(id, "another".to_owned());
    let record = record_of(world.send(1, 1, sales(1, &[sale])));
    assert_eq!(record.outcome(0).unwrap().0, Outcome::Quarantined);
    world.names.0.lock().unwrap().clear();
    let clock = Timestamp::from_us(NOW - MINUTE);
    let key = key(1, 1, u16::MAX);
    let retried = world
        .shard
        .retry(clock, key, &record, &world.rows, &world.names);
    let retried = retried.unwrap();
    assert_eq!(retried.outcome(0).unwrap().0, Outcome::Applied);
    assert_eq!(retried.head.received_at_us, record.head.received_at_us);
    world.keep_record(retried);
    world.check_replay();
}
