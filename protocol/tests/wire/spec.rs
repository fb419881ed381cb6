//! SPEC.md and the code say the same.

use std::collections::BTreeMap;

use till_protocol::code::Reason;
use till_protocol::family::{Family, text};
use till_protocol::id::SkuId;
use till_protocol::layout::vectors;
use till_protocol::limits;
use till_protocol::quantity::unit;
use till_protocol::reply::{ALPN, kind};
use till_protocol::verified::Verified;
use till_protocol::view::named_tender_key;

use crate::golden;
use crate::samples;

const SPEC: &str = include_str!("../../SPEC.md");

/// Rows of the table under a heading line, cells trimmed, without its head.
fn table(head: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = SPEC
        .split_once(head)
        .unwrap_or_else(|| panic!("no table {head}"));
    let rows = rest
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        row.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect()
    })
    .collect()
}

#[test]
fn reason_codes_are_those_of_the_code() {
    let rows = table("| code | name | meaning |");
    let expected: Vec<[String; 3]> = Reason::ALL
        .iter()
        .map(|reason| {
            [
                reason.code().to_string(),
                reason.name().to_owned(),
                reason.sentence().to_owned(),
            ]
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn limits_are_those_of_the_code() {
    let rows: BTreeMap<&str, i128> = table("| limit | value | meaning |")
        .iter()
        .map(|row| (row[0], row[1].parse().unwrap()))
        .collect();
    macro_rules! limits {
        ($($name:ident),*) => { BTreeMap::from([$((stringify!($name), i128::try_from(limits::$name).unwrap())),*]) };
    }
    let expected = limits![
        UDP_PAYLOAD_MAX,
        FRAME_BYTES_MAX,
        FRAME_EVENTS_MAX,
        SESSION_BYTES_MAX,
        HELLO_BYTES_MAX,
        HELLO_VERSIONS_MAX,
        ZONE_BYTES_MAX,
        ACK_REFUSALS_MAX,
        CHECK_DIGESTS_MAX,
        NOTICE_BYTES_MAX,
        LINES_PER_SALE_MAX,
        TAXES_PER_SALE_MAX,
        ADJUSTMENTS_PER_SALE_MAX,
        TENDERS_PER_SALE_MAX,
        TEXTS_PER_EVENT_MAX,
        REFS_PER_EVENT_MAX,
        TEXT_BYTES_MAX,
        RECEIPT_MAX,
        PRICE_SCALE_MAX,
        OFFSET_MIN_MAX,
        TIME_US_MAX
    ];
    assert_eq!(rows, expected);
}

#[test]
fn every_limit_of_the_code_is_in_the_table() {
    let source = include_str!("../../src/limits.rs");
    let rows = table("| limit | value | meaning |");
    for line in source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
    {
        let name = line.split(':').next().unwrap();
        assert!(
            rows.iter().any(|row| row[0] == name),
            "{name} is not in SPEC.md"
        );
    }
}

#[test]
fn vectors_of_each_family_are_those_of_the_code() {
    for (heading, family) in [
        ("### Sale (family 1, version 1)", Family::Sale),
        ("### Stock (family 4, version 1)", Family::Stock),
        ("### Sensor (family 5, version 1)", Family::Sensor),
        ("### Device (family 9, version 1)", Family::Device),
    ] {
        let (_, section) = SPEC.split_once(heading).unwrap();
        let rows = section
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1);
        let sizes: Vec<usize> = rows
            .take_while(|line| line.starts_with('|'))
            .map(|row| {
                row.trim_matches('|')
                    .rsplit('|')
                    .next()
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(sizes, vectors(family), "{heading}");
    }
}

#[test]
fn fields_of_each_record_lie_without_gaps_and_fill_it() {
    let mut records = 0;
    for section in SPEC.split("\n#### ").skip(1) {
        let (title, rest) = section.split_once(" bytes\n").unwrap();
        let size: usize = title.split(": ").nth(1).unwrap().parse().unwrap();
        let mut at = 0;
        for row in rest
            .lines()
            .skip(3)
            .take_while(|line| line.starts_with('|'))
        {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[1].parse::<usize>(), Ok(at), "{title}: {row}");
            at += match cells[3] {
                "u8" => 1,
                "u16" | "i16" => 2,
                "u32" => 4,
                "u64" | "i64" => 8,
                "16 bytes" => 16,
                other => panic!("{title}: type {other}"),
            };
        }
        assert_eq!(at, size, "{title}");
        records += 1;
    }
    assert_eq!(records, 12);
}

#[test]
fn dumps_are_the_golden_bytes() {
    let mut dumps = 0;
    for block in SPEC.split("```hex ").skip(1) {
        let (name, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        let mut bytes = Vec::new();
        for line in body.lines() {
            let (offset, rest) = line.split_once("  ").unwrap();
            assert_eq!(
                usize::from_str_radix(offset, 16),
                Ok(bytes.len()),
                "{name}: {line}"
            );
            let digits = rest.get(..47).unwrap_or(rest);
            bytes.extend(
                digits
                    .split_whitespace()
                    .map(|pair| u8::from_str_radix(pair, 16).unwrap()),
            );
        }
        assert_eq!(bytes, golden::read(name), "{name}");
        dumps += 1;
    }
    assert_eq!(dumps, 6);
}

#[test]
fn worked_examples_of_ids_and_keys_are_right() {
    for row in table("| code | SHA-256 begins | SKU id |") {
        assert_eq!(format!("0x{:016x}", SkuId::of_code(row[0]).get()), row[2]);
    }
    assert!(SPEC.contains(&format!(
        "`Ticket Café` is `0x{:016x}`",
        named_tender_key("Ticket Café")
    )));
}

#[test]
fn worked_examples_of_digests_are_right() {
    let rows = table("| frame | hashed bytes | digest |");
    assert_eq!(rows.len(), 4);
    for row in rows {
        let (_, frame) = samples::all()
            .into_iter()
            .find(|(name, _)| *name == row[0])
            .unwrap();
        let verified = Verified::from_journal(frame).unwrap();
        assert_eq!(
            format!("0x{:016x}", verified.digest(0)),
            row[2],
            "{}",
            row[0]
        );
    }
}

#[test]
fn kinds_of_messages_and_names_are_those_of_the_code() {
    let kinds: Vec<u8> = table("| kind | message | from | payload |")
        .iter()
        .map(|row| row[0].parse().unwrap())
        .collect();
    let expected = [
        kind::HELLO,
        kind::CHECK,
        kind::GOODBYE,
        kind::WELCOME,
        kind::ACK,
        kind::NACK,
        kind::SLOW,
        kind::REDIRECT,
        kind::BYE,
        kind::CHECKED,
    ];
    assert_eq!(kinds, expected);
    assert!(SPEC.contains(&format!("ALPN name `{}`", str::from_utf8(ALPN).unwrap())));
    assert!(SPEC.contains(&format!("0x{:08x}", crc32c::crc32c(b"123456789"))));
    assert_eq!(text::ALL.len(), 6);
    for row in table("| unit | name | code |").iter().skip(1) {
        let number: u8 = row[0].parse().unwrap();
        assert_eq!((unit::name(number), unit::code(number)), (row[1], row[2]));
    }
    for family in Family::ALL {
        assert!(SPEC.contains(&format!("{} {}", family.number(), family.name())));
    }
}
