use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use till_protocol::codec::Frame;
use till_protocol::id::{StoreId, TillId};

use super::*;
use crate::deadletter::MemoryDeadLetters;
use crate::outbox::{MemoryConfig, MemoryOutbox, Stored, Sync, SyncDone, SyncJob};
use crate::testing::frame_of_moves;
use till_protocol::id::Seq;
use till_protocol::reply::{Ack, Check, Checked, Hello, Message, Nack, Slow, Welcome, welcome_flag};
use till_protocol::time::{DeviceTime, Timestamp};

/// An outbox that a test can look into, copy and put back.
#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<MemoryOutbox>>);

impl Outbox for Shared {
    fn standing(&self) -> Standing {
        self.0.lock().unwrap().standing()
    }
    fn has_room(&self) -> bool {
        true
    }
    fn sync_policy(&self) -> Sync {
        Sync::Group
    }
    fn survives_crash(&self) -> bool {
        false
    }
    fn append(&mut self, frame: Bytes, count: u32) -> Result<(), OutboxError> {
        self.0.lock().unwrap().append(frame, count)
    }
    fn frame_of(&mut self, seq: u64) -> Result<Option<Stored>, OutboxError> {
        self.0.lock().unwrap().frame_of(seq)
    }
    fn commit(&mut self, upto: u64) -> Result<(), OutboxError> {
        self.0.lock().unwrap().commit(upto)
    }
    fn begin_epoch(&mut self, epoch: Epoch, from: u64) -> Result<(), OutboxError> {
        self.0.lock().unwrap().begin_epoch(epoch, from)
    }
    fn sync_job(&mut self) -> Option<SyncJob> {
        None
    }
    fn synced(&mut self, _done: SyncDone) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[derive(Clone, Debug, Default)]
struct SharedDead(Arc<Mutex<MemoryDeadLetters>>);

impl DeadLetters for SharedDead {
    fn put(&mut self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        self.0.lock().unwrap().put(letter)
    }
}

impl SharedDead {
    fn marks(&self) -> BTreeSet<u64> {
        let dead = self.0.lock().unwrap();
        let letters = dead.letters().iter();
        letters.map(|letter| frame::mark(&letter.frame, 0).unwrap()).collect()
    }
}

fn terminal() -> TerminalId {
    TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap())
}

/// The smallest engine: one terminal's epochs as lists of marks.
#[derive(Debug, Default)]
struct Engine {
    epochs: BTreeMap<u32, Vec<u64>>,
    /// What took effect, in order.
    applied: Vec<u64>,
    /// Marks that are refused.
    refuses: BTreeSet<u64>,
    committed: u64,
    epoch: u32,
    /// Events below this number can't be looked up any more, in any epoch.
    retained_from: u64,
}

impl Engine {
    fn hear(&mut self, bytes: &Bytes, say: &mut VecDeque<Bytes>) {
        let heard = Frame::decode(bytes.clone()).unwrap();
        let reply = match Message::decode(&heard) {
            Ok(Message::Hello(hello)) => self.greet(&hello),
            Ok(Message::Check(check)) => self.check(&check),
            Ok(_) => return,
            Err(_) => self.take(bytes, heard.header.first_seq, heard.header.count),
        };
        say.push_back(reply.encode());
    }

    fn greet(&mut self, hello: &Hello) -> Message {
        let latest = self.epochs.keys().last().copied().unwrap_or(0);
        self.epoch = hello.epoch.map_or(latest + 1, Epoch::get);
        let known = self.epochs.get(&self.epoch).cloned().unwrap_or_default();
        self.committed = self.committed.min(length_of(&known));
        Message::Welcome(Welcome {
            terminal: hello.terminal,
            epoch: Epoch::new(self.epoch).unwrap(),
            latest_epoch: Epoch::new(latest.max(1)).unwrap(),
            next_seq: seq(length_of(&known) + 1),
            mark: known.last().copied().unwrap_or(0),
            credit_frames: 4,
            frame_bytes_max: 1 << 20,
            frame_events_max: 1_024,
            time: Timestamp::default(),
            flags: if self.epoch < latest { welcome_flag::CLOSED } else { 0 },
        })
    }

