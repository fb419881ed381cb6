use till_protocol::builder::{sku_code, whole_text};
use till_protocol::code::Reason;
use till_protocol::family::{sale, stock};

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
