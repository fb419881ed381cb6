use till_protocol::family::sale::v1::{Tender, kind as sale_kind, line_flag, line_kind, tender};
use till_protocol::family::stock::v1::kind;
use till_protocol::time::Timestamp;

use super::world::{
    Basket, HOUR, MINUTE, NOW, ONE, World, basket, line, movement, record_of, sales, stock,
    terminal,
};
use crate::{Dim, QuarantineKey, RollupRow, ShardConfig, flag};

fn received(sku: u64, pieces: i64, at: i64) -> till_protocol::family::stock::v1::Move {
    movement(kind::RECEIVED, sku, pieces * ONE, at)
}

fn counted(sku: u64, pieces: i64, at: i64) -> till_protocol::family::stock::v1::Move {
    movement(kind::COUNTED, sku, pieces * ONE, at)
}

fn rows(world: &mut World, dim: Dim) -> Vec<(u64, RollupRow)> {
    let state = world.state();
    state
        .rollups
        .iter()
        .filter(|(k, _)| k.dim == dim)
        .map(|(k, r)| (k.key, *r))
        .collect()
}

#[test]
fn a_level_is_the_last_count_and_what_moved_since() {
    let mut world = World::new();
    let moves = [
        received(1, 10, NOW),
        counted(1, 8, NOW + MINUTE),
        movement(kind::WASTE, 1, ONE, NOW + 2 * MINUTE),
    ];
    record_of(world.send(1, 1, stock(1, &moves)));
    record_of(world.send(2, 1, sales(1, &[basket(NOW + 3 * MINUTE, &[(1, 100)])])));
    assert_eq!(world.level(1), 6 * ONE);
    world.check_replay();
}

#[test]
fn a_count_that_arrives_late_keeps_what_moved_after_it() {
    let mut world = World::new();
    record_of(world.send(
        1,
        1,
        stock(1, &[received(1, 10, NOW), received(1, 5, NOW + HOUR)]),
    ));
    record_of(world.send(2, 1, stock(1, &[counted(1, 7, NOW + MINUTE)])));
    assert_eq!(world.level(1), 12 * ONE);
    world.check_replay();
}

#[test]
fn a_late_count_is_computed_from_memory_while_that_reaches_back_to_it() {
    for (recent_bytes, from_facts) in [(1 << 20, 0), (0, 1)] {
        let mut world = World::with(ShardConfig {
            recent_bytes,
            ..ShardConfig::default()
        });
        let moves = [received(1, 10, NOW), received(1, 5, NOW + MINUTE)];
        record_of(world.send(1, 1, stock(1, &moves)));
        record_of(world.send(2, 1, stock(1, &[counted(1, 7, NOW + 1)])));
        assert_eq!(world.level(1), 12 * ONE);
        assert_eq!(world.shard.counters().counts_from_facts, from_facts);
        world.check_replay();
    }
}

#[test]
fn late_counts_of_a_batch_are_asked_of_the_facts_in_one_pass() {
    let mut world = World::with(ShardConfig {
        recent_bytes: 0,
        ..ShardConfig::default()
    });
    let inventory = 1..=60_u64;
    let moves: Vec<_> = inventory
        .clone()
        .flat_map(|sku| [received(sku, 10, NOW), received(sku, 5, NOW + HOUR)])
        .collect();
    record_of(world.send(1, 1, stock(1, &moves)));
    let mut counts: Vec<_> = inventory
        .clone()
        .map(|sku| counted(sku, 7, NOW + MINUTE))
        .collect();
    // A second one of a SKU, later than the first, and one that is not late.
    counts.push(counted(60, 9, NOW + 2 * MINUTE));
    counts.push(counted(59, 1, NOW + 2 * HOUR));
    record_of(world.send(2, 1, stock(1, &counts)));
    assert_eq!(world.rows.passes.get(), 1);
    assert_eq!(world.shard.counters().counts_from_facts, 61);
    for sku in inventory {
        let pieces = match sku {
            60 => 14,
            59 => 1,
            _ => 12,
        };
        assert_eq!(world.level(sku), pieces * ONE, "SKU {sku}");
    }
    world.check_replay();
}

#[test]
fn a_late_count_knows_what_waits_for_a_parked_sku() {
    let mut world = World::new();
    let huge = |sign: i64, at| movement(kind::ADJUSTED, 1, sign * (i64::MAX - 1), at);
    let moves = [
        received(1, 3, NOW),
        huge(1, NOW + MINUTE),
        huge(-1, NOW + 3 * MINUTE),
    ];
    let parked = record_of(world.send(1, 1, stock(1, &moves)));
    assert!(world.shard.counters().movements_waiting == 2);
    let key = QuarantineKey {
        terminal: terminal(1).to_u64(),
        epoch: 1,
        seq: 2,
        line: 0,
    };
    let now = Timestamp::from_us(NOW + HOUR);
    let retried = world
        .shard
        .retry(now, key, &parked, &world.rows, &world.names);
    world.keep_record(retried.unwrap());
    assert_eq!(world.level(1), 3 * ONE);
    record_of(world.send(2, 1, stock(1, &[counted(1, 7, NOW + 2 * MINUTE)])));
    assert_eq!(world.level(1), 7 * ONE - (i64::MAX - 1));
    assert_eq!(world.shard.counters().counts_from_facts, 0);
    world.check_replay();
}

