use bytes::Bytes;
use till_protocol::card::ScreenKey;
use till_protocol::codec::Frame;
use till_protocol::verified::Verified;

use super::frame::Builder;
use super::*;

const HEADER: &str = "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,discount_amount,tax_amount,tender,customer_id\n";

fn read(text: String) -> (Vec<Receipt>, Counts, Vec<(u64, String)>) {
    let mut reader = Reader::new(Box::new(io::Cursor::new(text)), 2).unwrap();
    let (mut receipts, mut skipped) = (Vec::new(), Vec::new());
    while let Some(more) = reader
        .step(&mut |line, reason| skipped.push((line, reason.to_owned())))
        .unwrap()
    {
        receipts.extend(more);
    }
    (receipts, reader.counts, skipped)
}

fn accepted(bytes: Bytes) -> u32 {
    let frame = Frame::decode(bytes).unwrap();
    let verified = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
    assert!(verified.refusals().is_empty(), "{:?}", verified.refusals());
    verified.count()
}

#[test]
fn a_receipt_of_4000_lines_is_one_valid_frame() {
    let mut text = HEADER.to_owned();
    for line in 0..4_000 {
        let sku = format!("{line:0>64}");
        let tender = format!("pay {}", line % 200);
        text.push_str(&format!(
            "1,2,big,2026-03-01T08:00:00Z,{sku},1.5,10.00,0.10,0.70,{tender},person\n"
        ));
    }
    let (receipts, counts, skipped) = read(text);
    assert_eq!((receipts.len(), counts.rows_skipped), (1, 0), "{skipped:?}");
    let mut builder = Builder::default();
    let sums = builder.push(&receipts[0], |_| false);
    assert_eq!(
        (sums.lines, sums.net, sums.discount, sums.tax),
        (4_000, 4_000_000, 40_000, 280_000)
    );
    let (frame, named) = builder.seal(1).unwrap();
    assert_eq!((accepted(frame), named.len()), (1, 4_000));
}

#[test]
fn a_file_whose_lines_end_with_cr_alone_is_an_error_that_says_so() {
    let row = "1,2,R,2026-03-01T08:00:00Z,A,1,1.00,,,cash,";
    for rows in [1, 10_000] {
        let text = (HEADER.to_owned() + &format!("{row}\n").repeat(rows)).replace('\n', "\r");
        let error = Reader::new(Box::new(io::Cursor::new(text)), 2).unwrap_err();
        assert!(error.to_string().contains("CR alone"), "{error}");
    }
    let text = (HEADER.to_owned() + row).replace('\n', "\r\n");
    assert_eq!(read(text).1.rows_read, 1);
}

#[test]
fn frames_of_many_receipts_are_accepted_and_name_each_sku_once() {
    let mut text = HEADER.to_owned();
    for receipt in 1..=100 {
        for (sku, quantity) in [("A", "1"), ("4012345678901", "-2"), ("B", "0")] {
            let kind = ["", "cash", "Cash", "gift_card"][receipt % 4];
            let id = if receipt % 2 == 0 {
                receipt.to_string()
            } else {
                format!("R-{receipt:03}")
            };
            text.push_str(&format!(
                "7,1,{id},2026-03-01T08:00:00Z,{sku},{quantity},1.00,,,{kind},\n"
            ));
        }
    }
    let (receipts, counts, _) = read(text);
    assert_eq!(
        (counts.rows_read, counts.receipts, counts.net_minor),
        (300, 100, 30_000)
    );
    let mut builder = Builder::default();
    for receipt in &receipts {
        builder.push(receipt, |_| false);
    }
    let (frame, named) = builder.seal(9).unwrap();
    assert_eq!((accepted(frame), named.len()), (100, 3));
}

#[test]
fn a_frame_holds_few_hours_of_a_till() {
    let mut text = HEADER.to_owned();
    for receipt in 0..20 {
        let (hour, minute) = (8 + receipt / 2, receipt % 2 * 30);
        text.push_str(&format!(
            "7,1,R{receipt},2026-03-01T{hour:02}:{minute:02}:00Z,A,1,1.00,,,cash,\n"
        ));
    }
    let (receipts, ..) = read(text);
    let (mut builder, mut frames) = (Builder::default(), Vec::new());
    for receipt in &receipts {
        builder.push(receipt, |_| false);
        if builder.is_full() {
            frames.push(builder.events());
            builder.seal(1).unwrap();
        }
    }
    // From 8:00 to 10:00, from 10:30 to 12:30, ...
    assert_eq!(frames, [5, 5, 5, 5]);
}

