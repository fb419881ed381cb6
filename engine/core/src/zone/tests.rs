use super::*;

fn us(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

#[track_caller]
fn check(zone: &str, at: &str, hour: &str, day: &str) {
    let mut zone = Zone::new(zone).unwrap();
    let found = zone.local(us(at));
    let start = Timestamp::from_microsecond(found.hour_us).unwrap();
    assert_eq!(start.to_string(), hour, "hour of {at}");
    let expected = us(&format!("{day}T00:00:00Z")) / DAY_US;
    assert_eq!(i64::from(found.day), expected, "day of {at}");
}

#[test]
fn a_whole_hour_zone_has_whole_hours() {
    check(
        "UTC",
        "2026-03-01T12:59:59.999999Z",
        "2026-03-01T12:00:00Z",
        "2026-03-01",
    );
    check(
        "America/New_York",
        "2026-01-15T03:30:00Z",
        "2026-01-15T03:00:00Z",
        "2026-01-14",
    );
    check(
        "Europe/Berlin",
        "2026-07-01T22:10:00Z",
        "2026-07-01T22:00:00Z",
        "2026-07-02",
    );
}

#[test]
fn a_half_hour_zone_starts_its_hours_at_half_past() {
    check(
        "Asia/Kolkata",
        "2026-05-05T10:29:00Z",
        "2026-05-05T09:30:00Z",
        "2026-05-05",
    );
    check(
        "Asia/Kolkata",
        "2026-05-05T18:30:00Z",
        "2026-05-05T18:30:00Z",
        "2026-05-06",
    );
}

#[test]
fn the_hour_after_a_gap_starts_at_the_gap() {
    // New York, 2026-03-08: 02:00 EST becomes 03:00 EDT at 07:00Z.
    check(
        "America/New_York",
        "2026-03-08T06:59:59Z",
        "2026-03-08T06:00:00Z",
        "2026-03-08",
    );
    check(
        "America/New_York",
        "2026-03-08T07:00:00Z",
        "2026-03-08T07:00:00Z",
        "2026-03-08",
    );
    // Berlin, 2026-03-29: 02:00 CET becomes 03:00 CEST at 01:00Z.
    check(
        "Europe/Berlin",
        "2026-03-29T01:15:00Z",
        "2026-03-29T01:00:00Z",
        "2026-03-29",
    );
}

#[test]
fn the_hour_that_comes_twice_is_two_hours() {
    // New York, 2026-11-01: 02:00 EDT becomes 01:00 EST at 06:00Z.
    check(
        "America/New_York",
        "2026-11-01T05:30:00Z",
        "2026-11-01T05:00:00Z",
        "2026-11-01",
    );
    check(
        "America/New_York",
        "2026-11-01T06:30:00Z",
        "2026-11-01T06:00:00Z",
        "2026-11-01",
    );
    check(
        "Europe/Berlin",
        "2026-10-25T00:30:00Z",
        "2026-10-25T00:00:00Z",
        "2026-10-25",
    );
    check(
        "Europe/Berlin",
        "2026-10-25T01:30:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-25",
    );
}

#[test]
fn a_change_of_half_an_hour_splits_the_hour() {
    // Lord Howe, 2026-04-05: 02:00 (+11) becomes 01:30 (+10:30) at 15:00Z on the 4th.
    check(
        "Australia/Lord_Howe",
        "2026-04-04T14:59:00Z",
        "2026-04-04T14:00:00Z",
        "2026-04-05",
    );
    check(
        "Australia/Lord_Howe",
        "2026-04-04T15:10:00Z",
        "2026-04-04T15:00:00Z",
        "2026-04-05",
    );
    check(
        "Australia/Lord_Howe",
        "2026-04-04T15:30:00Z",
        "2026-04-04T15:30:00Z",
        "2026-04-05",
    );
    // Lord Howe, 2026-10-04: 02:00 (+10:30) becomes 02:30 (+11) at 15:30Z on the 3rd.
    check(
        "Australia/Lord_Howe",
        "2026-10-03T15:29:00Z",
        "2026-10-03T14:30:00Z",
        "2026-10-04",
    );
    check(
        "Australia/Lord_Howe",
        "2026-10-03T15:40:00Z",
        "2026-10-03T15:30:00Z",
        "2026-10-04",
    );
    check(
        "Australia/Lord_Howe",
        "2026-10-03T16:05:00Z",
        "2026-10-03T16:00:00Z",
        "2026-10-04",
    );
}

#[test]
fn remembering_the_last_hour_changes_no_answer() {
    for name in [
        "America/New_York",
        "Europe/Berlin",
        "Asia/Kolkata",
        "Australia/Lord_Howe",
    ] {
        let mut remembering = Zone::new(name).unwrap();
        let start = us("2026-01-01T00:00:00Z");
        for step in 0..20_000_i64 {
            // Strides forth and back over both changes of the year.
            let at = start + (step * 7_919 % 20_000) * 27 * 60_000_000 + step;
            let fresh = Zone::new(name).unwrap().local(at);
            assert_eq!(remembering.local(at), fresh, "{name} at {at}");
            assert!(fresh.hour_us <= at && at - fresh.hour_us < HOUR_US);
            if step > 400 && step % 50 != 0 {
                continue;
            }
        }
    }
}

#[test]
fn an_unknown_name_is_an_error_that_names_it() {
    let error = Zone::new("Mars/Olympus").unwrap_err();
    assert!(error.to_string().contains("Mars/Olympus"));
}
