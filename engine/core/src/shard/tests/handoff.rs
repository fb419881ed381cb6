use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{Epoch, Seq};
use till_protocol::time::{DeviceTime, Timestamp};
use till_protocol::verified::Verified;

use super::memory::Broken;
use super::world::{
    HOUR, MINUTE, NOW, ONE, World, basket, movement, record_of, sales, session, sku_of, stock,
    terminal, unreadable,
};
use crate::{
    Handled, Hello, Origin, Outcome, QuarantineKey, Record, RecordKind, Shard, ShardConfig,
    Verdict, flag,
};

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

/// A node that has taken in nothing but its store.
fn fresh() -> World {
    World::new()
}

fn sale(amount: i64) -> super::world::Basket {
    basket(NOW, &[(1, amount)])
}

fn net(world: &mut World) -> i128 {
    let state = world.state();
    state
        .terminals
        .get(&terminal(1).to_u64())
        .map_or(0, |row| row.totals.net)
}

#[test]
fn a_record_keeps_who_sent_it_and_when_it_came() {
    let mut a = World::new();
    a.now = NOW - 30 * HOUR;
    let sent = record_of(a.send(
        1,
        4,
        sales(1, &[sale(250), basket(NOW - 60 * HOUR, &[(1, 1)])]),
    ));
    let mut b = fresh();
    let handled = b.hand_off(&sent);
    let Handled::Journal {
        record,
        upto,
        refusals,
        duplicates,
    } = handled
    else {
        panic!("not applied")
    };
    assert_eq!(record, sent);
    assert_eq!((upto, refusals.len(), duplicates), (seq(2), 0, 0));
    assert_eq!(net(&mut b), 251);
    assert_eq!(b.hand_off(&sent), Handled::Known { upto: seq(2) });
    assert_eq!(net(&mut b), 251);
    b.check_replay();
}

#[test]
fn what_the_device_sent_again_falls_out() {
    let mut a = World::new();
    let all = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let more = record_of(a.send(1, 1, sales(4, &[sale(1_000)])));
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let Handled::Journal {
        record, duplicates, ..
    } = b.hand_off(&all)
    else {
        panic!("not applied")
    };
    assert_eq!((record.head.skip, duplicates), (2, 2));
    record_of(b.hand_off(&more));
    assert_eq!(net(&mut b), 1_111);
    assert!(b.shard.counters().adds_up());
    b.check_replay();
}

#[test]
fn a_gap_changes_nothing_also_one_before_the_first_event_that_was_new() {
    let mut a = World::new();
    record_of(a.send(1, 1, sales(1, &[sale(1), sale(10)])));
    let overlaps = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let mut b = fresh();
    let before = b.state();
    assert_eq!(b.hand_off(&overlaps), Handled::Gap { expected: seq(1) });
    assert_eq!(b.state(), before);
}

#[test]
fn an_epoch_that_is_over_goes_on_where_it_was_and_stays_over() {
    let mut a = World::new();
    let first = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let second = record_of(a.send(1, 1, sales(2, &[sale(10)])));
    let mut b = fresh();
    record_of(b.hand_off(&first));
    record_of(b.send(1, 2, sales(1, &[sale(100)])));
    record_of(b.hand_off(&second));
    assert_eq!(b.hand_off(&second), Handled::Known { upto: seq(2) });
    assert_eq!(net(&mut b), 111);
    assert_eq!(b.send(1, 1, sales(3, &[sale(5)])), Handled::Closed);
    let row = &b.state().terminals[&terminal(1).to_u64()];
    let epochs: Vec<_> = row.epochs.iter().map(|e| (e.epoch, e.next_seq)).collect();
    assert_eq!(epochs, [(1, 3), (2, 2)]);
    b.check_replay();
}

#[test]
fn an_epoch_that_is_forgotten_is_not_begun_again() {
    let mut a = World::new();
    let old = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = fresh();
    for epoch in 2..=u32::try_from(crate::EPOCHS_MAX + 1).unwrap() {
        record_of(b.send(1, epoch, sales(1, &[sale(1)])));
    }
    assert_eq!(b.hand_off(&old), Handled::Closed);
}

#[test]
fn a_refusal_stays_a_refusal_with_its_reason() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(2)])));
    // Refused by a rule that this node does not know.
    let refused = Record {
        verdicts: vec![Verdict {
            index: 1,
            outcome: Outcome::Refused,
            reason: Reason::Unreadable.code(),
            flags: 0,
        }],
        ..sent
    };
    let mut b = fresh();
    let Handled::Journal {
        record, refusals, ..
    } = b.hand_off(&refused)
    else {
        panic!("not applied")
    };
    assert_eq!(refusals, [(seq(2), Reason::Unreadable)]);
    assert_eq!(record.verdict(1).unwrap().outcome, Outcome::Refused);
    assert_eq!(net(&mut b), 1);
    b.check_replay();
}

