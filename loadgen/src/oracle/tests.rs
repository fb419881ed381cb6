use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::*;
use crate::admin::Admin;
use crate::workload::{Catalogue, StoreWorkload};

#[test]
fn a_level_is_the_last_count_by_time_and_the_movements_after_it() {
    let mut level = Level::default();
    level.moved(10, 5);
    level.moved(30, 7);
    assert_eq!(level.quantity(100), 112);
    level.counted(20, 50);
    assert_eq!(
        level.quantity(100),
        57,
        "a late count keeps what came after it"
    );
    level.moved(15, 9);
    assert_eq!(
        level.quantity(100),
        57,
        "a late movement before the count changes nothing"
    );
    level.counted(5, 1_000);
    assert_eq!(level.quantity(100), 57, "an older count changes nothing");
    level.moved(25, -2);
    assert_eq!(level.quantity(100), 55);
}

#[test]
fn a_level_is_the_same_in_whatever_order_its_events_arrive() {
    let events = [
        (10, Some(4)),
        (20, None),
        (30, Some(9)),
        (40, None),
        (50, None),
    ];
    let mut wanted = None;
    for turn in 0..events.len() {
        let mut level = Level::default();
        for (at, counted) in events.iter().cycle().skip(turn).take(events.len()) {
            match counted {
                Some(quantity) => level.counted(*at, *quantity),
                None => level.moved(*at, 3),
            }
        }
        assert_eq!(
            *wanted.get_or_insert_with(|| level.quantity(0)),
            level.quantity(0),
            "turn {turn}"
        );
    }
    assert_eq!(wanted, Some(15));
}

#[test]
fn voids_training_and_struck_lines_are_left_out() {
    let catalogue = Arc::new(Catalogue::new(1, 50));
    let mut store = StoreWorkload::new(4, (1, 1), &catalogue, 0);
    let sale = loop {
        if let Event::Sale(sale) = store.next(1_000_000).1 {
            break sale;
        }
    };
    let mut void = sale.clone();
    void.sale.kind = kind::VOID;
    let mut training = sale.clone();
    training.sale.flags = flag::TRAINING;
    assert_eq!(Sums::of(&void), Sums::default());
    assert_eq!(Sums::of(&training), Sums::default());
    let mut struck = sale.clone();
    struck.lines[0].kind = line_kind::VOID;
    assert_eq!(Sums::of(&struck).lines, Sums::of(&sale).lines - 1);
}

/// An engine that answers these rows.
fn answering(sales: Value, stock: Value, terminals: Value) -> Admin {
    serving(sales, stock, terminals, false)
}

fn serving(sales: Value, stock: Value, terminals: Value, is_torn: bool) -> Admin {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = Admin::new(&listener.local_addr().unwrap().to_string());
    let none = json!([]);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            let read = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let rows = match request.split_whitespace().nth(1).unwrap_or("") {
                // A row that is lost from one breakdown alone.
                path if path.contains("by=tender") && is_torn => &none,
                path if path.contains("/sales") => &sales,
                path if path.contains("/stock") => &stock,
                path if path.contains("/terminals") => &terminals,
                _ => &Value::Null,
            };
            let body = json!({"rows": rows, "freshness": {}}).to_string();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    admin
}

fn differences(sales: Value, stock: Value, terminals: Value) -> Vec<String> {
    let mut book = StoreBook {
        sums: Sums {
            transactions: 2,
            lines: 3,
            quantity: 350_000,
            net: 1_000,
            discount: 10,
            tax: 70,
        },
        ..StoreBook::default()
    };
    book.stock
        .entry(till_protocol::id::SkuId::of_code("A").get())
        .or_default()
        .moved(1, -350_000);
    let books = std::collections::BTreeMap::from([(1, book)]);
    let expected = Expected {
        epoch: 1,
        next_seq: 4,
        applied: 3,
        ..Expected::default()
    };
    let terminals_expected = std::collections::BTreeMap::from([((1, 2), expected)]);
    let admin = answering(sales, stock, terminals);
    let found = compare(&admin, &Baseline::default(), &books, &terminals_expected).unwrap();
    found.iter().map(ToString::to_string).collect()
}

fn sales(net: i64) -> Value {
    json!([{"store": 1, "hour": "2026-03-01T08:00:00Z", "currency": "USD", "transactions": 2,
        "lines": 3, "quantity": "3.5", "net_minor": net, "discount_minor": 10, "tax_minor": 70}])
}

fn stock(quantity: &str) -> Value {
    json!([{"store": 1, "sku": "A", "quantity": quantity, "reserved": "0"}])
}

fn terminals(next_seq: u64, applied: u64) -> Value {
    json!([{"store": 1, "terminal": 2, "epochs": [{"epoch": 1, "next_seq": next_seq}],
        "applied": applied, "duplicates": 0, "refused": 0, "quarantined": 0}])
}

