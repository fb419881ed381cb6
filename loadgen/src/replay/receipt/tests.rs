use super::*;

fn row(receipt: &str, sku: &str) -> Good {
    Good {
        key: Key {
            store: 1,
            terminal: 2,
            date: "2026-03-01".to_owned(),
            receipt: receipt.to_owned(),
        },
        at_us: 1_000,
        offset_min: 0,
        line: Line {
            sku: sku.to_owned(),
            quantity: 100_000,
            amount: 100,
            discount: 0,
            tax: 0,
            tender: String::new(),
        },
        customer: String::new(),
    }
}

fn bad(partial: Partial) -> Bad {
    Bad {
        reason: "bad".to_owned(),
        partial,
    }
}

/// Receipts that are complete, and the number of rows that are left out.
fn run(rows: Vec<Result<Good, Bad>>) -> (Vec<String>, u64) {
    let mut grouper = Grouper::default();
    let mut out = Vec::new();
    for (line, row) in (2..).zip(rows) {
        match row {
            Ok(row) => grouper.good(line, row, &mut out),
            Err(bad) => grouper.bad(line, bad, &mut out),
        }
    }
    grouper.finish(&mut out);
    let (mut receipts, mut skipped) = (Vec::new(), 0);
    for one in out {
        match one {
            Outcome::Receipt(receipt) => {
                receipts.push(format!("{}:{}", receipt.key.receipt, receipt.lines.len()));
            }
            Outcome::Skipped { rows, .. } => skipped += rows,
        }
    }
    (receipts, skipped)
}

fn of(receipt: &str) -> Partial {
    Partial::from(&row(receipt, "x").key)
}

#[test]
fn rows_that_stand_together_are_one_receipt() {
    let rows = vec![Ok(row("A", "x")), Ok(row("A", "y")), Ok(row("B", "x"))];
    assert_eq!(run(rows), (vec!["A:2".to_owned(), "B:1".to_owned()], 0));
}

#[test]
fn a_bad_row_anywhere_in_a_receipt_skips_all_of_it_and_nothing_else() {
    for place in 0..3 {
        let mut rows = vec![Ok(row("A", "x")), Ok(row("B", "x")), Ok(row("B", "y"))];
        rows.insert(1 + place, Err(bad(of("B"))));
        rows.push(Ok(row("C", "x")));
        let wanted = (vec!["A:1".to_owned(), "C:1".to_owned()], 3);
        assert_eq!(run(rows), wanted, "bad row at {place}");
    }
}

#[test]
fn a_receipt_of_two_customers_is_bad_and_one_that_states_its_customer_once_is_not() {
    let of_customer = |customer: &str| Good {
        customer: customer.to_owned(),
        ..row("A", "x")
    };
    let two = vec![
        Ok(of_customer("c1")),
        Ok(of_customer("c2")),
        Ok(row("B", "x")),
    ];
    assert_eq!(run(two), (vec!["B:1".to_owned()], 2));
    for customers in [["", "c1", "c1"], ["c1", "", "c1"], ["c1", "c1", ""]] {
        let rows = customers.map(|customer| Ok(of_customer(customer)));
        assert_eq!(run(rows.into()), (vec!["A:3".to_owned()], 0));
    }
}

#[test]
fn a_row_that_names_no_receipt_belongs_to_the_one_around_it() {
    let inside = vec![
        Ok(row("A", "x")),
        Err(bad(Partial::default())),
        Ok(row("A", "y")),
    ];
    assert_eq!(run(inside), (vec![], 3));
    let between = vec![
        Ok(row("A", "x")),
        Err(bad(Partial::default())),
        Ok(row("B", "y")),
    ];
    assert_eq!(run(between), (vec!["A:1".to_owned(), "B:1".to_owned()], 1));
}

#[test]
fn a_bad_row_with_a_wrong_store_still_belongs_to_its_receipt() {
    let partial = Partial {
        store: None,
        ..of("A")
    };
    let rows = vec![Ok(row("A", "x")), Err(bad(partial)), Ok(row("B", "y"))];
    assert_eq!(run(rows), (vec!["B:1".to_owned()], 2));
}

#[test]
fn a_receipt_that_comes_again_apart_is_a_bad_row() {
    let rows = vec![
        Ok(row("A", "x")),
        Ok(row("B", "x")),
        Ok(row("A", "y")),
        Ok(row("A", "z")),
        Ok(row("C", "x")),
    ];
    let wanted = (
        vec!["A:1".to_owned(), "B:1".to_owned(), "C:1".to_owned()],
        2,
    );
    assert_eq!(run(rows), wanted);
    let skipped_first = vec![
        Err(bad(of("A"))),
        Ok(row("A", "x")),
        Ok(row("B", "x")),
        Ok(row("A", "y")),
    ];
    assert_eq!(run(skipped_first), (vec!["B:1".to_owned()], 3));
}

