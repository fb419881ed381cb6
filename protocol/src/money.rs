//! Exact money: decimal texts to minor units and back, and shares that add up.
//!
//! No floating point anywhere. A value that can't be held exactly is an error, never rounded.

use thiserror::Error;

/// A text that is no decimal number of the wanted precision.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DecimalError {
    /// Not `[+-]digits[.digits]`.
    #[error("not a decimal number; write digits with at most one point, such as 12.50")]
    Malformed,
    /// More decimals than can be held, and not only zeros.
    #[error("more than {max} decimals; the value would have to be rounded")]
    TooPrecise {
        /// Decimals that can be held.
        max: u8,
    },
    /// Outside the range of 64 bits.
    #[error("number is too large for 64 bits")]
    TooLarge,
}

/// Most decimals of [`parse_decimal`] and [`format_decimal`].
pub const DECIMALS_MAX: u8 = 18;

/// Reads a decimal number exactly, as a count of 10^-`decimals`: "12.5" with 2 decimals is 1250.
///
/// Takes an optional sign, digits, and an optional point with digits; zeros beyond the precision are dropped.
///
/// # Errors
/// [`DecimalError`] when the text is no number, has digits beyond the precision, or does not fit.
pub fn parse_decimal(text: &str, decimals: u8) -> Result<i64, DecimalError> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let point = digits.iter().position(|&b| b == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &digits[digits.len()..]),
    };
    let malformed = (whole.is_empty() && fraction.is_empty())
        || (point.is_some() && fraction.is_empty())
        || !whole.iter().chain(fraction).all(u8::is_ascii_digit);
    if malformed {
        return Err(DecimalError::Malformed);
    }
    let kept = fraction.len().min(usize::from(decimals));
    if fraction[kept..].iter().any(|&b| b != b'0') {
        return Err(DecimalError::TooPrecise { max: decimals });
    }
    let missing = usize::from(decimals) - kept;
    let padding = std::iter::repeat_n(&b'0', missing);
    let mut value: i64 = 0;
    for &digit in whole.iter().chain(&fraction[..kept]).chain(padding) {
        let digit = i64::from(digit - b'0');
        let signed = if negative { -digit } else { digit };
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(signed))
            .ok_or(DecimalError::TooLarge)?;
    }
    Ok(value)
}

/// Writes a count of 10^-`decimals` with all its decimals: 1250 with 2 decimals is "12.50".
pub fn format_decimal(value: i64, decimals: u8) -> String {
    format_decimal_wide(i128::from(value), decimals)
}

/// [`format_decimal`] for sums.
pub fn format_decimal_wide(value: i128, decimals: u8) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let decimals = usize::from(decimals);
    if decimals == 0 {
        return value.to_string();
    }
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{sign}{whole}.{fraction}")
}

/// Weights above this count as this. Reached only by sums that no till has.
const WEIGHT_MAX: u128 = 1 << 100;

/// Splits `total` in proportion to the sizes of `weights` so that the parts add up to it exactly.
///
/// Largest remainder: each part is rounded towards zero, then the units left over go to the largest remainders, the
/// earlier one first where they are equal. All weights zero: the first part gets everything. No weights: no parts.
pub fn share(total: i128, weights: &[i128]) -> Vec<i128> {
    let sizes: Vec<u128> = weights
        .iter()
        .map(|w| w.unsigned_abs().min(WEIGHT_MAX))
        .collect();
    let sum: u128 = sizes.iter().sum();
    if sum == 0 {
        let mut parts = vec![0; weights.len()];
        if let Some(first) = parts.first_mut() {
            *first = total;
        }
        return parts;
    }
    let size = total.unsigned_abs();
    let (mut parts, rests): (Vec<u128>, Vec<u128>) = sizes
        .iter()
        .map(|&weight| mul_div(size, weight, sum))
        .unzip();
    let given: u128 = parts.iter().sum();
    let left = usize::try_from(size - given).unwrap_or(usize::MAX);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| rests[b].cmp(&rests[a]));
    for &index in order.iter().take(left) {
        parts[index] += 1;
    }
    parts
        .into_iter()
        .map(|part| signed(part, total < 0))
        .collect()
}

fn signed(size: u128, negative: bool) -> i128 {
    let value = i128::try_from(size).unwrap_or(i128::MAX);
    if negative {
        0_i128.saturating_sub_unsigned(size)
    } else {
        value
    }
}

// a * b / c with its remainder; b <= c < 2^127.
fn mul_div(a: u128, b: u128, c: u128) -> (u128, u128) {
    if let Some(product) = a.checked_mul(b) {
        return (product / c, product % c);
    }
    // Horner over the bits of a: the quotient stays <= a and the remainder < c.
    let (mut quotient, mut rest) = (0_u128, 0_u128);
    for bit in (0..u128::BITS).rev() {
        quotient <<= 1;
        rest <<= 1;
        if a >> bit & 1 == 1 {
            rest += b;
        }
        while rest >= c {
            rest -= c;
            quotient += 1;
        }
    }
    (quotient, rest)
}

#[cfg(test)]
mod tests;
