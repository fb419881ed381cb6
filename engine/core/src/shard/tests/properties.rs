use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Tender, flag as sale_flag, kind as sale_kind};
use till_protocol::family::stock::v1::{Move, kind};

use super::memory::Memory;
use super::world::{Basket, HOUR, NOW, ONE, World, line, movement, sales, sku_of, stock, terminal};
use crate::{Dim, Names as _, RollupRow, ShardConfig, Space, Totals};

#[derive(Clone, Debug)]
pub(super) enum Step {
    Sales {
        till: u32,
        age: u32,
        back: u64,
        baskets: Vec<Basket>,
    },
    Stock {
        till: u32,
        age: u32,
        back: u64,
        moves: Vec<Move>,
    },
    Take,
    Write,
}

fn a_line() -> impl Strategy<Value = till_protocol::family::sale::v1::Line> {
    (1_u64..5, -2_i64..4, 0_i64..500)
        .prop_map(|(sku, pieces, price)| line(sku, pieces * ONE, pieces.signum() * price))
}

/// Codes of SKUs. The id of the first has another name.
const CODES: [&str; 3] = ["cola", "milk", "tea"];

// A basket in which some lines are of a SKU with a code, which they bring or not.
fn a_basket() -> impl Strategy<Value = Basket> {
    let coded = vec((0_u16..6, 0_usize..3, any::<bool>()), 0..3);
    (
        a_plain_basket(),
        prop_oneof![2 => Just(Vec::new()), 1 => coded],
    )
        .prop_map(|(mut basket, coded)| {
            for (number, code, is_brought) in coded {
                if let Some(line) = basket.lines.get_mut(usize::from(number)) {
                    line.sku = sku_of(CODES[code]);
                    let is_first = basket.codes.iter().all(|(other, _)| *other != number);
                    if is_brought && is_first {
                        basket.codes.push((number, CODES[code]));
                    }
                }
            }
            basket.codes.sort_unstable();
            basket
        })
}

fn a_plain_basket() -> impl Strategy<Value = Basket> {
    let money = (
        vec((0_u8..3, -50_i64..300), 0..4),
        prop::option::weighted(0.3, 0_u8..6),
    );
    (0_i64..6, 0_u8..12, vec(a_line(), 0..6), money).prop_map(|(hour, odd, lines, (paid, id))| {
        let tenders = paid
            .into_iter()
            .map(|(kind, amount)| Tender {
                amount,
                kind,
                flags: 0,
            })
            .collect();
        Basket {
            at: NOW + hour * HOUR / 2,
            kind: if odd == 0 {
                sale_kind::VOID
            } else {
                sale_kind::SALE
            },
            flags: if odd == 1 { sale_flag::TRAINING } else { 0 },
            day: if odd == 2 { 20_500 } else { 0 },
            lines,
            tenders,
            id,
            codes: Vec::new(),
        }
    })
}

fn a_move() -> impl Strategy<Value = Move> {
    (1_u8..=kind::MAX, 1_u64..5, 0_i64..20, 0_i64..6).prop_map(|(kind, sku, pieces, hour)| {
        movement(kind, sku, pieces * ONE, NOW + hour * HOUR / 2)
    })
}

pub(super) fn a_step() -> impl Strategy<Value = Step> {
    let whom = || (1_u32..4, 0_u32..30, 0_u64..5);
    prop_oneof![
        5 => (whom(), vec(a_basket(), 1..5)).prop_map(|((till, age, back), baskets)| {
            Step::Sales { till, age, back, baskets }
        }),
        5 => (whom(), vec(a_move(), 1..6)).prop_map(|((till, age, back), moves)| {
            Step::Stock { till, age, back, moves }
        }),
        3 => Just(Step::Take),
        3 => Just(Step::Write),
    ]
}

// Movements and counts of two SKUs, seconds apart: most counts are late, many at the very time of a movement.
pub(super) fn a_step_of_stock() -> impl Strategy<Value = Step> {
    let kinds = prop_oneof![
        3 => Just(kind::RECEIVED),
        2 => Just(kind::WASTE),
        3 => Just(kind::COUNTED),
    ];
    let a_move = (kinds, 1_u64..3, 1_i64..20, 0_i64..8).prop_map(|(kind, sku, pieces, second)| {
        movement(kind, sku, pieces * ONE, NOW + second * 1_000_000)
    });
    let stock =
        (1_u32..4, 0_u32..30, vec(a_move, 1..6)).prop_map(|(till, age, moves)| Step::Stock {
            till,
            age,
            back: 0,
            moves,
        });
    prop_oneof![8 => stock, 1 => Just(Step::Take), 1 => Just(Step::Write)]
}

/// What happens to a world.
pub(super) enum Act {
    /// A till sends, in one of its lives.
    Frame(u32, u32, Frame),
    Take,
    Write,
}

