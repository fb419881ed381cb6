use till_protocol::codec::FrameDecoder;
use till_protocol::id::{Epoch, StoreId, TillId};
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

/// A session of a life in which `known` events are known.
fn greeted(known: u64) -> Session {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let session = Session::new(terminal);
    session.greeted(Greeted {
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
        mark: 77,
        credit_frames: 128,
        frame_bytes_max: 1 << 20,
        frame_events_max: 1_024,
        time: Timestamp::default(),
        flags: 0,
    });
    session
}

fn said(session: &Session) -> Vec<Message> {
    let mut decoder = FrameDecoder::new();
    decoder.push(session.take().bytes);
    let mut messages = Vec::new();
    while let Some(frame) = decoder.next().unwrap() {
        messages.push(Message::decode(&frame).unwrap());
    }
    messages
}

fn acks(session: &Session) -> Vec<Ack> {
    let acks = said(session).into_iter().map(|message| match message {
        Message::Ack(ack) => ack,
        other => panic!("{other:?}"),
    });
    acks.collect()
}

// What the journal's thread does at the end of a group.
fn durable(session: &Session, upto: u64, refusals: Vec<(Seq, Reason)>) {
    if session.durable(upto, refusals) {
        session.tell();
    }
}

/// The device may have other events under those numbers: it must not take them for acknowledged.
#[test]
fn a_greeting_acknowledges_nothing() {
    let session = greeted(9);
    assert!(matches!(said(&session)[..], [Message::Welcome(_)]));
    session.flag();
    assert_eq!(said(&session), []);
    // What it sends again is its own, and no more of it.
    durable(&session, 4, Vec::new());
    assert_eq!(acks(&session)[0].committed, Some(seq(4)));
    durable(&session, 12, Vec::new());
    assert_eq!(acks(&session)[0].committed, Some(seq(12)));
}

/// A device forgets what an ack covers, so that a refusal that comes behind it would be lost.
#[test]
fn an_ack_ends_before_the_first_refusal_that_it_has_no_room_for() {
    for count in [1, 1_024, 1_025, 2_048, 5_000] {
        let session = greeted(0);
        said(&session);
        durable(&session, 2 * count + 7, refused((1..=count).map(|n| 2 * n)));
        let acks = acks(&session);
        let mut told = Vec::new();
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
            told.extend(numbers);
            before = upto;
        }
        assert_eq!(before, 2 * count + 7);
        assert_eq!(told, (1..=count).map(|n| 2 * n).collect::<Vec<_>>());
        assert_eq!(acks.len(), usize::try_from(count.div_ceil(1_024)).unwrap());
    }
}

#[test]
fn refusals_of_what_is_sent_again_wait_for_the_ack_that_covers_them() {
    let session = greeted(9);
    said(&session);
    session.refused(refused([3, 6].into_iter()));
    durable(&session, 4, Vec::new());
    let first = acks(&session);
    assert_eq!(first[0].refusals, refused([3].into_iter()));
    durable(&session, 9, Vec::new());
    let second = acks(&session);
    assert_eq!(second[0].refusals, refused([6].into_iter()));
}

#[test]
fn a_device_that_reads_no_refusals_is_left_without_an_ack_that_hides_one() {
    let session = greeted(0);
    said(&session);
    let mut upto = 0;
    while !session.is_over() {
        durable(&session, upto + 1_000, refused(upto + 1..=upto + 1_000));
        upto += 1_000;
    }
    assert!(upto <= 70_000, "{upto} refusals were kept");
    durable(&session, upto + 1, Vec::new());
    let said = said(&session);
    assert!(
        matches!(&said[..], [Message::Bye(bye)] if bye.reason == Reason::Busy),
        "{said:?}"
    );
}

#[tokio::test]
async fn nobody_waits_for_the_greeting_of_a_session_that_has_ended() {
    let terminal = TerminalId::new(StoreId::new(7).unwrap(), TillId::new(1).unwrap());
    let session = std::sync::Arc::new(Session::new(terminal));
    let waiting = tokio::spawn({
        let session = std::sync::Arc::clone(&session);
        async move { session.welcomed().await.is_none() }
    });
    tokio::task::yield_now().await;
    session.close();
    assert!(waiting.await.unwrap());
}
