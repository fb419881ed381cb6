mod fleet;

use std::time::Duration;

use super::{Duty, MemberConfig, Membership, Route};
use crate::cluster::{Constraints, NodeId, NodeRow, SlotRow};

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

fn peer(number: u8, heartbeat: u64) -> NodeRow {
    NodeRow {
        node: node(number),
        address: format!("node {number}"),
        heartbeat,
        lease: LEASE,
        started_us: 0,
        is_leaving: false,
        lag: Duration::ZERO,
        moves: 0,
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
    round_with(member, ms, (nodes, slots), &Constraints::default())
}

fn round_with(
    member: &mut Membership,
    ms: u64,
    (nodes, slots): (&[NodeRow], &[SlotRow]),
    constraints: &Constraints,
) -> Vec<Duty> {
    member.tick(at(ms));
    let mut rest = Vec::new();
    loop {
        let duties: Vec<Duty> = member.drain().collect();
        if duties.is_empty() {
            return rest;
        }
        for duty in duties {
            match duty {
                Duty::Heartbeat(row) => member.heartbeat_written(at(ms), row.heartbeat),
                Duty::ReadNodes { read } => member.nodes_read(at(ms), read, nodes),
                Duty::ReadSlots { read } => member.slots_read(at(ms), read, slots),
                Duty::ReadConstraints { read } => {
                    member.constraints_read(at(ms), read, constraints)
                }
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

/// Ticks, and says whether the slots are read.
fn reads_slots(member: &mut Membership, ms: u64, nodes: &[NodeRow], slots: &[SlotRow]) -> bool {
    member.tick(at(ms));
    let duties: Vec<Duty> = member.drain().collect();
    let is_read = |duty: &Duty| matches!(duty, Duty::ReadSlots { .. });
    let reads = duties.iter().any(is_read);
    for duty in duties {
        match duty {
            Duty::Heartbeat(row) => member.heartbeat_written(at(ms), row.heartbeat),
            Duty::ReadNodes { read } => member.nodes_read(at(ms), read, nodes),
            Duty::ReadSlots { read } => member.slots_read(at(ms), read, slots),
            Duty::ReadConstraints { read } => {
                member.constraints_read(at(ms), read, &Constraints::default());
            }
            _ => {}
        }
    }
    drop(member.drain());
    reads
}

#[test]
fn slots_are_read_seldom_while_none_moves_and_at_once_when_a_heartbeat_says_that_one_has() {
    let mut member = member(2, None);
    let rows = slots(&[Some(2), Some(3)]);
    let mut peers = [peer(2, 0), peer(3, 0)];
    let mut reads = 0;
    for ms in (0..60_000).step_by(250) {
        peers.iter_mut().for_each(|peer| peer.heartbeat = ms);
        reads += u32::from(reads_slots(&mut member, ms, &peers, &rows));
    }
    // Of 120 looks: all while it is restless, then one a lease.
    assert!((11..=40).contains(&reads), "{reads}");
    // Right behind one of these, so that no other is due.
    let mut looks = (60_000..).step_by(250);
    let last = looks
        .find(|ms| reads_slots(&mut member, *ms, &peers, &rows))
        .unwrap();
    peers[1].moves += 1;
    let mut looked = (last + 250..last + 1_500).step_by(250);
    // The node's row is read first.
    assert!(looked.any(|ms| reads_slots(&mut member, ms, &peers, &rows)));
    // Where a slot is nobody's, everybody looks often.
    let free = slots(&[Some(2), None]);
    let looked = (last + 1_500..last + 10_000).step_by(250);
    let looked = looked.filter(|ms| reads_slots(&mut member, *ms, &peers, &free));
    assert!(looked.count() >= 8);
}

#[test]
fn a_node_is_dead_when_its_heartbeat_stood_still_for_a_lease() {
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
fn a_heartbeat_that_moves_keeps_a_node_alive_and_reads_that_fail_prove_nothing() {
    let mut member = member(2, None);
    let rows = slots(&[Some(2), Some(2)]);
    for ms in (0..20_000).step_by(500) {
        let duties = round(&mut member, ms, &[peer(2, ms)], &rows);
        assert_eq!(acquired(&duties), [0_u32; 0], "at {ms} ms");
    }
    // Nothing is read for a long time; the first read then shows a heartbeat that has moved.
    let duties = round(&mut member, 60_000, &[peer(2, 60_000)], &rows);
    assert_eq!(acquired(&duties), [0_u32; 0]);
}

#[test]
fn a_node_that_cannot_write_its_heartbeat_stops_before_others_may_take_its_slots() {
    let mut member = member(1, None);
    round(&mut member, 0, &[], &slots(&[None]));
    member.taken(at(1), 0);
    assert!(member.may_serve(at(4_499)));
    assert!(!member.may_serve(at(4_500)));
    member.tick(at(4_500));
    let duties: Vec<Duty> = member.drain().collect();
    assert_eq!(duties[0], Duty::Suspend);
    // A heartbeat of long ago that is acknowledged now says nothing about now; a new one does.
    let Duty::Heartbeat(row) = &duties[1] else {
        panic!("{duties:?}");
    };
    assert!(!member.may_serve(at(4_600)));
    member.heartbeat_written(at(4_700), row.heartbeat);
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
    // Others give slots to a node that has none: it says that it leaves before it has none.
    assert!(matches!(&duties[0], Duty::Heartbeat(row) if row.is_leaving));
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

fn constrained(slots: &[(u32, &str)], cordoned: &[&str]) -> Constraints {
    let slots = slots.iter().map(|(slot, at)| (*slot, (*at).to_owned()));
    let cordoned = cordoned.iter().map(|at| (*at).to_owned());
    Constraints {
        slots: slots.collect(),
        cordoned: cordoned.collect(),
    }
}

fn released(duties: &[Duty]) -> Vec<u32> {
    let slots = duties.iter().filter_map(|duty| match duty {
        Duty::Release { slot } => Some(*slot),
        _ => None,
    });
    slots.collect()
}

#[test]
fn nothing_is_taken_before_the_placement_constraints_are_known_or_a_lease_has_gone_by() {
    let mut member = member(4, None);
    let mut taken_at = None;
    for ms in (0..=5_000).step_by(250) {
        member.tick(at(ms));
        for duty in member.drain().collect::<Vec<_>>() {
            match duty {
                Duty::Heartbeat(row) => member.heartbeat_written(at(ms), row.heartbeat),
                Duty::ReadNodes { read } => member.nodes_read(at(ms), read, &[]),
                Duty::ReadSlots { read } => member.slots_read(at(ms), read, &slots(&[None; 4])),
                _ => {}
            }
        }
        let duties: Vec<Duty> = member.drain().collect();
        if !acquired(&duties).is_empty() {
            taken_at = taken_at.or(Some(ms));
        }
    }
    assert_eq!(taken_at, Some(5_000));
}

#[test]
fn a_placement_constraint_wins_over_the_even_share_and_one_for_a_dead_node_is_none() {
    let constraints = constrained(
        &[(0, "node 2"), (1, "one"), (2, "nobody"), (99, "one")],
        &[],
    );
    let peers = [peer(2, 1)];
    let mut member = member(4, None);
    let rows = slots(&[None; 4]);
    let duties = round_with(&mut member, 0, (&peers, &rows), &constraints);
    let taken = acquired(&duties);
    // Its share is two: the one that is wished here, and one that nobody in particular shall have.
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert!(taken.contains(&1) && !taken.contains(&0), "{taken:?}");
    // The other one does not beat any more: what is constrained to it is like any other slot.
    let mut taken: Vec<u32> = taken;
    for ms in (250..6_000).step_by(250) {
        taken.extend(acquired(&round_with(
            &mut member,
            ms,
            (&peers, &rows),
            &constraints,
        )));
    }
    taken.sort_unstable();
    assert_eq!(taken, [0, 1, 2, 3]);
}

#[test]
fn a_slot_that_shall_be_elsewhere_goes_there_and_stays_where_it_was_let_lie() {
    let constraints = constrained(&[(0, "node 2")], &[]);
    let mut member = member(2, None);
    round(&mut member, 0, &[], &slots(&[None; 2]));
    (0..2).for_each(|slot| member.taken(at(1), slot));
    let mut rows = slots(&[Some(1), Some(2)]);
    let ended = rows[1].clone();
    member.ended(at(2), 1, Some(&SlotRow { epoch: 8, ..ended }));
    rows[1].epoch = 8;
    let duties = round_with(&mut member, 500, (&[peer(2, 1)], &rows), &constraints);
    assert_eq!(released(&duties), [0]);
    member.ended(at(600), 0, None);
    rows[0] = SlotRow {
        epoch: 8,
        owner: None,
        ..rows[0].clone()
    };
    let (mut taken, mut given) = (Vec::new(), Vec::new());
    for ms in (750..80_000).step_by(250) {
        let duties = round_with(&mut member, ms, (&[peer(2, ms)], &rows), &constraints);
        for slot in acquired(&duties) {
            taken.push(ms);
            member.taken(at(ms), slot);
            rows[0].owner = Some(node(1));
            rows[0].epoch += 1;
        }
        for slot in released(&duties) {
            given.push(ms);
            rows[0].owner = None;
            rows[0].epoch += 1;
            member.ended(at(ms), slot, Some(&rows[0]));
        }
    }
    // The other one is alive and does not take it: after a lease it is served here again, for 4 leases and then for 8, up to
    // the next look.
    let kept: Vec<u64> = taken
        .iter()
        .zip(&given)
        .map(|(from, to)| to - from)
        .collect();
    assert_eq!(kept, [20_250, 40_250], "{taken:?} {given:?}");
}

#[test]
fn a_cordoned_node_gives_up_an_eighth_at_a_time_and_takes_nothing() {
    let constraints = constrained(&[(3, "one")], &["one"]);
    let mut member = member(16, None);
    round(&mut member, 0, &[], &slots(&[None; 16]));
    (0..16).for_each(|slot| member.taken(at(1), slot));
    let rows = slots(&[Some(1); 16]);
    // Alone it keeps what it has.
    let duties = round_with(&mut member, 1_000, (&[], &rows), &constraints);
    assert_eq!(duties, []);
    let duties = round_with(&mut member, 2_000, (&[peer(2, 1)], &rows), &constraints);
    assert_eq!(released(&duties).len(), 2, "{duties:?}");
    let rows = slots(&[None; 16]);
    let mut cordoned = self::member(16, None);
    for ms in (0..9_000).step_by(250) {
        let duties = round_with(&mut cordoned, ms, (&[peer(2, ms)], &rows), &constraints);
        assert_eq!(acquired(&duties), [0_u32; 0], "at {ms} ms");
    }
}
