use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000_000;

fn key(at_us: i64, seq: u64) -> MoveKey {
    MoveKey {
        at_us,
        epoch: 1,
        seq,
        terminal: 1 << 32 | 1,
        line: 0,
    }
}

/// What a shard knows of its SKUs, and every movement there ever was.
#[derive(Default)]
struct Model {
    recent: Recent,
    skus: BTreeMap<u8, (RingIndex, MoveKey)>,
    all: Vec<(u8, MoveKey, i128)>,
}

impl Model {
    fn new(bytes: usize) -> Self {
        Self {
            recent: Recent::new(bytes),
            ..Self::default()
        }
    }

    fn push(&mut self, sku: u8, key: MoveKey, quantity: i128) {
        let (ring_index, latest) = self.skus.entry(sku).or_default();
        *ring_index = self.recent.push(*ring_index, latest, &key, quantity);
        *latest = key.max(*latest);
        self.all.push((sku, key, quantity));
    }

    fn passivate(&mut self, sku: u8) {
        self.skus.entry(sku).or_default().0 = RingIndex::default();
    }

    fn moved_after(&self, sku: u8, count: &MoveKey) -> Option<i128> {
        self.recent.moved_after(self.skus.get(&sku)?.0, count)
    }

    fn truth(&self, sku: u8, count: &MoveKey) -> i128 {
        let of_sku = self.all.iter().filter(|(other, ..)| *other == sku);
        let later = of_sku.filter(|(_, key, _)| key > count);
        later.map(|(.., quantity)| quantity).sum()
    }
}

#[derive(Clone, Debug)]
enum RecentStep {
    Move(u8, MoveKey, i128),
    Count(u8, MoveKey),
    Passivate(u8),
}

// Times that tie, lie close together, and lie further apart than a span or a bound can say.
fn a_time() -> impl Strategy<Value = i64> {
    let hours = 10_i64 * 3_600 * SECOND;
    prop_oneof![
        6 => (0_i64..4).prop_map(move |at| hours + at * SECOND),
        6 => hours..hours + 200_000,
        2 => (0_i64..20).prop_map(|at| at * 3_600 * SECOND),
        1 => Just(5_000_000_000_000_000_i64),
    ]
}

fn a_key() -> impl Strategy<Value = MoveKey> {
    let seq = prop_oneof![8 => 1_u64..4, 1 => 250_u64..260, 1 => Just(u64::MAX)];
    let line = prop_oneof![8 => 0_u16..3, 1 => 254_u16..258, 1 => Just(u16::MAX)];
    (a_time(), 1_u32..3, seq, 1_u64..3, line).prop_map(|(at_us, epoch, seq, till, line)| MoveKey {
        at_us,
        epoch,
        seq,
        terminal: 1 << 32 | till,
        line,
    })
}

fn a_quantity() -> impl Strategy<Value = i128> {
    prop_oneof![
        8 => -5_i128..6,
        1 => Just(i128::from(i32::MIN)),
        1 => Just(i128::from(i32::MAX)),
        1 => Just(i128::from(i64::MAX) + 1),
        1 => Just(-(1_i128 << 70)),
    ]
}

