use super::super::csv::{Next, Rows};
use super::*;

const HEADER: &str = "store_id,terminal_id,receipt_id,occurred_at,sku,quantity,extended_amount,discount_amount,tax_amount,tender,customer_id";

fn rows(text: &str, decimals: u8) -> Vec<Result<Good, String>> {
    let mut rows = Rows::new(text.as_bytes()).unwrap();
    let mut row = Row::default();
    assert_eq!(rows.next(&mut row).unwrap(), Next::Row);
    let columns = Columns::read(&row, decimals).unwrap();
    let mut out = Vec::new();
    while rows.next(&mut row).unwrap() == Next::Row {
        out.push(columns.parse(&row).map_err(|bad| bad.reason));
    }
    out
}

fn one(line: &str, decimals: u8) -> Result<Good, String> {
    rows(&format!("{HEADER}\n{line}\n"), decimals).remove(0)
}

#[test]
fn a_row_is_read_to_the_last_unit() {
    let good = one(
        "3,4,R-7,2026-03-01T08:30:00.25+02:00,A B,-1.5,-12.30,0.20,-1.07,Gift Card,c9",
        2,
    );
    let good = good.unwrap();
    assert_eq!((good.key.store, good.key.terminal), (3, 4));
    assert_eq!(
        (good.key.date.as_str(), good.key.receipt.as_str()),
        ("2026-03-01", "R-7")
    );
    assert_eq!((good.at_us, good.offset_min), (1_772_346_600_250_000, 120));
    let line = &good.line;
    assert_eq!((line.quantity, line.amount), (-150_000, -1_230));
    assert_eq!((line.discount, line.tax), (20, -107));
    assert_eq!(
        (line.sku.as_str(), line.tender.as_str()),
        ("A B", "Gift Card")
    );
    assert_eq!(good.customer, "c9");
}

#[test]
fn columns_stand_in_any_order_and_the_last_four_may_be_absent() {
    let text = "sku,extended_amount,store_id,quantity,terminal_id,occurred_at,receipt_id\n\
                X,1.00,1,2,3,2026-01-01T00:00:00Z,9\n";
    let good = rows(text, 2).remove(0).unwrap();
    assert_eq!((good.key.store, good.key.terminal), (1, 3));
    assert_eq!(
        (good.line.quantity, good.line.discount, good.line.tax),
        (200_000, 0, 0)
    );
    assert!(good.line.tender.is_empty() && good.customer.is_empty());
}

#[test]
fn a_missing_or_doubled_column_is_named() {
    let read = |header: &str| {
        let mut rows = Rows::new(header.as_bytes()).unwrap();
        let mut row = Row::default();
        rows.next(&mut row).unwrap();
        Columns::read(&row, 2).unwrap_err().to_string()
    };
    assert!(read("store_id,sku\n").contains("receipt_id"));
    assert!(read(&format!("{HEADER},sku\n")).contains("sku twice"));
}

#[test]
fn every_kind_of_bad_row_says_what_is_wrong() {
    let table = [
        ("0,1,R,2026-01-01T00:00:00Z,S,1,1", "store_id"),
        ("2147483648,1,R,2026-01-01T00:00:00Z,S,1,1", "store_id"),
        ("+1,1,R,2026-01-01T00:00:00Z,S,1,1", "store_id"),
        ("1,x,R,2026-01-01T00:00:00Z,S,1,1", "terminal_id"),
        ("1,1,,2026-01-01T00:00:00Z,S,1,1", "receipt_id"),
        ("1,1,R,2026-01-01T00:00:00,S,1,1", "offset"),
        ("1,1,R,2026-02-30T00:00:00Z,S,1,1", "no such day"),
        ("1,1,R,2026-01-01T24:00:00Z,S,1,1", "time of day"),
        ("1,1,R,01/02/2026,S,1,1", "not a time"),
        ("1,1,R,1969-12-31T23:59:59Z,S,1,1", "outside"),
        ("1,1,R,2026-01-01T00:00:00Z,,1,1", "sku is empty"),
        ("1,1,R,2026-01-01T00:00:00Z,S,,1", "quantity"),
        (
            "1,1,R,2026-01-01T00:00:00Z,S,1.000001,1",
            "more than 5 decimals",
        ),
        ("1,1,R,2026-01-01T00:00:00Z,S,1e3,1", "quantity"),
        (
            "1,1,R,2026-01-01T00:00:00Z,S,1,1.005",
            "more than 2 decimals",
        ),
        (
            "1,1,R,2026-01-01T00:00:00Z,S,1,1.000",
            "more than 2 decimals",
        ),
        (
            "1,1,R,2026-01-01T00:00:00Z,S,1,\"1,000\"",
            "extended_amount",
        ),
        (
            "1,1,R,2026-01-01T00:00:00Z,S,1,99999999999999999999",
            "too large",
        ),
    ];
    for (line, reason) in table {
        let found = one(&format!("{line},,,,"), 2).unwrap_err();
        assert!(found.contains(reason), "{line}: {found}");
    }
    let long = "x".repeat(65);
    let found = one(&format!("1,1,R,2026-01-01T00:00:00Z,{long},1,1,,,,"), 2).unwrap_err();
    assert!(found.contains("65 bytes"), "{found}");
    assert!(one("1,1,R", 2).unwrap_err().contains("3 fields"));
}

#[test]
fn amounts_have_the_decimals_of_their_currency() {
    let amount = |text: &str, decimals| {
        one(
            &format!("1,1,R,2026-01-01T00:00:00Z,S,1,{text},,,,"),
            decimals,
        )
        .map(|good| good.line.amount)
    };
    assert_eq!(amount("1200", 0), Ok(1_200));
    assert!(amount("1200.5", 0).is_err());
    assert_eq!(amount("1.234", 3), Ok(1_234));
    assert_eq!(amount("0.1", 2), Ok(10));
    assert_eq!(amount("92233720368547758.07", 2), Ok(i64::MAX));
    assert!(amount("92233720368547758.08", 2).is_err());
}

#[test]
fn quantities_may_be_nothing_a_fraction_or_huge() {
    let quantity = |text: &str| {
        one(&format!("1,1,R,2026-01-01T00:00:00Z,S,{text},1,,,,"), 2).map(|good| good.line.quantity)
    };
    assert_eq!(quantity("0"), Ok(0));
    assert_eq!(quantity("0.00001"), Ok(1));
    assert_eq!(quantity("92233720368547.75807"), Ok(i64::MAX));
    assert!(quantity("92233720368547.75808").is_err());
}

#[test]
fn times_with_every_form_of_offset_are_one_instant() {
    let table = [
        ("2026-03-01T08:30:00Z", 0),
        ("2026-03-01t08:30:00z", 0),
        ("2026-03-01 08:30:00+00:00", 0),
        ("2026-03-01T14:00:00.000000999+05:30", 330),
        ("2026-02-28T20:30:00-12:00", -720),
    ];
    for (text, offset) in table {
        assert_eq!(rfc3339(text), Ok((1_772_353_800_000_000, offset)), "{text}");
    }
    assert!(rfc3339("2026-03-01T08:30:00+18:01").is_err());
    assert!(rfc3339("2026-03-01T08:30:00.Z").is_err());
    assert!(rfc3339("2026-03-01T08:30Z").is_err());
    assert!(rfc3339("2026-03-01").is_err());
    assert_eq!(
        rfc3339("2016-12-31T23:59:60Z").unwrap().0 % 60_000_000,
        59_000_000
    );
}
