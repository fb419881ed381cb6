use till_protocol::builder::{sku_code, whole_text};
use till_protocol::card::ScreenKey;
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::family::{sale, stock};
use till_protocol::verified::Verified;

use super::*;
use crate::frame;

fn sign(at: i64) -> Event<'static> {
    let sign = Sign {
        at,
        kind: till_protocol::family::device::v1::kind::HEARTBEAT,
        ..Sign::default()
    };
    Event::Device(sign, &[], &[])
}

fn delivery(at: i64) -> Event<'static> {
    let record = Move {
        at,
        sku: 1,
        kind: stock::v1::kind::RECEIVED,
        ..Move::default()
    };
    Event::Stock(record, &[], &[])
}

fn ranges(batcher: &mut Batcher, events: &[Event<'_>]) -> Vec<(u8, u64, u32)> {
    let (mut next, mut frames) = (1, Vec::new());
    let mut close = |batcher: &mut Batcher| {
        if let Some(bytes) = batcher.seal(next).unwrap() {
            let (first, count) = frame::range(&bytes).unwrap();
            frames.push((bytes[4], first, count));
            next += u64::from(count);
        }
    };
    for event in events {
        if batcher.must_seal_for(event) {
            close(batcher);
        }
        batcher.push(event).unwrap();
    }
    close(batcher);
    frames
}

#[test]
fn events_keep_their_order_and_a_frame_holds_one_family() {
    let mut batcher = Batcher::new(2);
    let events = [delivery(1), delivery(2), delivery(3), sign(4), delivery(5)];
    let frames = ranges(&mut batcher, &events);
    assert_eq!(frames, [(4, 1, 2), (4, 3, 1), (9, 4, 1), (4, 5, 1)]);
}

#[test]
fn the_code_of_a_sku_is_told_once_until_names_are_forgotten() {
    let mut batcher = Batcher::new(16);
    let lines = [sale::v1::Line {
        sku: SkuId::of_code("4006381333931").get(),
        kind: sale::v1::line_kind::SALE,
        ..sale::v1::Line::default()
    }];
    let texts = [sku_code(0, "4006381333931"), whole_text(text::NOTE, "note")];
    let sale = Event::Sale(SaleParts {
        sale: sale::v1::Sale {
            kind: sale::v1::kind::SALE,
            ..sale::v1::Sale::default()
        },
        lines: &lines,
        texts: &texts,
        ..SaleParts::default()
    });
    let told = |batcher: &mut Batcher| {
        batcher.push(&sale).unwrap();
        let frame = batcher.seal(1).unwrap().unwrap();
        let tells = |words: &[u8]| frame.windows(words.len()).any(|bytes| bytes == words);
        assert!(tells(b"note"));
        tells(b"4006381333931")
    };
    assert!(told(&mut batcher));
    assert!(!told(&mut batcher));
    batcher.forget_names();
    assert!(told(&mut batcher));
}

#[test]
fn an_event_that_would_be_refused_is_not_taken_and_harms_no_other() {
    let mut batcher = Batcher::new(16);
    batcher.push(&delivery(1)).unwrap();
    let bad = Event::Stock(
        Move {
            kind: 99,
            ..Move::default()
        },
        &[],
        &[],
    );
    assert_eq!(
        batcher.push(&bad),
        Err(BuildError::Refused(Reason::UnknownKind))
    );
    assert_eq!(batcher.events(), 1);
}

/// A server finds a card number in a code only where the frame says the code, and a frame may be cut before it is sent.
#[test]
fn a_code_that_looks_like_a_card_is_named_in_every_event() {
    const CARD: &str = "4111 1111 1111 1111";
    let sku = SkuId::of_code(CARD).get();
    let code = [whole_text(text::SKU_CODE, CARD)];
    let delivery = Event::Stock(
        Move {
            at: 1,
            sku,
            kind: stock::v1::kind::RECEIVED,
            ..Move::default()
        },
        &[],
        &code,
    );
    let mut batcher = Batcher::new(16);
    let mut frames = Vec::new();
    for first in [1, 3] {
        batcher.push(&delivery).unwrap();
        batcher.push(&delivery).unwrap();
        let both = batcher.seal(first).unwrap().unwrap();
        frames.push(frame::part(&both, 1, 1).unwrap());
        frames.push(both);
    }
    for bytes in frames {
        let received = Frame::decode(bytes).unwrap();
        let held = Verified::check(received, &ScreenKey::new([7; 32])).unwrap();
        let of_card = sku.to_le_bytes();
        let payload = &held.frame().payload;
        assert!(!payload.windows(8).any(|bytes| bytes == of_card));
        assert_eq!(held.refusals(), &[]);
    }
}