#[test]
fn a_late_count_sees_earlier_events_of_its_own_batch() {
    let mut world = World::new();
    record_of(world.send(1, 1, stock(1, &[received(1, 10, NOW)])));
    let moves = [
        received(1, 5, NOW + HOUR),
        counted(1, 7, NOW + MINUTE),
        received(1, 1, NOW),
    ];
    record_of(world.send(1, 1, stock(2, &moves)));
    assert_eq!(world.level(1), 12 * ONE);
    world.check_replay();
}

#[test]
fn a_movement_before_the_count_changes_no_level() {
    let mut world = World::new();
    record_of(world.send(1, 1, stock(1, &[counted(1, 7, NOW)])));
    record_of(world.send(2, 1, sales(1, &[basket(NOW - MINUTE, &[(1, 100)])])));
    assert_eq!(world.level(1), 7 * ONE);
    world.check_replay();
}

#[test]
fn an_older_count_changes_no_level() {
    let mut world = World::new();
    record_of(world.send(1, 1, stock(1, &[counted(1, 7, NOW)])));
    record_of(world.send(2, 1, stock(1, &[counted(1, 3, NOW - HOUR)])));
    assert_eq!(world.level(1), 7 * ONE);
}

#[test]
fn a_negative_level_is_flagged_and_never_refused() {
    let mut world = World::new();
    record_of(world.send(1, 1, sales(1, &[basket(NOW, &[(1, 100)])])));
    assert_eq!(world.level(1), -ONE);
    assert_ne!(world.rows.skus[&(1, 1)].flags & flag::sku::NEGATIVE, 0);
    record_of(world.send(1, 1, stock(2, &[received(1, 1, NOW)])));
    assert_eq!(world.level(1), 0);
    assert_eq!(world.rows.skus[&(1, 1)].flags & flag::sku::NEGATIVE, 0);
}

#[test]
fn void_sales_void_lines_and_services_move_no_stock() {
    let mut world = World::new();
    let mut void = basket(NOW, &[(1, 100)]);
    void.kind = sale_kind::VOID;
    let mut struck = basket(NOW, &[(1, 100), (2, 50)]);
    struck.lines[0].kind = line_kind::VOID;
    struck.lines[1].flags = line_flag::NO_STOCK;
    record_of(world.send(1, 1, sales(1, &[void, struck])));
    let state = world.state();
    assert!(!state.skus.values().any(|row| row.moved != 0));
    let store = rows(&mut world, Dim::Store);
    let totals = store[0].1.totals;
    assert_eq!(
        (store.len(), totals.transactions, totals.lines, totals.net),
        (1, 1, 1, 50)
    );
    world.check_replay();
}

#[test]
fn a_return_is_negative_and_brings_the_skus_back() {
    let mut world = World::new();
    let back = Basket {
        at: NOW,
        kind: sale_kind::RETURN,
        lines: vec![line(1, -2 * ONE, -300)],
        tenders: vec![Tender {
            amount: -300,
            kind: tender::CASH,
            flags: 0,
        }],
        ..Basket::default()
    };
    record_of(world.send(1, 1, sales(1, &[back])));
    assert_eq!(world.level(1), 2 * ONE);
    let row = rows(&mut world, Dim::Store)[0].1;
    assert_eq!((row.totals.net, row.returns_net), (-300, -300));
}

#[test]
fn split_tenders_share_a_sale_to_the_last_cent() {
    let mut world = World::new();
    let mut split = basket(NOW, &[(1, 60), (3, 40)]);
    let part = |amount, kind| Tender {
        amount,
        kind,
        flags: 0,
    };
    split.tenders = vec![
        part(33, tender::CARD),
        part(34, tender::CASH),
        part(33, tender::CARD),
    ];
    record_of(world.send(1, 1, sales(1, &[split])));
    let found = rows(&mut world, Dim::Tender);
    let nets: Vec<_> = found
        .iter()
        .map(|(key, row)| {
            (
                *key,
                row.totals.net,
                row.totals.lines,
                row.totals.transactions,
            )
        })
        .collect();
    assert_eq!(nets, [(1, 34, 2, 1), (2, 66, 0, 1)]);
}

#[test]
fn a_sku_that_stands_on_two_lines_is_one_transaction() {
    let mut world = World::new();
    let few = basket(NOW, &[(1, 10), (2, 10), (1, 10)]);
    let many: Vec<(u64, i64)> = (0..20).map(|n| (n % 2 + 1, 10)).collect();
    record_of(world.send(1, 1, sales(1, &[few, basket(NOW, &many)])));
    let found = rows(&mut world, Dim::Sku);
    let counts: Vec<_> = found
        .iter()
        .map(|(key, row)| (*key, row.totals.transactions, row.totals.lines))
        .collect();
    assert_eq!(counts, [(1, 2, 12), (2, 2, 11)]);
}
