//! Where an engine's disk may be lost: what is journalled waits in the outbox until it is committed.

use super::*;

/// Frames that the engine allows in flight.
const WINDOW: u32 = 4;

fn welcome(next: u64, digest: u64) -> Message {
    Welcome {
        terminal: terminal(),
        epoch: Epoch::FIRST,
        latest_epoch: Epoch::FIRST,
        next_seq: seq(next),
        digest,
        credit_frames: WINDOW,
        frame_bytes_max: 1 << 20,
        frame_events_max: 1_024,
        time: Timestamp::default(),
        flags: 0,
    }
    .into()
}

fn ack(journalled: u64, committed: u64) -> Message {
    Ack {
        journalled: Seq::new(journalled).ok(),
        committed: Seq::new(committed).ok(),
        refusals: Vec::new(),
    }
    .into()
}

/// A session with frames of one event in an outbox, and a stream that was accepted.
struct Device {
    session: Session,
    outbox: Shared,
    now: Instant,
}

impl Device {
    fn new(frames: u64, config: MemoryConfig) -> Self {
        let outbox = Shared(Arc::new(Mutex::new(MemoryOutbox::new(config))));
        let mut device = Self {
            session: session_on(&outbox, &SharedDead::default()),
            outbox,
            now: Instant::now(),
        };
        device.append(frames);
        device
    }

    fn append(&mut self, frames: u64) {
        for _ in 0..frames {
            let next = self.session.next_seq();
            let frame = frame_of_moves(next, 1, next);
            self.session.append(frame).unwrap();
        }
    }

    fn meet(&mut self, next: u64) {
        assert_eq!(self.accepted(next), None);
    }

    fn accepted(&mut self, next: u64) -> Option<End> {
        let digest = match next {
            1 => 0,
            _ => {
                let stored = self.outbox.frame_of(next - 1).unwrap().unwrap();
                frame::digest(&stored.bytes, 0).unwrap()
            }
        };
        self.session.connected(DeviceTime::default());
        let mut hello = Vec::new();
        self.session.transmit(self.now, &mut hello, 8).unwrap();
        assert_eq!(hello.len(), 1);
        self.session
            .handle(self.now, welcome(next, digest))
            .unwrap()
    }

    /// Its process starts again; whether the outbox is an image it doesn't know.
    fn restart(&mut self) {
        self.session = session_on(&self.outbox, &SharedDead::default());
    }

    fn hear(&mut self, message: Message) {
        assert_eq!(self.session.handle(self.now, message).unwrap(), None);
    }

    /// First numbers of the frames that are sent now.
    fn sent(&mut self) -> Vec<u64> {
        let mut out = Vec::new();
        self.session.transmit(self.now, &mut out, 64).unwrap();
        let first = |bytes: &Bytes| frame::range(bytes).unwrap().0;
        out.iter().map(first).collect()
    }
}

#[test]
fn a_slow_commit_does_not_hold_the_window_and_the_outbox_keeps_everything() {
    let mut device = Device::new(20, MemoryConfig::default());
    device.meet(1);
    let mut at = 0;
    while at < 20 {
        assert_eq!(device.sent(), (at + 1..=at + 4).collect::<Vec<_>>());
        at += 4;
        device.hear(ack(at, 0));
    }
    let totals = device.session.totals();
    assert_eq!((totals.journalled, totals.committed), (20, 0));
    assert!(device.outbox.frame_of(1).unwrap().is_some());
    device.hear(ack(20, 13));
    assert_eq!(device.session.totals().committed, 13);
    assert!(device.outbox.frame_of(1).unwrap().is_none());
    assert!(device.outbox.frame_of(14).unwrap().is_some());
    device.hear(ack(20, 20));
    assert_eq!(device.session.standing().pending_bytes, 0);
}

#[test]
fn the_bound_of_the_outbox_is_what_a_commit_that_does_not_come_runs_into() {
    let config = MemoryConfig {
        frames_max: 8,
        ..MemoryConfig::default()
    };
    let has_room = |device: &Device| device.outbox.0.lock().unwrap().has_room();
    let mut device = Device::new(8, config);
    assert!(has_room(&device));
    device.append(1);
    device.meet(1);
    for upto in [4, 8, 9] {
        assert!(!device.sent().is_empty());
        device.hear(ack(upto, 0));
    }
    assert!(device.session.window_open());
    assert!(!has_room(&device));
    device.hear(ack(9, 5));
    assert!(has_room(&device));
    device.append(1);
    assert_eq!(device.sent(), [10]);
}

#[test]
fn what_is_not_committed_is_said_again_so_that_its_commit_is_heard() {
    let mut device = Device::new(6, MemoryConfig::default());
    device.meet(1);
    device.sent();
    device.hear(ack(4, 2));
    assert_eq!(device.sent(), [5, 6]);
    device.hear(ack(6, 2));
    device.session.disconnected();
    // The engine has them all, and nothing new comes that could bring an ack.
    device.meet(7);
    assert_eq!(device.session.totals().journalled, 6);
    assert_eq!(device.sent(), [3, 4, 5, 6]);
    device.hear(ack(6, 2));
    device.hear(ack(6, 6));
    assert_eq!(device.session.totals().committed, 6);
    assert_eq!(device.session.standing().pending_bytes, 0);
}

#[test]
fn what_another_engine_does_not_know_is_sent_to_it_although_it_was_journalled() {
    let mut device = Device::new(8, MemoryConfig::default());
    device.meet(1);
    device.sent();
    device.hear(ack(4, 2));
    device.sent();
    device.hear(ack(8, 2));
    device.session.disconnected();
    // The disk is lost; another engine goes on from the last commit but one event.
    device.meet(4);
    assert_eq!(device.session.totals().journalled, 3);
    assert_eq!(device.sent(), [3, 4, 5, 6]);
    device.hear(ack(6, 3));
    assert_eq!(device.sent(), [7, 8]);
    device.hear(ack(8, 8));
    assert_eq!(device.session.totals().committed, 8);
}

#[test]
fn an_event_that_its_source_may_have_sent_again_does_not_speak_for_those_before_it() {
    let mut device = Device::new(3, MemoryConfig::default());
    device.meet(1);
    assert_eq!(device.sent(), [1, 2, 3]);
    device.restart();
    assert_eq!(device.accepted(4), Some(End::Renew));
    device.restart();
    assert_eq!(device.accepted(2), None);
    // What this session has sent, the engine has from it.
    assert_eq!(device.sent(), [1, 2, 3]);
    for next in [1, 4] {
        device.session.disconnected();
        device.meet(next);
    }
}

#[test]
fn an_event_without_an_id_speaks_for_those_before_it() {
    let mut device = Device::new(2, MemoryConfig::default());
    let mut builder = till_protocol::builder::StockBuilder::new();
    let moved = till_protocol::family::stock::v1::Move {
        at: 9,
        sku: 7,
        quantity: 100_000,
        kind: till_protocol::family::stock::v1::kind::RECEIVED,
        unit: 1,
        ..Default::default()
    };
    builder.push(&moved, &[], &[]).unwrap();
    let frame = builder.finish(seq(3)).unwrap();
    device.session.append(frame).unwrap();
    device.meet(1);
    device.restart();
    device.meet(4);
}
