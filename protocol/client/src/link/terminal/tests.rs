use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use till_protocol::family::device::v1 as device;
use till_protocol::family::stock::v1 as stock;
use till_protocol::id::{SkuId, StoreId, TillId};

use super::*;
use crate::deadletter::NoDeadLetters;
use crate::frame;
use crate::outbox::Outbox as _;
use crate::session::SessionConfig;
use crate::testing::FullDisk;

const FRAME_EVENTS: u32 = 4;

fn state_on(disk: &FullDisk) -> State {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let session = Session::new(
        SessionConfig::new(terminal),
        Box::new(disk.clone()),
        Box::new(NoDeadLetters),
    );
    State::new(session, FRAME_EVENTS)
}

fn delivery(at: i64) -> Event<'static> {
    let record = Move {
        at,
        sku: SkuId::of_code("milk").get(),
        quantity: 100_000,
        kind: stock::kind::RECEIVED,
        unit: 1,
        ..Move::default()
    };
    Event::Stock(record, &[], &[])
}

fn heartbeat(at: i64) -> Event<'static> {
    let record = Sign {
        at,
        kind: device::kind::HEARTBEAT,
        ..Sign::default()
    };
    Event::Device(record, &[], &[])
}

/// digests of all events in the outbox.
fn digests(disk: &FullDisk) -> BTreeSet<u64> {
    let mut held = disk.held.lock().unwrap();
    let last = held.standing().last;
    let digest_of = |seq| {
        let stored = held.frame_of(seq).unwrap().unwrap();
        frame::digest(&stored.bytes, u32::try_from(seq - stored.first).unwrap()).unwrap()
    };
    (1..=last).map(digest_of).collect()
}

/// Pushes events into a full disk; what was accepted is there once, and nothing else, when there is room again.
fn assert_kept(event: impl Fn(i64) -> Event<'static>) {
    let disk = FullDisk::default();
    let mut state = state_on(&disk);
    disk.is_full.store(true, Ordering::Relaxed);
    let taken: Vec<i64> = (0..40)
        .filter(|at| state.push(&event(*at)).is_ok())
        .collect();
    assert!(!taken.is_empty() && taken.len() < 40, "{taken:?}");
    let count = u64::try_from(taken.len()).unwrap();
    assert_eq!(state.totals().appended, count);
    assert!(state.totals().durable < count);
    state.sync_job().unwrap_err();

    disk.is_full.store(false, Ordering::Relaxed);
    state.push(&event(40)).unwrap();
    state.sync_job().unwrap();
    assert_eq!(state.totals().appended, count + 1);
    assert_eq!(state.totals().durable, count + 1);

    let calm = FullDisk::default();
    let mut same = state_on(&calm);
    for at in taken.into_iter().chain([40]) {
        same.push(&event(at)).unwrap();
    }
    same.sync_job().unwrap();
    assert_eq!(digests(&disk), digests(&calm));
    assert_eq!(disk.standing().last, calm.standing().last);
}

#[test]
fn what_was_accepted_before_the_disk_was_full_is_neither_lost_nor_doubled() {
    assert_kept(delivery);
}

#[test]
fn a_frame_that_another_family_closed_on_a_full_disk_is_neither_lost_nor_doubled() {
    assert_kept(|at| match at % 3 {
        0 => heartbeat(at),
        _ => delivery(at),
    });
}
