//! Local hours and dates of a store, from the time-zone database that is built in.
//!
//! The system's own database is never read: the hour that an instant falls into must not depend on the machine.

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use thiserror::Error;

/// Microseconds of an hour.
const HOUR_US: i64 = 3_600_000_000;
/// Microseconds of a day.
const DAY_US: i64 = 24 * HOUR_US;
/// Transitions that change nothing but a name or a rule are looked through; more than this many in a row are not.
const SILENT_TRANSITIONS_MAX: usize = 16;

/// A name that is in no time-zone database.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{name:?} is not an IANA time zone known here; write one such as Europe/Berlin")]
pub struct UnknownZone {
    name: String,
}

/// The local hour and date of an instant.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LocalHour {
    /// The instant at which the local hour starts, in us since 1970-01-01 UTC.
    pub hour_us: i64,
    /// The local date, in days since 1970-01-01.
    pub day: u16,
}

/// A time zone that remembers where the last instant lay.
///
/// An hour starts at a full hour of the local clock, or where the clock was changed within that hour: no hour spans a
/// change of clocks, and the two 01:00 hours of an autumn night are two hours.
#[derive(Clone, Debug)]
pub struct Zone {
    zone: TimeZone,
    span: OffsetSpan,
}

// Where one offset from UTC holds, and the hour of the last instant in it.
#[derive(Clone, Copy, Debug, Default)]
struct OffsetSpan {
    start_us: i64,
    end_us: i64,
    offset_us: i64,
    hour_start_us: i64,
    hour_end_us: i64,
    day: u16,
}

impl Zone {
    /// The zone of this name.
    ///
    /// # Errors
    /// Returns [`UnknownZone`] when the built-in database has no such name.
    pub fn new(name: &str) -> Result<Self, UnknownZone> {
        let zone = TimeZoneDatabase::bundled()
            .get(name)
            .map_err(|_| UnknownZone {
                name: name.to_owned(),
            })?;
        Ok(Self {
            zone,
            span: OffsetSpan::default(),
        })
    }

    /// The name as the database spells it.
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The local hour and date of an instant, in us since 1970-01-01 UTC.
    #[inline]
    pub fn local(&mut self, at_us: i64) -> LocalHour {
        let span = &self.span;
        if span.hour_start_us <= at_us && at_us < span.hour_end_us {
            return LocalHour {
                hour_us: span.hour_start_us,
                day: span.day,
            };
        }
        self.find(at_us)
    }

    #[cold]
    fn find(&mut self, at_us: i64) -> LocalHour {
        if at_us < self.span.start_us || self.span.end_us <= at_us {
            self.span = span_of(&self.zone, at_us);
        }
        let span = &mut self.span;
        let local = at_us.saturating_add(span.offset_us);
        let floor = local
            .div_euclid(HOUR_US)
            .saturating_mul(HOUR_US)
            .saturating_sub(span.offset_us);
        span.hour_start_us = floor.max(span.start_us);
        span.hour_end_us = floor.saturating_add(HOUR_US).min(span.end_us);
        let days = local.div_euclid(DAY_US).clamp(0, i64::from(u16::MAX));
        span.day = u16::try_from(days).unwrap_or(u16::MAX);
        LocalHour {
            hour_us: span.hour_start_us,
            day: span.day,
        }
    }
}

fn span_of(zone: &TimeZone, at_us: i64) -> OffsetSpan {
    let everywhere = OffsetSpan {
        start_us: i64::MIN,
        end_us: i64::MAX,
        ..OffsetSpan::default()
    };
    let Ok(at) = Timestamp::from_microsecond(at_us) else {
        return everywhere;
    };
    let offset = zone.to_offset(at);
    let end_us = zone.following(at).next().map_or(i64::MAX, |transition| {
        transition.timestamp().as_microsecond()
    });
    let after = Timestamp::from_microsecond(at_us.saturating_add(1)).unwrap_or(at);
    let start_us = zone
        .preceding(after)
        .take(SILENT_TRANSITIONS_MAX)
        .map(|transition| transition.timestamp().as_microsecond())
        .find(|&start_us| {
            Timestamp::from_microsecond(start_us.saturating_sub(1))
                .is_ok_and(|before| zone.to_offset(before) != offset)
        })
        .unwrap_or(i64::MIN);
    OffsetSpan {
        start_us,
        end_us,
        offset_us: i64::from(offset.seconds()).saturating_mul(1_000_000),
        ..OffsetSpan::default()
    }
}

#[cfg(test)]
mod tests;
