//! What the door lets through, what it refuses alone, and what it can't read.

use bytes::Bytes;
use till_protocol::builder::{
    BuildError, SaleBuilder, SaleParts, StockBuilder, sku_code, whole_text,
};
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::family::sale::v1::{Line, Sale, Tender};
use till_protocol::family::{WHOLE_EVENT, stock, text};
use till_protocol::limits::{FRAME_EVENTS_MAX, LINES_PER_SALE_MAX};
use till_protocol::verified::{StructureError, UnreadableError, Verified};
use till_protocol::view::{View, named_tender_key};

use crate::samples::{
    self, AT, KEY, count_of_milk, sale_full, sale_small, seq, small_sale, stock_small,
};

/// Changes bytes of a payload and makes length and checksum right again.
fn patched(frame: &Frame, at: usize, bytes: &[u8]) -> Frame {
    let mut payload = frame.payload.to_vec();
    payload[at..at + bytes.len()].copy_from_slice(bytes);
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

fn refusals(frame: Frame) -> Vec<(u32, Reason)> {
    Verified::check(frame, &KEY).unwrap().refusals().to_vec()
}

#[test]
fn a_broken_rule_refuses_that_event_alone() {
    // Offsets into the full frame of sales, whose first event has every field; sizes as in the specification.
    let (lines, tenders) = (68, 68 + 5 * 32);
    let (taxes, adjustments) = (tenders + 3 * 10, tenders + 3 * 10 + 2 * 22);
    let extras = adjustments + 2 * 14;
    let prices = extras + 2 * 12;
    let refs = prices + 14;
    let texts = refs + 3 * 20;
    let text = texts + 6 * 6;
    let cases: &[(&str, usize, &[u8], Reason)] = &[
        ("kind of sale", 31, &[5], Reason::UnknownKind),
        ("kind of sale", 31, &[0], Reason::UnknownKind),
        ("flag of sale", 32, &[4], Reason::UnknownFlags),
        (
            "receipt",
            8,
            &1_000_000_000_000_u64.to_le_bytes(),
            Reason::ReceiptNumber,
        ),
        ("time", 0, &(-1_i64).to_le_bytes(), Reason::BadTime),
        ("offset", 20, &1_081_i16.to_le_bytes(), Reason::BadTime),
        ("kind of line", lines + 28, &[4], Reason::UnknownKind),
        ("unit of line", lines + 29, &[8], Reason::UnknownUnit),
        ("flag of line", lines + 30, &[2], Reason::UnknownFlags),
        ("kind of tender", tenders + 8, &[9], Reason::UnknownKind),
        ("flags of tender", tenders + 9, &[1], Reason::UnknownFlags),
        ("inclusive", taxes + 20, &[2], Reason::UnknownFlags),
        ("line of tax", taxes + 16, &[4, 0], Reason::BadIndex),
        ("reserved of tax", taxes + 21, &[1], Reason::ReservedNotZero),
        (
            "kind of adjustment",
            adjustments + 12,
            &[10],
            Reason::UnknownKind,
        ),
        (
            "line of adjustment",
            adjustments + 8,
            &[4, 0],
            Reason::BadIndex,
        ),
        ("tender of extra", extras + 2, &[2], Reason::BadIndex),
        ("kind of extra", extras + 3, &[4], Reason::UnknownKind),
        ("line of price", prices + 2, &[4, 0], Reason::BadIndex),
        ("scale of price", prices + 12, &[10], Reason::BadPrice),
        ("kind of reference", refs + 2, &[5], Reason::BadReference),
        ("reference twice", refs + 22, &[1], Reason::BadReference),
        (
            "reserved of reference",
            refs + 3,
            &[1],
            Reason::ReservedNotZero,
        ),
        ("kind of text", texts + 4, &[7], Reason::BadText),
        ("item of text", texts + 2, &[4, 0], Reason::BadText),
        ("bytes of text", text, &[0xff], Reason::BadText),
    ];
    for (what, at, bytes, reason) in cases {
        let found = refusals(patched(&sale_full(), *at, bytes));
        assert_eq!(found, [(0, *reason)], "{what}");
    }
    let line_of_second = lines + 4 * 32 + 28;
    let both = patched(&patched(&sale_full(), line_of_second, &[9]), 31, &[9]);
    assert_eq!(
        refusals(both),
        [(0, Reason::UnknownKind), (1, Reason::UnknownKind)]
    );
}

#[test]
fn what_is_odd_but_understood_is_taken() {
    let odd = SaleParts {
        sale: Sale {
            at: 0,
            kind: 1,
            ..Sale::default()
        },
        tenders: &[Tender {
            amount: i64::MIN,
            kind: 255,
            flags: 0,
        }],
        ..SaleParts::default()
    };
    let mut builder = SaleBuilder::new();
    builder.push(&odd).unwrap();
    assert_eq!(refusals(builder.finish_frame(seq(1)).unwrap()), []);
}

#[test]
fn a_payload_that_contradicts_itself_is_unreadable_as_a_whole() {
    let structure = |frame: Frame| match Verified::check(frame, &KEY).unwrap_err().error {
        UnreadableError::Structure(error) => error,
        other => panic!("{other}"),
    };
    assert!(matches!(
        structure(patched(&sale_full(), 24, &[9, 0])),
        StructureError::Sum {
            vector: "lines",
            ..
        }
    ));
    assert!(matches!(
        structure(patched(&sale_full(), 30, &[9])),
        StructureError::Sum {
            vector: "tenders",
            ..
        }
    ));
    let small = sale_small();
    let end = small.payload.len();
    assert!(matches!(
        structure(patched(&small, end - 76, &[0; 4])),
        StructureError::Count { .. } | StructureError::Placement
    ));
    assert!(matches!(
        structure(patched(&small, end - 4, &[1])),
        StructureError::Archive { .. } | StructureError::Placement
    ));
    let short = Frame::new(1, 1, 1, 1, Bytes::from_static(b"short")).unwrap();
    assert_eq!(structure(short), StructureError::Archive { family: "sale" });
    // The second text of the first event is moved before the first, to an event that is not there.
    let texts = 68 + 160 + 30 + 44 + 28 + 24 + 14 + 60;
    assert!(matches!(
        structure(patched(&sale_full(), texts, &[1, 0])),
        StructureError::Order { vector: "texts" }
    ));
    assert!(matches!(
        structure(patched(&sale_full(), texts + 5 * 6, &[2, 0])),
        StructureError::Order { vector: "texts" }
    ));
    assert!(matches!(
        structure(patched(&sale_full(), texts + 5, &[12])),
        StructureError::Text { .. }
    ));
}

#[test]
fn an_unreadable_frame_still_tells_its_sequence_numbers() {
    let frame = patched(&stock_small(), 32, &[1]);
    let unreadable = Verified::check(frame.clone(), &KEY).unwrap_err();
    assert_eq!(
        (unreadable.reason(), &unreadable.frame),
        (Reason::Unreadable, &frame)
    );
}

#[test]
fn a_family_does_not_pass_for_another() {
    let frame = stock_small();
    // Stock and device have records of one size: the kinds tell them apart, as the header does.
    let other = Frame::new(1, 1, 1, 7, frame.payload).unwrap();
    assert!(Verified::check(other, &KEY).is_err());
    let message = Frame::new(0, 3, 0, 0, Bytes::new()).unwrap();
    assert_eq!(
        Verified::check(message, &KEY).unwrap_err().error,
        UnreadableError::Session
    );
}

#[test]
fn checking_copies_nothing() {
    let frame = sale_full();
    let place = frame.payload.as_ptr();
    let verified = Verified::check(frame, &KEY).unwrap();
    assert_eq!(verified.frame().payload.as_ptr(), place);
    let View::Sale(sales) = verified.view() else {
        panic!("not sales")
    };
    assert_eq!(
        std::ptr::from_ref(sales.events().next().unwrap().sale).addr(),
        place.addr()
    );
}

#[test]
fn a_batch_may_lie_at_any_address() {
    for shift in 0..9 {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(&sale_full().payload);
        let payload = Bytes::from(bytes).slice(shift..);
        let frame = Frame {
            payload,
            ..sale_full()
        };
        let verified = Verified::check(frame, &KEY).unwrap();
        assert_eq!(verified.view().len(), 2);
    }
}

#[test]
fn events_come_with_what_belongs_to_them() {
    let verified = Verified::check(sale_full(), &KEY).unwrap();
    let View::Sale(sales) = verified.view() else {
        panic!("not sales")
    };
    let events: Vec<_> = sales.events().collect();
    assert_eq!(events.len(), 2);
    let (first, second) = (&events[0], &events[1]);
    assert_eq!(
        (first.lines.len(), first.tenders.len(), first.texts.len()),
        (4, 2, 6)
    );
    assert_eq!(first.texts.find(text::NOTE), Some("нет чека"));
    assert_eq!(first.texts.find_of(text::SKU_CODE, 1), Some("FUEL-95"));
    assert_eq!(first.event_id().unwrap().to_bytes(), [0xee; 16]);
    assert_eq!(
        (first.tender_key(0), first.tender_key(1)),
        (2, named_tender_key("Ticket Café"))
    );
    assert_eq!((first.tender_net(0), first.tender_net(1)), (4_578, 500));
    assert_eq!(
        (second.lines.len(), second.refs.len(), second.texts.len()),
        (1, 0, 0)
    );
    assert_eq!((second.index, second.event_id()), (1, None));
}

#[test]
fn a_builder_takes_what_a_server_takes_and_no_more() {
    let mut builder = SaleBuilder::new();
    let refused = |parts: SaleParts<'_>| SaleBuilder::new().push(&parts).unwrap_err();
    let sale = Sale {
        at: AT,
        kind: 9,
        ..Sale::default()
    };
    assert_eq!(
        refused(SaleParts {
            sale,
            ..SaleParts::default()
        }),
        BuildError::Refused(Reason::UnknownKind)
    );
    let line = Line {
        kind: 1,
        ..Line::default()
    };
    let many = vec![line; usize::from(LINES_PER_SALE_MAX) + 1];
    assert_eq!(
        refused(SaleParts {
            lines: &many,
            ..small_sale()
        }),
        BuildError::Refused(Reason::TooMany)
    );
    let long = "x".repeat(65);
    for texts in [
        [whole_text(text::NOTE, &long)],
        [sku_code(1, "no such line")],
        [whole_text(9, "kind")],
    ] {
        assert_eq!(
            refused(SaleParts {
                texts: &texts,
                ..small_sale()
            }),
            BuildError::Refused(Reason::BadText)
        );
    }
    assert_eq!(builder.finish(seq(1)), Err(BuildError::Empty));
    for index in 0..FRAME_EVENTS_MAX {
        assert_eq!(builder.push(&small_sale()), Ok(index));
    }
    assert_eq!(builder.push(&small_sale()), Err(BuildError::Full));
    assert_eq!(
        builder.finish(till_protocol::id::Seq::MAX),
        Err(BuildError::SeqRange(till_protocol::id::Seq::MAX))
    );
    assert_eq!(builder.len(), FRAME_EVENTS_MAX);
    let frame = builder.finish_frame(seq(1)).unwrap();
    assert!(builder.is_empty() && refusals(frame).is_empty());
}

#[test]
fn the_largest_sales_fill_a_frame_and_no_more() {
    let line = Line {
        kind: 1,
        ..Line::default()
    };
    let lines = vec![line; usize::from(LINES_PER_SALE_MAX)];
    let parts = SaleParts {
        lines: &lines,
        ..small_sale()
    };
    let mut builder = SaleBuilder::new();
    while builder.push(&parts).is_ok() {}
    assert_eq!(builder.push(&parts), Err(BuildError::Full));
    assert_eq!(builder.len(), 3);
    let bytes = builder.payload_bytes();
    let frame = builder.finish_frame(seq(1)).unwrap();
    assert_eq!(frame.payload.len(), bytes);
    assert_eq!(refusals(frame), []);
    let name = "y".repeat(64);
    let texts: Vec<_> = (0..LINES_PER_SALE_MAX)
        .map(|line| sku_code(line, &name))
        .collect();
    let twice: Vec<_> = texts.iter().chain(&texts).copied().collect();
    let error = builder
        .push(&SaleParts {
            texts: &twice,
            ..parts
        })
        .unwrap_err();
    assert!(matches!(error, BuildError::TooLarge { .. }), "{error}");
}

#[test]
fn a_text_of_a_stock_event_names_no_line() {
    let record = stock::v1::Move {
        at: AT,
        ..count_of_milk()
    };
    let mut builder = StockBuilder::new();
    assert_eq!(
        builder.push(&record, &[], &[sku_code(0, "MILK")]),
        Err(BuildError::Refused(Reason::BadText))
    );
    assert_eq!(
        builder.push(&record, &[], &[sku_code(WHOLE_EVENT, "MILK")]),
        Ok(0)
    );
}

#[test]
fn a_frame_read_back_from_disk_is_checked_again() {
    for (name, frame) in samples::all() {
        assert!(Verified::from_journal(frame.clone()).is_ok(), "{name}");
        let mut broken = frame;
        broken.header.count += 1;
        assert!(Verified::from_journal(broken).is_err(), "{name}");
    }
}