    fn check(&self, check: &Check) -> Message {
        let own = self.epochs.get(&check.epoch.get()).cloned().unwrap_or_default();
        let at = usize::try_from(check.first_seq.get() - 1).unwrap();
        let looked_up = |seq: u64| seq >= self.retained_from;
        let seqs = (check.first_seq.get()..).take(check.marks.len());
        let known = seqs.clone().filter(|seq| looked_up(*seq)).count();
        let matched = check
            .marks
            .iter()
            .zip(own.iter().skip(at))
            .zip(seqs)
            .take_while(|((theirs, ours), seq)| theirs == ours && looked_up(*seq))
            .count();
        Message::Checked(Checked {
            epoch: check.epoch,
            first_seq: check.first_seq,
            matched: u16::try_from(matched).unwrap(),
            known: u16::try_from(known).unwrap(),
        })
    }

    fn take(&mut self, frame: &Bytes, first: u64, count: u32) -> Message {
        let epoch = self.epochs.entry(self.epoch).or_default();
        if first > length_of(epoch) + 1 {
            return Message::Nack(Nack {
                expected: seq(length_of(epoch) + 1),
            });
        }
        let mut refusals = Vec::new();
        for (index, seq) in (0..count).zip(first..) {
            let mark = frame::mark(frame, index).unwrap();
            let refused = self.refuses.contains(&mark);
            if refused {
                refusals.push((Seq::new(seq).unwrap(), Reason::BadTime));
            }
            if seq == length_of(epoch) + 1 {
                epoch.push(mark);
                if !refused {
                    self.applied.push(mark);
                }
            }
        }
        Message::Ack(Ack {
            journalled: Seq::new(length_of(epoch)).ok(),
            committed: Seq::new(self.committed).ok(),
            refusals,
        })
    }

    fn commit(&mut self) -> Option<Message> {
        let journalled = length_of(self.epochs.get(&self.epoch)?);
        self.committed = journalled;
        Some(Message::Ack(Ack {
            journalled: Seq::new(journalled).ok(),
            committed: Seq::new(journalled).ok(),
            refusals: Vec::new(),
        }))
    }
}

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn length_of<T>(list: &[T]) -> u64 {
    u64::try_from(list.len()).unwrap()
}

/// A device, an engine, and a line between them that breaks.
struct World {
    rng: SmallRng,
    now: Instant,
    engine: Engine,
    outbox: Shared,
    dead: SharedDead,
    session: Session,
    connected: bool,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    /// Marks of the events that the device has made, in order.
    made: Vec<u64>,
    salt: u64,
    repeat: bool,
}

impl World {
    fn new(seed: u64, repeat: bool) -> Self {
        let (outbox, dead) = (Shared::default(), SharedDead::default());
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now: Instant::now(),
            engine: Engine::default(),
            session: session_on(&outbox, &dead, repeat),
            outbox,
            dead,
            connected: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
            made: Vec::new(),
            salt: 0,
            repeat,
        }
    }

    fn make_events(&mut self) {
        self.salt += 1;
        let count = self.rng.random_range(1..5_u32);
        let frame = frame_of_moves(self.session.next_seq(), count, self.salt);
        for index in 0..count {
            self.made.push(frame::mark(&frame, index).unwrap());
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
        self.session = session_on(&self.outbox, &self.dead, self.repeat);
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

    fn settle(&mut self) {
        for _ in 0..100_000 {
            let moved = self.pump();
            if !moved {
                let standing = self.session.standing();
                if standing.committed == standing.last {
                    return;
                }
                if let Some(reply) = self.engine.commit() {
                    self.down.push_back(reply.encode());
                }
            }
        }
        panic!("does not come to rest: {:?}", self.session);
    }

    fn assert_once_and_in_order(&self, seed: u64) {
        let mut seen = BTreeSet::new();
        for mark in &self.engine.applied {
            assert!(seen.insert(*mark), "seed {seed}: an event took effect twice");
        }
        let places: BTreeMap<u64, usize> = self.made.iter().copied().zip(0..).collect();
        for (epoch, marks) in &self.engine.epochs {
            let order: Vec<usize> = marks.iter().map(|mark| places[mark]).collect();
            assert!(order.is_sorted(), "seed {seed}: epoch {epoch} is out of order");
        }
    }

    fn assert_nothing_lost(&self, seed: u64) {
        let applied: BTreeSet<u64> = self.engine.applied.iter().copied().collect();
        let dead = self.dead.marks();
        for (at, mark) in self.made.iter().enumerate() {
            let refused = self.engine.refuses.contains(mark);
            assert_eq!(applied.contains(mark), !refused, "seed {seed}: event {at}");
            assert_eq!(dead.contains(mark), refused, "seed {seed}: event {at}");
        }
    }
}

fn session_on(outbox: &Shared, dead: &SharedDead, repeat: bool) -> Session {
    let config = SessionConfig {
        repeat_unacknowledged: repeat,
        ..SessionConfig::new(terminal())
    };
    Session::new(config, Box::new(outbox.clone()), Box::new(dead.clone()))
}

#[test]
fn a_line_that_breaks_at_random_loses_doubles_and_misorders_nothing() {
    for seed in 0..200 {
        let mut world = World::new(seed, true);
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
                4 => {
                    if let Some(reply) = world.engine.commit().filter(|_| world.session.is_live()) {
                        world.down.push_back(reply.encode());
                    }
                }
                _ => drop(world.pump()),
            }
        }
        world.settle();
        world.assert_once_and_in_order(seed);
        world.assert_nothing_lost(seed);
    }
}

