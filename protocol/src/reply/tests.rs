use proptest::prelude::*;

use super::*;
use crate::limits::{ACK_REFUSALS_MAX, CHECK_DIGESTS_MAX, HELLO_VERSIONS_MAX};

fn terminal() -> impl Strategy<Value = TerminalId> {
    (1..=i32::MAX.unsigned_abs(), 1..=i32::MAX.unsigned_abs()).prop_map(|(store, till)| {
        TerminalId::from_u64(u64::from(store) << 32 | u64::from(till)).unwrap()
    })
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (1..=i32::MAX.unsigned_abs()).prop_map(|number| Epoch::new(number).unwrap())
}

fn seq() -> impl Strategy<Value = Seq> {
    (1..=Seq::MAX.get()).prop_map(|number| Seq::new(number).unwrap())
}

fn hello() -> impl Strategy<Value = Hello> {
    (
        prop::collection::vec(any::<(u8, u8)>(), 0..=HELLO_VERSIONS_MAX),
        terminal(),
        prop::option::of(epoch()),
        any::<i64>().prop_map(DeviceTime::from_us),
        prop::option::of(Just(Currency::from_code("EUR").unwrap())),
        "[A-Za-z/_+-]{0,64}",
    )
        .prop_map(|(versions, terminal, epoch, clock, currency, zone)| Hello {
            versions,
            terminal,
            epoch,
            clock,
            currency,
            zone,
        })
}

fn welcome() -> impl Strategy<Value = Welcome> {
    (
        terminal(),
        epoch(),
        epoch(),
        seq(),
        any::<(u64, u32, u32, u32, i64, u32)>(),
    )
        .prop_map(
            |(
                terminal,
                epoch,
                latest_epoch,
                next_seq,
                (digest, frames, bytes, events, us, flags),
            )| Welcome {
                terminal,
                epoch,
                latest_epoch,
                next_seq,
                digest,
                credit_frames: frames,
                frame_bytes_max: bytes,
                frame_events_max: events,
                time: Timestamp::from_us(us),
                flags,
            },
        )
}

fn message() -> impl Strategy<Value = Message> {
    let refusals = prop::collection::vec((seq(), any::<u16>().prop_map(Reason::from_code)), 0..9);
    prop_oneof![
        hello().prop_map(Message::Hello),
        (epoch(), seq(), prop::collection::vec(any::<u64>(), 0..9)).prop_map(
            |(epoch, first_seq, digests)| Check {
                epoch,
                first_seq,
                digests
            }
            .into()
        ),
        Just(Message::Goodbye),
        welcome().prop_map(Message::Welcome),
        (prop::option::of(seq()), prop::option::of(seq()), refusals).prop_map(
            |(journalled, committed, refusals)| Ack {
                journalled,
                committed,
                refusals
            }
            .into()
        ),
        seq().prop_map(|expected| Nack { expected }.into()),
        any::<u32>().prop_map(|wait_ms| Slow { wait_ms }.into()),
        "[a-z0-9.:]{0,40}".prop_map(|address| Redirect { address }.into()),
        (any::<u16>(), "\\PC{0,40}").prop_map(|(code, text)| Bye {
            reason: Reason::from_code(code),
            text
        }
        .into()),
        (epoch(), seq(), any::<u16>(), any::<u16>()).prop_map(
            |(epoch, first_seq, matched, known)| Checked {
                epoch,
                first_seq,
                matched,
                known
            }
            .into()
        ),
    ]
}

fn read(bytes: Bytes) -> Result<Message, MessageError> {
    Message::decode(&Frame::decode(bytes).unwrap())
}

fn reframe(kind: u8, payload: &[u8]) -> Result<Message, MessageError> {
    read(crate::codec::encode_frame(SESSION, kind, 0, 0, payload))
}

proptest! {
    #[test]
    fn every_message_survives_a_round_trip(message in message()) {
        prop_assert_eq!(read(message.encode()), Ok(message));
    }

    #[test]
    fn a_message_that_is_cut_or_longer_is_refused(message in message(), at: prop::sample::Index) {
        let payload = message.encode().slice(crate::header::HEADER_BYTES..);
        if !payload.is_empty() {
            let cut = at.index(payload.len());
            prop_assert!(reframe(message.kind(), &payload[..cut]).is_err());
        }
        let longer = [&payload[..], &[0]].concat();
        prop_assert!(reframe(message.kind(), &longer).is_err());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(kind: u8, payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let _result = reframe(kind, &payload);
    }
}

#[test]
fn the_largest_messages_fit_a_session_frame_and_come_back_whole() {
    let one = Seq::FIRST;
    let ack = Ack {
        journalled: Some(one),
        committed: None,
        refusals: vec![(one, Reason::Unreadable); ACK_REFUSALS_MAX],
    };
    assert_eq!(read(ack.encode()), Ok(ack.into()));
    let check = Check {
        epoch: Epoch::FIRST,
        first_seq: one,
        digests: vec![5; CHECK_DIGESTS_MAX],
    };
    assert_eq!(read(check.encode()), Ok(check.into()));
}

#[test]
fn counts_above_their_limit_are_refused_before_anything_is_read() {
    let mut check = vec![1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    check.extend(513_u16.to_le_bytes());
    check.resize(check.len() + 513 * 8, 0);
    assert_eq!(
        reframe(kind::CHECK, &check),
        Err(MessageError::Field { field: "marks" })
    );
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let bye = Bye {
        reason: Reason::Busy,
        text: "é".repeat(200),
    };
    let Ok(Message::Bye(found)) = read(bye.encode()) else {
        panic!("no Bye")
    };
    assert_eq!(found.text, "é".repeat(127));
}

#[test]
fn a_hello_of_another_protocol_is_told_so() {
    let error = reframe(kind::HELLO, &[2, 0, 0]).unwrap_err();
    assert_eq!(
        (error, error.reason()),
        (MessageError::Protocol(2), Reason::Unsupported)
    );
    assert_eq!(
        reframe(kind::HELLO, &[1]).unwrap_err().reason(),
        Reason::BadHello
    );
    assert_eq!(reframe(9, &[]), Err(MessageError::UnknownKind(9)));
}

#[test]
fn direction_is_told_by_kind() {
    assert!(Message::Goodbye.is_from_client());
    assert!(!Message::Slow(Slow { wait_ms: 1 }).is_from_client());
}
