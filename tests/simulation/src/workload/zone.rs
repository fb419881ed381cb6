//! Where stores are, and how their clocks go.

const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// A time zone around the days of a world: how far its clocks are ahead of UTC, and when they are changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Zone {
    pub(crate) name: &'static str,
    ahead: i64,
    /// The moment of a change, and how far they are ahead from then on.
    change: Option<(i64, i64)>,
}

const fn plain(name: &'static str, minutes: i64) -> Zone {
    Zone {
        name,
        ahead: minutes * MINUTE_US,
        change: None,
    }
}

/// Clocks that are changed so many days and minutes after 1970 began.
const fn changed(name: &'static str, (day, minute): (i64, i64), minutes: [i64; 2]) -> Zone {
    let at = day * DAY_US + minute * MINUTE_US;
    Zone {
        name,
        ahead: minutes[0] * MINUTE_US,
        change: Some((at, minutes[1] * MINUTE_US)),
    }
}

/// Hours that come twice, that are missing, and halves of both.
pub(crate) const CHANGED: [Zone; 5] = [
    // 2026-10-25 01:00 and 2026-03-29 01:00 UTC.
    changed("Europe/Vienna", (20_751, 60), [120, 60]),
    changed("Europe/Vienna", (20_541, 60), [60, 120]),
    // 2026-11-01 06:00 UTC.
    changed("America/New_York", (20_758, 6 * 60), [-240, -300]),
    // 2026-10-03 15:30 and 2026-04-04 15:00 UTC: half an hour, within an hour.
    changed("Australia/Lord_Howe", (20_729, 15 * 60 + 30), [630, 660]),
    changed("Australia/Lord_Howe", (20_547, 15 * 60), [660, 630]),
];

impl Zone {
    /// The zone of a store, in a world in which these clocks are changed, or none are.
    pub(crate) const fn of(store: u64, changed: Option<Self>) -> Self {
        match (store % 3, changed) {
            (2, _) => plain("Asia/Kathmandu", 5 * 60 + 45),
            (1, Some(changed)) => changed,
            _ => plain("UTC", 0),
        }
    }

    /// When its clocks are changed.
    pub(crate) const fn change_at(&self) -> Option<i64> {
        match self.change {
            Some((at, _)) => Some(at),
            None => None,
        }
    }

    /// Whether its clocks never show what those of UTC show at full hours.
    pub(crate) const fn is_odd(&self) -> bool {
        self.ahead % HOUR_US != 0
    }

    /// The local date of a moment in days, and when the hour began that its clock shows: not before a change in that hour.
    pub(crate) fn hour(&self, at: i64) -> (u16, i64) {
        let (ahead, from, to) = match self.change {
            Some((change, ahead)) if at >= change => (ahead, change, i64::MAX),
            Some((change, _)) => (self.ahead, i64::MIN, change),
            None => (self.ahead, i64::MIN, i64::MAX),
        };
        let local = at + ahead;
        let begins = local - local.rem_euclid(HOUR_US) - ahead;
        let day = u16::try_from(local.div_euclid(DAY_US)).unwrap_or(0);
        (day, begins.clamp(from, to))
    }
}
