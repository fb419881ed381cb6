use super::*;

#[test]
fn quantities_are_shown_without_needless_zeros() {
    for (raw, text) in [
        (150_000, "1.5"),
        (100_000, "1"),
        (0, "0"),
        (-1, "-0.00001"),
        (1_000_000, "10"),
    ] {
        assert_eq!(Quantity::from_raw(raw).to_string(), text);
        assert_eq!(text.parse::<Quantity>(), Ok(Quantity::from_raw(raw)));
    }
    assert_eq!(
        "0.000001".parse::<Quantity>(),
        Err(DecimalError::TooPrecise { max: 5 })
    );
    assert_eq!(Quantity::from_units(2), "2".parse().ok());
    assert_eq!(Quantity::from_units(i64::MAX), None);
}

#[test]
fn every_unit_is_found_by_its_code_and_its_name() {
    for number in 1..=unit::MAX {
        assert_eq!(unit::from_code(unit::code(number)), Some(number));
        assert_eq!(unit::from_code(unit::name(number)), Some(number));
    }
    assert_eq!(unit::from_code("EA"), Some(unit::EACH));
    assert_eq!((unit::from_code(""), unit::name(99)), (None, ""));
}
