//! Quantities: exact, in 1e-5 of a unit of measure.

use std::fmt;
use std::str::FromStr;

use crate::money::{DecimalError, format_decimal, parse_decimal};

/// An amount of goods in 1e-5 of its unit: 1.5 kg is 150,000.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Quantity(i64);

impl Quantity {
    /// Decimals that a quantity holds.
    pub const DECIMALS: u8 = 5;
    /// One unit.
    pub const ONE: Self = Self(100_000);

    /// The quantity of so many 1e-5 units.
    pub const fn from_raw(raw: i64) -> Self {
        Self(raw)
    }

    /// Whole units; `None` past the range.
    pub const fn from_units(units: i64) -> Option<Self> {
        match units.checked_mul(Self::ONE.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// In 1e-5 units.
    pub const fn raw(self) -> i64 {
        self.0
    }

    /// The sum, or `None` past the range.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format_decimal(self.0, Self::DECIMALS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Quantity {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        parse_decimal(text, Self::DECIMALS).map(Self)
    }
}

/// Units of measure, as they stand in records.
pub mod unit {
    /// Not stated.
    pub const UNSTATED: u8 = 0;
    /// Pieces.
    pub const EACH: u8 = 1;
    /// Kilograms.
    pub const KILOGRAM: u8 = 2;
    /// Grams.
    pub const GRAM: u8 = 3;
    /// Litres.
    pub const LITRE: u8 = 4;
    /// Metres.
    pub const METRE: u8 = 5;
    /// Degrees Celsius.
    pub const CELSIUS: u8 = 6;
    /// Per cent.
    pub const PERCENT: u8 = 7;
    /// Largest unit of this version.
    pub const MAX: u8 = PERCENT;

    const TABLE: [(&str, &str); 8] = [
        ("", ""),
        ("each", "C62"),
        ("kilogram", "KGM"),
        ("gram", "GRM"),
        ("litre", "LTR"),
        ("metre", "MTR"),
        ("celsius", "CEL"),
        ("percent", "P1"),
    ];

    /// The English name of a unit; empty when not stated or unknown.
    pub fn name(unit: u8) -> &'static str {
        TABLE.get(usize::from(unit)).map_or("", |(name, _)| name)
    }

    /// The UN/CEFACT Recommendation 20 code of a unit; empty when not stated or unknown.
    pub fn code(unit: u8) -> &'static str {
        TABLE.get(usize::from(unit)).map_or("", |(_, code)| code)
    }

    /// The unit of a UN/CEFACT code or an English name; "EA" is a chunk too.
    pub fn from_code(code: &str) -> Option<u8> {
        if code == "EA" {
            return Some(EACH);
        }
        let at = TABLE
            .iter()
            .skip(1)
            .position(|(name, cefact)| *name == code || *cefact == code)?;
        u8::try_from(at + 1).ok()
    }
}

#[cfg(test)]
mod tests;
