//! An epoch that goes on after a comparison.

use till_protocol::code::Reason;
use till_protocol::id::Epoch;
use till_protocol::reply::{Ack, Checked, Welcome};
use till_protocol::time::{DeviceTime, Timestamp};

use super::{World, seq, terminal};
use crate::session::End;

/// An engine may have less than another one has journalled of the same epoch and hands off later.
#[test]
fn an_epoch_of_which_all_that_the_engine_has_is_found_goes_on() {
    let (world, ended) = compared(None);
    assert_eq!(ended, Some(End::Renew));
    assert_eq!(world.session.epoch_to_ask_for(), Some(Epoch::FIRST));
    assert_eq!(world.session.standing().epoch, Some(Epoch::FIRST));
}

/// What was refused among it says nothing against it: in a new epoch what is handed off later would count once more.
#[test]
fn an_epoch_of_which_something_was_refused_goes_on() {
    let (world, ended) = compared(Some(1));
    assert_eq!(ended, Some(End::Renew));
    assert_eq!(world.session.epoch_to_ask_for(), Some(Epoch::FIRST));
}

/// The last event is what the engine shows for the history of the epoch, and as a dead letter it could not be held against it.
#[test]
fn an_epoch_whose_last_event_was_refused_does_not_go_on() {
    let (world, ended) = compared(Some(2));
    assert_eq!(ended, None);
    assert_eq!(world.session.standing().epoch, Epoch::new(2).ok());
}

// An engine has two events more than the device knows of; one of them was refused.
fn compared(refused: Option<u64>) -> (World, Option<End>) {
    let mut world = World::new(14);
    world.make_events();
    world.quiesce();
    world.make_events();
    world.make_events();
    world.cut();
    let committed = world.session.standing().committed;
    let welcome = |epoch: u32, next: u64| Welcome {
        terminal: terminal(),
        epoch: Epoch::new(epoch).unwrap(),
        latest_epoch: Epoch::FIRST,
        next_seq: seq(next),
        digest: 1,
        credit_frames: 4,
        frame_bytes_max: 1 << 20,
        frame_events_max: 1_024,
        time: Timestamp::default(),
        flags: 0,
    };
    // Its last event is not known for this device's: that of an event with an id would not be either.
    world.session.connected(DeviceTime::default());
    let ended = world
        .session
        .handle(world.now, welcome(1, committed + 3).into());
    assert_eq!(ended.unwrap(), Some(End::Renew));
    assert_eq!(world.session.epoch_to_ask_for(), None);
    world.session.connected(DeviceTime::default());
    let granted = world.session.handle(world.now, welcome(2, 1).into());
    assert_eq!(granted.unwrap(), None);
    if let Some(refused) = refused {
        let ack = Ack {
            refusals: vec![(seq(committed + refused), Reason::BadTime)],
            ..Ack::default()
        };
        let ended = world.session.handle(world.now, ack.into());
        assert_eq!(ended.unwrap(), None);
    }
    let checked = Checked {
        epoch: Epoch::FIRST,
        first_seq: seq(committed + 1),
        matched: 2,
        known: 2,
    };
    let ended = world.session.handle(world.now, checked.into());
    (world, ended.unwrap())
}
