//! What is left of a journal that salvage has made holes in.

use super::world::{NOW, World, basket, record_of, sales, terminal};
use crate::{Record, Replayed};

fn apply(world: &mut World, record: &Record) -> Replayed {
    world.journal.push(record.clone());
    let position = world.position();
    world.rows.learn(position, record);
    world.shard.replay(position, record, &world.rows).unwrap()
}

fn net(world: &mut World) -> i128 {
    world.state().terminals[&terminal(1).to_u64()].totals.net
}

#[test]
fn events_behind_a_lost_record_count_and_a_record_that_fits_nowhere_is_told() {
    let mut world = World::new();
    let sale = |amount| basket(NOW, &[(1, amount)]);
    record_of(world.send(1, 1, sales(1, &[sale(1), sale(10)])));
    // It overlaps: the first two were known when it was decided.
    record_of(world.send(1, 1, sales(1, &[sale(1), sale(10), sale(100)])));
    let journal = world.journal.clone();
    assert_eq!(journal[2].head.skip, 2);

    let mut salvaged = World::replay(&journal[..1]);
    assert_eq!(apply(&mut salvaged, &journal[2]), Replayed::Held);
    assert_eq!(net(&mut salvaged), 100, "only what was new in it");
    assert_eq!(apply(&mut salvaged, &journal[1]), Replayed::Nowhere);
    assert_eq!(net(&mut salvaged), 100);
}
