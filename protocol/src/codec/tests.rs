use proptest::prelude::*;

use super::*;
use crate::code::Reason;

fn frame(first_seq: u64, payload: &[u8]) -> Frame {
    Frame::new(1, 1, 1, first_seq, Bytes::copy_from_slice(payload)).unwrap()
}

fn pull_all(decoder: &mut FrameDecoder) -> Vec<Frame> {
    std::iter::from_fn(|| decoder.next().unwrap()).collect()
}

#[test]
fn frames_that_lie_in_one_chunk_are_handed_out_in_place() {
    let (a, b) = (frame(1, b"first"), frame(2, b"second"));
    let chunk = Bytes::from([a.encode(), b.encode()].concat());
    let range = chunk.as_ptr_range();
    let mut decoder = FrameDecoder::new();
    decoder.push(chunk);
    for expected in [a, b] {
        let found = decoder.next().unwrap().unwrap();
        assert_eq!(found, expected);
        assert!(range.contains(&found.payload.as_ptr()));
    }
    assert!(decoder.next().unwrap().is_none() && decoder.is_at_boundary());
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_same_frames_come_out(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6),
        cuts in prop::collection::vec(1_usize..80, 1..200),
        pushes_at_once in 1_usize..4,
    ) {
        let frames: Vec<Frame> = (1..).zip(&payloads).map(|(seq, payload)| frame(seq, payload)).collect();
        let mut stream = Bytes::from(frames.iter().map(Frame::encode).collect::<Vec<_>>().concat());
        let mut cuts = cuts.into_iter().cycle();
        let (mut decoder, mut found) = (FrameDecoder::new(), Vec::new());
        while !stream.is_empty() {
            for _ in 0..pushes_at_once {
                let cut = cuts.next().unwrap().min(stream.len());
                decoder.push(stream.split_to(cut));
            }
            found.extend(pull_all(&mut decoder));
        }
        prop_assert_eq!(found, frames);
        prop_assert!(decoder.is_at_boundary());
    }

    #[test]
    fn one_flipped_bit_never_goes_unnoticed(payload in prop::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0..8_u8) {
        let mut bytes = frame(1, &payload).encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut decoder = FrameDecoder::new();
        decoder.push(Bytes::from(bytes));
        // A flipped length may make the decoder wait for more; nothing else may pass.
        prop_assert!(!matches!(decoder.next(), Ok(Some(_))), "byte {}", at);
    }
}

#[test]
fn a_length_above_the_limit_is_refused_before_its_payload_is_awaited() {
    let mut header = frame(1, b"x").header;
    header.length = u32::MAX;
    let mut decoder = FrameDecoder::new();
    decoder.push(Bytes::copy_from_slice(&header.encode()));
    assert_eq!(decoder.next().unwrap_err().reason(), Reason::TooLarge);
    assert_eq!(decoder.held(), 0);
}

#[test]
fn memory_grows_with_bytes_that_came_not_with_bytes_announced() {
    let bytes = frame(1, &vec![7; 1 << 20]).encode();
    let mut decoder = FrameDecoder::new();
    for byte in &bytes[..2_000] {
        decoder.push(Bytes::copy_from_slice(&[*byte]));
        assert!(decoder.next().unwrap().is_none());
    }
    assert!(
        decoder.gathered.capacity() <= 2 * 2_000 + 64,
        "{}",
        decoder.gathered.capacity()
    );
    decoder.push(bytes.slice(2_000..));
    assert_eq!(decoder.next().unwrap().unwrap().encode(), bytes);
    assert_eq!(decoder.gathered.capacity(), 0);
}

#[test]
fn after_an_error_each_call_gives_the_same_error() {
    let mut bytes = frame(1, b"payload").encode().to_vec();
    bytes[35] ^= 1;
    let mut decoder = FrameDecoder::new();
    decoder.push(Bytes::from(bytes));
    let error = decoder.next().unwrap_err();
    assert_eq!(error.reason(), Reason::BadCrc);
    decoder.push(frame(1, b"right").encode());
    assert_eq!(decoder.next().unwrap_err(), error);
}

#[test]
fn one_frame_is_read_from_bytes_that_hold_one_frame() {
    let bytes = frame(3, b"abc").encode();
    assert_eq!(Frame::decode(bytes.clone()).unwrap(), frame(3, b"abc"));
    assert_eq!(
        Frame::decode(bytes.slice(..20)),
        Err(WireError::Truncated { missing: 12 })
    );
    assert_eq!(
        Frame::decode(bytes.slice(..34)),
        Err(WireError::Truncated { missing: 1 })
    );
    assert!(Frame::decode(Bytes::from([&bytes[..], b"x"].concat())).is_err());
}

#[test]
fn parts_that_break_a_limit_make_no_frame() {
    assert!(Frame::new(1, 1, 0, 1, Bytes::new()).is_err());
    assert!(Frame::new(3, 1, 1, 1, Bytes::new()).is_err());
    assert_eq!(encode_frame(1, 1, 1, 9, b"p"), frame(9, b"p").encode());
}
