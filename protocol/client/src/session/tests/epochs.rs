//! An epoch that goes on after a comparison.

use till_protocol::id::Epoch;
use till_protocol::reply::{Checked, Welcome};
use till_protocol::time::{DeviceTime, Timestamp};

use super::{World, seq, terminal};
use crate::session::End;

/// An engine may have less than another one has journalled of the same epoch and hands off later.
#[test]
fn an_epoch_of_which_all_that_the_engine_has_is_found_goes_on() {
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
        .handle(world.now, welcome(1, committed + 2).into());
    assert_eq!(ended.unwrap(), Some(End::Renew));
    assert_eq!(world.session.epoch_to_ask_for(), None);
    world.session.connected(DeviceTime::default());
    let granted = world.session.handle(world.now, welcome(2, 1).into());
    assert_eq!(granted.unwrap(), None);
    let checked = Checked {
        epoch: Epoch::FIRST,
        first_seq: seq(committed + 1),
        matched: 1,
        known: 1,
    };
    let ended = world.session.handle(world.now, checked.into());
    assert_eq!(ended.unwrap(), Some(End::Renew));
    assert_eq!(world.session.epoch_to_ask_for(), Some(Epoch::FIRST));
    assert_eq!(world.session.standing().epoch, Some(Epoch::FIRST));
}