/// The engine finds a card number in a code only where the frame says the code, and a frame may be cut before it is sent.
#[test]
fn a_code_that_looks_like_a_card_is_named_in_every_receipt() {
    const CARD: &str = "4111111111111111";
    let mut text = HEADER.to_owned();
    for receipt in 1..=2 {
        for _line in 0..2 {
            text.push_str(&format!(
                "7,1,{receipt},2026-03-01T08:00:00Z,{CARD},1,1.00,,,cash,\n"
            ));
        }
    }
    let (receipts, ..) = read(text);
    let mut named = Vec::new();
    let mut builder = Builder::default();
    for first in [1, 3] {
        for receipt in &receipts {
            builder.push(receipt, |sku| named.contains(&sku));
        }
        let (bytes, more) = builder.seal(first).unwrap();
        named.extend(more);
        let second = till_client::single(&bytes, 1).unwrap();
        for bytes in [bytes, second] {
            let frame = Frame::decode(bytes).unwrap();
            let held = Verified::check(frame, &ScreenKey::new([7; 32])).unwrap();
            let of_card = till_protocol::id::SkuId::of_code(CARD).get().to_le_bytes();
            let payload = &held.frame().payload;
            assert!(!payload.windows(8).any(|bytes| bytes == of_card));
        }
    }
    assert!(named.is_empty());
}

#[test]
fn rows_read_are_rows_sent_and_rows_skipped() {
    let text = format!(
        "\u{feff}{HEADER}1,1,A,2026-03-01T08:00:00Z,S,1,1.00,,,,\r\n\
         1,1,A,2026-03-01T08:00:00Z,S,1,1.005,,,,\r\n\
         1,1,B,2026-03-01T08:00:00Z,\"S,\"\"2\"\"\",1,2.00,,,,\r\n\
         garbage\r\n\
         1,1,C,2026-03-01T08:00:00Z,S,1,3.00,,,,"
    );
    let (receipts, counts, skipped) = read(text);
    let names: Vec<&str> = receipts
        .iter()
        .map(|receipt| receipt.key.receipt.as_str())
        .collect();
    assert_eq!(names, ["B", "C"]);
    assert_eq!(
        (counts.rows_read, counts.rows_skipped, counts.net_minor),
        (5, 3, 500)
    );
    assert!(
        skipped
            .iter()
            .any(|(line, why)| *line == 3 && why.contains("decimals")),
        "{skipped:?}"
    );
    assert!(skipped.iter().any(|(line, _)| *line == 5), "{skipped:?}");
    assert_eq!(receipts[0].lines[0].sku, "S,\"2\"");
}

#[test]
fn a_file_without_header_is_an_error_that_says_so() {
    let error = Reader::new(Box::new(io::empty()), 2)
        .unwrap_err()
        .to_string();
    assert!(error.contains("empty"), "{error}");
    let error = Reader::new(Box::new(io::Cursor::new("1,2,3\n")), 2)
        .unwrap_err()
        .to_string();
    assert!(error.contains("lacks"), "{error}");
}

/// Receipts as "receipt:lines", what was skipped, and how many rows there were.
fn outcome(rows: &str) -> (Vec<String>, Vec<(u64, String)>, u64) {
    let (receipts, counts, skipped) = read(format!("{HEADER}{rows}"));
    let shown = receipts
        .iter()
        .map(|receipt| format!("{}:{}", receipt.key.receipt, receipt.lines.len()));
    (shown.collect(), skipped, counts.rows_read)
}

#[test]
fn a_quote_that_is_left_open_swallows_no_rows_and_sends_no_receipt_in_part() {
    let at = "2026-03-01T08:00:00Z";
    let good = |receipt: &str, sku: &str| format!("1,1,{receipt},{at},{sku},1,1,,,,\n");
    // The quote of R2's second row closes the one that R1 left open.
    let rows = [
        good("R1", "\"500 g"),
        good("R2", "a"),
        good("R2", "\"b, large\""),
        good("R2", "c"),
    ];
    let (receipts, skipped, read) = outcome(&rows.concat());
    assert_eq!(
        (receipts, read),
        (vec!["R2:3".to_owned()], 4),
        "{skipped:?}"
    );
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].0, 2);
    // A quote at the end of a field closes it so well that a single good row seems to be left.
    let rows = [
        good("R1", "x"),
        good("R1", "\"500 g"),
        good("R2", "5\""),
        good("R2", "c"),
    ];
    let (receipts, skipped, read) = outcome(&rows.concat());
    assert_eq!(
        (receipts, read),
        (vec!["R2:2".to_owned()], 4),
        "{skipped:?}"
    );
    assert_eq!(skipped.len(), 2, "R1 is skipped whole: {skipped:?}");
}

#[test]
fn a_sku_may_have_line_breaks_commas_and_quotes() {
    let row = "1,1,R1,2026-03-01T08:00:00Z,\"a\nb, \"\"c\"\"\",1,1,,,,\n";
    let (receipts, _, skipped) = read(format!("{HEADER}{row}"));
    assert_eq!(skipped, []);
    assert_eq!(receipts[0].lines[0].sku, "a\nb, \"c\"");
}

#[test]
fn reasons_show_no_card_numbers() {
    let (_, skipped, _) =
        outcome("1,1,4111111111111111,2026-03-01T08:00:00Z,A,5500005555555559x,1,,,,\n");
    let text = format!("{skipped:?}");
    assert!(
        !text.contains("411111") && !text.contains("550000"),
        "{text}"
    );
    assert!(text.contains("5559"), "{text}");
}
