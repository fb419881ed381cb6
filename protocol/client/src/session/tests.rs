use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use till_protocol::codec::Frame;

mod copies;
mod epochs;
mod forgotten;
mod model;
mod uncommitted;

use self::model::{EngineModel, Shared, SharedDead, length_of, seq, terminal};
use super::*;
use crate::outbox::{MemoryConfig, MemoryOutbox};
use crate::testing::frame_of_moves;
use till_protocol::id::Seq;
use till_protocol::reply::{Ack, Message, Nack, Slow, Welcome};
use till_protocol::time::{DeviceTime, Timestamp};

/// A device, an engine, and a line between them that breaks.
struct World {
    rng: SmallRng,
    now: Instant,
    engine: EngineModel,
    outbox: Shared,
    dead: SharedDead,
    session: Session,
    connected: bool,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    /// Digests of the events that the device has made, in order.
    made: Vec<u64>,
    salt: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let (outbox, dead) = (Shared::default(), SharedDead::default());
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Instant::now(),
            engine: EngineModel::default(),
            session: session_on(&outbox, &dead),
            outbox,
            dead,
            connected: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            made: Vec::new(),
            salt: 0,
        }
    }

    fn make_events(&mut self) {
        self.salt += 1;
        let count = self.rng.random_range(1..5_u32);
        let frame = frame_of_moves(self.session.next_seq(), count, self.salt);
        for index in 0..count {
            self.made.push(frame::digest(&frame, index).unwrap());
        }
        self.session.append(frame).unwrap();
    }

    fn cut(&mut self) {
        // What is on its way up may still arrive in part; no answer to it ever does.
        let arrives = self.rng.random_range(0..=self.up.len());
        for bytes in self.up.drain(..).take(arrives) {
            self.engine.hear(&bytes, &mut VecDeque::new());
        }
        self.down.clear();
        self.session.disconnected();
        self.connected = false;
    }

    /// The device's disk is replaced by another content.
    fn restart_with(&mut self, content: MemoryOutbox) {
        self.cut();
        self.outbox = Shared(Arc::new(Mutex::new(content)));
        self.session = session_on(&self.outbox, &self.dead);
    }

    fn image(&self) -> MemoryOutbox {
        self.outbox.0.lock().unwrap().clone()
    }

    /// Moves at most one message each way. Returns whether anything moved.
    fn pump(&mut self) -> bool {
        if !self.connected {
            self.session.connected(DeviceTime::default());
            self.connected = true;
        }
        self.now += Duration::from_millis(100);
        let mut out = Vec::new();
        self.session.transmit(self.now, &mut out, 2).unwrap();
        let mut moved = !out.is_empty();
        self.up.extend(out);
        if let Some(bytes) = self.up.pop_front() {
            self.engine.hear(&bytes, &mut self.down);
            moved = true;
        }
        if let Some(bytes) = self.down.pop_front() {
            let reply = Message::decode(&Frame::decode(bytes).unwrap()).unwrap();
            let ended = self.session.handle(self.now, reply).unwrap();
            self.session.notices().for_each(drop);
            if ended.is_some() {
                self.cut();
            }
            moved = true;
        }
        moved
    }

    /// The engine syncs and acknowledges.
    fn commit(&mut self) {
        if self.connected {
            let said = self.engine.commit();
            self.down.extend(said.iter().map(Message::encode));
        }
    }

    fn quiesce(&mut self) {
        for _ in 0..100_000 {
            let moved = self.pump();
            if !moved {
                let standing = self.session.standing();
                if standing.committed == standing.last {
                    return;
                }
                self.commit();
            }
        }
        panic!("does not come to rest: {:?}", self.session);
    }

    fn assert_once_and_in_order(&self, seed: u64) {
        let mut seen = BTreeSet::new();
        for digest in &self.engine.applied {
            assert!(
                seen.insert(*digest),
                "seed {seed}: an event took effect twice"
            );
        }
        let places: BTreeMap<u64, usize> = self.made.iter().copied().zip(0..).collect();
        for (epoch, digests) in &self.engine.epochs {
            let order: Vec<usize> = digests.iter().map(|digest| places[digest]).collect();
            assert!(
                order.is_sorted(),
                "seed {seed}: epoch {epoch} is out of order"
            );
        }
    }

    fn assert_nothing_lost(&self, seed: u64) {
        let applied: BTreeSet<u64> = self.engine.applied.iter().copied().collect();
        let dead = self.dead.digests();
        for (at, digest) in self.made.iter().enumerate() {
            let refused = self.engine.refuses.contains(digest);
            assert_eq!(
                applied.contains(digest),
                !refused,
                "seed {seed}: event {at}"
            );
            assert_eq!(dead.contains(digest), refused, "seed {seed}: event {at}");
        }
    }
}

