use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::{Epoch, Seq};
use till_protocol::time::{DeviceTime, Timestamp};
use till_protocol::verified::Verified;

use super::memory::Broken;
use super::world::{
    HOUR, MINUTE, NOW, World, as_if_sent, basket, movement, record_of, sales, session, sku_of,
    stock, terminal,
};
use crate::{
    Handled, Hello, Outcome, QuarantineKey, Record, RecordHead, RecordKind, Shard, ShardConfig,
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
    let handled = b.adopt(&sent);
    let Handled::Journal {
        record,
        upto,
        refusals,
        duplicates,
    } = handled
    else {
        panic!("not adopted")
    };
    assert_eq!(as_if_sent(&record), sent);
    assert_eq!((upto, refusals.len(), duplicates), (seq(2), 0, 0));
    assert_eq!(net(&mut b), 251);
    assert_eq!(b.adopt(&sent), Handled::Known { upto: seq(2) });
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
    } = b.adopt(&all)
    else {
        panic!("not adopted")
    };
    assert_eq!((record.head.skip, duplicates), (2, 2));
    record_of(b.adopt(&more));
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
    assert_eq!(b.adopt(&overlaps), Handled::Gap { expected: seq(1) });
    assert_eq!(b.state(), before);
}

#[test]
fn a_life_that_is_over_goes_on_where_it_was_and_stays_over() {
    let mut a = World::new();
    let first = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let second = record_of(a.send(1, 1, sales(2, &[sale(10)])));
    let mut b = fresh();
    record_of(b.adopt(&first));
    record_of(b.send(1, 2, sales(1, &[sale(100)])));
    record_of(b.adopt(&second));
    assert_eq!(b.adopt(&second), Handled::Known { upto: seq(2) });
    assert_eq!(net(&mut b), 111);
    assert_eq!(b.send(1, 1, sales(3, &[sale(5)])), Handled::Closed);
    let row = &b.state().terminals[&terminal(1).to_u64()];
    let lives: Vec<_> = row.epochs.iter().map(|e| (e.epoch, e.next_seq)).collect();
    assert_eq!(lives, [(1, 3), (2, 2)]);
    b.check_replay();
}

#[test]
fn a_life_that_is_forgotten_is_not_begun_again() {
    let mut a = World::new();
    let old = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = fresh();
    for life in 2..=u32::try_from(crate::EPOCHS_MAX + 1).unwrap() {
        record_of(b.send(1, life, sales(1, &[sale(1)])));
    }
    assert_eq!(b.adopt(&old), Handled::Closed);
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
    } = b.adopt(&refused)
    else {
        panic!("not adopted")
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
    let unreadable =
        a.shard
            .handle_unreadable(now, session(1, 1), seq(1), 3, Reason::Unreadable, &a.rows);
    let tombstones = record_of(unreadable.unwrap());
    let with_id = |amount| super::world::Basket {
        id: Some(9),
        ..sale(amount)
    };
    let first = record_of(a.send(2, 1, sales(1, &[with_id(7)])));
    let again = record_of(a.send(1, 1, sales(4, &[with_id(7)])));
    assert_eq!(again.head.kind, RecordKind::Duplicates);
    let mut b = fresh();
    record_of(b.adopt(&first));
    let Handled::Journal { refusals, .. } = b.adopt(&tombstones) else {
        panic!("not adopted")
    };
    assert_eq!(refusals.len(), 3);
    assert_eq!(b.adopt(&tombstones), Handled::Known { upto: seq(3) });
    record_of(b.adopt(&again));
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
    } = b.adopt(&sent)
    else {
        panic!("not adopted")
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
        .handle_batch(now, suspect, &batch, &a.rows, &a.names)
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
    assert_eq!(as_if_sent(&record_of(b.adopt(&sent))), sent);
}

#[test]
fn what_was_set_aside_for_a_name_stays_aside_until_its_retry() {
    let sku = sku_of("apple");
    let mut a = World::new();
    a.names
        .0
        .lock()
        .unwrap()
        .insert((false, sku), "another name of this id".to_owned());
    let mut named = basket(NOW, &[(sku, 30)]);
    named.codes = vec![(0, "apple")];
    let aside = record_of(a.send(1, 1, sales(1, &[named])));
    assert_eq!(
        aside.verdict(0).unwrap().reason,
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
        .retry(later, key, &aside, &a.rows, &a.names)
        .unwrap();
    let mut b = fresh();
    assert_eq!(b.adopt(&retried), Handled::Known { upto: seq(1) });
    record_of(b.adopt(&aside));
    assert_eq!((net(&mut b), b.state().quarantine.len()), (0, 1));
    assert_eq!(record_of(b.adopt(&retried)), retried);
    assert_eq!((net(&mut b), b.state().quarantine.len()), (30, 0));
    assert_eq!(b.adopt(&retried), Handled::Known { upto: seq(1) });
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
    record_of(b.adopt(&parked));
    record_of(b.adopt(&even));
    assert_eq!(b.state().without_adoption(), a.state());
    let waiting: Vec<QuarantineKey> = a.rows.quarantine.keys().copied().collect();
    assert_eq!(waiting.len(), 2);
    let later = Timestamp::from_us(NOW + MINUTE);
    for key in waiting {
        let original = if key.seq == 3 { &even } else { &parked };
        let retried = a.shard.retry(later, key, original, &a.rows, &a.names);
        let retried = retried.unwrap();
        assert_eq!(record_of(b.adopt(&retried)), retried);
        assert_eq!(
            b.adopt(&retried),
            Handled::Known {
                upto: seq(if key.seq == 3 { 3 } else { 2 })
            }
        );
        a.keep_record(retried);
        assert_eq!(b.state().without_adoption(), a.state());
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
        b.adopt(&Record {
            ..registered.clone()
        }),
        Handled::Journal { .. }
    ));
    assert_eq!(b.adopt(&registered), Handled::Known { upto: seq(1) });
    let otherwise = Record {
        payload: crate::Registration::new(978, "Europe/Paris")
            .unwrap()
            .encode()
            .into(),
        ..registered
    };
    let error = b
        .shard
        .adopt(&otherwise, &[], &b.rows, &b.names)
        .unwrap_err();
    assert!(error.to_string().contains("currency"), "{error}");
    record_of(b.send(1, 1, sales(1, &[sale(3)])));
    b.check_replay();
}

