use till_protocol::family::WHOLE_EVENT;

use super::*;
use crate::frame;

fn receipt(code: &str, at: i64) -> Queued {
    let sku = SkuId::of_code(code).get();
    sale::v1::Batch {
        sales: vec![sale::v1::Sale {
            at,
            lines: 1,
            tenders: 1,
            kind: sale::v1::kind::SALE,
            ..sale::v1::Sale::default()
        }],
        lines: vec![sale::v1::Line {
            sku,
            amount: at,
            ..sale::v1::Line::default()
        }],
        tenders: vec![sale::v1::Tender::default()],
        texts: vec![
            Text {
                event: 0,
                item: 0,
                kind: text::SKU_CODE,
                len: u8::try_from(code.len()).unwrap(),
            },
            Text {
                event: 0,
                item: WHOLE_EVENT,
                kind: text::NOTE,
                len: 4,
            },
        ],
        text: format!("{code}note").into_bytes(),
        ..sale::v1::Batch::default()
    }
    .into()
}

fn sign(at: i64) -> Queued {
    device::v1::Batch {
        signs: vec![device::v1::Sign {
            at,
            ..device::v1::Sign::default()
        }],
        ..device::v1::Batch::default()
    }
    .into()
}

fn ranges(batcher: &mut Batcher, events: Vec<Queued>) -> Vec<(u8, u64, u32)> {
    let (mut next, mut frames) = (1, Vec::new());
    for event in events {
        frames.extend(batcher.push(event, next).unwrap());
        next = 1 + frames.iter().map(|frame| u64::from(frame::range(frame).unwrap().1)).sum::<u64>();
    }
    frames.extend(batcher.seal(next).unwrap());
    frames
        .iter()
        .map(|bytes| {
            let (first, count) = frame::range(bytes).unwrap();
            (bytes[4], first, count)
        })
        .collect()
}

#[test]
fn events_keep_their_order_and_a_frame_holds_one_family() {
    let mut batcher = Batcher::new(2);
    let events = vec![receipt("a", 1), receipt("a", 2), receipt("b", 3), sign(4), receipt("a", 5)];
    let frames = ranges(&mut batcher, events);
    assert_eq!(frames, [(1, 1, 2), (1, 3, 1), (9, 4, 1), (1, 5, 1)]);
}

#[test]
fn the_code_of_a_sku_is_told_once_until_names_are_forgotten() {
    let mut batcher = Batcher::new(16);
    let told = |batcher: &mut Batcher| {
        batcher.push(receipt("4006381333931", 1), 1).unwrap();
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
fn an_event_has_the_same_mark_alone_and_in_company() {
    let mut batcher = Batcher::new(16);
    for at in 1..4 {
        batcher.push(receipt("a", at), 1).unwrap();
    }
    let together = batcher.seal(1).unwrap().unwrap();
    for (index, at) in (0..3).zip(1..4) {
        batcher.push(receipt("a", at), 1).unwrap();
        let alone = batcher.seal(1).unwrap().unwrap();
        assert_eq!(frame::mark(&together, index), frame::mark(&alone, 0));
    }
}

#[test]
fn two_events_in_one_batch_are_not_one_event() {
    let mut batcher = Batcher::new(16);
    let two = device::v1::Batch {
        signs: vec![device::v1::Sign::default(); 2],
        ..device::v1::Batch::default()
    };
    assert_eq!(batcher.push(two.into(), 1), Err(EventError::NotOne(2)));
}