fn session_on(outbox: &Shared, dead: &SharedDead) -> Session {
    let config = SessionConfig::new(terminal());
    Session::new(config, Box::new(outbox.clone()), Box::new(dead.clone()))
}

#[test]
fn a_line_that_breaks_at_random_loses_doubles_and_misorders_nothing() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..300 {
            match world.rng.random_range(0..20) {
                0 => world.cut(),
                1..=3 => {
                    world.make_events();
                    if world.rng.random_range(0..4) == 0 {
                        let last = *world.made.last().unwrap();
                        world.engine.refuses.insert(last);
                    }
                }
                4 => world.commit(),
                _ => drop(world.pump()),
            }
        }
        world.quiesce();
        world.assert_once_and_in_order(seed);
        world.assert_nothing_lost(seed);
    }
}

#[test]
fn images_put_back_and_disks_lost_at_random_double_and_misorder_nothing() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        let mut image = world.image();
        for _ in 0..400 {
            match world.rng.random_range(0..40) {
                0 | 1 => world.cut(),
                2 => image = world.image(),
                3 => {
                    let content = image.clone();
                    world.restart_with(content);
                }
                4 if world.rng.random_range(0..4) == 0 => {
                    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
                }
                5..=10 => {
                    world.make_events();
                    if world.rng.random_range(0..6) == 0 {
                        let last = *world.made.last().unwrap();
                        world.engine.refuses.insert(last);
                    }
                }
                11 | 12 => world.commit(),
                // A grant is not durable: the engine starts again.
                13 => world.engine.granted = 0,
                _ => drop(world.pump()),
            }
        }
        world.quiesce();
        world.assert_once_and_in_order(seed);
    }
}

#[test]
fn an_image_of_yesterday_takes_a_new_epoch_and_its_new_sales_arrive() {
    let mut world = World::new(1);
    world.make_events();
    world.quiesce();
    world.make_events();
    let yesterday = world.image();
    world.make_events();
    world.quiesce();
    world.restart_with(yesterday);
    world.make_events();
    world.quiesce();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.assert_once_and_in_order(1);
    world.assert_nothing_lost(1);
}

#[test]
fn a_lost_disk_starts_a_new_epoch_at_one() {
    let mut world = World::new(2);
    world.make_events();
    world.quiesce();
    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    world.make_events();
    world.quiesce();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.assert_nothing_lost(2);
}

#[test]
fn a_gap_is_answered_once_and_again_only_when_nothing_moves() {
    let mut world = World::new(4);
    world.make_events();
    world.quiesce();
    for _ in 0..3 {
        world.make_events();
    }
    let mut out = Vec::new();
    world.session.transmit(world.now, &mut out, 8).unwrap();
    let frames = out.clone();
    let expected = frame::range(&frames[0]).unwrap().0;
    out.clear();
    for _ in 0..2 {
        let nack = Message::Nack(Nack {
            expected: seq(expected),
        });
        world.session.handle(world.now, nack).unwrap();
    }
    world.session.transmit(world.now, &mut out, 8).unwrap();
    assert_eq!(out, frames);
    out.clear();
    world.session.transmit(world.now, &mut out, 8).unwrap();
    assert!(out.is_empty());
    let later = world.session.timeout().unwrap();
    world.session.transmit(later, &mut out, 8).unwrap();
    assert_eq!(out, frames);
}

#[test]
fn an_engine_that_acknowledges_what_was_never_sent_is_not_believed() {
    let mut world = World::new(5);
    world.make_events();
    world.quiesce();
    let last = world.session.standing().last;
    let ack = Message::Ack(Ack {
        journalled: Seq::new(last + 1).ok(),
        committed: Seq::new(last + 1).ok(),
        refusals: Vec::new(),
    });
    let believed = world.session.handle(world.now, ack);
    assert!(matches!(believed, Err(SessionError::Protocol { .. })));
}

#[test]
fn a_pause_that_the_engine_asked_for_is_kept() {
    let mut world = World::new(6);
    world.make_events();
    world.quiesce();
    world.make_events();
    let slow = Message::Slow(Slow { wait_ms: 250 });
    world.session.handle(world.now, slow).unwrap();
    let mut out = Vec::new();
    world.session.transmit(world.now, &mut out, 8).unwrap();
    assert!(out.is_empty());
    let until = world.session.timeout().unwrap();
    assert_eq!(until, world.now + Duration::from_millis(250));
    world.session.transmit(until, &mut out, 8).unwrap();
    assert_eq!(out.len(), 1);
}