#[test]
fn tombstones_and_known_duplicates_use_up_their_numbers() {
    let mut a = World::new();
    let now = Timestamp::from_us(NOW);
    let unreadable = a
        .shard
        .handle(unreadable(now, session(1, 1), 3), &a.rows, &a.names);
    let tombstones = record_of(unreadable.unwrap());
    let with_id = |amount| super::world::Basket {
        id: Some(9),
        ..sale(amount)
    };
    let first = record_of(a.send(2, 1, sales(1, &[with_id(7)])));
    let again = record_of(a.send(1, 1, sales(4, &[with_id(7)])));
    assert_eq!(again.head.kind, RecordKind::Duplicates);
    let mut b = fresh();
    record_of(b.hand_off(&first));
    let Handled::Journal { refusals, .. } = b.hand_off(&tombstones) else {
        panic!("not applied")
    };
    assert_eq!(refusals.len(), 3);
    assert_eq!(b.hand_off(&tombstones), Handled::Known { upto: seq(3) });
    record_of(b.hand_off(&again));
    let row = b.state().terminals[&terminal(1).to_u64()].clone();
    assert_eq!((row.refused, row.duplicates, row.applied), (3, 1, 0));
    assert_eq!(row.epochs[0].next_seq, 5);
    b.check_replay();
}

#[test]
fn an_event_id_that_is_known_falls_out_and_one_with_other_content_is_a_conflict() {
    let mut a = World::new();
    let with_id = |id, amount| super::world::Basket {
        id: Some(id),
        ..sale(amount)
    };
    let sent = record_of(a.send(
        1,
        1,
        sales(1, &[with_id(1, 5), with_id(2, 6), with_id(3, 7)]),
    ));
    let mut b = fresh();
    // The same file was sent by another till in the meantime, and one event of it was another.
    record_of(b.send(2, 1, sales(1, &[with_id(1, 5), with_id(2, 60)])));
    let Handled::Journal {
        record, duplicates, ..
    } = b.hand_off(&sent)
    else {
        panic!("not applied")
    };
    assert_eq!(duplicates, 1);
    let outcomes: Vec<_> = (0..3).map(|at| record.outcome(at).unwrap().0).collect();
    assert_eq!(
        outcomes,
        [Outcome::Duplicate, Outcome::Quarantined, Outcome::Applied]
    );
    assert_eq!(record.verdict(1).unwrap().reason, Reason::Conflict.code());
    assert_eq!(net(&mut b), 7);
    assert_eq!(b.state().quarantine.len(), 1);
    b.check_replay();
}

#[test]
fn masked_cards_and_suspect_clocks_keep_their_flags() {
    let mut a = World::new();
    let now = Timestamp::from_us(NOW);
    let mut suspect = session(1, 1);
    suspect.clock_suspect = true;
    let batch = Verified::check(sales(1, &[sale(1), sale(2)]), &ScreenKey::new([7; 32])).unwrap();
    let handled = a
        .shard
        .handle(Origin::batch(now, suspect, &batch), &a.rows, &a.names)
        .unwrap();
    let mut sent = record_of(handled);
    assert_eq!(
        sent.verdict(0).unwrap().flags & flag::CLOCK_SUSPECT,
        flag::CLOCK_SUSPECT
    );
    let one = |index: u32, more: u32| Verdict {
        index,
        flags: sent.verdict(index).unwrap().flags | more,
        ..*sent.verdict(index).unwrap()
    };
    sent.verdicts = vec![one(0, 0), one(1, flag::CARD_MASKED)];
    let mut b = fresh();
    assert_eq!(record_of(b.hand_off(&sent)), sent);
}

#[test]
fn what_was_quarantined_for_a_name_stays_quarantined_until_its_retry() {
    let sku = sku_of("apple");
    let mut a = World::new();
    a.names
        .0
        .lock()
        .unwrap()
        .insert((false, sku), "another name of this id".to_owned());
    let mut named = basket(NOW, &[(sku, 30)]);
    named.codes = vec![(0, "apple")];
    let quarantined = record_of(a.send(1, 1, sales(1, &[named])));
    assert_eq!(
        quarantined.verdict(0).unwrap().reason,
        Reason::SkuCollision.code()
    );
    a.names.0.lock().unwrap().remove(&(false, sku));
    let key = QuarantineKey {
        terminal: terminal(1).to_u64(),
        epoch: 1,
        seq: 1,
        line: u16::MAX,
    };
    let later = Timestamp::from_us(NOW + MINUTE);
    a.flush();
    let retried = a
        .shard
        .retry(later, key, &quarantined, &a.rows, &a.names)
        .unwrap();
    let mut b = fresh();
    assert_eq!(b.hand_off(&retried), Handled::Known { upto: seq(1) });
    record_of(b.hand_off(&quarantined));
    assert_eq!((net(&mut b), b.state().quarantine.len()), (0, 1));
    assert_eq!(record_of(b.hand_off(&retried)), retried);
    assert_eq!((net(&mut b), b.state().quarantine.len()), (30, 0));
    assert_eq!(b.hand_off(&retried), Handled::Known { upto: seq(1) });
    assert_eq!(net(&mut b), 30);
    b.check_replay();
}

