use till_protocol::codec::FrameDecoder;
use till_protocol::id::{Epoch, StoreId, TillId};
use till_protocol::limits::ACK_REFUSALS_MAX;
use till_protocol::reply::Message;
use till_protocol::time::Timestamp;

use super::*;

fn seq(number: u64) -> Seq {
    Seq::new(number).unwrap()
}

fn refused(numbers: impl Iterator<Item = u64>) -> Vec<(Seq, Reason)> {
    numbers
        .map(|number| (seq(number), Reason::BadTime))
        .collect()
}

fn durable(session: &Session, upto: u64, refusals: &[(Seq, Reason)]) {
    durable_at(session, 0, upto, refusals);
}

fn durable_at(session: &Session, position: u64, upto: u64, refusals: &[(Seq, Reason)]) {
    if session.durable(position, upto, refusals) {
        session.wake();
    }
}

/// A session of an epoch in which `known` events are known.
fn established(known: u64) -> Session {
    established_in(known, &Arc::new(Semaphore::new(1 << 18)))
}

fn established_in(known: u64, room: &Arc<Semaphore>) -> Session {
    established_with(known, room, Commits::WithJournal)
}

/// A session of an engine whose commits come apart from its journal.
fn established_apart() -> Session {
    let session = established_with(0, &Arc::new(Semaphore::new(1 << 18)), Commits::Apart);
    sent(&session);
    session
}

fn established_with(known: u64, room: &Arc<Semaphore>, commits: Commits) -> Session {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let session = Session::new(terminal, Arc::clone(room), commits);
    session.established(Established {
        key: SessionKey {
            terminal,
            epoch: Epoch::FIRST,
            clock_suspect: false,
        },
        known,
        has_refusals: true,
    });
    session.welcome(Welcome {
        terminal,
        epoch: Epoch::FIRST,
        latest_epoch: Epoch::FIRST,
        next_seq: seq(known + 1),
        digest: 77,
        credit_frames: 128,
        frame_bytes_max: 1 << 20,
        frame_events_max: 1_024,
        time: Timestamp::default(),
        flags: 0,
    });
    session
}

fn sent(session: &Session) -> Vec<Message> {
    let mut decoder = FrameDecoder::new();
    let mut messages = Vec::new();
    loop {
        let taken = session.take();
        assert!(taken.bytes.len() < 40_000, "{} bytes", taken.bytes.len());
        if taken.bytes.is_empty() {
            return messages;
        }
        decoder.push(taken.bytes);
        while let Some(frame) = decoder.next().unwrap() {
            messages.push(Message::decode(&frame).unwrap());
        }
        if taken.is_last {
            return messages;
        }
    }
}

fn acks(session: &Session) -> Vec<Ack> {
    let acks = sent(session).into_iter().map(|message| match message {
        Message::Ack(ack) => ack,
        other => panic!("{other:?}"),
    });
    acks.collect()
}

/// The device may have other events under those numbers: it must not take them for acknowledged.
#[test]
fn a_handshake_acknowledges_nothing() {
    let session = established(9);
    assert!(matches!(sent(&session)[..], [Message::Welcome(_)]));
    session.flag();
    assert_eq!(sent(&session), []);
    // What it sends again is its own, and no more of it.
    durable(&session, 4, &[]);
    assert_eq!(acks(&session)[0].committed, Some(seq(4)));
    durable(&session, 12, &[]);
    assert_eq!(acks(&session)[0].committed, Some(seq(12)));
}