#[test]
fn a_last_answer_that_was_lost_is_asked_for_again() {
    let mut world = World::new(7);
    world.make_events();
    while world.engine.applied.len() < world.made.len() {
        world.pump();
    }
    world.engine.commit();
    world.cut();
    world.quiesce();
    world.assert_once_and_in_order(7);
    world.assert_nothing_lost(7);
}

#[test]
fn a_refusal_whose_answer_was_lost_becomes_a_dead_letter_all_the_same() {
    let mut world = World::new(9);
    for _ in 0..3 {
        world.make_events();
        world.engine.refuses.insert(*world.made.last().unwrap());
    }
    let last = world.session.standing().last;
    while world.session.cursor <= last || !world.up.is_empty() {
        world.pump();
    }
    world.engine.commit();
    world.cut();
    assert!(world.dead.digests().is_empty());
    world.quiesce();
    assert_eq!(world.dead.digests().len(), 3);
    world.assert_once_and_in_order(9);
    world.assert_nothing_lost(9);
}

#[test]
fn a_refused_event_that_an_image_brings_back_is_a_dead_letter_again() {
    let mut world = World::new(10);
    world.make_events();
    world.quiesce();
    world.make_events();
    world.engine.refuses.insert(*world.made.last().unwrap());
    world.make_events();
    let image = world.image();
    world.quiesce();
    world.make_events();
    world.quiesce();
    // The dead-letter file was as old as the image.
    world.dead = SharedDead::default();
    world.restart_with(image);
    world.make_events();
    world.quiesce();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.assert_once_and_in_order(10);
    world.assert_nothing_lost(10);
}

/// Another copy of the same image sends what both hold, after this one was told that its epoch is over and before it has
/// a new one.
#[test]
fn a_copy_that_gets_ahead_between_two_handshakes_doubles_nothing() {
    let mut world = World::new(11);
    world.make_events();
    world.quiesce();
    world.make_events();
    let image = world.image();
    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    world.make_events();
    world.quiesce();
    world.restart_with(image.clone());
    while world.session.diverged.is_none() {
        world.pump();
    }
    world.cut();
    let slow = (world.outbox.clone(), world.session);
    world.outbox = Shared(Arc::new(Mutex::new(image)));
    world.session = session_on(&world.outbox, &world.dead);
    world.quiesce();
    world.cut();
    (world.outbox, world.session) = slow;
    world.make_events();
    world.quiesce();
    world.assert_once_and_in_order(11);
    world.assert_nothing_lost(11);
}

#[test]
fn an_engine_that_lost_its_memory_is_met_again() {
    let mut world = World::new(12);
    for _ in 0..2 {
        world.make_events();
        world.quiesce();
        world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    }
    world.make_events();
    world.quiesce();
    world.engine = EngineModel::default();
    world.made.clear();
    world.cut();
    world.make_events();
    world.quiesce();
    world.assert_once_and_in_order(12);
    world.assert_nothing_lost(12);
}

#[test]
fn a_tombstone_without_a_digest_is_no_event_of_this_device() {
    let mut world = World::new(13);
    world.make_events();
    world.quiesce();
    world.make_events();
    world.cut();
    let standing = world.session.standing();
    let mut handshake = |next: u64, digest: u64| {
        world.session.connected(DeviceTime::default());
        let welcome = Welcome {
            terminal: terminal(),
            epoch: Epoch::FIRST,
            latest_epoch: Epoch::FIRST,
            next_seq: seq(next),
            digest,
            credit_frames: 4,
            frame_bytes_max: 1 << 20,
            frame_events_max: 1_024,
            time: Timestamp::default(),
            flags: 0,
        };
        let ended = world.session.handle(world.now, welcome.into());
        ended.unwrap()
    };
    assert_eq!(handshake(standing.last + 1, 0), Some(End::Renew));
}

#[test]
fn a_tombstone_of_another_history_swallows_no_event() {
    let mut world = World::new(8);
    world.make_events();
    world.quiesce();
    world.make_events();
    let image = world.image();
    // The disk is lost, and the first event of the next life is refused.
    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    let lost = world.made.len();
    world.make_events();
    world.engine.refuses.insert(world.made[lost]);
    world.quiesce();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.restart_with(image);
    world.quiesce();
    world.assert_once_and_in_order(8);
    world.assert_nothing_lost(8);
}
