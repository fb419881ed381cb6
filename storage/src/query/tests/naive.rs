//! Sales by the book: every answer again from the events alone, without sums, shares or indexes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;
use till_core::event::Event;
use till_protocol::family::WHOLE_EVENT;
use till_protocol::family::sale::v1::{adjustment, kind, line_kind, tender};
use till_protocol::id::{SkuId, StoreId};
use till_protocol::view::SaleEvent;

use crate::query::reader::each_event;
use crate::query::{Bound, By, SalesQuery, sales};
use crate::testing::world::{MIDNIGHT_US, MINUTE_US, Workload, World};
use till_protocol::time::Day;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Sum {
    transactions: u64,
    lines: u64,
    quantity: i128,
    net: i128,
    discount: i128,
    tax: i128,
}

/// One of the SKUs of the trade.
const SKU: &str = "milk";

type Book = BTreeMap<(String, String), Sum>;

const STORES: [(u32, &str, &str); 3] = [
    (1, "USD", "America/New_York"),
    (2, "EUR", "Australia/Lord_Howe"),
    (3, "USD", "UTC"),
];

fn stands(sale: &SaleEvent<'_>, line: u16) -> bool {
    line == WHOLE_EVENT || sale.lines[usize::from(line)].kind != line_kind::VOID
}

// Largest remainder, one unit after another.
fn shares(total: i128, weights: &[i128]) -> Vec<i128> {
    let sum: i128 = weights.iter().map(|w| w.abs()).sum();
    if sum == 0 {
        let mut out = vec![0; weights.len()];
        out[0] = total;
        return out;
    }
    let exact: Vec<i128> = weights.iter().map(|w| total.abs() * w.abs()).collect();
    let mut out: Vec<i128> = exact.iter().map(|e| e / sum).collect();
    let mut rest: Vec<(i128, usize)> = exact
        .iter()
        .enumerate()
        .map(|(i, e)| (e % sum, i))
        .collect();
    rest.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let left = usize::try_from(total.abs() - out.iter().sum::<i128>()).unwrap();
    for (_, at) in rest.into_iter().take(left) {
        out[at] += 1;
    }
    out.into_iter().map(|part| part * total.signum()).collect()
}

fn whole(sale: &SaleEvent<'_>) -> Sum {
    let mut sum = Sum {
        transactions: 1,
        ..Sum::default()
    };
    for line in sale
        .lines
        .iter()
        .filter(|line| line.kind != line_kind::VOID)
    {
        sum.lines += 1;
        sum.quantity += i128::from(line.quantity.to_native());
        sum.net += i128::from(line.amount.to_native());
    }
    for one in sale.adjustments {
        if one.kind <= adjustment::DISCOUNT_MAX && stands(sale, one.line.to_native()) {
            sum.discount -= i128::from(one.amount.to_native());
        }
    }
    for one in sale
        .taxes
        .iter()
        .filter(|one| stands(sale, one.line.to_native()))
    {
        sum.tax += i128::from(one.amount.to_native());
    }
    sum
}

fn by_sku(sale: &SaleEvent<'_>) -> BTreeMap<String, Sum> {
    let mut out: BTreeMap<String, Sum> = BTreeMap::new();
    for (number, line) in sale.lines.iter().enumerate() {
        if line.kind == line_kind::VOID {
            continue;
        }
        let code = sale
            .texts
            .find_of(2, u16::try_from(number).unwrap())
            .unwrap();
        let sum = out.entry(code.to_owned()).or_default();
        sum.transactions = 1;
        sum.lines += 1;
        sum.quantity += i128::from(line.quantity.to_native());
        sum.net += i128::from(line.amount.to_native());
        let on_line = |at: u16| usize::from(at) == number;
        for one in sale
            .adjustments
            .iter()
            .filter(|one| on_line(one.line.to_native()))
        {
            if one.kind <= adjustment::DISCOUNT_MAX {
                sum.discount -= i128::from(one.amount.to_native());
            }
        }
        for one in sale
            .taxes
            .iter()
            .filter(|one| on_line(one.line.to_native()))
        {
            sum.tax += i128::from(one.amount.to_native());
        }
    }
    out
}

