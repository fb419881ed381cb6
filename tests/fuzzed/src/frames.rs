//! Frames, as the gateway takes them from a stream and checks them.

use bytes::Bytes;
use till_protocol::card::ScreenKey;
use till_protocol::codec::{Frame, FrameDecoder};
use till_protocol::header::WireError;
use till_protocol::reply::Message;
use till_protocol::safe;
use till_protocol::verified::Verified;

use crate::batches::rebuild;

/// Families with version 1, and one that nobody knows.
const FAMILIES: [u8; 5] = [1, 4, 5, 9, 7];

/// A stream. The first byte says how large the chunks are in which it comes: what they are must not matter.
pub(crate) fn frames(bytes: &[u8]) {
    let Some((chunk, stream)) = bytes.split_first() else {
        return;
    };
    let whole = read(stream, stream.len().max(1));
    let parts = read(stream, usize::from(*chunk).max(1));
    assert_eq!(whole, parts, "a frame depends on how it came");
    for frame in whole.0 {
        match frame.header.is_session() {
            true => message(&frame),
            false => events(&frame),
        }
    }
}

/// One frame whose header and checksum are right: family and count, then the payload.
pub(crate) fn family(bytes: &[u8]) {
    let Some(([family, low, high], payload)) = bytes.split_first_chunk() else {
        return;
    };
    let family = FAMILIES[usize::from(*family) % FAMILIES.len()];
    let count = u32::from(u16::from_le_bytes([*low, *high]));
    let payload = Bytes::copy_from_slice(payload);
    if let Ok(frame) = Frame::new(family, 1, count, 1, payload) {
        events(&frame);
    }
}

fn read(stream: &[u8], chunk: usize) -> (Vec<Frame>, Option<WireError>) {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for chunk in stream.chunks(chunk) {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

// The bytes that are read in place, and those that are read by plain offsets, are the same events or none.
fn events(frame: &Frame) {
    let plain = safe::decode(&frame.header, &frame.payload);
    match (Verified::from_journal(frame.clone()), plain) {
        (Ok(verified), Ok(batch)) => {
            assert_eq!(rebuild(&verified.view()), batch);
            screened(frame, &verified);
        }
        (Err(_), Err(_)) => {}
        (in_place, plain) => panic_on_difference(&in_place, &plain),
    }
}

#[expect(clippy::panic, reason = "what a fuzzer looks for")]
fn panic_on_difference<A, B, E: std::fmt::Debug, F: std::fmt::Debug>(
    in_place: &Result<A, E>,
    plain: &Result<B, F>,
) {
    let (in_place, plain) = (in_place.as_ref().err(), plain.as_ref().err());
    panic!("read in place: {in_place:?}; by plain offsets: {plain:?}");
}

// What is journalled is a frame that a later start reads as it was, and in which no card number is left.
fn screened(frame: &Frame, before: &Verified) {
    let key = ScreenKey::new([7; 32]);
    let checked = Verified::check(frame.clone(), &key);
    assert!(checked.is_ok(), "a frame that is read is not taken in");
    let Ok(checked) = checked else { return };
    assert_eq!(checked.refusals(), before.refusals());
    let (payload, family) = (&checked.frame().payload, checked.frame().header.family);
    let (version, count) = (checked.frame().header.version, checked.count());
    // The header still has the checksum of what came; it is not journalled.
    let again = Frame::new(family, version, count, checked.first_seq(), payload.clone());
    assert!(again.is_ok());
    let Ok(again) = again else { return };
    let again = Verified::check(again, &key);
    assert!(again.is_ok(), "what is journalled cannot be read");
    let Ok(again) = again else { return };
    assert_eq!(again.refusals(), checked.refusals());
    // A number that was too long for a receipt still is one, and is masked by the same bytes.
    assert_eq!(again.frame().payload, *payload, "card data was left");
    for index in 0..count {
        assert_eq!(again.digest(index), checked.digest(index));
    }
}

// A message that is understood says the same when it is said again.
pub(crate) fn message(frame: &Frame) {
    let Ok(message) = Message::decode(frame) else {
        return;
    };
    let again = Frame::decode(message.encode());
    assert!(again.is_ok(), "{message:?}");
    let Ok(again) = again else { return };
    assert_eq!(Message::decode(&again), Ok(message));
}
