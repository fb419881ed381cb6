mod naive;

use till_protocol::builder::{SaleParts, StockBuilder};
use till_protocol::family::sale::v1::{Adjustment, Sale, Tax, adjustment, kind};
use till_protocol::family::stock::v1::{Move, kind as stock_kind};
use till_protocol::id::{Seq, SkuId};

use super::{
    Bound, By, QuarantineQuery, SalesQuery, StockQuery, StoresQuery, TerminalQuery,
    TransactionQuery, knows_sku, quarantine, sales, stock, stores, terminals, transactions,
};
use crate::testing::world::{
    MIDNIGHT_US, MINUTE_US, World, card, cash, line, named, sale_at, store, till,
};

const USD: u16 = 840;
const EUR: u16 = 978;

/// Two stores of two currencies, three sales.
fn small_chain() -> World {
    let mut world = World::new();
    world.register(1, USD, "UTC");
    world.register(2, EUR, "Europe/Berlin");
    let at = MIDNIGHT_US + 9 * 60 * MINUTE_US + 30 * MINUTE_US;
    world.sell(
        till(1, 4),
        &SaleParts {
            sale: Sale {
                receipt: 77,
                ..sale_at(at)
            },
            lines: &[line("milk", 250_000, 500), line("bread", 100_000, 301)],
            tenders: &[cash(501), card(380)],
            taxes: &[Tax {
                amount: 80,
                rate: 1_000_000,
                line: 0,
                ..Tax::default()
            }],
            adjustments: &[Adjustment {
                amount: -50,
                line: 1,
                kind: adjustment::DISCOUNT,
                ..Adjustment::default()
            }],
            texts: &[named(0, "milk"), named(1, "bread")],
            ..SaleParts::default()
        },
    );
    world.sell(
        till(1, 4),
        &SaleParts {
            sale: Sale {
                kind: kind::RETURN,
                ..sale_at(at + 60 * MINUTE_US)
            },
            lines: &[line("bread", -50_000, -150)],
            tenders: &[cash(-150)],
            ..SaleParts::default()
        },
    );
    world.sell(
        till(2, 1),
        &SaleParts {
            sale: sale_at(at),
            lines: &[line("milk", 100_000, 199)],
            tenders: &[cash(199)],
            texts: &[named(0, "milk")],
            ..SaleParts::default()
        },
    );
    world.flush();
    world
}

fn json_of(world: &World, query: &SalesQuery) -> String {
    let answer = sales(&world.sources(), query).unwrap();
    assert!(answer.freshness.incomplete_hours.is_empty());
    serde_json::to_string(&answer.rows).unwrap()
}

fn by(by: By) -> SalesQuery {
    SalesQuery {
        by,
        ..SalesQuery::default()
    }
}

#[test]
fn sales_are_never_summed_over_currencies() {
    let world = small_chain();
    assert_eq!(
        json_of(&world, &by(By::Total)),
        r#"[{"currency":"EUR","transactions":1,"lines":1,"quantity":"1","net_minor":199,"discount_minor":0,"tax_minor":0},{"currency":"USD","transactions":2,"lines":3,"quantity":"3","net_minor":651,"discount_minor":50,"tax_minor":80}]"#
    );
}

