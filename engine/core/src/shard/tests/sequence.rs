use till_protocol::code::Reason;
use till_protocol::family::sale::v1::flag as sale_flag;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::Seq;
use till_protocol::time::{DeviceTime, Timestamp};

use super::super::flush::TERMINALS_MAX;
use super::memory::Broken;
use super::world::{
    HOUR, MINUTE, NOW, ONE, World, basket, movement, record_of, sales, session, sku_of, stock,
    store, terminal, unreadable,
};
use crate::{
    Dim, EPOCHS_MAX, Handled, Hello, HelloError, Origin, Outcome, RecordKind, RegisterError, flag,
};

fn hello(till: u32, epoch: u32) -> Hello<'static> {
    Hello {
        terminal: terminal(till),
        epoch,
        clock: DeviceTime::from_us(NOW),
        currency: 0,
        zone: "",
    }
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

#[test]
fn a_frame_that_comes_again_changes_nothing() {
    let mut world = World::new();
    let frame = sales(1, &[basket(NOW, &[(1, 250)]), basket(NOW, &[(2, 100)])]);
    record_of(world.send(1, 1, frame.clone()));
    let before = world.state();
    assert_eq!(world.send(1, 1, frame), Handled::Known { upto: seq(2) });
    assert_eq!(world.state(), before);
    let counters = world.shard.counters();
    assert_eq!(
        (counters.received, counters.applied, counters.duplicate),
        (4, 2, 2)
    );
}

#[test]
fn of_a_frame_that_overlaps_only_the_new_events_take_effect() {
    let mut world = World::new();
    let sale = |amount| basket(NOW, &[(1, amount)]);
    record_of(world.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let handled = world.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)]));
    let Handled::Journal {
        record,
        upto,
        duplicates,
        ..
    } = handled
    else {
        panic!()
    };
    assert_eq!((record.head.skip, duplicates, upto), (2, 2, seq(3)));
    let state = world.state();
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 111);
    world.check_replay();
}

#[test]
fn a_gap_is_not_taken_and_names_what_is_expected() {
    let mut world = World::new();
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 1)])])));
    let handled = world.send(1, 1, sales(3, &[basket(NOW, &[(1, 1)])]));
    assert_eq!(handled, Handled::Gap { expected: seq(2) });
    assert_eq!(
        world.send(2, 1, sales(2, &[basket(NOW, &[(1, 1)])])),
        Handled::Gap { expected: seq(1) }
    );
}

#[test]
fn a_new_epoch_starts_at_one_and_closes_the_old_one() {
    let mut world = World::new();
    let frame = || sales(1, &[basket(NOW, &[(1, 5)])]);
    record_of(world.send(1, 1, frame()));
    assert_eq!(
        world.send(1, 3, sales(2, &[basket(NOW, &[(1, 5)])])),
        Handled::Gap { expected: seq(1) }
    );
    record_of(world.send(1, 3, frame()));
    assert_eq!(
        world.send(1, 1, sales(2, &[basket(NOW, &[(1, 5)])])),
        Handled::Closed
    );
    let state = world.state();
    let row = &state.terminals[&terminal(1).to_u64()];
    assert_eq!(
        row.epochs
            .iter()
            .map(|e| (e.epoch, e.next_seq))
            .collect::<Vec<_>>(),
        [(1, 2), (3, 2)]
    );
    world.check_replay();
}

#[test]
fn two_devices_that_ask_for_a_new_epoch_never_get_the_same_one() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    let first = world.shard.hello(now, &hello(1, 0), &world.rows).unwrap();
    let second = world.shard.hello(now, &hello(1, 0), &world.rows).unwrap();
    assert_eq!((first.epoch.get(), second.epoch.get()), (1, 2));
    record_of(world.send(1, 2, sales(1, &[basket(NOW, &[(1, 5)])])));
    assert_eq!(
        world.send(1, 1, sales(1, &[basket(NOW, &[(1, 5)])])),
        Handled::Closed
    );
    let again = world.shard.hello(now, &hello(1, 1), &world.rows).unwrap();
    assert!(again.is_closed);
    let there = world.shard.hello(now, &hello(1, 2), &world.rows).unwrap();
    assert_eq!((there.is_closed, there.next_seq), (false, 2));
    assert_ne!(there.digest, 0);
}

#[test]
fn an_epoch_that_is_forgotten_counts_as_here_as_a_whole() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    let most = u32::try_from(EPOCHS_MAX).unwrap();
    for epoch in 1..=most {
        record_of(world.send(1, epoch, sales(1, &[basket(NOW, &[(1, 5)])])));
    }
    let handshake = |world: &mut World, epoch| {
        let hello = hello(1, epoch);
        let there = world.shard.hello(now, &hello, &world.rows).unwrap();
        (there.is_closed, there.next_seq)
    };
    assert_eq!(handshake(&mut world, 1), (true, 2));
    record_of(world.send(1, most + 1, sales(1, &[basket(NOW, &[(1, 5)])])));
    assert_eq!(handshake(&mut world, 1), (true, Seq::MAX.get()));
    assert_eq!(handshake(&mut world, 2), (true, 2));
}