fn a_step() -> impl Strategy<Value = RecentStep> {
    prop_oneof![
        8 => (0_u8..3, a_key(), a_quantity()).prop_map(|(sku, key, q)| RecentStep::Move(sku, key, q)),
        4 => (0_u8..3, a_key()).prop_map(|(sku, key)| RecentStep::Count(sku, key)),
        1 => (0_u8..3).prop_map(RecentStep::Passivate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_answer_is_the_sum_of_all_movements_after_the_count_or_none(
        steps in vec(a_step(), 1..120),
        bytes in prop_oneof![Just(0), 500_usize..4_000, 4_000_usize..20_000, Just(1 << 22)],
    ) {
        let mut model = Model::new(bytes);
        for step in steps {
            match step {
                RecentStep::Move(sku, key, quantity) => model.push(sku, key, quantity),
                RecentStep::Passivate(sku) => model.passivate(sku),
                RecentStep::Count(sku, count) => {
                    if let Some(moved) = model.moved_after(sku, &count) {
                        prop_assert_eq!(moved, model.truth(sku, &count));
                    }
                }
            }
            prop_assert!(model.recent.bytes() <= bytes);
        }
    }

    #[test]
    fn nothing_is_asked_of_the_facts_while_there_is_room(
        moves in vec((0_u8..3, a_key(), a_quantity()), 1..120),
        counts in vec((0_u8..3, a_key()), 1..20),
    ) {
        let mut model = Model::new(1 << 22);
        for (sku, key, quantity) in moves {
            model.push(sku, key, quantity);
        }
        for (sku, count) in counts.into_iter().filter(|(sku, _)| model.skus.contains_key(sku)) {
            prop_assert_eq!(model.moved_after(sku, &count), Some(model.truth(sku, &count)));
        }
    }
}

#[test]
fn what_was_forgotten_is_known_to_lie_before_a_count() {
    let mut model = Model::new(CHUNKS_MIN * ENTRY_BYTES_MAX);
    model.push(1, key(SECOND, 1), 5);
    for number in 0..10_000 {
        model.push(2, key(2 * SECOND, 2 + number), 1);
    }
    // Its last movement is forgotten: only when it lay is known.
    assert_eq!(model.moved_after(1, &key(0, 1)), None);
    model.push(1, key(9 * SECOND, 1), 7);
    assert_eq!(model.moved_after(1, &key(2 * SECOND, 1)), Some(7));
    // Here the forgotten one counts as well.
    assert_eq!(model.moved_after(1, &key(0, 1)), None);
    // A tie with it is not decided here.
    assert_eq!(model.moved_after(1, &key(SECOND, 1)), None);
}

#[test]
fn a_movement_far_in_the_future_keeps_its_place_while_it_is_remembered() {
    let mut model = Model::new(1 << 20);
    model.push(1, key(0, 1), 1);
    model.push(1, key(SECOND * 86_400 * 365, 2), 10);
    model.push(1, key(SECOND, 3), 100);
    model.push(1, key(3 * SECOND, 4), 1_000);
    assert_eq!(model.moved_after(1, &key(2 * SECOND, 9)), Some(1_010));
    // Forgotten, it makes every answer unknown: it lies after any count of today.
    model.passivate(1);
    model.push(1, key(4 * SECOND, 5), 10_000);
    assert_eq!(model.moved_after(1, &key(3 * SECOND, 9)), None);
}

#[test]
fn memory_is_taken_as_it_is_needed_and_stays_in_its_bound() {
    let bytes = 4 << 20;
    let mut model = Model::new(bytes);
    assert_eq!(model.recent.bytes(), 0);
    model.push(1, key(0, 1), 1);
    assert!(model.recent.bytes() <= 80 << 10, "{}", model.recent.bytes());
    for number in 0..1_000_000_u64 {
        // Frames of 256, as tills send them.
        let (ring_index, latest) = model.skus.entry(1).or_default();
        let key = key(i64::try_from(number).unwrap(), number);
        *ring_index = model.recent.push(*ring_index, latest, &key, 100_000);
        *latest = key;
    }
    let held = model.recent.next - model.recent.first;
    assert!(model.recent.bytes() <= bytes);
    assert!(held * 20 >= 3 << 20, "{held} movements in {bytes} bytes");
    // The answer reaches over many chunks.
    let moved = model.moved_after(1, &key(900_000, 900_000));
    assert_eq!(moved, Some(99_999 * 100_000));
}

#[test]
fn without_room_there_are_no_answers() {
    let mut model = Model::new(0);
    model.push(1, key(0, 1), 1);
    assert_eq!(model.recent.bytes(), 0);
    assert_eq!(model.moved_after(1, &key(0, 0)), None);
}
