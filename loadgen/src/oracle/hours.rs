//! Sales by the hour in which they happened: a sale that is filed under another time shows here, and nowhere else.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Sums;
use crate::admin::Admin;
use crate::replay::rfc3339;

const HOUR_US: i64 = 3_600_000_000;

/// Sums by the start of the hour, in us since 1970-01-01 UTC.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hours(BTreeMap<i64, Sums>);

impl Hours {
    /// Adds what was sold at a time.
    pub fn sold(&mut self, at_us: i64, sums: &Sums) {
        let start = at_us - at_us.rem_euclid(HOUR_US);
        self.0.entry(start).or_default().add(sums, 1);
    }

    /// Whether nothing was sold.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the engine says of a store; `None` where the hours of its time zone are not those of UTC.
    pub(super) fn read(admin: &Admin, store: u32) -> Result<Option<Self>> {
        let mut hours = Self::default();
        for row in admin.sales("hour", Some(store))? {
            let start = rfc3339(&row.hour).map_err(anyhow::Error::msg)?.0;
            if start % HOUR_US != 0 {
                return Ok(None);
            }
            hours.sold(start, &row.sums()?);
        }
        Ok(Some(hours))
    }

    /// Takes away what was there before.
    pub(super) fn since(mut self, before: &Self) -> Self {
        for (start, sums) in &before.0 {
            self.0.entry(*start).or_default().add(sums, -1);
        }
        self
    }

    /// Every hour of either, as text, with the sums of both.
    pub(super) fn beside(&self, other: &Self) -> Vec<(String, Sums, Sums)> {
        let of = |hours: &Self, start: &i64| hours.0.get(start).copied().unwrap_or_default();
        let mut starts: Vec<&i64> = self.0.keys().chain(other.0.keys()).collect();
        starts.sort_unstable();
        starts.dedup();
        let shown = |start: i64| {
            jiff::Timestamp::from_microsecond(start)
                .map_or_else(|_| start.to_string(), |time| time.to_string())
        };
        starts
            .into_iter()
            .map(|start| (shown(*start), of(self, start), of(other, start)))
            .collect()
    }
}

/// A time for events that take so many us, none of them in another hour than the first.
pub const fn within_an_hour(at_us: i64, us: i64) -> i64 {
    let left = HOUR_US - at_us.rem_euclid(HOUR_US);
    if left < us { at_us + left } else { at_us }
}
