use super::*;

#[test]
fn currencies_know_their_code_number_and_decimals() {
    for (code, numeric, exponent) in [
        ("JPY", 392, 0),
        ("USD", 840, 2),
        ("EUR", 978, 2),
        ("KWD", 414, 3),
    ] {
        let currency = Currency::from_code(code).unwrap();
        assert_eq!(
            (currency.numeric(), currency.exponent()),
            (numeric, exponent)
        );
        assert_eq!(Currency::from_numeric(numeric).unwrap().to_string(), code);
    }
}

#[test]
fn what_has_no_minor_unit_is_no_currency_of_a_till() {
    for code in ["XAU", "XXX", "XTS", "usd", "", "EURO"] {
        assert!(Currency::from_code(code).is_err(), "{code}");
    }
    assert!(Currency::from_numeric(0).is_err());
    assert!(Currency::from_numeric(1).is_err());
}
