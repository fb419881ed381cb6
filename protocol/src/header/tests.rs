use super::*;

fn header() -> FrameHeader {
    FrameHeader {
        family: 1,
        version: 1,
        length: 10,
        count: 2,
        first_seq: 7,
        crc: 0xdead_beef,
    }
}

#[test]
fn a_header_survives_a_round_trip() {
    assert_eq!(FrameHeader::decode(&header().encode()), Ok(header()));
}

#[test]
fn crc32c_is_castagnoli() {
    // The check value of every catalogue of checksums.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
}

#[test]
fn each_broken_field_has_its_error_and_reason() {
    let broken = |change: fn(&mut FrameHeader)| {
        let mut header = header();
        change(&mut header);
        FrameHeader::decode(&header.encode()).unwrap_err().reason()
    };
    assert_eq!(broken(|h| h.family = 2), Reason::Unsupported);
    assert_eq!(broken(|h| h.version = 2), Reason::Unsupported);
    assert_eq!(broken(|h| h.length = FRAME_BYTES_MAX + 1), Reason::TooLarge);
    assert_eq!(broken(|h| h.count = 0), Reason::BadHeader);
    assert_eq!(broken(|h| h.count = FRAME_EVENTS_MAX + 1), Reason::TooLarge);
    assert_eq!(broken(|h| h.first_seq = 0), Reason::BadHeader);
    assert_eq!(broken(|h| h.first_seq = Seq::MAX.get()), Reason::BadHeader);
    assert_eq!(broken(|h| h.first_seq = u64::MAX), Reason::BadHeader);
    assert_eq!(broken(|h| h.family = SESSION), Reason::TooLarge);
    for (at, reason) in [
        (0, Reason::BadMagic),
        (6, Reason::BadHeader),
        (7, Reason::BadHeader),
        (24, Reason::BadHeader),
    ] {
        let mut bytes = header().encode();
        bytes[at] ^= 1;
        assert_eq!(
            FrameHeader::decode(&bytes).unwrap_err().reason(),
            reason,
            "byte {at}"
        );
    }
}
