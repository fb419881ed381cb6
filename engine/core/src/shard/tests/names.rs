//! Names: claimed with the record that holds them, and never without one.

use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::time::Timestamp;
use till_protocol::verified::Verified;

use super::memory::Broken;
use super::world::{Basket, NOW, ONE, World, basket, record_of, sales, session, sku_of};
use crate::{Names as _, Origin, Outcome, RecordKind, Space, flag};

/// A sale with an event id of lines that bring their codes.
fn coded(id: u8, codes: &[&'static str]) -> Basket {
    let skus: Vec<(u64, i64)> = codes.iter().map(|code| (sku_of(code), 100)).collect();
    Basket {
        id: Some(id),
        codes: (0..).zip(codes.iter().copied()).collect(),
        ..basket(NOW, &skus)
    }
}

// The id of a code has another name already.
fn take_id_of(world: &World, code: &str) {
    assert!(world.names.claim(Space::Sku, sku_of(code), "another"));
}

fn is_known(world: &World, code: &str) -> bool {
    world.names.known(Space::Sku, sku_of(code)).unwrap()
}

#[test]
fn a_name_that_a_failed_attempt_looked_up_reaches_the_journal_with_the_resend() {
    let mut world = World::new();
    let plain = Basket {
        codes: Vec::new(),
        ..coded(9, &["tea"])
    };
    record_of(world.send(1, 1, sales(1, &[plain])));
    world.flush();
    // The same event by its id, under another number: all that is new of it is the name.
    let frame = sales(1, &[coded(9, &["tea"])]);
    let batch = Verified::check(frame.clone(), &ScreenKey::new([7; 32])).unwrap();
    record_of(world.send(2, 2, sales(1, &[basket(NOW, &[(1, 100)])])));
    world.flush();
    let origin = Origin::batch(Timestamp::from_us(NOW), session(2, 3), &batch);
    let failed = world.shard.handle(origin, &Broken, &world.names);
    assert!(failed.is_err());
    assert!(!is_known(&world, "tea"), "nothing was claimed");
    let record = record_of(world.send(2, 3, frame));
    assert_eq!(record.head.kind, RecordKind::Batch);
    assert_eq!(record.outcome(0).unwrap().0, Outcome::Duplicate);
    assert!(is_known(&world, "tea"));
    let names = World::replay(&world.journal).state().names;
    assert_eq!(names[&(false, sku_of("tea"))], "tea");
    world.check_replay();
}

#[test]
fn names_that_an_event_in_quarantine_brings_are_not_claimed() {
    let mut world = World::new();
    take_id_of(&world, "milk");
    let record = record_of(world.send(1, 1, sales(1, &[coded(9, &["tea", "milk"])])));
    let verdict = record.verdict(0).unwrap();
    assert_eq!(verdict.reason, Reason::SkuCollision.code());
    assert!(!is_known(&world, "tea"));
    // Who brings it alone names it.
    let record = record_of(world.send(1, 1, sales(2, &[coded(10, &["tea"])])));
    assert!(record.verdicts.is_empty(), "{:?}", record.verdicts);
    let state = world.state();
    assert_eq!(state.names.len(), 1);
    assert_eq!(state.names[&(false, sku_of("tea"))], "tea");
    world.check_replay();
}

#[test]
fn an_event_that_brings_the_name_of_an_id_that_has_another_waits_also_where_no_line_uses_it() {
    let mut world = World::new();
    take_id_of(&world, "milk");
    let mut sale = coded(9, &["tea"]);
    sale.codes = vec![(0, "milk")];
    let record = record_of(world.send(1, 1, sales(1, &[sale])));
    assert_eq!(record.outcome(0).unwrap().0, Outcome::Quarantined);
    assert!(world.state().names.is_empty());
    world.check_replay();
}

#[test]
fn a_collision_is_remembered_with_the_record_and_not_by_a_failed_attempt() {
    let mut world = World::new();
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 100)])])));
    world.flush();
    take_id_of(&world, "milk");
    let frame = sales(2, &[coded(9, &["milk"])]);
    let batch = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
    let uses = |seq| sales(seq, &[basket(NOW, &[(sku_of("milk"), ONE)])]);
    let origin = Origin::batch(Timestamp::from_us(NOW), session(1, 1), &batch);
    let failed = world.shard.handle(origin, &Broken, &world.names);
    assert!(failed.is_err());
    let record = record_of(world.send(1, 1, uses(2)));
    assert!(record.verdicts.is_empty(), "{:?}", record.verdicts);
    let frame = sales(3, &[coded(9, &["milk"])]);
    record_of(world.send(1, 1, frame));
    let record = record_of(world.send(1, 1, uses(4)));
    let (outcome, flags) = record.outcome(0).unwrap();
    assert_eq!(
        (outcome, flags & flag::UNNAMED_SKU),
        (Outcome::Quarantined, 0)
    );
    world.check_replay();
}
