//! Bounds and groupings as they are written.

use std::str::FromStr;

use thiserror::Error;
use till_protocol::time::Day;

/// A text that is no bound or grouping.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ParseError {
    /// Neither a date nor an instant.
    #[error("{0:?} is neither a date (2026-11-21) nor an instant (2026-11-21T08:00:00+01:00)")]
    Bound(String),
    /// No grouping.
    #[error(
        "{0:?} is no grouping; write total, store, day, hour, sku, tender, category or operator"
    )]
    By(String),
}

/// Where a span of sales starts or ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bound {
    /// An instant in us since 1970-01-01 UTC: compared with the event's own time.
    Instant(i64),
    /// A date: compared with the business day.
    Day(Day),
}

impl FromStr for Bound {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(day) = text.parse::<Day>() {
            return Ok(Self::Day(day));
        }
        let at: Result<jiff::Timestamp, _> = text.parse();
        at.map(|at| Self::Instant(at.as_microsecond()))
            .map_err(|_| ParseError::Bound(text.to_owned()))
    }
}

/// What sales are summed by.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum By {
    /// All together, one row per currency.
    #[default]
    Total,
    /// By store.
    Store,
    /// By business day.
    Day,
    /// By hour of the store's clock.
    Hour,
    /// By SKU.
    Sku,
    /// By means of payment.
    Tender,
    /// By category.
    Category,
    /// By operator.
    Operator,
}

impl By {
    /// All groupings.
    pub const ALL: [Self; 8] = [
        Self::Total,
        Self::Store,
        Self::Day,
        Self::Hour,
        Self::Sku,
        Self::Tender,
        Self::Category,
        Self::Operator,
    ];

    /// The name on the command line and in URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Total => "total",
            Self::Store => "store",
            Self::Day => "day",
            Self::Hour => "hour",
            Self::Sku => "sku",
            Self::Tender => "tender",
            Self::Category => "category",
            Self::Operator => "operator",
        }
    }
}

impl FromStr for By {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let found = Self::ALL.into_iter().find(|by| by.name() == text);
        found.ok_or_else(|| ParseError::By(text.to_owned()))
    }
}