// Two tenders of one key are one transaction; "cash" by name and by kind are two keys, shown as one row.
fn by_tender(sale: &SaleEvent<'_>) -> Vec<(String, Sum)> {
    let all = whole(sale);
    if sale.tenders.is_empty() {
        return vec![(String::new(), all)];
    }
    let weights: Vec<i128> = (0..sale.tenders.len())
        .map(|at| {
            let extras = sale
                .extras
                .iter()
                .filter(|one| usize::from(one.tender) == at);
            let extras: i128 = extras.map(|one| i128::from(one.amount.to_native())).sum();
            (i128::from(sale.tenders[at].amount.to_native()) - extras).abs()
        })
        .collect();
    let largest = weights
        .iter()
        .enumerate()
        .rev()
        .max_by_key(|(_, w)| **w)
        .unwrap()
        .0;
    let nets = shares(all.net, &weights);
    let discounts = shares(all.discount, &weights);
    let taxes = shares(all.tax, &weights);
    let mut out: BTreeMap<(u8, String), Sum> = BTreeMap::new();
    for at in 0..sale.tenders.len() {
        let kind = sale.tenders[at].kind;
        let name = match kind {
            tender::NAMED => sale.texts.find_of(3, u16::try_from(at).unwrap()).unwrap(),
            other => tender::NAMES[usize::from(other)],
        };
        let sum = out.entry((kind, name.to_owned())).or_default();
        sum.transactions = 1;
        sum.net += nets[at];
        sum.discount += discounts[at];
        sum.tax += taxes[at];
        if at == largest {
            sum.lines += all.lines;
            sum.quantity += all.quantity;
        }
    }
    out.into_iter()
        .map(|((_, name), sum)| (name, sum))
        .collect()
}

// Start of the local hour with its offset, as text; and the local date.
fn local(zone: &str, at_us: i64) -> (String, u16) {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let at = Timestamp::from_microsecond(at_us).unwrap();
    let offset = zone.to_offset(at);
    let local_us = at_us + i64::from(offset.seconds()) * 1_000_000;
    let start_us = at_us - local_us.rem_euclid(60 * MINUTE_US);
    // An hour in which the clock was changed starts with the change.
    let start = (0..60)
        .map(|minute| Timestamp::from_microsecond(start_us + minute * MINUTE_US).unwrap())
        .find(|start| zone.to_offset(*start) == offset)
        .unwrap();
    let text = if offset.seconds() == 0 {
        start.to_string()
    } else {
        start.display_with_offset(offset).to_string()
    };
    (
        text,
        u16::try_from(local_us.div_euclid(1_440 * MINUTE_US)).unwrap(),
    )
}

fn in_span(query: &SalesQuery, at_us: i64, day: u16) -> bool {
    let after = match query.from {
        Some(Bound::Instant(us)) => us <= at_us,
        Some(Bound::Day(first)) => first.get() <= day,
        None => true,
    };
    let before = match query.to {
        Some(Bound::Instant(us)) => at_us < us,
        Some(Bound::Day(end)) => day < end.get(),
        None => true,
    };
    after && before
}

fn book(world: &World, query: &SalesQuery) -> Book {
    let mut book = Book::new();
    for fact in world.batches() {
        let number = u32::try_from(fact.record.head.terminal >> 32).unwrap();
        let (_, currency, zone) = STORES[usize::try_from(number).unwrap() - 1];
        if query.store.is_some_and(|store| store.get() != number) {
            continue;
        }
        each_event(fact, |event, _, _| {
            let Event::Sale(sale) = event else {
                return Ok(());
            };
            let (hour, date) = local(zone, sale.sale.at.to_native());
            let day = match sale.sale.business_day.to_native() {
                0 => date,
                stated => stated,
            };
            let skipped = sale.sale.kind == kind::VOID || sale.sale.flags.to_native() & 1 != 0;
            if skipped || !in_span(query, sale.sale.at.to_native(), day) {
                return Ok(());
            }
            let key = match query.by {
                By::Store => number.to_string(),
                By::Day => Day::new(day).to_string(),
                By::Hour => hour.clone(),
                By::Sku => SKU.to_owned(),
                _ => String::new(),
            };
            let parts: Vec<(String, Sum)> = match query.by {
                By::Tender | By::Category | By::Operator if query.sku.is_some() => Vec::new(),
                _ if query.sku.is_some() => {
                    let sum = by_sku(&sale).remove(SKU);
                    sum.map(|sum| (key, sum)).into_iter().collect()
                }
                By::Total => vec![(String::new(), whole(&sale))],
                By::Store => vec![(number.to_string(), whole(&sale))],
                By::Day => vec![(Day::new(day).to_string(), whole(&sale))],
                By::Hour => vec![(hour, whole(&sale))],
                By::Operator => vec![(sale.sale.operator.to_native().to_string(), whole(&sale))],
                By::Sku => by_sku(&sale).into_iter().collect(),
                By::Tender => by_tender(&sale),
                By::Category => Vec::new(),
            };
            for (key, part) in parts {
                let sum = book.entry((key, currency.to_owned())).or_default();
                sum.transactions += part.transactions;
                sum.lines += part.lines;
                sum.quantity += part.quantity;
                sum.net += part.net;
                sum.discount += part.discount;
                sum.tax += part.tax;
            }
            Ok(())
        })
        .unwrap();
    }
    book
}

