//! Devices that go on from one copied outbox.

use super::*;

/// A device that is off the line: its outbox and its session.
type Device = (Shared, Session);

impl World {
    /// The device on the line makes room for another one.
    fn swap(&mut self, other: &mut Device) {
        self.cut();
        std::mem::swap(&mut self.outbox, &mut other.0);
        std::mem::swap(&mut self.session, &mut other.1);
    }

    /// A device with a copy of the outbox of the one on the line.
    fn copy(&self) -> Device {
        let outbox = Shared(Arc::new(Mutex::new(self.image())));
        let session = session_on(&outbox, &self.dead);
        (outbox, session)
    }

    /// Two devices of one outbox, with two frames that no engine has: the engine's history is another one.
    fn twins(seed: u64) -> (Self, Device) {
        let mut world = Self::new(seed);
        world.make_events();
        world.settle();
        let image = world.image();
        world.make_events();
        world.settle();
        world.restart_with(image);
        world.make_events();
        world.make_events();
        let other = world.copy();
        (world, other)
    }

    fn until_live(&mut self) {
        while !self.session.is_live() {
            self.pump();
        }
    }
}

#[test]
fn a_life_that_has_nothing_yet_is_compared_again_with_what_came_before_it() {
    let (mut world, mut other) = World::twins(20);
    // This one compares and has its life. Nothing of it arrives before the other one has said the same in an older life.
    world.swap(&mut other);
    world.until_live();
    world.up.clear();
    let younger = world.session.standing().epoch;
    world.swap(&mut other);
    world.until_live();
    let older = world.session.standing().epoch;
    assert!(younger < older, "{younger:?} {older:?}");
    world.up.clear();
    world.swap(&mut other);
    world.settle();
    world.swap(&mut other);
    world.make_events();
    world.settle();
    world.assert_once_and_in_order(20);
    world.assert_nothing_lost(20);
}

/// Engines that share a store: one dies with what it has journalled, the next one grants a life to a copy, and what the first
/// one had is taken in.
#[test]
fn what_was_taken_in_since_hides_nothing_of_a_later_life() {
    let mut world = World::new(22);
    for _ in 0..3 {
        world.make_events();
    }
    let image = world.image();
    let mut other = world.copy();
    // A life is granted to this one, and what it sends is journalled by an engine that dies.
    world.until_live();
    world.up.clear();
    world.swap(&mut other);
    world.settle();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    let taken_in = world.made[..world.made.len() - 1].to_vec();
    world.engine.epochs.insert(1, taken_in);
    world.restart_with(image);
    world.make_events();
    world.settle();
    world.assert_once_and_in_order(22);
    assert_eq!(world.made.len(), world.engine.applied.len());
}

#[test]
fn a_life_that_nobody_else_disputes_goes_on_where_it_was() {
    let (mut world, _other) = World::twins(21);
    world.settle();
    let life = world.session.standing().epoch;
    for _ in 0..3 {
        world.make_events();
        world.cut();
        world.settle();
    }
    assert_eq!(world.session.standing().epoch, life);
    world.assert_once_and_in_order(21);
}

/// A frame that nobody can read, of three events; the engine has refused the first, and then has others.
#[test]
fn a_frame_that_cannot_be_read_goes_whole_into_a_new_life() {
    let mut world = World::new(23);
    let mut frame = frame_of_moves(1, 3, 5).to_vec();
    frame.truncate(32);
    let mut header = Frame::decode(frame_of_moves(1, 3, 5)).unwrap().header;
    let payload = [7; 40];
    header.length = 40;
    header.crc = header.crc_of(&payload);
    frame.clear();
    frame.extend(header.encode());
    frame.extend(payload);
    world.session.append(frame.into()).unwrap();
    world.session.append(frame_of_moves(4, 2, 6)).unwrap();
    world.engine.epochs.insert(1, vec![0, 9, 9]);
    world.until_live();
    let standing = world.session.standing();
    assert_eq!((standing.epoch, standing.last), (Epoch::new(2).ok(), 5));
}

#[test]
fn copies_that_take_turns_at_random_lose_and_double_nothing() {
    for seed in 0..1_000 {
        let mut world = World::new(seed);
        let mut others: Vec<Device> = Vec::new();
        let mut image = world.image();
        // Where images are put back, events are lost with what they replace.
        let has_images = seed % 2 == 0;
        for _ in 0..300 {
            match world.rng.random_range(0..43) {
                0 | 1 => world.cut(),
                40 if has_images => image = world.image(),
                // A grant is not durable: the engine starts again.
                42 => world.engine.granted = 0,
                41 if has_images => world.restart_with(image.clone()),
                2 if others.len() < 3 => others.push(world.copy()),
                2..=5 if !others.is_empty() => {
                    let at = world.rng.random_range(0..others.len());
                    world.swap(&mut others[at]);
                }
                6..=9 => world.make_events(),
                10 | 11 => world.commit(),
                _ => drop(world.pump()),
            }
        }
        world.settle();
        for other in &mut others {
            world.swap(other);
            world.settle();
        }
        let mut applied = world.engine.applied.clone();
        applied.sort_unstable();
        let mut made = world.made.clone();
        made.sort_unstable();
        match has_images {
            true => world.assert_once_and_in_order(seed),
            false => assert_eq!(applied, made, "seed {seed}"),
        }
    }
}
