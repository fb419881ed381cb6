//! No card number passes the door, in whatever field it comes.

use bytes::Bytes;
use till_protocol::builder::{
    SaleBuilder, SaleParts, StockBuilder, TextView, sku_code, whole_text,
};
use till_protocol::card::{ScreenKey, token_code};
use till_protocol::code::Reason;
use till_protocol::codec::Frame;
use till_protocol::digest::{content_hash, digests};
use till_protocol::family::sale::v1::{Line, Tender};
use till_protocol::family::{Reference, WHOLE_EVENT, reference, stock, text};
use till_protocol::id::SkuId;
use till_protocol::layout::Native;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use crate::samples::{KEY, count_of_milk, sale_full, seq, small_sale};

const CARD: &str = "4111111111111111";

fn contains(payload: &[u8], needle: &[u8]) -> bool {
    payload.windows(needle.len()).any(|window| window == needle)
}

fn sale_with(texts: &[TextView<'_>], refs: &[Reference]) -> Frame {
    let mut builder = SaleBuilder::new();
    builder.push(&small_sale()).unwrap();
    builder
        .push(&SaleParts {
            texts,
            refs,
            ..small_sale()
        })
        .unwrap();
    builder.push(&small_sale()).unwrap();
    builder.finish_frame(seq(1)).unwrap()
}

#[test]
fn a_card_number_is_gone_from_every_text_and_its_event_is_named() {
    for kind in text::ALL {
        let item = if matches!(kind, text::TENDER_NAME | text::TENDER_REFERENCE) {
            0
        } else {
            WHOLE_EVENT
        };
        let frame = sale_with(
            &[
                TextView {
                    item,
                    kind,
                    text: CARD,
                },
                whole_text(text::NOTE, "stays"),
            ],
            &[],
        );
        let before = frame.payload.len();
        let verified = Verified::check(frame, &KEY).unwrap();
        assert!(
            !contains(&verified.frame().payload, CARD.as_bytes()),
            "kind {kind}"
        );
        assert!(contains(&verified.frame().payload, b"stays"));
        assert_eq!(
            (verified.masked(), verified.refusals()),
            (&[1_u32][..], &[][..])
        );
        assert_eq!(verified.frame().payload.len(), before);
        // What was masked is right on disk, and nothing is left to mask.
        let again = Frame::decode(verified.frame().encode()).unwrap();
        assert!(Verified::check(again, &KEY).unwrap().masked().is_empty());
    }
}

#[test]
fn a_card_number_in_a_reference_or_a_receipt_number_is_gone() {
    let value = *b"4111111111111111";
    let refs = [Reference {
        event: 0,
        kind: reference::CUSTOMER,
        reserved: 0,
        value,
    }];
    let verified = Verified::check(sale_with(&[], &refs), &KEY).unwrap();
    assert!(!contains(&verified.frame().payload, &value));
    assert_eq!(verified.masked(), [1]);

    let number: u64 = CARD.parse().unwrap();
    let mut payload = sale_full().payload.to_vec();
    payload[8..16].copy_from_slice(&number.to_le_bytes());
    let verified =
        Verified::check(Frame::new(1, 1, 2, 1, Bytes::from(payload)).unwrap(), &KEY).unwrap();
    assert!(!contains(&verified.frame().payload, &number.to_le_bytes()));
    assert_eq!(verified.refusals(), [(0, Reason::ReceiptNumber)]);
    // Read back, it is refused for the same reason.
    let again = Verified::from_journal(verified.frame().clone()).unwrap();
    assert_eq!(again.refusals(), verified.refusals());
}

#[test]
fn a_card_number_in_a_text_that_is_not_utf8_is_gone_too() {
    let note = format!("{CARD}?");
    let frame = sale_with(&[whole_text(text::NOTE, &note)], &[]);
    let mut payload = frame.payload.to_vec();
    let at = payload
        .windows(note.len())
        .position(|window| window == note.as_bytes())
        .unwrap();
    payload[at + CARD.len()] = 0xff;
    let verified =
        Verified::check(Frame::new(1, 1, 3, 1, Bytes::from(payload)).unwrap(), &KEY).unwrap();
    assert!(!contains(&verified.frame().payload, CARD.as_bytes()));
    assert_eq!(verified.refusals(), [(1, Reason::BadText)]);
    let again = Verified::from_journal(verified.frame().clone()).unwrap();
    assert_eq!(again.refusals(), verified.refusals());
}

#[test]
fn a_code_that_becomes_a_token_takes_its_id_along_in_the_whole_frame() {
    let old = SkuId::of_code(CARD);
    let new = SkuId::of_code(&token_code(&KEY, CARD).unwrap());
    let line = |sku: SkuId| Line {
        sku: sku.get(),
        kind: 1,
        ..Line::default()
    };
    let other = SkuId::of_code("other");
    let lines = [line(other), line(old)];
    let mut builder = SaleBuilder::new();
    builder
        .push(&SaleParts {
            lines: &lines,
            texts: &[sku_code(1, CARD)],
            ..small_sale()
        })
        .unwrap();
    builder
        .push(&SaleParts {
            lines: &lines,
            ..small_sale()
        })
        .unwrap();
    let verified = Verified::check(builder.finish_frame(seq(1)).unwrap(), &KEY).unwrap();
    assert_eq!(verified.renamed(), [(old, new)]);
    let View::Sale(sales) = verified.view() else {
        panic!("not sales")
    };
    let skus: Vec<u64> = sales
        .batch()
        .lines
        .iter()
        .map(|line| line.native().sku)
        .collect();
    assert_eq!(skus, [other.get(), new.get(), other.get(), new.get()]);

    let mut builder = StockBuilder::new();
    let record = stock::v1::Move {
        sku: old.get(),
        ..count_of_milk()
    };
    builder
        .push(&record, &[], &[whole_text(text::SKU_CODE, CARD)])
        .unwrap();
    let verified = Verified::check(builder.finish_frame(seq(1)).unwrap(), &KEY).unwrap();
    let View::Stock(view) = verified.view() else {
        panic!("not stock")
    };
    assert_eq!(view.records()[0].native().sku, new.get());
}

#[test]
fn masking_leaves_every_digest_alone_and_the_original_bytes_untouched() {
    let frame = sale_with(&[sku_code(0, CARD)], &[]);
    let original = frame.clone();
    let before = digests(&Verified::from_journal(frame.clone()).unwrap().view());
    let verified = Verified::check(frame, &KEY).unwrap();
    assert_eq!(digests(&verified.view()), before);
    assert!(
        contains(&original.payload, CARD.as_bytes()),
        "shared bytes were changed in place"
    );
}

#[test]
fn masking_is_deterministic_so_a_copy_of_an_event_has_its_content() {
    let check = |key: &ScreenKey| {
        let frame = sale_with(&[whole_text(text::RECEIPT, CARD)], &[]);
        content_hash(&Verified::check(frame, key).unwrap().view(), 1)
    };
    assert_eq!(check(&KEY), check(&KEY));
    assert_ne!(check(&KEY), check(&ScreenKey::new([9; 32])));
}

#[test]
fn a_barcode_that_looks_like_a_card_stays_a_barcode() {
    // GTIN-13 with a right check digit that also passes the check of a card.
    let code = (0..10_000_u64)
        .map(|n| format!("{}", 4_000_000_000_000 + n))
        .find(|code| till_protocol::card::is_gs1(code) && till_protocol::card::is_suspect(code))
        .unwrap();
    let tenders = [Tender {
        amount: 1,
        kind: 1,
        flags: 0,
    }];
    let mut builder = SaleBuilder::new();
    let texts = [sku_code(0, &code), whole_text(text::DOCUMENT, &code)];
    builder
        .push(&SaleParts {
            texts: &texts,
            tenders: &tenders,
            ..small_sale()
        })
        .unwrap();
    let verified = Verified::check(builder.finish_frame(seq(1)).unwrap(), &KEY).unwrap();
    assert!(verified.masked().is_empty(), "{code}");
}