fn answered(world: &World, query: &SalesQuery) -> Book {
    let answer = sales(&world.sources(), query).unwrap();
    assert_eq!(answer.freshness.incomplete_hours, []);
    let mut seen = BTreeSet::new();
    let rows = answer.rows.into_iter().map(|row| {
        let number = row.store.map(|n| n.to_string());
        let operator = row.operator.map(|n| n.to_string());
        let key = row
            .sku
            .or(row.tender)
            .or(row.day)
            .or(row.hour)
            .or(number)
            .or(operator);
        let key = (key.unwrap_or_default(), row.currency);
        assert!(seen.insert(key.clone()), "{key:?} comes twice");
        let quantity = row
            .quantity
            .parse::<till_protocol::quantity::Quantity>()
            .unwrap();
        let sum = Sum {
            transactions: row.transactions,
            lines: row.lines,
            quantity: i128::from(quantity.raw()),
            net: row.net_minor,
            discount: row.discount_minor,
            tax: row.tax_minor,
        };
        (key, sum)
    });
    rows.collect()
}

/// Days before that of [`MIDNIGHT_US`]: none; when New York went back by an hour; when Lord Howe went on by half of one.
const DAYS_BEFORE: [u16; 3] = [0, 20, 49];

fn bound() -> impl Strategy<Value = Option<Bound>> {
    prop_oneof![
        Just(None),
        (20_776_u16..20_784).prop_map(|day| Some(Bound::Day(Day::new(day)))),
        (-60_i64..4_400).prop_map(|m| Some(Bound::Instant(MIDNIGHT_US + m * MINUTE_US))),
        (0_i64..4_000 * MINUTE_US).prop_map(|us| Some(Bound::Instant(MIDNIGHT_US + us))),
    ]
}

fn earlier(bound: Option<Bound>, days: u16) -> Option<Bound> {
    bound.map(|bound| match bound {
        Bound::Day(day) => Bound::Day(Day::new(day.get() - days)),
        Bound::Instant(us) => Bound::Instant(us - i64::from(days) * 1_440 * MINUTE_US),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sales_are_what_the_events_add_up_to(
        seed in any::<u64>(),
        events in 1_u32..120,
        days in proptest::sample::select(&DAYS_BEFORE),
        from in bound(),
        to in bound(),
        store in prop_oneof![Just(None), (1_u32..4).prop_map(Some)],
    ) {
        let (from, to) = (earlier(from, days), earlier(to, days));
        let mut world = World::new();
        let start_us = MIDNIGHT_US - i64::from(days) * 1_440 * MINUTE_US;
        world.workload(Workload { seed, events, start_us, late: true });
        for by in By::ALL.into_iter().filter(|by| *by != By::Category) {
            let store = store.map(|number| StoreId::new(number).unwrap());
            for sku in [None, Some(SkuId::of_code(SKU))] {
                let query = SalesQuery { from, to, by, store, sku };
                let (answered, book) = (answered(&world, &query), book(&world, &query));
                prop_assert_eq!(answered, book, "by {} of {:?}", by.name(), sku);
            }
        }
    }
}
