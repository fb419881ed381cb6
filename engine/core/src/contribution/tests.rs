use std::collections::BTreeMap;

use till_protocol::builder::{SaleBuilder, SaleParts};
use till_protocol::family::sale::v1::{Adjustment, Line, Sale, Tax, Tender, adjustment};
use till_protocol::id::Seq;
use till_protocol::verified::Verified;
use till_protocol::view::View;

use super::*;
use crate::ledger::Balance;

const LOCAL: LocalHour = LocalHour {
    hour_us: 0,
    day: 100,
};

type Contributions = BTreeMap<(Dim, u64), RollupRow>;

fn contributions(parts: &SaleParts<'_>) -> (Contributions, bool) {
    let mut builder = SaleBuilder::new();
    builder.push(parts).unwrap();
    let frame = builder.finish_frame(Seq::FIRST).unwrap();
    let verified = Verified::from_journal(frame).unwrap();
    let View::Sale(sales) = verified.view() else {
        panic!("not a sale")
    };
    let sale = sales.events().next().unwrap();
    let mut found = Contributions::new();
    let store = StoreId::new(1).unwrap();
    Contributor::default().of_sale(store, LOCAL, &sale, &mut |key, part, _| {
        found.entry((key.dim, key.key)).or_default().add(part);
    });
    (found, Balance::of(&sale).is_even())
}

fn line(sku: u64, amount: i64, category: u32) -> Line {
    Line {
        sku,
        quantity: 100_000,
        amount,
        category,
        kind: line_kind::SALE,
        unit: 1,
        flags: 0,
    }
}

#[test]
fn what_belongs_to_the_whole_sale_is_shared_over_categories_and_left_out_of_skus() {
    let off = |amount, line| Adjustment {
        amount,
        line,
        kind: adjustment::DISCOUNT,
        ..Adjustment::default()
    };
    let tax = |amount, line, inclusive| Tax {
        amount,
        line,
        inclusive,
        ..Tax::default()
    };
    let (found, is_even) = contributions(&SaleParts {
        sale: Sale {
            at: 1,
            kind: 1,
            ..Sale::default()
        },
        lines: &[line(1, 200, 8), line(2, 100, 9)],
        tenders: &[Tender {
            amount: 314,
            kind: 1,
            flags: 0,
        }],
        adjustments: &[off(-10, WHOLE_EVENT), off(-5, 0)],
        taxes: &[tax(24, WHOLE_EVENT, 0), tax(7, 1, 1)],
        ..SaleParts::default()
    });
    assert!(is_even);
    let money = |dim, key| {
        let totals = found[&(dim, key)].totals;
        (totals.net, totals.discount, totals.tax)
    };
    assert_eq!(money(Dim::Store, 0), (300, 15, 31));
    assert_eq!(money(Dim::Sku, 1), (200, 5, 0));
    assert_eq!(money(Dim::Sku, 2), (100, 0, 7));
    assert_eq!(money(Dim::Category, 8), (200, 12, 16));
    assert_eq!(money(Dim::Category, 9), (100, 3, 15));
    assert_eq!(money(Dim::Tender, 1), (300, 15, 31));
    assert_eq!(money(Dim::Operator, 0), (300, 15, 31));
}

#[test]
fn a_sale_without_tenders_counts_at_the_tender_that_is_not_stated() {
    let (found, is_even) = contributions(&SaleParts {
        sale: Sale {
            at: 1,
            kind: 1,
            ..Sale::default()
        },
        lines: &[line(1, 200, 8)],
        ..SaleParts::default()
    });
    assert!(!is_even);
    assert_eq!(found[&(Dim::Tender, 0)].totals.net, 200);
}
