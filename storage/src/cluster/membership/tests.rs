use std::time::Duration;

use super::{Duty, MemberConfig, Membership, Route};
use crate::cluster::{NodeId, NodeRow, SlotRow};

const LEASE: Duration = Duration::from_secs(5);

const fn at(ms: u64) -> Duration {
    Duration::from_millis(1_000_000 + ms)
}

const fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn member(slots: u32, former: Option<NodeId>) -> Membership {
    let config = MemberConfig {
        me: node(1),
        former,
        address: "one".to_owned(),
        lease: LEASE,
        slots,
        started_us: 0,
    };
    Membership::new(config, at(0))
}

fn peer(number: u8, beat: u64) -> NodeRow {
    NodeRow {
        node: node(number),
        address: format!("node {number}"),
        beat,
        lease: LEASE,
        started_us: 0,
        is_leaving: false,
        lag: Duration::ZERO,
    }
}

fn slots(owners: &[Option<u8>]) -> Vec<SlotRow> {
    let rows = (0..).zip(owners).map(|(slot, owner)| SlotRow {
        slot,
        epoch: 7,
        owner: owner.map(node),
        address: "there".to_owned(),
        ..SlotRow::default()
    });
    rows.collect()
}

/// Ticks and answers everything with these rows; what else is to be done.
fn round(member: &mut Membership, ms: u64, nodes: &[NodeRow], slots: &[SlotRow]) -> Vec<Duty> {
    member.tick(at(ms));
    let mut rest = Vec::new();
    loop {
        let duties: Vec<Duty> = member.drain().collect();
        if duties.is_empty() {
            return rest;
        }
        for duty in duties {
            match duty {
                Duty::Beat(row) => member.beaten(at(ms), row.beat),
                Duty::ReadNodes { read } => member.nodes_read(at(ms), read, nodes),
                Duty::ReadSlots { read } => member.slots_read(at(ms), read, slots),
                other => rest.push(other),
            }
        }
    }
}

fn acquired(duties: &[Duty]) -> Vec<u32> {
    let mut slots: Vec<u32> = duties
        .iter()
        .filter_map(|duty| match duty {
            Duty::Acquire(row) => Some(row.slot),
            _ => None,
        })
        .collect();
    slots.sort_unstable();
    slots
}

#[test]
fn a_node_alone_takes_everything_that_is_free() {
    let mut member = member(4, None);
    assert!(!member.may_serve(at(0)));
    let duties = round(&mut member, 0, &[], &slots(&[None; 4]));
    assert_eq!(duties[0], Duty::Resume);
    assert_eq!(acquired(&duties), [0, 1, 2, 3]);
    assert!(member.may_serve(at(0)));
    assert_eq!(member.route(2), Route::Nowhere);
    member.taken(at(10), 2);
    assert_eq!(member.route(2), Route::Here);
}

#[test]
fn a_node_is_dead_when_its_beat_stood_still_for_a_lease() {
    let mut member = member(2, None);
    let rows = slots(&[Some(2), Some(2)]);
    for ms in (0..5_000).step_by(250) {
        let duties = round(&mut member, ms, &[peer(2, 9)], &rows);
        assert_eq!(acquired(&duties), [0_u32; 0], "at {ms} ms");
        if ms > 0 {
            assert_eq!(member.route(0), Route::At("there".to_owned()));
        }
    }
    let duties = round(&mut member, 5_000, &[peer(2, 9)], &rows);
    assert_eq!(acquired(&duties), [0, 1]);
    assert_eq!(member.route(0), Route::Nowhere);
}

#[test]
fn a_beat_that_moves_keeps_a_node_alive_and_reads_that_fail_prove_nothing() {
    let mut member = member(2, None);
    let rows = slots(&[Some(2), Some(2)]);
    for ms in (0..20_000).step_by(500) {
        let duties = round(&mut member, ms, &[peer(2, ms)], &rows);
        assert_eq!(acquired(&duties), [0_u32; 0], "at {ms} ms");
    }
    // Nothing is read for a long time; the first read then shows a beat that has moved.
    let duties = round(&mut member, 60_000, &[peer(2, 60_000)], &rows);
    assert_eq!(acquired(&duties), [0_u32; 0]);
}

#[test]
fn a_node_that_cannot_beat_stops_before_others_may_take_its_slots() {
    let mut member = member(1, None);
    round(&mut member, 0, &[], &slots(&[None]));
    member.taken(at(1), 0);
    assert!(member.may_serve(at(4_499)));
    assert!(!member.may_serve(at(4_500)));
    member.tick(at(4_500));
    let duties: Vec<Duty> = member.drain().collect();
    assert_eq!(duties[0], Duty::Suspend);
    // A beat of long ago that is acknowledged now says nothing about now; a new one does.
    let Duty::Beat(row) = &duties[1] else {
        panic!("{duties:?}");
    };
    assert!(!member.may_serve(at(4_600)));
    member.beaten(at(4_700), row.beat);
    assert_eq!(member.drain().next(), Some(Duty::Resume));
    assert!(member.may_serve(at(4_700)));
}

#[test]
fn a_restarted_node_takes_its_former_slots_without_waiting() {
    let mut member = member(2, Some(node(9)));
    let rows = slots(&[Some(9), Some(2)]);
    let duties = round(&mut member, 0, &[peer(9, 4), peer(2, 1)], &rows);
    assert_eq!(acquired(&duties), [0]);
}

#[test]
fn the_excess_goes_to_a_node_that_has_too_little_and_never_to_nobody() {
    let mut member = member(16, None);
    let rows = slots(&[None; 16]);
    round(&mut member, 0, &[], &rows);
    let rows = slots(&[Some(1); 16]);
    for slot in 0..16 {
        member.taken(at(1), slot);
    }
    let duties = round(&mut member, 1_000, &[], &rows);
    assert_eq!(duties, []);
    let duties = round(&mut member, 2_000, &[peer(2, 1)], &rows);
    // An eighth at a time.
    assert_eq!(duties.len(), 2, "{duties:?}");
    assert!(
        duties
            .iter()
            .all(|duty| matches!(duty, Duty::Release { .. }))
    );
    member.leave(at(2_100));
    let duties: Vec<Duty> = member.drain().collect();
    assert!(!duties.iter().any(|duty| matches!(duty, Duty::Acquire(_))));
}

#[test]
fn more_than_anybody_should_have_goes_back_although_nobody_has_too_little() {
    let mut member = member(5, None);
    round(&mut member, 0, &[], &slots(&[None; 5]));
    for slot in 0..5 {
        member.taken(at(1), slot);
    }
    let mut rows = slots(&[Some(1), Some(1), Some(1), Some(2), Some(3)]);
    for slot in [3, 4] {
        let row = &mut rows[slot];
        row.epoch = 8;
        member.ended(at(2), row.slot, Some(row));
    }
    let mut released = Vec::new();
    for ms in (1_000..8_000).step_by(250) {
        let peers = [peer(2, ms), peer(3, ms)];
        for duty in round(&mut member, ms, &peers, &rows) {
            assert!(matches!(duty, Duty::Release { .. }), "{duty:?}");
            released.push(ms);
        }
    }
    // Once the two others have had half a lease to see what will come.
    assert_eq!(released, [3_500]);
}
