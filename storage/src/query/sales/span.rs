//! The span of a question: business days, event times, or one bound of each.

use std::ops::RangeInclusive;

use super::SalesQuery;
use crate::query::Bound;

/// Microseconds of an hour: no hour of a store is longer.
pub(super) const HOUR_US: i64 = 3_600_000_000;

/// Business days and event times that an answer takes in; both hold.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// Business days.
    pub(super) days: RangeInclusive<u16>,
    from_us: Option<i64>,
    to_us: Option<i64>,
}

impl Span {
    pub(super) fn of(query: &SalesQuery) -> Self {
        let (mut first, mut last) = (0, Some(u16::MAX));
        let (mut from_us, mut to_us) = (None, None);
        match query.from {
            Some(Bound::Day(day)) => first = day.get(),
            Some(Bound::Instant(us)) => from_us = Some(us),
            None => {}
        }
        match query.to {
            Some(Bound::Day(day)) => last = day.get().checked_sub(1),
            Some(Bound::Instant(us)) => to_us = Some(us),
            None => {}
        }
        // An empty range, where nothing lies before the end.
        let (first, last) = last.map_or((1, 0), |last| (first, last));
        Self {
            days: first..=last,
            from_us,
            to_us,
        }
    }

    /// Whether event times matter, and not only days.
    pub(super) const fn has_instants(&self) -> bool {
        self.from_us.is_some() || self.to_us.is_some()
    }

    /// Whether an event time lies in the span.
    pub(super) fn has(&self, at_us: i64) -> bool {
        self.from_us.is_none_or(|from| from <= at_us) && self.to_us.is_none_or(|to| at_us < to)
    }

    /// Whether every event of an hour lies in the span.
    pub(super) fn has_whole(&self, hour_us: i64) -> bool {
        let end = hour_us.saturating_add(HOUR_US);
        self.from_us.is_none_or(|from| from <= hour_us) && self.to_us.is_none_or(|to| end <= to)
    }

    /// Whether an event of an hour can lie in the span.
    pub(super) fn touches(&self, hour_us: i64) -> bool {
        let end = hour_us.saturating_add(HOUR_US);
        self.from_us.is_none_or(|from| from < end) && self.to_us.is_none_or(|to| hour_us < to)
    }
}
