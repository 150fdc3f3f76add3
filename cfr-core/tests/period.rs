//! When budgets begin anew, across daylight saving, short months, leap years and skipped days.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use cfr_core::time::{Period, PeriodError, PeriodWindow, TimeZone, Timestamp};
use proptest::prelude::*;

fn zone(name: &str) -> TimeZone {
    name.parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn check(period: &Period, zone_name: &str, moment: &str, start: &str, end: &str) {
    let window = period.window_at(&zone(zone_name), at(moment)).unwrap();
    assert_eq!(window, PeriodWindow { start: at(start), end: Some(at(end)) });
}

fn monthly(anchor: &str) -> Period {
    Period::AnniversaryMonth { anchor: at(anchor) }
}

fn every(days: u16, anchor: &str) -> Period {
    Period::EveryNDays { days, anchor: at(anchor) }
}

#[test]
fn a_day_in_berlin_has_23_hours_in_march_and_25_in_october() {
    check(&Period::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    check(&Period::Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
}

#[test]
fn the_first_and_the_last_moment_belong_to_the_period_and_the_end_does_not() {
    check(&Period::Day, "UTC", "2026-01-05T00:00:00Z", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z");
    check(&Period::Day, "UTC", "2026-01-05T23:59:59.999999999Z", "2026-01-05T00:00:00Z", "2026-01-06T00:00:00Z");
}

#[test]
fn weeks_begin_on_monday() {
    check(&Period::Week, "UTC", "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
    check(&Period::Week, "UTC", "1969-12-31T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z");
    check(&Period::Week, "Europe/Berlin", "2026-10-25T23:30:00Z", "2026-10-25T23:00:00Z", "2026-11-01T23:00:00Z");
}

#[test]
fn calendar_months_follow_the_zone() {
    let month = Period::CalendarMonth;
    check(&month, "Europe/Berlin", "2026-02-28T23:30:00Z", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    check(&month, "America/New_York", "2026-03-01T04:59:59Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z");
    check(&month, "UTC", "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z");
    check(&month, "UTC", "1969-12-31T23:59:59Z", "1969-12-01T00:00:00Z", "1970-01-01T00:00:00Z");
}

#[test]
fn the_31st_becomes_the_last_day_of_short_months_and_comes_back() {
    let monthly = monthly("2026-01-31T10:00:00Z");
    check(&monthly, "UTC", "2026-02-27T00:00:00Z", "2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z");
    check(&monthly, "UTC", "2026-02-28T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z");
    check(&monthly, "UTC", "2026-04-30T10:00:00Z", "2026-04-30T10:00:00Z", "2026-05-31T10:00:00Z");
    check(&monthly, "UTC", "2028-02-29T09:59:59Z", "2028-01-31T10:00:00Z", "2028-02-29T10:00:00Z");
}

#[test]
fn an_anchor_on_29_february_keeps_its_day_where_there_is_one() {
    let monthly = monthly("2024-02-29T00:00:00Z");
    check(&monthly, "UTC", "2025-02-28T00:00:00Z", "2025-02-28T00:00:00Z", "2025-03-29T00:00:00Z");
    check(&monthly, "UTC", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-29T00:00:00Z");
}

#[test]
fn an_anniversary_keeps_its_local_time_across_daylight_saving() {
    let monthly = monthly("2026-01-15T08:00:00Z"); // 09:00 in Berlin
    check(&monthly, "Europe/Berlin", "2026-04-01T00:00:00Z", "2026-03-15T08:00:00Z", "2026-04-15T07:00:00Z");
}

#[test]
fn an_edge_that_the_clocks_skip_is_the_first_moment_after_the_gap() {
    let daily = every(1, "2026-03-27T01:30:00Z"); // 02:30 in Berlin, which 29 March does not have
    check(&daily, "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z");
    check(&daily, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z");
}

#[test]
fn of_an_edge_that_the_clocks_show_twice_the_first_counts() {
    let daily = every(1, "2026-10-20T00:30:00Z"); // 02:30 in Berlin, twice on 25 October
    check(&daily, "Europe/Berlin", "2026-10-25T00:45:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z");
}

#[test]
fn days_are_counted_from_the_anchor_in_both_directions() {
    let monthly = every(30, "2026-03-01T12:00:00Z");
    check(&monthly, "UTC", "2026-03-31T11:59:59Z", "2026-03-01T12:00:00Z", "2026-03-31T12:00:00Z");
    check(&monthly, "UTC", "2026-03-01T11:59:59Z", "2026-01-30T12:00:00Z", "2026-03-01T12:00:00Z");
    check(&monthly, "UTC", "2020-01-01T00:00:00Z", "2019-12-03T12:00:00Z", "2020-01-02T12:00:00Z");
}

#[test]
fn an_anchor_in_the_future_counts_months_backwards() {
    let monthly = monthly("2026-08-31T00:00:00Z");
    check(&monthly, "UTC", "2026-02-10T00:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z");
}

#[test]
fn a_day_that_a_zone_leaves_out_has_no_period() {
    check(&Period::Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    check(&Period::Day, "Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
}

#[test]
fn a_midnight_that_a_zone_leaves_out_begins_at_one() {
    check(&Period::Day, "Asia/Beirut", "2024-03-31T12:00:00Z", "2024-03-30T22:00:00Z", "2024-03-31T21:00:00Z");
}

#[test]
fn a_subscription_has_its_own_period_and_no_other() {
    let (start, end) = (at("2026-01-10T00:00:00Z"), at("2026-02-10T00:00:00Z"));
    let period = Period::Subscription { start, end };
    let window = |moment| period.window_at(&TimeZone::UTC, at(moment));
    assert_eq!(window("2026-01-10T00:00:00Z"), Ok(PeriodWindow { start, end: Some(end) }));
    assert_eq!(window("2026-02-10T00:00:00Z"), Err(PeriodError::OutOfRange));
    assert_eq!(window("2026-01-09T23:59:59Z"), Err(PeriodError::OutOfRange));
    let empty = Period::Subscription { start, end: start };
    assert_eq!(empty.window_at(&TimeZone::UTC, start), Err(PeriodError::BadSubscription));
}

#[test]
fn never_is_one_period_for_all_time() {
    let window = Period::Never.window_at(&TimeZone::UTC, at("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(window, PeriodWindow { start: Timestamp::MIN, end: None });
}

#[test]
fn days_must_be_within_ten_years_and_moments_within_the_calendar() {
    let window = |days| every(days, "2026-01-01T00:00:00Z").window_at(&TimeZone::UTC, at("2026-01-01T00:00:00Z"));
    assert_eq!(window(0), Err(PeriodError::BadDays));
    assert_eq!(window(3_661), Err(PeriodError::BadDays));
    assert!(window(3_660).is_ok());
    assert_eq!(Period::Day.window_at(&TimeZone::UTC, Timestamp::MAX), Err(PeriodError::OutOfRange));
}

#[test]
fn an_unknown_zone_is_named_in_the_error() {
    let error = "Europe/Atlantis".parse::<TimeZone>().unwrap_err();
    assert!(error.to_string().contains("Europe/Atlantis"));
}

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Pacific/Apia",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Pacific/Kwajalein",
];

fn moments() -> impl Strategy<Value = Timestamp> {
    (-2_000_000_000_i64..5_000_000_000, 0..1_000_000_000_i32).prop_map(|(s, ns)| Timestamp::new(s, ns).unwrap())
}

fn periods() -> impl Strategy<Value = Period> {
    prop_oneof![
        Just(Period::CalendarMonth),
        Just(Period::Week),
        Just(Period::Day),
        moments().prop_map(|anchor| Period::AnniversaryMonth { anchor }),
        (1..=3_660_u16, moments()).prop_map(|(days, anchor)| Period::EveryNDays { days, anchor }),
        moments().prop_map(|anchor| Period::EveryNDays { days: 1, anchor }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn periods_contain_their_moment_and_are_disjoint_and_contiguous(
        period in periods(), name in proptest::sample::select(&ZONES[..]), moment in moments(),
    ) {
        let zone = zone(name);
        let window = period.window_at(&zone, moment).unwrap();
        prop_assert!(window.contains(moment));
        let end = window.end.unwrap();
        let nanosecond = jiff::SignedDuration::from_nanos(1);
        prop_assert_eq!(period.window_at(&zone, end).unwrap().start, end);
        prop_assert_eq!(period.window_at(&zone, end - nanosecond).unwrap(), window);
        prop_assert_eq!(period.window_at(&zone, window.start).unwrap(), window);
        prop_assert_eq!(period.window_at(&zone, window.start - nanosecond).unwrap().end, Some(window.start));
    }
}
