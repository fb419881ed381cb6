//! Devices that go on from one copied outbox.

use super::*;

/// A device that is off the line: its outbox and its session.
type Parked = (Shared, Session);

impl World {
    /// The device on the line makes room for another one.
    fn swap(&mut self, other: &mut Parked) {
        self.cut();
        std::mem::swap(&mut self.outbox, &mut other.0);
        std::mem::swap(&mut self.session, &mut other.1);
    }

    /// A device with a copy of the outbox of the one on the line.
    fn copy(&self) -> Parked {
        let outbox = Shared(Arc::new(Mutex::new(self.image())));
        let session = session_on(&outbox, &self.dead);
        (outbox, session)
    }

    /// Two devices of one outbox, with two frames that no engine has: the engine's history is another one.
    fn twins(seed: u64) -> (Self, Parked) {
        let mut world = Self::new(seed);
        world.make_events();
        world.quiesce();
        let image = world.image();
        world.make_events();
        world.quiesce();
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

/// Both compare before either has sent anything, and lose their connections. The one with the older epoch sends first.
#[test]
fn two_copies_cut_off_before_their_first_ack_count_an_event_at_most_once_each() {
    let (mut world, mut other) = World::twins(20);
    let made = world.made.len();
    let before = world.engine.applied.len();
    world.swap(&mut other);
    world.until_live();
    let younger = world.session.standing().epoch;
    world.engine.granted = 9;
    world.up.clear();
    world.swap(&mut other);
    world.until_live();
    assert!(younger < world.session.standing().epoch);
    world.up.clear();
    world.swap(&mut other);
    world.quiesce();
    world.swap(&mut other);
    world.make_events();
    world.quiesce();
    let lost_with_the_image = length_of(&world.made) - length_of(&world.made[..made]);
    assert!(lost_with_the_image > 0);
    for digest in &world.engine.applied[before..] {
        let both_held = world.made[..made].contains(digest);
        let times = world.engine.applied.iter().filter(|one| *one == digest);
        assert_eq!(times.count(), 1 + usize::from(both_held));
    }
    world.assert_nothing_lost(20);
}

/// As above, but the first one is acknowledged before the other one compares.
#[test]
fn a_copy_finds_what_the_other_one_has_sent_in_a_new_epoch() {
    let (mut world, mut other) = World::twins(24);
    world.quiesce();
    world.swap(&mut other);
    world.make_events();
    world.quiesce();
    world.assert_once_and_in_order(24);
    world.assert_nothing_lost(24);
}

#[test]
fn an_epoch_that_no_other_copy_disputes_goes_on_where_it_was() {
    let (mut world, _other) = World::twins(21);
    world.quiesce();
    let epoch = world.session.standing().epoch;
    for _ in 0..3 {
        world.make_events();
        world.cut();
        world.quiesce();
    }
    assert_eq!(world.session.standing().epoch, epoch);
    world.assert_once_and_in_order(21);
}

/// A frame that nobody can read, of three events; the engine has refused the first, and then has others.
#[test]
fn a_frame_that_cannot_be_read_goes_whole_into_a_new_epoch() {
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
fn copies_that_take_turns_at_random_lose_nothing_and_count_an_event_once_each_at_most() {
    let mut doubled = 0;
    for seed in 0..1_000 {
        let mut world = World::new(seed);
        let mut others: Vec<Parked> = Vec::new();
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
        world.quiesce();
        for other in &mut others {
            world.swap(other);
            world.quiesce();
        }
        let mut times = BTreeMap::new();
        for digest in &world.engine.applied {
            *times.entry(*digest).or_insert(0) += 1;
        }
        doubled += times.values().filter(|times| **times > 1).count();
        let most = times.values().max().copied().unwrap_or(0);
        assert!(most <= 1 + others.len(), "seed {seed}: {most} times");
        if !has_images {
            world.assert_nothing_lost(seed);
        }
    }
    assert!(doubled > 0, "no two copies were ever cut off in time");
}

/// What was made between the image and its return goes with what it replaces; nothing else does.
#[test]
fn a_device_put_back_from_one_image_loses_and_doubles_nothing_that_it_holds() {
    for seed in 0..500 {
        let mut world = World::new(seed);
        let [imaged_at, back_at] = [50..150, 150..300].map(|span| world.rng.random_range(span));
        let (mut image, mut gone) = (world.image(), 0..0);
        for step in 0..400 {
            if step == imaged_at {
                image = world.image();
                gone.start = world.made.len();
            }
            if step == back_at {
                world.restart_with(image.clone());
                gone.end = world.made.len();
            }
            match world.rng.random_range(0..20) {
                0 | 1 => world.cut(),
                2 => world.engine.granted = 0,
                3..=6 => world.make_events(),
                7 => world.commit(),
                _ => drop(world.pump()),
            }
        }
        world.quiesce();
        world.assert_once_and_in_order(seed);
        let applied: BTreeSet<u64> = world.engine.applied.iter().copied().collect();
        for (at, digest) in world.made.iter().enumerate() {
            let is_there = applied.contains(digest) || gone.contains(&at);
            assert!(is_there, "seed {seed}: event {at}");
        }
        assert_eq!(world.dead.digests(), BTreeSet::new(), "seed {seed}");
    }
}