#[test]
fn the_same_receipt_number_on_another_day_or_till_is_another_receipt() {
    let mut next_day = row("A", "x");
    next_day.key.date = "2026-03-02".to_owned();
    let mut other_till = row("A", "x");
    other_till.key.terminal = 3;
    let rows = vec![Ok(row("A", "x")), Ok(next_day), Ok(other_till)];
    assert_eq!(run(rows).0.len(), 3);
}

#[test]
fn the_order_of_rows_does_not_change_a_receipt() {
    let build = |order: [usize; 3]| {
        let mut rows = [row("A", "x"), row("A", "y"), row("A", "z")];
        rows[1].at_us = 2_000;
        rows[1].offset_min = 60;
        rows[2].at_us = 2_000;
        rows[2].customer = "a".to_owned();
        let mut grouper = Grouper::default();
        let mut out = Vec::new();
        for (line, place) in (2..).zip(order) {
            grouper.good(line, rows[place].clone(), &mut out);
        }
        grouper.finish(&mut out);
        match out.remove(0) {
            Outcome::Receipt(receipt) => super::super::frame::event(&receipt),
            other @ Outcome::Skipped { .. } => panic!("{other:?}"),
        }
    };
    let first = build([0, 1, 2]);
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(build(order), first, "{order:?}");
    }
}

#[test]
fn names_of_receipts_never_change_and_never_run_together() {
    let key = |store, terminal, receipt: &str| Key {
        store,
        terminal,
        date: "2026-03-01".to_owned(),
        receipt: receipt.to_owned(),
    };
    let hex = |id: [u8; 16]| {
        id.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(event_id(&key(1, 2, "R1"))), GOLDEN);
    assert_ne!(event_id(&key(1, 23, "4")), event_id(&key(12, 3, "4")));
    assert_ne!(event_id(&key(1, 2, "34")), event_id(&key(1, 23, "4")));
}

/// SHA-256 of 0100 "1" 0100 "2" 0a00 "2026-03-01" 0200 "R1", first 16 bytes.
const GOLDEN: &str = "3473ae78141144185189edf489a8cdc4";

#[test]
fn a_tender_pays_amounts_and_taxes_of_its_rows() {
    let mut rows = [row("A", "x"), row("A", "y"), row("A", "z")];
    rows[0].line.tender = "card".to_owned();
    rows[1].line.tender = "Lunch Pass".to_owned();
    rows[1].line.tax = 7;
    rows[2].line.tender = "card".to_owned();
    rows[2].line.discount = 25;
    let mut grouper = Grouper::default();
    let mut out = Vec::new();
    for (line, row) in (2..).zip(rows) {
        grouper.good(line, row, &mut out);
    }
    grouper.finish(&mut out);
    let Outcome::Receipt(receipt) = out.remove(0) else {
        panic!("no receipt");
    };
    assert_eq!(
        receipt.tenders(),
        Some(vec![("Lunch Pass", 107), ("card", 200)])
    );
    let event = super::super::frame::event(&receipt);
    let due: i64 = event.lines.iter().map(|line| line.amount).sum::<i64>()
        + event.taxes.iter().map(|tax| tax.amount).sum::<i64>();
    assert_eq!(
        due,
        event
            .tenders
            .iter()
            .map(|tender| tender.amount)
            .sum::<i64>()
    );
    assert_eq!(event.tender_names, [(0, "Lunch Pass".to_owned())]);
    assert_eq!(
        event
            .adjustments
            .iter()
            .map(|a| a.amount)
            .collect::<Vec<_>>(),
        [-25]
    );
}

#[test]
fn no_hash_of_a_card_number_leaves_the_tool() {
    let key = |receipt: &str| Key {
        store: 1,
        terminal: 2,
        date: "2026-03-01".to_owned(),
        receipt: receipt.to_owned(),
    };
    assert_eq!(
        event_id(&key("4111111111111111")),
        event_id(&key("************1111")),
        "the name is made of the masked number"
    );
    assert_eq!(person("5500005555555559"), person("************5559"));
    assert_ne!(
        event_id(&key("4006381333931")),
        event_id(&key("4006381333948")),
        "barcodes are no cards"
    );
    assert_ne!(person("Mrs Smith"), person("Mr Smith"));
}