/// A device forgets what an ack covers, so that a refusal that comes behind it would be lost.
#[test]
fn an_ack_ends_before_the_first_refusal_that_it_has_no_room_for() {
    for count in [1, 1_024, 1_025, 2_048, 5_000] {
        let session = established(0);
        sent(&session);
        durable(
            &session,
            2 * count + 7,
            &refused((1..=count).map(|n| 2 * n)),
        );
        let acks = acks(&session);
        let mut reported = Vec::new();
        let mut before = 0;
        for ack in &acks {
            let upto = ack.committed.map_or(0, Seq::get);
            let numbers: Vec<u64> = ack.refusals.iter().map(|(seq, _)| seq.get()).collect();
            assert!(numbers.len() <= ACK_REFUSALS_MAX);
            assert!(upto > before, "{upto} after {before}");
            assert!(
                numbers
                    .iter()
                    .all(|number| (before + 1..=upto).contains(number)),
                "refusals beside {before}..{upto}"
            );
            reported.extend(numbers);
            before = upto;
        }
        assert_eq!(before, 2 * count + 7);
        assert_eq!(reported, (1..=count).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(acks.len(), usize::try_from(count.div_ceil(1_024)).unwrap());
    }
}

#[test]
fn refusals_of_what_is_sent_again_wait_for_the_ack_that_covers_them() {
    let session = established(9);
    sent(&session);
    session.refused(&refused([3, 6].into_iter()));
    durable(&session, 4, &[]);
    let first = acks(&session);
    assert_eq!(first[0].refusals, refused([3].into_iter()));
    durable(&session, 9, &[]);
    let second = acks(&session);
    assert_eq!(second[0].refusals, refused([6].into_iter()));
}

#[test]
fn a_device_that_reads_no_refusals_is_left_without_an_ack_that_hides_one() {
    let session = established(0);
    sent(&session);
    let mut upto = 0;
    while !session.is_over() {
        durable(
            &session,
            upto + 1_000,
            &refused((upto + 1..=upto + 1_000).step_by(2)),
        );
        upto += 1_000;
    }
    // All that a device may have sent without an ack fits: 128 frames, of which every second event is refused.
    assert_eq!(upto, 132_000);
    durable(&session, upto + 1, &[]);
    let sent = sent(&session);
    assert!(
        matches!(&sent[..], [Message::Bye(bye)] if bye.reason == Reason::Busy),
        "{sent:?}"
    );
}

#[tokio::test]
async fn nobody_waits_for_the_handshake_of_a_session_that_has_ended() {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let room = Arc::new(Semaphore::new(1));
    let session = Arc::new(Session::new(terminal, room, Commits::WithJournal));
    let waiting = tokio::spawn({
        let session = Arc::clone(&session);
        async move { session.welcomed().await.is_none() }
    });
    tokio::task::yield_now().await;
    session.close();
    assert!(waiting.await.unwrap());
}

/// A frame of 33 bytes may announce 1,024 events, and all of them are refused.
#[test]
fn frames_that_are_refused_whole_take_no_room_however_many_come() {
    let room = Arc::new(Semaphore::new(2));
    let session = established_in(0, &room);
    sent(&session);
    for number in 0..2_000_u64 {
        let first = number * 1_024 + 1;
        durable(&session, first + 1_023, &refused(first..first + 1_024));
    }
    assert_eq!(room.available_permits(), 1);
    let acks = acks(&session);
    assert_eq!(acks.len(), 2_000);
    let last = acks.last().and_then(|ack| ack.committed);
    assert_eq!(last, Some(seq(2_000 * 1_024)));
    let reported = acks.iter().flat_map(|ack| &ack.refusals);
    assert!(
        reported.map(|(seq, _)| seq.get()).eq(1..=2_000 * 1_024),
        "refusals that were not told once and in order"
    );
    assert_eq!(room.available_permits(), 2);
}

#[test]
fn refusals_that_wait_for_all_devices_have_one_bound() {
    let room = Arc::new(Semaphore::new(10));
    let (deaf, other) = (established_in(0, &room), established_in(0, &room));
    sent(&other);
    durable(&deaf, 18, &refused((2..=18).step_by(2)));
    durable(&other, 4, &refused([2, 4].into_iter()));
    let reported = sent(&other);
    assert!(
        matches!(&reported[..], [Message::Bye(bye)] if bye.reason == Reason::Busy),
        "{reported:?}"
    );
    // What it had taken is free at once, and the rest when the deaf one is gone.
    assert_eq!((room.available_permits(), deaf.is_over()), (1, false));
    drop(deaf);
    assert_eq!(room.available_permits(), 10);
}

#[test]
fn a_refusal_that_comes_twice_before_its_ack_is_told_once() {
    let session = established(9);
    sent(&session);
    session.refused(&refused([3, 4, 7].into_iter()));
    durable(&session, 9, &refused([4, 3, 8].into_iter()));
    let reported = acks(&session);
    assert_eq!(reported.len(), 1);
    assert_eq!(reported[0].refusals, refused([3, 4, 7, 8].into_iter()));
}

#[test]
fn the_last_word_comes_behind_every_refusal() {
    let session = established(0);
    sent(&session);
    durable(&session, 5_000, &refused(1..=5_000));
    session.bye(Reason::Draining, None);
    let sent = sent(&session);
    assert_eq!(sent.len(), 6);
    assert!(matches!(
        (&sent[4], &sent[5]),
        (Message::Ack(ack), Message::Bye(_)) if ack.committed == Some(seq(5_000))
    ));
}

fn numbers(acks: &[Ack]) -> Vec<(u64, u64)> {
    let number = |seq: Option<Seq>| seq.map_or(0, Seq::get);
    acks.iter()
        .map(|ack| (number(ack.journalled), number(ack.committed)))
        .collect()
}

#[test]
fn a_commit_that_comes_apart_is_told_when_it_comes() {
    let session = established_apart();
    durable_at(&session, 100, 4, &[]);
    assert_eq!(numbers(&acks(&session)), [(4, 0)]);
    durable_at(&session, 200, 9, &[]);
    assert_eq!(numbers(&acks(&session)), [(9, 0)]);
    session.committed_upto(150);
    assert_eq!(numbers(&acks(&session)), [(9, 4)]);
    // Nothing new is no news.
    session.committed_upto(199);
    assert_eq!(acks(&session), []);
    session.committed_upto(200);
    assert_eq!(numbers(&acks(&session)), [(9, 9)]);
    // What is known at a place that is committed already.
    durable_at(&session, 180, 10, &[]);
    assert_eq!(numbers(&acks(&session)), [(10, 10)]);
}

#[test]
fn no_commit_is_told_beyond_the_refusals_that_are() {
    let session = established_apart();
    durable_at(&session, 100, 5_000, &refused((1..=2_500).map(|n| 2 * n)));
    session.committed_upto(100);
    let acks = acks(&session);
    assert_eq!(acks.len(), 3);
    for ack in &acks {
        assert!(ack.committed <= ack.journalled, "{ack:?}");
        let upto = ack.journalled.map_or(0, Seq::get);
        assert!(ack.refusals.iter().all(|(seq, _)| seq.get() <= upto));
    }
    assert_eq!(numbers(&acks).last(), Some(&(5_000, 5_000)));
}

#[test]
fn steps_that_wait_for_a_commit_are_bounded_and_none_is_told_too_early() {
    let session = established_apart();
    for number in 1..=100_000 {
        durable_at(&session, 10 * number, number, &[]);
    }
    sent(&session);
    session.committed_upto(10 * 20);
    assert_eq!(numbers(&acks(&session)), [(100_000, 20)]);
    session.committed_upto(10 * 500);
    let reported = acks(&session);
    assert!(
        reported
            .last()
            .is_some_and(|ack| ack.committed.map_or(0, Seq::get) <= 500)
    );
    session.committed_upto(10 * 100_000);
    assert_eq!(numbers(&acks(&session)), [(100_000, 100_000)]);
}

#[test]
fn the_last_word_waits_for_the_last_commit() {
    let session = established_apart();
    durable_at(&session, 100, 4, &[]);
    session.end_committed(Farewell::Redirect("there:1".to_owned()));
    assert!(session.is_over());
    assert_eq!(numbers(&acks(&session)), [(4, 0)]);
    session.committed_upto(100);
    let sent = sent(&session);
    assert!(
        matches!(&sent[..], [Message::Ack(ack), Message::Redirect(to)]
            if ack.committed == Some(seq(4)) && to.address == "there:1"),
        "{sent:?}"
    );
}

#[test]
fn the_last_word_of_who_waits_too_long_is_said_without_a_commit() {
    let session = established_apart();
    durable_at(&session, 100, 4, &[]);
    session.end_committed(Farewell::Bye(Reason::Draining));
    // A reason that comes later does not take its place.
    session.bye(Reason::Superseded, None);
    let sent = sent(&session);
    assert!(
        matches!(&sent[..], [Message::Ack(ack), Message::Bye(bye)]
            if ack.committed.is_none() && bye.reason == Reason::Draining),
        "{sent:?}"
    );
    // Nothing waits where nothing was sent, or where a commit is not apart.
    for session in [established_apart(), established(3)] {
        session.end_committed(Farewell::Silent);
        assert!(session.take().is_last);
        session.let_go();
    }
}