#[test]
fn a_movement_that_waits_is_taken_in_by_its_retry() {
    let most = |kind, at| movement(kind, 5, i64::MAX - 10, at);
    let mut a = World::new();
    let parked = [most(kind::RECEIVED, NOW), most(kind::RECEIVED, NOW + 1)];
    let parked = record_of(a.send(1, 1, stock(1, &parked)));
    let even = record_of(a.send(1, 1, stock(3, &[most(kind::WASTE, NOW + 2)])));
    let mut b = fresh();
    record_of(b.hand_off(&parked));
    record_of(b.hand_off(&even));
    assert_eq!(b.state(), a.state());
    let waiting: Vec<QuarantineKey> = a.rows.quarantine.keys().copied().collect();
    assert_eq!(waiting.len(), 2);
    let later = Timestamp::from_us(NOW + MINUTE);
    for key in waiting {
        let original = if key.seq == 3 { &even } else { &parked };
        let retried = a.shard.retry(later, key, original, &a.rows, &a.names);
        let retried = retried.unwrap();
        assert_eq!(record_of(b.hand_off(&retried)), retried);
        assert_eq!(
            b.hand_off(&retried),
            Handled::Known {
                upto: seq(if key.seq == 3 { 3 } else { 2 })
            }
        );
        a.keep_record(retried);
        assert_eq!(b.state(), a.state());
    }
    assert!(b.state().quarantine.is_empty());
    assert_eq!(b.level(5), i64::MAX - 10);
    b.check_replay();
}

#[test]
fn a_registration_registers_once_and_never_otherwise() {
    let a = World::new();
    let registered = a.journal[0].clone();
    let mut b = World::new();
    b.shard = Shard::new(ShardConfig::default());
    b.journal.clear();
    assert!(matches!(
        b.hand_off(&Record {
            ..registered.clone()
        }),
        Handled::Journal { .. }
    ));
    assert_eq!(b.hand_off(&registered), Handled::Known { upto: seq(1) });
    let otherwise = Record {
        payload: crate::Registration::new(978, "Europe/Paris")
            .unwrap()
            .encode()
            .into(),
        ..registered
    };
    assert_eq!(b.hand_off(&otherwise), conflict(1));
    record_of(b.send(1, 1, sales(1, &[sale(3)])));
    b.check_replay();
}

#[test]
fn a_store_that_nobody_registered_takes_nothing() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = World::new();
    b.shard = Shard::new(ShardConfig::default());
    assert_eq!(b.hand_off(&sent), Handled::Unregistered);
}

#[test]
fn rows_that_cannot_be_read_and_records_that_cannot_be_change_nothing() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = fresh();
    let mut cold = Shard::new(ShardConfig::default());
    assert!(
        cold.handle(Origin::Handoff(&sent), &Broken, &b.names)
            .is_err()
    );
    let before = b.state();
    let mut odd = sent.clone();
    odd.head.first_seq = 0;
    assert!(
        b.shard
            .handle(Origin::Handoff(&odd), &b.rows, &b.names)
            .is_err()
    );
    let mut cut = sent.clone();
    cut.payload = cut.payload.slice(..cut.payload.len() / 2);
    assert!(
        b.shard
            .handle(Origin::Handoff(&cut), &b.rows, &b.names)
            .is_err()
    );
    let mut empty = sent;
    empty.head.skip = empty.head.count;
    assert!(
        b.shard
            .handle(Origin::Handoff(&empty), &b.rows, &b.names)
            .is_err()
    );
    assert_eq!(b.state(), before);
}

fn conflict(number: u64) -> Handled {
    Handled::Conflict { seq: seq(number) }
}