#[test]
fn a_store_that_nobody_registered_takes_nothing() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = World::new();
    b.shard = Shard::new(ShardConfig::default());
    assert_eq!(b.adopt(&sent), Handled::Unregistered);
}

#[test]
fn rows_that_cannot_be_read_and_records_that_cannot_be_change_nothing() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = fresh();
    let mut cold = Shard::new(ShardConfig::default());
    assert!(cold.adopt(&sent, &[], &Broken, &b.names).is_err());
    let before = b.state();
    let mut odd = sent.clone();
    odd.head.first_seq = 0;
    assert!(b.shard.adopt(&odd, &[], &b.rows, &b.names).is_err());
    let mut cut = sent.clone();
    cut.payload = cut.payload.slice(..cut.payload.len() / 2);
    assert!(b.shard.adopt(&cut, &[], &b.rows, &b.names).is_err());
    let mut empty = sent;
    empty.head.skip = empty.head.count;
    assert!(b.shard.adopt(&empty, &[], &b.rows, &b.names).is_err());
    assert_eq!(b.state(), before);
}

#[test]
fn events_without_a_place_in_their_life_are_numbered_anew() {
    let mut a = World::new();
    record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let other = record_of(a.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let later = record_of(a.send(1, 1, sales(4, &[sale(1_000)])));
    assert_eq!(other.head.skip, 1);
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(2), sale(3), sale(4)])));
    // What it skipped was known where it comes from, and what is elsewhere is known here.
    let Handled::Journal {
        record, duplicates, ..
    } = b.adopt_aside(&other, None, &[1])
    else {
        panic!("not adopted")
    };
    let head = record.head;
    assert_eq!((head.epoch, head.first_seq, head.skip), (2, 1, 0));
    let life = Epoch::new(2).unwrap();
    assert_eq!(record.head.received_at_us, other.head.received_at_us);
    assert_eq!(duplicates, 2);
    assert_eq!(net(&mut b), 110);
    let next = record_of(b.adopt_aside(&later, Some(life), &[])).head;
    assert_eq!((next.epoch, next.first_seq), (2, 4));
    assert_eq!(net(&mut b), 1_110);
    b.check_replay();
    // Their device sends them in another life: they are known by what they say.
    record_of(b.send(1, 3, sales(1, &[sale(100), sale(1_000), sale(5)])));
    assert_eq!(net(&mut b), 1_115);
    b.check_replay();
}

#[test]
fn a_life_aside_is_nobody_elses() {
    let mut a = World::new();
    let sent = record_of(a.send(1, 1, sales(1, &[sale(1)])));
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(2)])));
    assert_eq!(record_of(b.adopt_aside(&sent, None, &[])).head.epoch, 2);
    // Nothing is left of it: no life is taken for that.
    let known = Handled::Known { upto: seq(1) };
    assert_eq!(b.adopt_aside(&sent, None, &[0]), known);
    // A life that the terminal does not remember is not gone on with: it may have been granted since.
    let other = record_of(World::new().send(1, 1, sales(1, &[sale(3)])));
    let forgotten = Epoch::new(9).unwrap();
    let another = record_of(b.adopt_aside(&other, Some(forgotten), &[]));
    assert_eq!(another.head.epoch, 3);
    let hello = Hello {
        terminal: terminal(1),
        epoch: 0,
        clock: DeviceTime::from_us(NOW),
        currency: 0,
        zone: "",
    };
    let greeting = b.shard.hello(Timestamp::from_us(NOW), &hello, &b.rows);
    assert_eq!(greeting.unwrap().epoch.get(), 4);
    // What says nothing needs no place.
    let kind = RecordKind::Duplicates;
    let silent = Record {
        head: RecordHead { kind, ..sent.head },
        ..sent
    };
    assert_eq!(b.adopt_aside(&silent, None, &[]), known);
}

/// A refused event that a frame had again, in front of new ones: its refusal is in another record.
#[test]
fn what_was_refused_before_a_record_that_went_aside_stays_refused() {
    let mut a = World::new();
    let good = || basket(NOW + 1, &[(1, 1_000)]);
    let refused = a.send(1, 1, beyond_time(&sales(1, &[good()])));
    let Handled::Journal { refusals, .. } = &refused else {
        panic!()
    };
    assert_eq!(refusals.len(), 1);
    let sent = record_of(a.send(1, 1, beyond_time(&sales(1, &[good(), sale(10)]))));
    assert_eq!(sent.head.skip, 1);
    let mut b = fresh();
    record_of(b.send(1, 1, sales(1, &[sale(1), sale(2)])));
    let aside = record_of(b.adopt_aside(&sent, None, &[]));
    assert_eq!(net(&mut b), 13);
    // That engine dies before a commit, and hands over what it has.
    let mut c = fresh();
    record_of(c.send(1, 1, sales(1, &[sale(1), sale(2)])));
    record_of(c.adopt(&aside));
    assert_eq!(net(&mut c), 13);
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