/// The steps as tills would send them: mostly the next frame, at times one that overlaps, has a gap or a new epoch.
pub(super) fn acts(steps: &[Step]) -> Vec<Act> {
    let mut epochs: BTreeMap<u32, (u32, u64)> = BTreeMap::new();
    let mut acts = Vec::new();
    for step in steps {
        let (till, age, back) = match step {
            Step::Take => {
                acts.push(Act::Take);
                continue;
            }
            Step::Write => {
                acts.push(Act::Write);
                continue;
            }
            Step::Sales {
                till, age, back, ..
            }
            | Step::Stock {
                till, age, back, ..
            } => (*till, *age, *back),
        };
        let (epoch, next) = epochs.entry(till).or_insert((1, 1));
        if age == 0 {
            (*epoch, *next) = (*epoch + 1, 1);
        }
        // 0 to 2: next; 3: overlaps by two; 4: a gap of one.
        let first = match back {
            3 => next.saturating_sub(2).max(1),
            4 => *next + 1,
            _ => *next,
        };
        let frame = match step {
            Step::Sales { baskets, .. } => sales(first, baskets),
            Step::Stock { moves, .. } => stock(first, moves),
            Step::Take | Step::Write => continue,
        };
        let end = first + u64::from(frame.header.count);
        if back != 4 {
            *next = end.max(*next);
        }
        acts.push(Act::Frame(till, *epoch, frame));
    }
    acts
}

pub(super) fn drive(world: &mut World, steps: &[Step]) {
    take_id(world);
    for act in acts(steps) {
        match act {
            Act::Frame(till, epoch, frame) => drop(world.send(till, epoch, frame)),
            Act::Take => world.take(),
            Act::Write => world.write(),
        }
    }
}

/// The id of one of the codes has another name, of which no record is here.
pub(super) fn take_id(world: &World) {
    let [taken, ..] = CODES;
    assert!(world.names.claim(Space::Sku, sku_of(taken), "another"));
}

// What is claimed stands in a record, and what collides in none.
fn check_names(world: &World, state: &Memory) {
    let mut claimed = world.names.0.lock().unwrap().clone();
    let [taken, ..] = CODES;
    claimed.remove(&(false, sku_of(taken)));
    assert_eq!(state.names, claimed);
}

fn check_counts(world: &mut World, state: &Memory) {
    let counters = world.shard.counters();
    assert!(counters.adds_up(), "{counters:?}");
    for till in 1..4 {
        let Some(row) = state.terminals.get(&terminal(till).to_u64()) else {
            continue;
        };
        let known: u64 = row
            .epochs
            .iter()
            .map(|progress| progress.next_seq - 1)
            .sum();
        assert_eq!(
            known,
            row.applied + row.duplicates + row.refused + row.quarantined
        );
    }
    assert!(world.shard.violations().is_empty());
}

fn check_money(state: &Memory) {
    let sum = |dim| {
        let mut sum = RollupRow::default();
        state
            .rollups
            .iter()
            .filter(|(key, _)| key.dim == dim)
            .for_each(|(_, row)| sum.add(row));
        Totals {
            transactions: 0,
            ..sum.totals
        }
    };
    let store = sum(Dim::Store);
    for dim in [Dim::Sku, Dim::Category, Dim::Tender, Dim::Operator] {
        assert_eq!(sum(dim), store, "{dim:?}");
    }
    let terminals: i128 = state.terminals.values().map(|row| row.totals.net).sum();
    assert_eq!(terminals, store.net);
}

// Levels against the definition: the last count by key, and all movements after it.
fn check_stock(world: &World, state: &Memory) {
    for ((store, sku), row) in &state.skus {
        let (base, counted) = row.counted.unwrap_or_default();
        let moved: i128 = world
            .rows
            .moves
            .iter()
            .filter(|(_, s, k, key, _)| (s, k) == (store, sku) && *key > base)
            .map(|entry| entry.4)
            .sum();
        assert_eq!(
            i128::from(counted) + i128::from(row.moved),
            i128::from(counted) + moved
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_gives_the_state_of_the_live_run_and_everything_adds_up(
        steps in vec(a_step(), 1..25),
    ) {
        let mut world = World::new();
        drive(&mut world, &steps);
        let state = world.state();
        check_counts(&mut world, &state);
        check_money(&state);
        check_stock(&world, &state);
        check_names(&world, &state);
        let replayed = World::replay(&world.journal).state();
        prop_assert_eq!(replayed, state);
    }

    #[test]
    fn forgetting_what_is_flushed_changes_no_answer(steps in vec(a_step(), 1..25)) {
        let mut roomy = World::new();
        drive(&mut roomy, &steps);
        let mut tight = World::with_budget(0);
        drive(&mut tight, &steps);
        prop_assert_eq!(&tight.journal, &roomy.journal);
        prop_assert_eq!(tight.state(), roomy.state());
    }

    #[test]
    fn late_counts_give_the_same_levels_from_memory_and_from_the_facts(
        steps in vec(a_step_of_stock(), 1..40),
        recent_bytes in 600_usize..6_000,
        actors_max in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let run = |recent_bytes, actors_max| {
            let mut world = World::with(ShardConfig { actors_max, recent_bytes });
            drive(&mut world, &steps);
            world
        };
        let mut from_facts = run(0, 1 << 20);
        let state = from_facts.state();
        check_stock(&from_facts, &state);
        for mut world in [run(recent_bytes, actors_max), run(1 << 20, actors_max)] {
            prop_assert_eq!(&world.journal, &from_facts.journal);
            prop_assert_eq!(&world.state(), &state);
        }
        let remembered = run(1 << 20, 1 << 20);
        prop_assert_eq!(remembered.shard.counters().counts_from_facts, 0);
    }
}
