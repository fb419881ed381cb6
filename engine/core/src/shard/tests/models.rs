//! What tills mean, worked out again from what they sent, by rules that share nothing with the shard.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::kind as sale_kind;
use till_protocol::family::stock::v1::kind;
use till_protocol::id::Seq;
use till_protocol::time::{DeviceTime, Timestamp};

use super::world::{
    Basket, NOW, ONE, World, basket, line, movement, record_of, sales, stock, terminal,
};
use crate::{Handled, Hello};

/// Events that took effect: till, life, sequence number.
type Done = BTreeSet<(u32, u32, u64)>;

#[derive(Clone, Debug)]
enum ModelStep {
    Send(u32, u32, u64, u64),
    Ask(u32, u32),
    Take,
    Write,
    Leave,
    Restart,
}

fn a_step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        12 => (1_u32..4, 1_u32..5, 1_u64..9, 1_u64..6).prop_map(|(till, till_epoch, first, count)| ModelStep::Send(till, till_epoch, first, count)),
        3 => (1_u32..4, 1_u32..5).prop_map(|(till, till_epoch)| ModelStep::Ask(till, till_epoch)),
        1 => Just(ModelStep::Take),
        1 => Just(ModelStep::Write),
        1 => Just(ModelStep::Leave),
        1 => Just(ModelStep::Restart),
    ]
}

// An event has the same amount whenever it is sent.
fn amount((till, till_epoch, seq): (u32, u32, u64)) -> i64 {
    let seq = i64::try_from(seq).unwrap();
    i64::from(till) * 10_000 + i64::from(till_epoch) * 1_000 + seq
}

fn newest_epoch(done: &Done, till: u32) -> u32 {
    let epochs = done.iter().filter(|(who, ..)| *who == till);
    epochs
        .map(|(_, till_epoch, _)| *till_epoch)
        .max()
        .unwrap_or(0)
}

fn expected(done: &Done, till: u32, till_epoch: u32) -> u64 {
    (1..)
        .find(|seq| !done.contains(&(till, till_epoch, *seq)))
        .unwrap()
}

fn send(
    world: &mut World,
    done: &mut Done,
    (till, till_epoch): (u32, u32),
    first: u64,
    count: u64,
) {
    let events = first..first + count;
    let baskets: Vec<Basket> = events
        .clone()
        .map(|seq| basket(NOW, &[(1, amount((till, till_epoch, seq)))]))
        .collect();
    let handled = world.send(till, till_epoch, sales(first, &baskets));
    let next = expected(done, till, till_epoch);
    let (upto, next_seq) = (Seq::new(first + count - 1), Seq::new(next).unwrap());
    if till_epoch < newest_epoch(done, till) {
        assert_eq!(handled, Handled::Closed);
    } else if next < first {
        assert_eq!(handled, Handled::Gap { expected: next_seq });
    } else if events.end <= next {
        assert_eq!(
            handled,
            Handled::Known {
                upto: upto.unwrap()
            }
        );
    } else {
        let record = record_of(handled);
        assert_eq!(u64::from(record.head.skip), next - first);
        assert_eq!(
            (record.head.first_seq, record.head.epoch),
            (first, till_epoch)
        );
        done.extend(events.map(|seq| (till, till_epoch, seq)));
    }
}

fn ask(world: &mut World, done: &Done, till: u32, till_epoch: u32) {
    let hello = Hello {
        terminal: terminal(till),
        epoch: till_epoch,
        clock: DeviceTime::from_us(NOW),
        currency: 0,
        zone: "",
    };
    let now = Timestamp::from_us(NOW);
    let handshake_state = world.shard.hello(now, &hello, &world.rows).unwrap();
    let newest = newest_epoch(done, till);
    assert_eq!(handshake_state.next_seq, expected(done, till, till_epoch));
    assert_eq!(handshake_state.latest_epoch, newest);
    assert_eq!(handshake_state.is_closed, till_epoch < newest);
}

fn check_windows(world: &mut World, done: &Done) {
    let state = world.state();
    for till in 1..4 {
        let mine = done.iter().filter(|(who, ..)| *who == till);
        let (mut events, mut net) = (0, 0);
        for event in mine {
            events += 1;
            net += i128::from(amount(*event));
        }
        let row = state.terminals.get(&terminal(till).to_u64());
        let found = row.map_or((0, 0), |row| (row.applied, row.totals.net));
        assert_eq!(found, (events, net), "till {till}");
    }
    assert!(world.shard.counters().adds_up());
    assert!(world.shard.violations().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_takes_what_a_set_of_all_events_would_take(steps in vec(a_step(), 1..60)) {
        let mut world = World::new();
        let mut done = Done::new();
        for step in steps {
            match step {
                ModelStep::Send(till, till_epoch, first, count) => {
                    send(&mut world, &mut done, (till, till_epoch), first, count);
                }
                ModelStep::Ask(till, till_epoch) => ask(&mut world, &done, till, till_epoch),
                ModelStep::Take => world.take(),
                ModelStep::Write => world.write(),
                ModelStep::Leave => world.leave(),
                ModelStep::Restart => world = World::replay(&world.journal),
            }
        }
        check_windows(&mut world, &done);
    }
}

/// What happens to a SKU: when, which SKU, and what.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// Goods move by so many pieces, by a stock event of this kind.
    Move(u8, i64),
    /// So many chunks are sold, or come back; on the line with this number.
    Sell(usize, i64),
    Count(i64),
    /// More pieces are reserved, or fewer.
    Reserve(i64),
}

