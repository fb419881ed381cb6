//! A device that comes back: what it is told of what it has sent before.

use bytes::Bytes;
use till_protocol::codec::encode_frame;
use till_protocol::family::stock::v1::Move;
use till_protocol::reply::Checked;

use super::*;

/// A frame of good events around one whose kind is not known.
fn two_good_and_one_odd(first: u64) -> (Bytes, Vec<u64>) {
    let mut odd = tea(first + 1, 1);
    odd.kind = 99;
    let moves = [tea(first, 1), odd, tea(first + 2, 1)];
    let digests = moves.iter().map(digest_of).collect();
    (hand_made(first, &moves), digests)
}

async fn check(device: &mut Device, first: u64, digests: Vec<u64>) -> Vec<Message> {
    let check = Check {
        epoch: till_protocol::id::Epoch::FIRST,
        first_seq: seq(first),
        digests,
    };
    device.send(check.encode()).await;
    let mut said = Vec::new();
    loop {
        said.push(device.next().await.expect("no answer to a Check"));
        if let Some(Message::Checked(_)) = said.last() {
            return said;
        }
    }
}

fn found(said: &[Message]) -> (u16, u16) {
    match said.last() {
        Some(Message::Checked(Checked { matched, known, .. })) => (*matched, *known),
        other => panic!("{other:?}"),
    }
}

/// The device may hold other events under those numbers.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_is_told_of_nothing_that_it_has_not_sent_again() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    device.send(teas(1, 9)).await;
    device.acked(9).await;
    let (mut again, welcome) = Device::open(&connection, 7, 1, 1).await;
    assert_eq!(
        (welcome.next_seq, welcome.digest),
        (seq(10), digest_of(&tea(9, 1)))
    );
    let said = check(&mut again, 1, vec![digest_of(&tea(1, 1)), 5]).await;
    assert!(matches!(said[..], [Message::Checked(_)]), "{said:?}");
    assert_eq!(found(&said), (1, 2));
    again.send(teas(1, 4)).await;
    match again.next().await {
        Some(Message::Ack(ack)) => assert_eq!(ack.committed, Some(seq(4))),
        other => panic!("{other:?}"),
    }
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_whose_ack_was_lost_is_told_again() {
    let dir = folder();
    let first = engine(dir.path()).await;
    let connection = connect(&first).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let unreadable = encode_frame(4, 1, 2, 4, b"no archive at all");
    device.send(two_good_and_one_odd(1).0).await;
    device.send(unreadable.clone()).await;
    device.send(two_good_and_one_odd(6).0).await;
    let refused = [
        (seq(2), Reason::UnknownKind),
        (seq(4), Reason::Unreadable),
        (seq(5), Reason::Unreadable),
        (seq(7), Reason::UnknownKind),
    ];
    assert_eq!(device.acked(8).await, refused);
    let again = async |engine: &Handle| {
        let connection = connect(engine).await;
        let (mut device, welcome) = Device::open(&connection, 7, 1, 1).await;
        assert_eq!(welcome.next_seq, seq(9));
        device.send(two_good_and_one_odd(1).0).await;
        device.send(unreadable.clone()).await;
        device.send(two_good_and_one_odd(6).0).await;
        assert_eq!(device.acked(8).await, refused);
    };
    again(&first).await;
    assert_eq!(level(&first, 7).await, "4");
    first.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_equals_the_refused_event_and_no_other() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let (frame, digests) = two_good_and_one_odd(1);
    device.send(frame).await;
    device
        .send(encode_frame(4, 1, 1, 4, b"no archive at all"))
        .await;
    device.acked(4).await;
    let (mut again, _) = Device::open(&connection, 7, 1, 1).await;
    for place in [1, 3] {
        let mut other = [&digests[..], &[0]].concat();
        other[place] = digest_of(&tea(70, 1));
        let said = check(&mut again, 1, other).await;
        assert_eq!(found(&said), (u16::try_from(place).unwrap(), 4));
    }
    let said = check(&mut again, 1, [&digests[..], &[0]].concat()).await;
    assert_eq!(found(&said), (4, 4));
    match &said[0] {
        Message::Ack(ack) => assert_eq!(
            ack.refusals,
            [(seq(2), Reason::UnknownKind), (seq(4), Reason::Unreadable)]
        ),
        other => panic!("{other:?}"),
    }
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_arrives_before_the_ack_that_covers_it_however_many_there_are() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    let (mut device, _) = Device::open(&connection, 7, 1, 0).await;
    let frame = |number: u64| encode_frame(4, 1, 1_024, 1 + number * 1_024, b"no archive at all");
    for number in 0..5 {
        device.send(frame(number)).await;
    }
    let all: Vec<u64> = (1..=5 * 1_024).collect();
    let told = device.acked(5 * 1_024).await;
    let told: Vec<u64> = told.iter().map(|(seq, _)| seq.get()).collect();
    assert_eq!(told, all);
    let (mut again, _) = Device::open(&connection, 7, 1, 1).await;
    for number in 0..5 {
        again.send(frame(number)).await;
    }
    let told = again.acked(5 * 1_024).await;
    let told: Vec<u64> = told.iter().map(|(seq, _)| seq.get()).collect();
    assert_eq!(told, all);
    engine.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_answered_with_the_end_of_the_stream_after_the_last_ack() {
    let dir = folder();
    let engine = engine(dir.path()).await;
    let connection = connect(&engine).await;
    for till in 1..=40 {
        let (mut device, _) = Device::open(&connection, 7, till, 0).await;
        device.send(teas(1, 3)).await;
        device.send(Message::Goodbye.encode()).await;
        match device.next().await {
            Some(Message::Ack(ack)) => assert_eq!(ack.committed, Some(seq(3))),
            other => panic!("{other:?}"),
        }
        assert_eq!(device.next().await, None);
    }
    assert_eq!(level(&engine, 7).await, "120");
    engine.drain().await.unwrap();
}

fn digest_of(one: &Move) -> u64 {
    till_protocol::digest::stock_digest(one)
}
