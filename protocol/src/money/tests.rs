use proptest::prelude::*;

use super::*;

#[test]
fn decimals_are_read_exactly_or_not_at_all() {
    assert_eq!(parse_decimal("12.5", 2), Ok(1250));
    assert_eq!(parse_decimal("-0.01", 2), Ok(-1));
    assert_eq!(parse_decimal("+7", 0), Ok(7));
    assert_eq!(parse_decimal(".5", 1), Ok(5));
    assert_eq!(parse_decimal("1.2300", 2), Ok(123));
    assert_eq!(parse_decimal("-9223372036854775808", 0), Ok(i64::MIN));
    assert_eq!(
        parse_decimal("9223372036854775808", 0),
        Err(DecimalError::TooLarge)
    );
    assert_eq!(
        parse_decimal("1.234", 2),
        Err(DecimalError::TooPrecise { max: 2 })
    );
    for text in [
        "", "-", ".", "1.", "1,5", "1e3", " 1", "1.2.3", "--1", "\u{0661}",
    ] {
        assert_eq!(
            parse_decimal(text, 2),
            Err(DecimalError::Malformed),
            "{text:?}"
        );
    }
}

#[test]
fn decimals_are_written_with_all_their_places() {
    assert_eq!(format_decimal(1250, 2), "12.50");
    assert_eq!(format_decimal(-1, 2), "-0.01");
    assert_eq!(format_decimal(5, 0), "5");
    assert_eq!(format_decimal(i64::MIN, 3), "-9223372036854775.808");
    assert_eq!(format_decimal_wide(i128::MIN, 0), i128::MIN.to_string());
}

#[test]
fn the_largest_remainder_gets_the_odd_cent_and_the_earlier_of_equals() {
    assert_eq!(share(100, &[1, 1, 1]), [34, 33, 33]);
    assert_eq!(share(-100, &[1, 1, 1]), [-34, -33, -33]);
    assert_eq!(share(10, &[1, 2]), [3, 7]);
    assert_eq!(share(7, &[0, 0]), [7, 0]);
    assert_eq!(share(7, &[]), [0_i128; 0]);
    assert_eq!(share(10, &[-1, 1]), [5, 5]);
}

#[test]
fn shares_of_extreme_totals_still_add_up() {
    for total in [i128::MIN, i128::MAX, i128::MAX - 1] {
        for weights in [
            vec![1, 2, 3],
            vec![i128::MAX, i128::MIN, 1],
            vec![i128::from(i64::MAX); 5],
        ] {
            assert_eq!(
                share(total, &weights).iter().sum::<i128>(),
                total,
                "{total} by {weights:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn decimals_survive_a_round_trip(value: i64, decimals in 0..=DECIMALS_MAX) {
        prop_assert_eq!(parse_decimal(&format_decimal(value, decimals), decimals), Ok(value));
    }

    #[test]
    fn shares_add_up_and_none_is_off_by_a_unit(
        total: i64,
        weights in prop::collection::vec(0..=i64::MAX, 1..20),
    ) {
        let total = i128::from(total);
        let weights: Vec<i128> = weights.into_iter().map(i128::from).collect();
        let parts = share(total, &weights);
        prop_assert_eq!(parts.iter().sum::<i128>(), total);
        let sum: i128 = weights.iter().sum();
        if sum > 0 {
            for (part, weight) in parts.iter().zip(&weights) {
                // |part - total * weight / sum| < 1, without dividing. Products stay below 2^127.
                prop_assert!((part * sum - total * weight).abs() < sum);
            }
        }
    }

    #[test]
    fn units_left_over_go_to_the_largest_remainders_and_to_the_earlier_of_equals(
        total in -2_000_i128..2_000,
        weights in prop::collection::vec(-12_i128..13, 1..12),
    ) {
        let parts = share(total, &weights);
        let sum: i128 = weights.iter().map(|weight| weight.abs()).sum();
        prop_assume!(sum > 0);
        // How much more or less than its share each part has, in units of 1/sum.
        let given = parts.iter().zip(&weights).map(|(part, weight)| {
            (part * total.signum() * sum - total.abs() * weight.abs(), total.abs() * weight.abs() % sum)
        });
        let given: Vec<(i128, i128)> = given.collect();
        for (first, (more, rest)) in given.iter().enumerate() {
            for (second, (less, other)) in given.iter().enumerate() {
                if *more > 0 && *less < 0 {
                    prop_assert!((rest, second) > (other, first), "{parts:?} for {total} by {weights:?}");
                }
            }
        }
        // A refund is shared as what it gives back was.
        let back: Vec<i128> = share(-total, &weights).into_iter().map(|part| -part).collect();
        prop_assert_eq!(parts, back);
    }

    #[test]
    fn wide_division_agrees_with_plain_division(a: u64, b: u64, c in 1..=u64::MAX) {
        let (a, b, c) = (u128::from(a), u128::from(b.min(c)), u128::from(c));
        prop_assert_eq!(mul_div(a, b, c), (a * b / c, a * b % c));
    }
}
