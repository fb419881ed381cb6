//! Currencies by ISO 4217.

use std::fmt;

use thiserror::Error;

/// A currency with minor units, as its ISO 4217 number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Currency(u16);

/// A number or code that is no currency a till can take.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{given:?} is not an ISO 4217 currency with minor units; write a code such as EUR")]
pub struct CurrencyError {
    given: String,
}

impl Currency {
    /// The currency of an ISO 4217 number.
    ///
    /// # Errors
    /// [`CurrencyError`] when there is none, or it has no minor unit (gold, test codes).
    pub fn from_numeric(number: u16) -> Result<Self, CurrencyError> {
        iso_currency::Currency::from_numeric(number)
            .filter(|currency| currency.exponent().is_some())
            .map(|currency| Self(currency.numeric()))
            .ok_or_else(|| CurrencyError {
                given: number.to_string(),
            })
    }

    /// The currency of a three-letter code.
    ///
    /// # Errors
    /// [`CurrencyError`] when there is none, or it has no minor unit.
    pub fn from_code(code: &str) -> Result<Self, CurrencyError> {
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.exponent().is_some())
            .map(|currency| Self(currency.numeric()))
            .ok_or_else(|| CurrencyError {
                given: code.to_owned(),
            })
    }

    /// The ISO 4217 number.
    pub const fn numeric(self) -> u16 {
        self.0
    }

    /// The three-letter code.
    pub fn code(self) -> &'static str {
        iso_currency::Currency::from_numeric(self.0).map_or("XXX", |currency| currency.code())
    }

    /// Decimals of the minor unit: JPY 0, USD 2, KWD 3.
    pub fn exponent(self) -> u8 {
        iso_currency::Currency::from_numeric(self.0)
            .and_then(iso_currency::Currency::exponent)
            .and_then(|exponent| u8::try_from(exponent).ok())
            .unwrap_or(0)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests;
