use super::*;

fn given(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn refused(topic: Topic, pairs: &[(&str, &str)]) -> ParamError {
    Question::parse(topic, &given(pairs)).unwrap_err()
}

#[test]
fn a_question_without_parameters_asks_for_the_total() {
    let question = Question::parse(Topic::Sales, &[]).unwrap();
    let Question::Sales {
        by,
        from,
        to,
        store,
        sku,
    } = question
    else {
        panic!("{question:?}");
    };
    assert_eq!((by, from, to, store), (By::Total, None, None, None));
    assert_eq!(sku, None);
}

#[test]
fn bounds_are_dates_or_instants() {
    let question = Question::parse(
        Topic::Sales,
        &given(&[("from", "2026-03-01"), ("to", "2026-03-02T08:30:00+01:00")]),
    )
    .unwrap();
    let Question::Sales { from, to, .. } = question else {
        panic!("{question:?}");
    };
    assert_eq!(from, Some(When::Date(jiff::civil::date(2026, 3, 1))));
    assert_eq!(
        to,
        Some(When::Instant("2026-03-02T07:30:00Z".parse().unwrap()))
    );
}

#[test]
fn a_time_without_offset_is_no_instant() {
    let error = refused(Topic::Sales, &[("from", "2026-03-01T08:30:00")]);
    assert_eq!(error.parameter(), "from");
}

#[test]
fn an_unknown_parameter_is_named_with_the_one_that_was_meant() {
    let error = refused(Topic::Sales, &[("stroe", "1")]);
    assert_eq!(error.parameter(), "stroe");
    let text = error.to_string();
    assert!(text.contains("did you mean \"store\"?"), "{text}");
    assert!(text.contains("by, from, to, store"), "{text}");
}

#[test]
fn every_wrong_value_names_its_parameter() {
    for (topic, pairs, parameter) in [
        (Topic::Sales, &[("by", "week")][..], "by"),
        (Topic::Sales, &[("store", "0")], "store"),
        (Topic::Sales, &[("store", "-1")], "store"),
        (Topic::Sales, &[("store", "2147483648")], "store"),
        (Topic::Sales, &[("store", "1"), ("store", "2")], "store"),
        (Topic::Sales, &[("to", "tomorrow")], "to"),
        (Topic::Sales, &[("sku", "tea"), ("by", "tender")], "by"),
        (
            Topic::Sales,
            &[("from", "2026-03-02"), ("to", "2026-03-01")],
            "to",
        ),
        (Topic::Stock, &[("sku", "tea")], "store"),
        (Topic::Transactions, &[("store", "1")], "receipt"),
        (
            Topic::Transactions,
            &[("receipt", "1"), ("day", "2026-3-1")],
            "day",
        ),
        (Topic::Terminals, &[("terminal", "till")], "terminal"),
        (Topic::Stores, &[("store", "1")], "store"),
    ] {
        let error = refused(topic, pairs);
        assert_eq!(error.parameter(), parameter, "{error}");
        assert!(error.to_string().contains(parameter), "{error}");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let pairs = given(&[
        ("sku", "Täte & co 100% +1/2=x"),
        ("from", "2026-03-01T08:30:00+01:00"),
        ("receipt", "%4"),
    ]);
    assert_eq!(super::pairs(&query_string(&pairs)), pairs);
}