#[test]
fn other_events_under_the_same_numbers_change_nothing_and_say_which() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(11)])));
    let before = b.state();
    assert_eq!(b.hand_off(&sent), conflict(2));
    assert_eq!(b.state(), before);
    // The digest of a movement leaves the SKU out; its content does not.
    let moved = |sku| stock(1, &[movement(kind::RECEIVED, sku, ONE, NOW)]);
    let other = record_of(a.send(2, 1, moved(5)));
    record_of(b.send(2, 1, moved(6)));
    assert_eq!(b.hand_off(&other), conflict(1));
    assert_eq!(b.level(6), ONE);
    assert!(!b.state().skus.contains_key(&(1, 5)));
    assert!(b.shard.counters().adds_up());
}

#[test]
fn what_was_known_by_its_id_is_equal_and_what_nobody_can_compare_is_not() {
    let with_id = |id, amount| super::world::Basket {
        id: Some(id),
        ..sale(amount)
    };
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[with_id(1, 5), with_id(2, 6)])));
    let plain = record_of(a.send(3, 1, sales(1, &[sale(7)])));
    let mut b = fresh();
    record_of(b.send(2, 1, sales(1, &[with_id(1, 5), with_id(2, 6)])));
    let again = record_of(b.send(1, 1, sales(1, &[with_id(2, 6), with_id(1, 5)])));
    assert_eq!(again.head.kind, RecordKind::Duplicates);
    assert_eq!(b.hand_off(&sent), Handled::Known { upto: seq(2) });
    // Also where the id stands for other content, and this one has come before.
    let other = record_of(a.send(4, 1, sales(1, &[with_id(3, 8)])));
    record_of(b.send(2, 1, sales(3, &[with_id(3, 80), with_id(3, 8)])));
    let again = record_of(b.send(4, 1, sales(1, &[with_id(3, 8)])));
    assert_eq!(again.head.kind, RecordKind::Duplicates);
    assert_eq!(b.hand_off(&other), Handled::Known { upto: seq(1) });
    record_of(b.send(3, 1, sales(1, &[sale(7)])));
    b.rows.facts.clear();
    assert_eq!(b.hand_off(&plain), conflict(1));
}

#[test]
fn a_record_is_released_once_under_an_epoch_that_is_nobody_elses() {
    let mut a = World::new();
    record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100), sale(1_000)])));
    assert_eq!(sent.head.skip, 1);
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(10), sale(3)])));
    assert_eq!(b.hand_off(&sent), conflict(3));
    let epoch = b.shard.take_epoch(terminal(1), &b.rows).unwrap().unwrap();
    assert_eq!(epoch.get(), 2);
    let released = b.shard.renumbered(&sent, epoch, &b.rows).unwrap();
    let head = released.head;
    assert_eq!((head.epoch, head.first_seq, head.skip), (2, 1, 0));
    // What it skips was decided where it comes from, and what is equal is here.
    let Handled::Journal { duplicates, .. } = b.hand_off(&released) else {
        panic!("not applied")
    };
    assert_eq!(duplicates, 2);
    assert_eq!(net(&mut b), 1_114);
    let again = b.shard.renumbered(&sent, epoch, &b.rows).unwrap();
    assert_eq!(b.hand_off(&again), Handled::Known { upto: seq(4) });
    let hello = Hello {
        terminal: terminal(1),
        epoch: 0,
        clock: DeviceTime::from_us(NOW),
        currency: 0,
        zone: "",
    };
    let handshake_state = b.shard.hello(Timestamp::from_us(NOW), &hello, &b.rows);
    assert_eq!(handshake_state.unwrap().epoch.get(), 3);
    assert_eq!(net(&mut b), 1_114);
    b.check_replay();
}

/// A refused event that a frame had again, in front of new ones: its refusal is in another record.
#[test]
fn what_was_refused_before_a_released_record_does_not_count_in_it() {
    let mut a = World::new();
    let good = || basket(NOW + 1, &[(1, 1_000)]);
    record_of(a.send(1, 1, beyond_time(&sales(1, &[good()]))));
    let sent = record_of(a.send(1, 1, beyond_time(&sales(1, &[good(), sale(10)]))));
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(2)])));
    let epoch = Epoch::new(2).unwrap();
    let released = b.shard.renumbered(&sent, epoch, &b.rows).unwrap();
    record_of(b.hand_off(&released));
    assert_eq!(net(&mut b), 13);
}

// The same frame, whose event of `NOW + 1` states a time that no event has.
fn beyond_time(frame: &Frame) -> Frame {
    let header = frame.header;
    let mut payload = frame.payload.to_vec();
    let stated = (NOW + 1).to_le_bytes();
    let at = payload
        .windows(8)
        .position(|bytes| bytes == stated)
        .unwrap();
    payload[at..at + 8].copy_from_slice(&(i64::MAX / 2).to_le_bytes());
    let (count, first) = (header.count, header.first_seq);
    let payload = bytes::Bytes::from(payload);
    Frame::new(header.family, header.version, count, first, payload).unwrap()
}