#[test]
fn one_wrong_number_of_an_epoch_leaves_numbers_for_the_next_ones() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 5)])])));
    let mut handshake = |epoch| world.shard.hello(now, &hello(1, epoch), &world.rows);
    assert_eq!(
        handshake(u32::try_from(i32::MAX).unwrap()),
        Err(HelloError::Refused(Reason::BadHello))
    );
    assert_eq!(
        handshake(2 + (1 << 20)),
        Err(HelloError::Refused(Reason::BadHello))
    );
    assert_eq!(handshake(1 + (1 << 20)).map(|there| there.next_seq), Ok(1));
    assert_eq!(handshake(0).map(|there| there.epoch.get()), Ok(2));
}

#[test]
fn terminals_that_are_only_accepted_do_not_fill_the_memory() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 5)])])));
    let most = u32::try_from(TERMINALS_MAX).unwrap();
    for till in 2..=most + 1 {
        world
            .shard
            .hello(now, &hello(till, 0), &world.rows)
            .unwrap();
    }
    // What no row holds yet stays in memory: before a flush, and until the rows of a flush are written.
    assert_eq!(world.shard.terminals(), TERMINALS_MAX + 1);
    world.shard.passivate();
    record_of(world.send(1, 1, sales(2, &[basket(NOW, &[(1, 5)])])));
    world.take();
    record_of(world.send(1, 1, sales(3, &[basket(NOW, &[(1, 5)])])));
    world.write();
    assert!(world.shard.terminals() < TERMINALS_MAX);
    // Those that are gone come back as they were, and those that have events have them.
    for till in [2, most + 1] {
        let there = world
            .shard
            .hello(now, &hello(till, 0), &world.rows)
            .unwrap();
        assert_eq!(there.next_seq, 1);
    }
    record_of(world.send(1, 1, sales(4, &[basket(NOW, &[(1, 5)])])));
    world.check_replay();
}

#[test]
fn a_hello_is_refused_where_it_contradicts_the_registry() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    let mut handshake = |hello: Hello<'_>| world.shard.hello(now, &hello, &world.rows);
    let wrong = Hello {
        currency: 978,
        ..hello(1, 1)
    };
    assert_eq!(
        handshake(wrong),
        Err(HelloError::Refused(Reason::CurrencyMismatch))
    );
    let wrong = Hello {
        zone: "Europe/Berlin",
        ..hello(1, 1)
    };
    assert_eq!(
        handshake(wrong),
        Err(HelloError::Refused(Reason::ZoneMismatch))
    );
    let late = Hello {
        clock: DeviceTime::from_us(NOW - 25 * HOUR),
        ..hello(1, 1)
    };
    assert!(handshake(late).unwrap().clock_suspect);
}

#[test]
fn a_store_is_registered_once_and_for_good() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    let mut register = |currency, zone: &str| {
        world
            .shard
            .register_store(now, store(), currency, zone, &world.rows)
    };
    assert_eq!(register(840, "America/New_York"), Ok(None));
    assert!(matches!(
        register(978, "America/New_York"),
        Err(RegisterError::Currency { .. })
    ));
    assert!(matches!(
        register(840, "Europe/Berlin"),
        Err(RegisterError::Zone { .. })
    ));
    assert!(matches!(
        register(840, "Nowhere"),
        Err(RegisterError::UnknownZone(_))
    ));
}

#[test]
fn an_unreadable_frame_uses_up_its_numbers() {
    let mut world = World::new();
    let now = Timestamp::from_us(NOW);
    let handled = world
        .shard
        .handle(unreadable(now, session(1, 1), 3), &world.rows, &world.names)
        .unwrap();
    world.keep(&handled);
    let Handled::Journal {
        record, refusals, ..
    } = handled
    else {
        panic!()
    };
    assert_eq!(
        (record.head.kind, refusals.len()),
        (RecordKind::Tombstones, 3)
    );
    record_of(world.send(1, 1, sales(4, &[basket(NOW, &[(1, 5)])])));
    assert!(world.shard.counters().adds_up());
    world.check_replay();
}