#[derive(Clone, Copy, Debug)]
struct StockDeed {
    till: u32,
    second: i64,
    sku: u64,
    deed: Deed,
}

fn an_event() -> impl Strategy<Value = StockDeed> {
    let moves = [
        kind::RECEIVED,
        kind::TRANSFER_IN,
        kind::ADJUSTED,
        kind::TRANSFER_OUT,
        kind::WASTE,
    ];
    let deed = prop_oneof![
        4 => (prop::sample::select(moves.to_vec()), 1_i64..20).prop_map(|(kind, n)| Deed::Move(kind, n)),
        3 => (0_usize..3, prop_oneof![-3_i64..0, 1_i64..4]).prop_map(|(line, n)| Deed::Sell(line, n)),
        3 => (0_i64..30).prop_map(Deed::Count),
        1 => prop_oneof![-5_i64..0, 1_i64..6].prop_map(Deed::Reserve),
    ];
    (1_u32..4, 0_i64..6, 1_u64..3, deed).prop_map(|(till, second, sku, deed)| StockDeed {
        till,
        second,
        sku,
        deed,
    })
}

fn at(event: &StockDeed) -> i64 {
    NOW + event.second * 1_000_000
}

fn frame_of(event: &StockDeed, seq: u64) -> Frame {
    let quantity =
        |kind, pieces: i64| stock(seq, &[movement(kind, event.sku, pieces * ONE, at(event))]);
    match event.deed {
        Deed::Move(kind, pieces) => quantity(kind, pieces),
        Deed::Count(pieces) => quantity(kind::COUNTED, pieces),
        Deed::Reserve(pieces) if pieces < 0 => quantity(kind::RELEASED, -pieces),
        Deed::Reserve(pieces) => quantity(kind::RESERVED, pieces),
        Deed::Sell(before, pieces) => {
            // Lines before it are of a SKU that nobody asks for.
            let mut lines = vec![line(9, ONE, 0); before];
            lines.push(line(event.sku, pieces * ONE, pieces * 10));
            let sale = Basket {
                at: at(event),
                kind: sale_kind::SALE,
                lines,
                ..Basket::default()
            };
            sales(seq, &[sale])
        }
    }
}

/// Level and reserved pieces of a SKU, from all of its events: the newest count, and what moved after it. Events of one time
/// stand in the order of their sequence numbers, then of their tills.
fn recount(events: &[(u64, StockDeed)], sku: u64) -> (i64, i64) {
    let mut mine: Vec<&(u64, StockDeed)> = events
        .iter()
        .filter(|(_, event)| event.sku == sku)
        .collect();
    mine.sort_by_key(|(seq, event)| (event.second, *seq, event.till));
    let (mut level, mut reserved) = (0, 0);
    for (_, event) in mine {
        match event.deed {
            Deed::Move(kind::TRANSFER_OUT | kind::WASTE, pieces) | Deed::Sell(_, pieces) => {
                level -= pieces
            }
            Deed::Move(_, pieces) => level += pieces,
            Deed::Count(pieces) => level = pieces,
            Deed::Reserve(pieces) => reserved += pieces,
        }
    }
    (level * ONE, reserved * ONE)
}

// Each till sends its own events in its own order; how the tills take turns is what differs.
fn turns(events: &[StockDeed], order: &[u32]) -> Vec<(u64, StockDeed)> {
    let mut waiting: BTreeMap<u32, Vec<(u64, StockDeed)>> = BTreeMap::new();
    for event in events {
        let of_till = waiting.entry(event.till).or_default();
        let seq = u64::try_from(of_till.len()).unwrap() + 1;
        of_till.push((seq, *event));
    }
    let mut sent = Vec::new();
    for till in order.iter().copied().chain([1, 2, 3].repeat(events.len())) {
        if let Some(of_till) = waiting.get_mut(&till).filter(|of_till| !of_till.is_empty()) {
            sent.push(of_till.remove(0));
        }
    }
    sent
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_level_is_what_all_events_in_the_order_of_their_times_come_to(
        events in vec(an_event(), 1..40),
        orders in vec(vec(1_u32..4, 0..40), 2),
        flushed_every in 1_usize..12,
        actors_max in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        for order in &orders {
            let mut world = World::with_budget(actors_max);
            let sent = turns(&events, order);
            prop_assert_eq!(sent.len(), events.len());
            for (number, (seq, event)) in sent.iter().enumerate() {
                let handled = world.send(event.till, 1, frame_of(event, *seq));
                prop_assert!(record_of(handled).verdicts.iter().all(|verdict| verdict.reason == 0));
                if number % flushed_every == 0 {
                    let level = world.level(event.sku);
                    prop_assert_eq!(level, recount(&sent[..=number], event.sku).0);
                }
            }
            let state = world.state();
            for sku in [1, 2] {
                let row = state.skus.get(&(1, sku)).copied().unwrap_or_default();
                let level = row.counted.map_or(0, |(_, quantity)| quantity) + row.moved;
                prop_assert_eq!((level, row.reserved), recount(&sent, sku), "SKU {}", sku);
            }
        }
    }
}