#[test]
fn an_engine_that_is_right_has_no_difference() {
    assert_eq!(
        differences(sales(1_000), stock("-3.5"), terminals(4, 3)),
        Vec::<String>::new()
    );
}

#[test]
fn each_planted_difference_is_found_and_named() {
    let cases = [
        (
            differences(sales(999), stock("-3.5"), terminals(4, 3)),
            "net of sales of store 1",
        ),
        (
            differences(json!([]), stock("-3.5"), terminals(4, 3)),
            "transactions of sales",
        ),
        (
            differences(sales(1_000), stock("-3.49999"), terminals(4, 3)),
            "stock of",
        ),
        (
            differences(sales(1_000), json!([]), terminals(4, 3)),
            "stock of",
        ),
        (
            differences(sales(1_000), stock("-3.5"), terminals(5, 3)),
            "next_seq",
        ),
        (
            differences(sales(1_000), stock("-3.5"), terminals(4, 4)),
            "applied events",
        ),
        (
            differences(sales(1_000), stock("-3.5"), json!([])),
            "terminal 1-2",
        ),
    ];
    for (found, wanted) in cases {
        assert!(
            found.first().is_some_and(|text| text.contains(wanted)),
            "{wanted}: {found:?}"
        );
    }
}

#[test]
fn a_sale_in_another_hour_is_found() {
    let hour = |start: &str| {
        let mut row = sales(1_000);
        row[0]["hour"] = json!(start);
        row
    };
    let at_eight = 1_772_352_000_000_000; // 2026-03-01T08:00:00Z
    let mut book = StoreBook::default();
    let all = Sums {
        transactions: 2,
        lines: 3,
        quantity: 350_000,
        net: 1_000,
        discount: 10,
        tax: 70,
    };
    book.sold(at_eight + 3_599_999_999, &all);
    let books = std::collections::BTreeMap::from([(1, book)]);
    let none = std::collections::BTreeMap::new();
    for (start, is_right) in [
        ("2026-03-01T08:00:00Z", true),
        ("2026-03-01T10:00:00+02:00", true),
        ("2026-03-01T09:00:00Z", false),
        ("2026-03-01T13:00:00+05:30", true), // hours of such zones are not those of UTC
    ] {
        let admin = answering(hour(start), json!([]), json!([]));
        let found = compare(&admin, &Baseline::default(), &books, &none).unwrap();
        assert_eq!(found.is_empty(), is_right, "{start}: {found:?}");
    }
    assert_eq!(within_an_hour(at_eight - 100, 256), at_eight);
    assert_eq!(within_an_hour(at_eight - 256, 256), at_eight - 256);
}

#[test]
fn breakdowns_must_add_up_to_the_whole() {
    let admin = serving(sales(1_000), json!([]), json!([]), true);
    let book = StoreBook {
        sums: Sums {
            transactions: 2,
            lines: 3,
            quantity: 350_000,
            net: 1_000,
            discount: 10,
            tax: 70,
        },
        ..StoreBook::default()
    };
    let books = std::collections::BTreeMap::from([(1, book)]);
    let none = std::collections::BTreeMap::new();
    let found = compare(&admin, &Baseline::default(), &books, &none).unwrap();
    let text = describe(&found);
    assert!(text.contains("net of sales by tender of store 1"), "{text}");
    assert!(!text.contains("by hour"), "{text}");
}

#[test]
fn skus_that_nobody_moved_and_counters_that_fell_are_found() {
    let two = json!([{"store": 1, "sku": "A", "quantity": "-3.5", "reserved": "0"},
        {"store": 1, "sku": "B", "quantity": "2", "reserved": "0"}]);
    let found = differences(sales(1_000), two.clone(), terminals(4, 3));
    assert!(
        found.len() == 1 && found[0].contains("nobody moved"),
        "{found:?}"
    );
    // What was there before is no difference.
    let admin = answering(sales(1_000), two, terminals(9, 5));
    let baseline = Baseline::read(&admin, &[1], true).unwrap();
    let books = std::collections::BTreeMap::from([(1, StoreBook::default())]);
    let expected = |applied| {
        let expected = Expected {
            epoch: 1,
            next_seq: 9,
            applied,
            ..Expected::default()
        };
        std::collections::BTreeMap::from([((1, 2), expected)])
    };
    assert_eq!(
        compare(&admin, &baseline, &books, &expected(0)).unwrap(),
        []
    );
    let fell = answering(sales(1_000), stock("-3.5"), terminals(9, 3));
    let found = compare(&fell, &baseline, &books, &expected(0)).unwrap();
    assert!(found.iter().any(|one| one.found == "-2"), "{found:?}");
}

#[test]
fn long_runs_are_folded_without_a_change_of_the_level() {
    let mut level = Level::default();
    for at in 0..100_000_i64 {
        level.moved(at * 10_000, 1);
    }
    assert_eq!(level.quantity(0), 100_000);
    level.counted(999_000_001, 7);
    assert_eq!(
        level.quantity(0),
        7 + 99,
        "movements of the last second come after the count"
    );
}
