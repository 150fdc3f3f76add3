//! Hours in which a provider charges less.

use jiff::Timestamp;
use jiff::civil::Weekday;

use super::rate::Rates;

/// Windows of the week, in UTC, and the rates inside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OffPeak {
    pub(super) windows: Vec<Window>,
    pub(super) rates: Rates,
}

/// Minutes of the day on some weekdays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) weekdays: Vec<i8>,
    /// Half-open ranges of minutes since midnight.
    pub(super) minutes: Vec<std::ops::Range<u16>>,
}

impl OffPeak {
    pub(super) fn contains(&self, at: Timestamp) -> bool {
        let local = at.to_zoned(jiff::tz::TimeZone::UTC);
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute())).unwrap_or(0);
        self.windows.iter().any(|window| window.contains(local.weekday(), minute))
    }
}

impl Window {
    fn contains(&self, weekday: Weekday, minute: u16) -> bool {
        let on_day = self.weekdays.contains(&weekday.to_monday_one_offset());
        on_day && self.minutes.iter().any(|range| range.contains(&minute))
    }
}

/// `HH:MM-HH:MM`; an end of midnight is the end of the day.
pub(super) fn parse_minutes(text: &str) -> Option<std::ops::Range<u16>> {
    const DAY: u16 = 24 * 60;
    let (start, end) = text.split_once('-')?;
    let (start, end) = (parse_minute(start)?, parse_minute(end)?);
    let end = if end == 0 { DAY } else { end };
    (start < end && end <= DAY).then_some(start..end)
}

fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse::<u16>().ok()?, minute.parse::<u16>().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn midnight_ends_a_day_and_begins_one() {
        assert_eq!(parse_minutes("00:00-00:00"), Some(0..1_440));
        assert_eq!(parse_minutes("10:00-00:00"), Some(600..1_440));
        assert_eq!(parse_minutes("00:00-01:00"), Some(0..60));
        assert_eq!(parse_minutes("01:30-23:59"), Some(90..1_439));
    }

    #[test]
    fn what_is_no_range_of_a_day_is_refused() {
        for text in ["", "10:00", "11:00-10:00", "10:00-10:00", "23:00-24:00", "10:60-12:00", "09:00-10:60", "10-11"] {
            assert_eq!(parse_minutes(text), None, "{text}");
        }
    }
}
