use super::*;

#[test]
fn every_day_of_the_range_is_written_and_read_back() {
    for days in 0..=u16::MAX {
        let day = Day::new(days);
        assert_eq!(day.to_string().parse::<Day>().unwrap(), day);
    }
    assert_eq!(Day::new(0).to_string(), "1970-01-01");
    assert_eq!("2026-11-21".parse::<Day>().unwrap().get(), 20_778);
    assert_eq!(
        "2024-02-29".parse::<Day>().unwrap().next().to_string(),
        "2024-03-01"
    );
    assert_eq!(Day::new(u16::MAX).to_string(), "2149-06-06");
}

#[test]
fn days_that_do_not_exist_are_refused() {
    for text in [
        "2023-02-29",
        "2026-13-01",
        "2026-00-10",
        "2026-1-1",
        "1969-12-31",
        "2150-01-01",
        "today",
        "",
    ] {
        assert!(text.parse::<Day>().is_err(), "{text}");
    }
}

#[test]
fn instants_are_shown_in_utc_and_their_day_stays_in_range() {
    let at = Timestamp::from_us(1_795_254_594_000_123);
    assert_eq!(at.to_string(), "2026-11-21T09:49:54.000123Z");
    assert_eq!(at.utc_day().to_string(), "2026-11-21");
    assert_eq!(DeviceTime::from_us(-1).utc_day(), Day::new(0));
    assert_eq!(DeviceTime::from_us(i64::MAX).utc_day(), Day::new(u16::MAX));
    assert_eq!(Timestamp::from_us(i64::MAX).plus_us(1).us(), i64::MAX);
    assert_eq!(
        DeviceTime::from_us(-1).to_string(),
        "1969-12-31T23:59:59.999999Z"
    );
}

#[test]
fn the_latest_event_time_lies_on_the_last_day_but_one() {
    let last = DeviceTime::from_us(crate::limits::TIME_US_MAX).utc_day();
    assert_eq!(last, Day::new(u16::MAX - 1));
}
