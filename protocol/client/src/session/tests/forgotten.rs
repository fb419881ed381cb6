//! What the engine can no longer tell becomes a dead letter.

use super::*;

#[test]
fn what_retention_dropped_becomes_a_dead_letter_instead_of_a_guess() {
    let mut world = World::new(3);
    for _ in 0..3 {
        world.make_events();
    }
    let last = world.session.standing().last;
    let image = world.image();
    while length_of(&world.engine.applied) < last {
        world.pump();
    }
    world.make_events();
    world.quiesce();
    // The image has no epoch yet; give it the one under which it was sent.
    let mut image = image;
    image.begin_epoch(Epoch::FIRST, 1).unwrap();
    world.engine.retained_from = 3;
    world.restart_with(image);
    world.quiesce();
    let dead = world.dead.digests();
    assert_eq!(dead, world.made.iter().take(2).copied().collect());
    world.assert_once_and_in_order(3);
}

#[test]
fn of_an_epoch_that_the_engine_forgot_nothing_is_doubled() {
    let mut world = World::new(14);
    for _ in 0..3 {
        world.make_events();
    }
    while world.engine.applied.len() < world.made.len() {
        world.pump();
    }
    world.cut();
    let offline = world.image();
    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    world.make_events();
    world.quiesce();
    world.engine.forgotten_before = 2;
    world.engine.retained_from = 3;
    world.restart_with(offline);
    let before = world.made.len();
    world.make_events();
    world.quiesce();
    // Of what it made since, nobody can tell either.
    let unclear = world.made.iter().take(2).chain(&world.made[before..]);
    assert_eq!(world.dead.digests(), unclear.copied().collect());
    world.assert_once_and_in_order(14);
}