#[test]
fn odd_times_are_flagged_and_taken() {
    let mut world = World::new();
    let times = [
        NOW,
        NOW + 4 * MINUTE,
        NOW + 6 * MINUTE,
        NOW - 23 * HOUR,
        NOW - 25 * HOUR,
    ];
    let baskets = times.map(|at| basket(at, &[(1, 1)]));
    let record = record_of(world.send(1, 1, sales(1, &baskets)));
    let flags = |index| record.outcome(index).unwrap().1 & (flag::FUTURE | flag::LATE);
    let found: Vec<u32> = (0..5).map(flags).collect();
    assert_eq!(found, [0, 0, flag::FUTURE, 0, flag::LATE]);
    world.check_replay();
}

#[test]
fn a_sale_that_does_not_balance_is_taken_and_flagged() {
    let mut world = World::new();
    let mut odd = basket(NOW, &[(1, 100)]);
    odd.tenders[0].amount = 99;
    let record = record_of(world.send(1, 1, sales(1, &[odd])));
    let (outcome, flags) = record.outcome(0).unwrap();
    assert_eq!(outcome, Outcome::Applied);
    assert_ne!(flags & flag::UNBALANCED, 0);
    assert_eq!(world.shard.counters().unbalanced, 1);
}

#[test]
fn training_is_kept_apart() {
    let mut world = World::new();
    let mut training = basket(NOW, &[(1, 100)]);
    training.flags = sale_flag::TRAINING;
    record_of(world.send(1, 1, sales(1, &[training])));
    let state = world.state();
    assert_eq!(state.stores[&1].training.net, 100);
    assert!(state.rollups.is_empty() && state.skus.is_empty());
    assert_eq!(state.terminals[&terminal(1).to_u64()].totals.net, 0);
    world.check_replay();
}

#[test]
fn a_sku_is_flagged_until_it_has_a_name() {
    let mut world = World::new();
    let sku = sku_of("MILK-1");
    let unnamed = basket(NOW, &[(sku, 100)]);
    let mut named = unnamed.clone();
    named.codes = vec![(0, "MILK-1")];
    let record = record_of(world.send(1, 1, sales(1, std::slice::from_ref(&unnamed))));
    assert_ne!(record.outcome(0).unwrap().1 & flag::UNNAMED_SKU, 0);
    assert_ne!(world.state().skus[&(1, sku)].flags & flag::sku::UNNAMED, 0);
    let record = record_of(world.send(1, 1, sales(2, &[named])));
    assert_eq!(record.outcome(0).unwrap().1 & flag::UNNAMED_SKU, 0);
    let state = world.state();
    assert_eq!(state.skus[&(1, sku)].flags & flag::sku::UNNAMED, 0);
    assert_eq!(state.names[&(false, sku)], "MILK-1");
    world.check_replay();
}

#[test]
fn the_business_day_of_a_sale_is_what_it_states_or_the_local_date() {
    let mut world = World::new();
    // 02:30 UTC is 21:30 of the day before in New York.
    let late = NOW - 7 * HOUR - 30 * MINUTE;
    let mut stated = basket(late, &[(1, 1)]);
    stated.day = 20_000;
    record_of(world.send(1, 1, sales(1, &[basket(late, &[(1, 1)]), stated])));
    let state = world.state();
    let days: Vec<u16> = state
        .rollups
        .keys()
        .filter(|key| key.dim == Dim::Store)
        .map(|key| key.day)
        .collect();
    let local = u16::try_from(NOW / 24 / HOUR - 1).unwrap();
    assert_eq!(days, [20_000, local]);
}

#[test]
fn rows_that_cannot_be_read_change_nothing() {
    let mut world = World::new();
    world.flush();
    let frame = sales(1, &[basket(NOW, &[(1, 1)])]);
    let mut cold = World::replay(&[]);
    cold.rows = world.rows.clone();
    let batch = till_protocol::verified::Verified::from_journal(frame.clone()).unwrap();
    let now = Timestamp::from_us(NOW);
    assert!(
        cold.shard
            .handle(
                Origin::batch(now, session(1, 1), &batch),
                &Broken,
                &cold.names
            )
            .is_err()
    );
    assert!(cold.shard.take_dirty().is_empty());
    record_of(cold.send(1, 1, frame.clone()));
    record_of(world.send(1, 1, frame));
    assert_eq!(cold.state().skus, world.state().skus);
    assert_eq!(cold.state().rollups, world.state().rollups);
}

#[test]
fn reservations_change_what_is_quarantined_and_not_the_level() {
    let mut world = World::new();
    let moves = [
        movement(kind::RECEIVED, 1, 10 * ONE, NOW),
        movement(kind::RESERVED, 1, 3 * ONE, NOW),
        movement(kind::RELEASED, 1, ONE, NOW),
    ];
    record_of(world.send(1, 1, stock(1, &moves)));
    assert_eq!(world.level(1), 10 * ONE);
    assert_eq!(world.rows.skus[&(1, 1)].reserved, 2 * ONE);
    world.check_replay();
}
