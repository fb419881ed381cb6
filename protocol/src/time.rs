//! Times: ours, theirs, and business days.
//!
//! [`Timestamp`] is what the engine measured, [`DeviceTime`] what a device claims. There is no conversion between them:
//! who compares them says so.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

macro_rules! instant {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(i64);

        impl $name {
            /// The instant so many us after 1970-01-01 UTC.
            pub const fn from_us(us: i64) -> Self {
                Self(us)
            }

            /// Microseconds since 1970-01-01 UTC.
            pub const fn us(self) -> i64 {
                self.0
            }

            /// The instant `us` later (earlier when negative); stops at the ends of the range.
            pub const fn plus_us(self, us: i64) -> Self {
                Self(self.0.saturating_add(us))
            }

            /// Microseconds from `earlier` to `self`, negative when `earlier` lies later.
            pub const fn since_us(self, earlier: Self) -> i64 {
                self.0.saturating_sub(earlier.0)
            }

            /// The UTC day of the instant, held to the range of [`Day`].
            pub fn utc_day(self) -> Day {
                Day::of_us(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let day = self.0.div_euclid(DAY_US);
                let (year, month, date) = civil_of(day);
                let us = self.0.rem_euclid(DAY_US);
                let (s, frac) = (us / 1_000_000, us % 1_000_000);
                write!(f, "{year:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)?;
                if frac != 0 {
                    write!(f, ".{frac:06}")?;
                }
                f.write_str("Z")
            }
        }
    };
}

instant!(
    /// An instant that the engine measured itself.
    Timestamp
);
instant!(
    /// An instant that a device claims. Nothing is ordered by it alone.
    DeviceTime
);

/// Microseconds of a day without a change of clocks.
pub const DAY_US: i64 = 86_400_000_000;

/// A calendar day, as days since 1970-01-01: 0 to 65,535 (2149-06-06). In records 0 means "not stated".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Day(u16);

/// A text that is no day.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{text:?} is not a day; write it as 2026-11-21 (1970-01-01 to 2149-06-06)")]
pub struct DayError {
    text: String,
}

impl Day {
    /// The day so many days after 1970-01-01.
    pub const fn new(days: u16) -> Self {
        Self(days)
    }

    /// Days since 1970-01-01.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The UTC day that holds an instant, held to the range of a day.
    pub fn of_us(us: i64) -> Self {
        Self::from_days(us.div_euclid(DAY_US))
    }

    /// The day so many days after 1970-01-01, held to the range of a day.
    pub fn from_days(days: i64) -> Self {
        Self(u16::try_from(days.clamp(0, i64::from(u16::MAX))).unwrap_or(u16::MAX))
    }

    /// The day of a date of the Gregorian calendar, if there is one and it is in range.
    pub fn from_civil(year: i32, month: u32, date: u32) -> Option<Self> {
        if !(1..=12).contains(&month) || !(1..=31).contains(&date) || !(1970..=2149).contains(&year)
        {
            return None;
        }
        let days = days_of(i64::from(year), i64::from(month), i64::from(date));
        if civil_of(days) != (i64::from(year), i64::from(month), i64::from(date)) {
            return None;
        }
        u16::try_from(days).ok().map(Self)
    }

    /// Year, month and date.
    pub fn civil(self) -> (i64, i64, i64) {
        civil_of(i64::from(self.0))
    }

    /// The first instant of the day in UTC, in us since 1970-01-01.
    pub fn start_us(self) -> i64 {
        i64::from(self.0) * DAY_US
    }

    /// The next day; the last day of the range is followed by itself.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, date) = self.civil();
        write!(f, "{year:04}-{month:02}-{date:02}")
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let (year, month, date) = (parts.next()?, parts.next()?, parts.next()?);
            if year.len() != 4 || month.len() != 2 || date.len() != 2 {
                return None;
            }
            Self::from_civil(year.parse().ok()?, month.parse().ok()?, date.parse().ok()?)
        };
        parse().ok_or_else(|| DayError {
            text: text.to_owned(),
        })
    }
}

// Howard Hinnant's calendar algorithms, on days since 1970-01-01.
fn days_of(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, date)
}

#[cfg(test)]
mod tests;
