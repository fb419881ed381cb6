use serde_json::json;

use super::*;

#[test]
fn columns_are_aligned_and_money_is_in_units_of_its_currency() {
    let rows = [
        json!({"store": 1, "sku": "tea", "currency": "USD", "quantity": "12.5", "net_minor": 123_456}),
        json!({"store": 12, "sku": "green tea", "currency": "JPY", "quantity": "-3", "net_minor": -700}),
    ];
    assert_eq!(
        lines(&rows),
        [
            "store  sku        currency  quantity      net",
            "    1  tea        USD           12.5  1234.56",
            "   12  green tea  JPY             -3     -700",
        ]
    );
}

#[test]
fn what_is_not_there_is_a_dash_and_texts_stay_whole() {
    let (name, epochs) = ("x".repeat(60), vec![json!({"epoch": 1}); 30]);
    let rows = [json!({"name": name, "lives": epochs, "flags": [], "note": null, "seen_us": 0})];
    let lines = lines(&rows);
    assert!(lines[1].starts_with(&name), "{lines:?}");
    // Tests write no terminal: what is piped is never cut.
    assert!(!lines[1].contains('…'), "{lines:?}");
    assert!(cut("x".repeat(60)).ends_with('…'));
    assert!(lines[1].ends_with("never"), "{lines:?}");
    let dashes = lines[1].split_whitespace().filter(|word| *word == "-");
    assert_eq!(dashes.count(), 2, "{lines:?}");
}

#[test]
fn no_rows_are_a_head_without_columns() {
    assert_eq!(lines(&[]), [""]);
}

#[test]
fn fields_of_fields_can_be_chosen() {
    let rows = [json!({"store": 1, "currency": "USD", "totals": {"net_minor": 1234}, "more": 1})];
    assert_eq!(
        chosen(&rows, &["store", "totals.net_minor"]),
        ["store    net", "    1  12.34"]
    );
}

#[test]
fn a_block_shows_lists_as_tables_in_its_currency() {
    let row = json!({"receipt": "R1", "currency": "USD", "flags": [],
        "totals": {"transactions": 1, "net_minor": 349},
        "lines": [{"sku": "tea", "net_minor": 250}, {"sku": "milk", "net_minor": 99}]});
    assert_eq!(
        block(row.as_object().unwrap()),
        [
            "receipt       R1",
            "currency      USD",
            "flags         -",
            "transactions  1",
            "net           3.49",
            "lines:",
            "  sku    net",
            "  tea   2.50",
            "  milk  0.99",
        ]
    );
}

#[test]
fn a_code_cannot_break_a_row_or_move_the_cursor() {
    let rows = [json!({"sku": "tea\n\u{1b}[2J", "quantity": "1"})];
    assert_eq!(lines(&rows)[1], "tea\u{fffd}\u{fffd}[2J         1");
}