#[test]
fn keys_of_every_grouping_are_written_as_promised() {
    let world = small_chain();
    let first = |by_what| {
        let text = json_of(&world, &by(by_what));
        text[1..]
            .split(",\"transactions")
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(first(By::Store), r#"{"store":1,"currency":"USD""#);
    assert_eq!(first(By::Day), r#"{"day":"2026-11-21","currency":"EUR""#);
    assert_eq!(
        first(By::Hour),
        r#"{"hour":"2026-11-21T09:00:00Z","currency":"USD""#
    );
    assert_eq!(first(By::Sku), r#"{"sku":"bread","currency":"USD""#);
    assert_eq!(first(By::Tender), r#"{"tender":"card","currency":"USD""#);
    assert_eq!(first(By::Category), r#"{"category":0,"currency":"EUR""#);
    assert_eq!(first(By::Operator), r#"{"operator":0,"currency":"EUR""#);
    assert!(
        json_of(&world, &by(By::Hour))
            .contains(r#""hour":"2026-11-21T10:00:00+01:00","currency":"EUR""#)
    );
}

#[test]
fn split_tenders_share_amounts_and_the_largest_takes_the_lines() {
    let world = small_chain();
    let query = SalesQuery {
        store: Some(store(1)),
        ..by(By::Tender)
    };
    assert_eq!(
        json_of(&world, &query),
        r#"[{"tender":"card","currency":"USD","transactions":1,"lines":0,"quantity":"0","net_minor":345,"discount_minor":22,"tax_minor":35},{"tender":"cash","currency":"USD","transactions":2,"lines":3,"quantity":"3","net_minor":306,"discount_minor":28,"tax_minor":45}]"#
    );
}

#[test]
fn no_data_is_an_empty_list() {
    let world = small_chain();
    let query = SalesQuery {
        from: Some("2030-01-01".parse().unwrap()),
        ..by(By::Sku)
    };
    assert_eq!(json_of(&world, &query), "[]");
    let query = SalesQuery {
        to: Some("1970-01-01".parse().unwrap()),
        ..by(By::Total)
    };
    assert_eq!(json_of(&world, &query), "[]");
}

#[test]
fn one_sku_is_split_by_what_its_sums_are_kept_by() {
    let world = small_chain();
    let of = |by, code: &str| {
        let query = SalesQuery {
            by,
            sku: Some(SkuId::of_code(code)),
            ..SalesQuery::default()
        };
        let rows = sales(&world.sources(), &query).unwrap().rows;
        let rows = rows.into_iter().map(|row| (row.store, row.net_minor));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(of(By::Store, "milk"), [(Some(1), 500), (Some(2), 199)]);
    assert_eq!(of(By::Total, "bread"), [(None, 151)]);
    assert_eq!(of(By::Hour, "bread").len(), 2);
    for by in [By::Tender, By::Category, By::Operator] {
        assert_eq!(of(by, "milk"), [], "by {}", by.name());
    }
    assert_eq!(of(By::Sku, "cheese"), []);
}

#[test]
fn a_sku_is_known_by_its_name_or_by_its_level() {
    let mut world = small_chain();
    let moved = SkuId::of_code("cheese");
    let knows = |world: &World, sku| knows_sku(world.views.as_ref(), sku).unwrap();
    assert!(knows(&world, SkuId::of_code("milk")));
    assert!(!knows(&world, moved));
    let nameless = Move {
        at: MIDNIGHT_US,
        sku: moved.get(),
        quantity: 100_000,
        kind: stock_kind::RECEIVED,
        ..Move::default()
    };
    let mut builder = StockBuilder::new();
    builder.push(&nameless, &[], &[]).unwrap();
    world.send(till(2, 2), builder.finish_frame(Seq::FIRST).unwrap());
    world.flush();
    assert!(knows(&world, moved), "it has a level and no name");
}

#[test]
fn bounds_within_an_hour_are_exact() {
    let world = small_chain();
    let query = |from: &str, to: &str| {
        let rows = sales(
            &world.sources(),
            &SalesQuery {
                from: Some(from.parse().unwrap()),
                to: Some(to.parse().unwrap()),
                by: By::Total,
                store: Some(store(1)),
                sku: None,
            },
        );
        rows.unwrap().rows.first().map_or(0, |row| row.net_minor)
    };
    assert_eq!(query("2026-11-21T09:30:00Z", "2026-11-21T10:30:00Z"), 801);
    assert_eq!(
        query("2026-11-21T09:30:00.000001Z", "2026-11-21T10:30:00Z"),
        0
    );
    assert_eq!(
        query("2026-11-21T09:30:00.000001Z", "2026-11-21T11:30:00+01:00"),
        0
    );
    assert_eq!(
        query("2026-11-21T09:30:00.000001Z", "2026-11-21T10:30:00.000001Z"),
        -150
    );
    assert_eq!(query("2026-11-21", "2026-11-21T10:00:00Z"), 801);
}

#[test]
fn an_edge_hour_without_its_facts_is_named() {
    let mut world = small_chain();
    world
        .log
        .0
        .retain(|fact| fact.record.head.terminal != till(1, 4).to_u64());
    let query = SalesQuery {
        from: Some("2026-11-21T09:10:00Z".parse().unwrap()),
        store: Some(store(1)),
        ..by(By::Total)
    };
    let answer = sales(&world.sources(), &query).unwrap();
    assert_eq!(
        serde_json::to_string(&answer.freshness.incomplete_hours).unwrap(),
        r#"[{"store":1,"hour":"2026-11-21T09:00:00Z"}]"#
    );
    assert_eq!(
        answer.rows[0].net_minor, -150,
        "whole hours are still there"
    );
}

#[test]
fn sums_beyond_64_bits_are_json_numbers() {
    let row = super::SalesRow {
        net_minor: i128::MIN,
        tax_minor: i128::MAX,
        ..super::SalesRow::default()
    };
    let text = serde_json::to_string(&row).unwrap();
    assert!(
        text.contains(r#""net_minor":-170141183460469231731687303715884105728"#),
        "{text}"
    );
    assert!(
        text.ends_with(r#""tax_minor":170141183460469231731687303715884105727}"#),
        "{text}"
    );
}

#[test]
fn stock_is_the_last_count_and_the_movements_since() {
    let mut world = small_chain();
    let counted = Move {
        at: MIDNIGHT_US,
        sku: SkuId::of_code("milk").get(),
        quantity: 1_000_000,
        kind: stock_kind::COUNTED,
        unit: 1,
        ..Move::default()
    };
    world.stock(till(1, 4), &counted, "milk");
    world.flush();
    let rows = |sku: Option<&str>| {
        let query = StockQuery {
            store: store(1),
            sku: sku.map(str::to_owned),
        };
        serde_json::to_string(&stock(&world.sources(), &query).unwrap().rows).unwrap()
    };
    assert_eq!(
        rows(Some("milk")),
        r#"[{"store":1,"sku":"milk","quantity":"7.5","reserved":"0","unit":"each","as_of":"2026-11-21T09:30:00Z","flags":[]}]"#
    );
    assert!(
        rows(None).starts_with(r#"[{"store":1,"sku":"bread","quantity":"-0.5","#),
        "{}",
        rows(None)
    );
    assert_eq!(rows(Some("cheese")), "[]");
}

#[test]
fn a_transaction_is_shown_with_all_that_belongs_to_it() {
    let world = small_chain();
    let query = TransactionQuery {
        receipt: "77".to_owned(),
        store: None,
        terminal: None,
        day: None,
    };
    let answer = transactions(&world.sources(), &query).unwrap();
    let text = serde_json::to_string(&answer.rows).unwrap();
    for part in [
        r#"[{"store":1,"terminal":4,"epoch":1,"seq":1,"position":16777218,"receipt":"77","kind":"sale","outcome":"applied","#,
        r#""day":"2026-11-21","currency":"USD","totals":{"transactions":1,"lines":2,"quantity":"3.5","net_minor":801,"discount_minor":50,"tax_minor":80}"#,
        r#""lines":[{"sku":"milk","kind":"sale","quantity":"2.5","unit":"each","amount_minor":500,"category":0}"#,
        r#"{"tender":"cash","amount_minor":501,"tip_minor":0,"change_minor":0,"cashback_minor":0}"#,
        r#""taxes":[{"line":0,"amount_minor":80,"rate_e7":1000000,"code":0,"inclusive":false}]"#,
        r#""adjustments":[{"line":1,"kind":"discount","amount_minor":-50}]"#,
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let other = TransactionQuery {
        store: Some(store(2)),
        ..query
    };
    assert_eq!(transactions(&world.sources(), &other).unwrap().rows, []);
}

#[test]
fn a_terminal_shows_its_lives_and_sums() {
    let world = small_chain();
    let query = TerminalQuery {
        store: store(1),
        terminal: None,
    };
    let answer = terminals(&world.sources(), &query).unwrap();
    let text = serde_json::to_string(&answer.rows).unwrap();
    assert!(
        text.starts_with(r#"[{"store":1,"terminal":4,"epoch":1,"next_seq":3,"epochs":[{"epoch":1,"next_seq":3}],"last_seen":"2026-11-22T00:00:00Z""#),
        "{text}"
    );
    assert!(
        text.contains(r#""totals":{"transactions":2,"lines":3,"quantity":"3","net_minor":651"#),
        "{text}"
    );
    let all = stores(&world.sources(), StoresQuery::default())
        .unwrap()
        .rows;
    let zones: Vec<_> = all.iter().map(|row| row.time_zone.as_str()).collect();
    assert_eq!(zones, ["UTC", "Europe/Berlin"]);
    assert_eq!(
        quarantine(&world.sources(), QuarantineQuery::default())
            .unwrap()
            .rows,
        []
    );
}

#[test]
fn bounds_are_dates_or_instants_and_nothing_else() {
    let day: Bound = "2026-11-21".parse().unwrap();
    assert!(matches!(day, Bound::Day(_)));
    let instant: Bound = "2026-11-21T01:00:00+01:00".parse().unwrap();
    assert_eq!(instant, Bound::Instant(MIDNIGHT_US));
    for wrong in [
        "",
        "yesterday",
        "2026-13-01",
        "2026-11-21T08:00",
        "2026-11-21 08",
    ] {
        assert!(wrong.parse::<Bound>().is_err(), "{wrong}");
    }
    assert!("sku".parse::<By>().is_ok() && "skus".parse::<By>().is_err());
}