#[test]
fn images_put_back_and_disks_lost_at_random_double_and_misorder_nothing() {
    for seed in 0..300 {
        let mut world = World::new(seed, seed % 2 == 0);
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
                5..=10 => world.make_events(),
                11 | 12 => {
                    if let Some(reply) = world.engine.commit().filter(|_| world.session.is_live()) {
                        world.down.push_back(reply.encode());
                    }
                }
                _ => drop(world.pump()),
            }
        }
        world.settle();
        world.assert_once_and_in_order(seed);
    }
}

#[test]
fn an_image_of_yesterday_takes_a_new_epoch_and_its_new_sales_arrive() {
    let mut world = World::new(1, false);
    world.make_events();
    world.settle();
    world.make_events();
    let yesterday = world.image();
    world.make_events();
    world.settle();
    world.restart_with(yesterday);
    world.make_events();
    world.settle();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.assert_once_and_in_order(1);
    world.assert_nothing_lost(1);
}

#[test]
fn a_lost_disk_starts_a_new_life_at_one() {
    let mut world = World::new(2, false);
    world.make_events();
    world.settle();
    world.restart_with(MemoryOutbox::new(MemoryConfig::default()));
    world.make_events();
    world.settle();
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
    world.assert_nothing_lost(2);
}

#[test]
fn what_retention_dropped_becomes_a_dead_letter_instead_of_a_guess() {
    let mut world = World::new(3, false);
    for _ in 0..3 {
        world.make_events();
    }
    let last = world.session.standing().last;
    let image = world.image();
    while length_of(&world.engine.applied) < last {
        world.pump();
    }
    world.make_events();
    world.settle();
    // The image has no epoch yet; give it the one under which it was sent.
    let mut image = image;
    image.begin_epoch(Epoch::FIRST, 1).unwrap();
    world.engine.retained_from = 3;
    world.restart_with(image);
    world.settle();
    let dead = world.dead.marks();
    assert_eq!(dead, world.made.iter().take(2).copied().collect());
    world.assert_once_and_in_order(3);
}

#[test]
fn a_gap_is_answered_once_and_again_only_when_nothing_moves() {
    let mut world = World::new(4, false);
    world.make_events();
    world.settle();
    for _ in 0..3 {
        world.make_events();
    }
    let mut out = Vec::new();
    world.session.transmit(world.now, &mut out, 8).unwrap();
    let frames = out.clone();
    let expected = frame::range(&frames[0]).unwrap().0;
    out.clear();
    for _ in 0..2 {
        let nack = Message::Nack(Nack { expected: seq(expected) });
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
    let mut world = World::new(5, false);
    world.make_events();
    world.settle();
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
    let mut world = World::new(6, false);
    world.make_events();
    world.settle();
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
