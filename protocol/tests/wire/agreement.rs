//! Two decoders, written apart, take the same payloads and find the same records.

use bytes::Bytes;
use proptest::prelude::*;
use rkyv::rancor::Failure;
use till_protocol::codec::Frame;
use till_protocol::family::{Text, WHOLE_EVENT, text};
use till_protocol::safe;
use till_protocol::verified::Verified;

use crate::samples::{KEY, any_frame, any_plain_sales, rebuild};

/// The frame with another payload, its length and checksum right.
fn with_payload(frame: &Frame, payload: Vec<u8>) -> Frame {
    let header = frame.header;
    Frame::new(
        header.family,
        header.version,
        header.count,
        header.first_seq,
        Bytes::from(payload),
    )
    .unwrap()
}

fn compare(frame: &Frame) -> Result<bool, TestCaseError> {
    let plain = safe::decode(&frame.header, &frame.payload);
    match (Verified::from_journal(frame.clone()), plain) {
        (Ok(verified), Ok(batch)) => {
            prop_assert_eq!(rebuild(&verified.view()), batch);
            Ok(true)
        }
        (Err(_), Err(_)) => Ok(false),
        (archive, plain) => Err(TestCaseError::fail(format!(
            "rkyv {:?}, plain offsets {plain:?}, payload {:02x?}",
            archive.map(|_| ()).map_err(|error| error.to_string()),
            &frame.payload[..]
        ))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn both_take_every_right_frame_and_nothing_is_refused(frame in any_frame()) {
        prop_assert!(compare(&frame)?);
        let verified = Verified::from_journal(frame).unwrap();
        prop_assert_eq!(verified.refusals(), []);
    }

    #[test]
    fn both_agree_on_changed_bytes(frame in any_frame(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut payload = frame.payload.to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        compare(&with_payload(&frame, payload))?;
    }

    #[test]
    fn both_agree_on_a_changed_root(frame in any_frame(), at: prop::sample::Index, delta in -40..40_i8) {
        // Most of a payload is records, where any byte goes; pointers and lengths are at its end.
        let mut payload = frame.payload.to_vec();
        let root = if frame.header.family == 1 { 80 } else { 32 };
        let at = payload.len() - root + at.index(root);
        payload[at] = payload[at].wrapping_add_signed(delta);
        compare(&with_payload(&frame, payload))?;
    }

    #[test]
    fn both_agree_on_bytes_put_in_or_taken_out(frame in any_frame(), at: prop::sample::Index, count in 1..40_usize, cut: bool) {
        let mut payload = frame.payload.to_vec();
        let at = at.index(payload.len());
        if cut {
            payload.drain(at..(at + count).min(payload.len()));
        } else {
            payload.splice(at..at, std::iter::repeat_n(0, count));
        }
        let taken = compare(&with_payload(&frame, payload))?;
        prop_assert!(!taken, "a payload has one shape only");
    }

    #[test]
    fn a_rule_is_the_same_with_and_without_rare_fields(
        frame in any_plain_sales(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut payload = frame.payload.to_vec();
        for (at, byte) in changes {
            let at = at.index(payload.len() - 80);
            payload[at] = byte;
        }
        let plain = with_payload(&frame, payload);
        if let Ok(safe::SafeBatch::Sale(mut batch)) = safe::decode(&plain.header, &plain.payload) {
            batch.texts.push(Text { event: 0, item: WHOLE_EVENT, kind: text::NOTE, len: 1 });
            batch.text.push(b'n');
            let noted = with_payload(&frame, rkyv::to_bytes::<Failure>(&batch).unwrap().to_vec());
            let (plain, noted) = (Verified::check(plain, &KEY).unwrap(), Verified::check(noted, &KEY).unwrap());
            prop_assert_eq!(plain.refusals(), noted.refusals());
            prop_assert_eq!(plain.masked(), noted.masked());
        }
    }

    #[test]
    fn both_agree_on_another_count(frame in any_frame(), count in 1..=1_024_u32) {
        let other = Frame { header: till_protocol::header::FrameHeader { count, ..frame.header }, ..frame.clone() };
        prop_assert_eq!(compare(&other)?, count == frame.header.count);
    }

    #[test]
    fn both_agree_on_arbitrary_bytes(family in prop::sample::select(vec![1_u8, 4, 5, 9]), payload in prop::collection::vec(any::<u8>(), 0..300)) {
        compare(&Frame::new(family, 1, 1, 1, Bytes::from(payload)).unwrap())?;
    }
}
