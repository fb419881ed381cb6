//! Digests and content hashes: what changes them, and what must not.

use proptest::prelude::*;
use till_protocol::builder::{
    SaleBuilder, SaleParts, StockBuilder, event_id, sku_code, whole_text,
};
use till_protocol::codec::Frame;
use till_protocol::digest::{content_hash, digest, digests};
use till_protocol::family::sale::v1::{Line, Tender};
use till_protocol::family::{stock, text};
use till_protocol::id::EventId;
use till_protocol::verified::Verified;

use crate::samples::{KEY, any_frame, count_of_milk, sale_full, seq, small_sale};

fn alone(parts: &SaleParts<'_>) -> Verified {
    let mut builder = SaleBuilder::new();
    builder.push(parts).unwrap();
    Verified::check(builder.finish_frame(seq(1)).unwrap(), &KEY).unwrap()
}

fn both(parts: &SaleParts<'_>) -> (u64, u64) {
    let verified = alone(parts);
    (
        digest(&verified.view(), 0).unwrap(),
        content_hash(&verified.view(), 0).unwrap(),
    )
}

#[test]
fn a_digest_does_not_depend_on_the_frame_around_the_event() {
    let (alone, _) = both(&small_sale());
    let verified = Verified::check(sale_full(), &KEY).unwrap();
    assert_eq!(digest(&verified.view(), 1), Some(alone));
    assert_eq!(small_sale().digest(), Ok(alone));
    assert_eq!(digests(&verified.view())[1], alone);
    assert_eq!((digest(&verified.view(), 2), verified.digest(2)), (None, 0));
}

#[test]
fn names_and_ids_change_neither_hash_where_they_must_not() {
    let plain = both(&small_sale());
    let named = both(&SaleParts {
        texts: &[sku_code(0, "MILK")],
        ..small_sale()
    });
    assert_eq!(named, plain, "a name may be sent again or not");
    let with_id = both(&SaleParts {
        refs: &[event_id(EventId::from_bytes([1; 16]))],
        ..small_sale()
    });
    assert_eq!(with_id, plain, "the id is what content is compared under");
    let noted = both(&SaleParts {
        texts: &[whole_text(text::NOTE, "n")],
        ..small_sale()
    });
    assert_eq!(noted.0, plain.0);
    assert_ne!(noted.1, plain.1);
}

#[test]
fn money_changes_the_digest_and_a_sku_does_not() {
    let plain = both(&small_sale());
    let line = |amount, sku| {
        [Line {
            amount,
            sku,
            quantity: 100_000,
            kind: 1,
            unit: 1,
            ..Line::default()
        }]
    };
    let dearer = both(&SaleParts {
        lines: &line(251, 0x0102_0304_0506_0708),
        ..small_sale()
    });
    assert_ne!(dearer.0, plain.0);
    let other = both(&SaleParts {
        lines: &line(250, 9),
        ..small_sale()
    });
    assert_eq!(other.0, plain.0, "an id may be replaced with its code");
    assert_ne!(other.1, plain.1);
    let paid = both(&SaleParts {
        tenders: &[Tender {
            amount: 251,
            kind: 1,
            flags: 0,
        }],
        ..small_sale()
    });
    assert_ne!(paid.0, plain.0);
}

#[test]
fn a_stock_event_keeps_its_digest_when_its_sku_gets_another_id() {
    let hashes = |record: stock::v1::Move| {
        let mut builder = StockBuilder::new();
        builder.push(&record, &[], &[]).unwrap();
        let verified = Verified::check(builder.finish_frame(seq(1)).unwrap(), &KEY).unwrap();
        (
            digest(&verified.view(), 0).unwrap(),
            content_hash(&verified.view(), 0).unwrap(),
        )
    };
    let (plain, other) = (
        hashes(count_of_milk()),
        hashes(stock::v1::Move {
            sku: 1,
            ..count_of_milk()
        }),
    );
    assert_eq!(plain.0, other.0);
    assert_ne!(plain.1, other.1);
    assert_ne!(
        hashes(stock::v1::Move {
            quantity: 1,
            ..count_of_milk()
        })
        .0,
        plain.0
    );
}

/// A tombstone without a digest would pass for any other event when a device asks where it stands.
#[test]
fn a_refused_event_has_a_digest_of_its_own_here_as_on_the_device() {
    let with = |at: usize, byte: u8| {
        let mut payload = sale_full().payload.to_vec();
        payload[at] = byte;
        Frame::new(1, 1, 2, 1, payload.into()).unwrap()
    };
    // The kind; and a receipt number of more than twelve digits, which is overwritten before it is journalled.
    let frames = [with(31, 99), with(31, 98), with(14, 1)];
    let mut seen = vec![Verified::check(sale_full(), &KEY).unwrap().digest(0)];
    for frame in frames {
        let device = Verified::from_journal(frame.clone()).unwrap();
        let engine = Verified::check(frame, &KEY).unwrap();
        assert!(engine.refusal(0).is_some());
        assert_eq!(engine.digest(0), device.digest(0));
        assert_eq!(
            Verified::from_journal(engine.frame().clone())
                .unwrap()
                .digest(0),
            device.digest(0)
        );
        assert!(!seen.contains(&device.digest(0)));
        seen.push(device.digest(0));
    }
}

proptest! {
    #[test]
    fn one_digest_is_that_of_all_digests(frame in any_frame()) {
        let verified = Verified::from_journal(frame).unwrap();
        let view = verified.view();
        for (index, expected) in (0..).zip(digests(&view)) {
            prop_assert_eq!(digest(&view, index), Some(expected));
        }
    }
}
