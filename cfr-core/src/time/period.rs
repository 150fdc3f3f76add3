//! Periods of budgets: when one ends and the next begins, in the budget's own zone.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A zone of the tz database by its name, as in `Europe/Berlin`.
#[derive(Clone, PartialEq, Eq)]
pub struct TimeZone(jiff::tz::TimeZone);

/// When a budget begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Period {
    /// On the first of each month.
    CalendarMonth,
    /// Each month on the day and at the time of the anchor; on the last day of shorter months.
    AnniversaryMonth {
        /// Where the first period began.
        anchor: Timestamp,
    },
    /// Every `days` days at the anchor's local time.
    EveryNDays {
        /// From 1 to 3 660.
        days: u16,
        /// Where the first period began.
        anchor: Timestamp,
    },
    /// Each Monday.
    Week,
    /// Each midnight.
    Day,
    /// From outside: a subscription's own period. It has no next one until the subscription says so.
    Subscription {
        /// Where it began.
        start: Timestamp,
        /// Where it ends.
        end: Timestamp,
    },
    /// Never: one period for all time.
    Never,
}

/// One period: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodWindow {
    /// Its first moment.
    pub start: Timestamp,
    /// The first moment of the next one; none when there is no next one.
    pub end: Option<Timestamp>,
}

impl PeriodWindow {
    /// Whether the moment lies in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// Why a period cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeriodError {
    /// The zone is not in the tz database.
    #[error("unknown time zone `{name}`: use a name of the tz database, as in Europe/Berlin")]
    UnknownZone {
        /// What was given.
        name: Box<str>,
    },
    /// A number of days outside 1 to 3 660.
    #[error("a period has 1 to 3660 days")]
    BadDays,
    /// A subscription that ends before it begins.
    #[error("a subscription's period must end after it begins")]
    BadSubscription,
    /// The moment is outside the calendar, or outside the subscription's period.
    #[error("no period contains that moment")]
    OutOfRange,
}

impl TimeZone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(jiff::tz::TimeZone::UTC);

    /// The name in the tz database.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl FromStr for TimeZone {
    type Err = PeriodError;
    fn from_str(name: &str) -> Result<Self, PeriodError> {
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| PeriodError::UnknownZone { name: name.into() })
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

// Ten years: a longer period is a typing error.
const PERIOD_DAYS_MAX: u16 = 3_660;

impl Period {
    /// The period that contains `at`, with its edges in `zone`. An anchor later than `at` counts backwards.
    ///
    /// Edges are counted in local days or months from one origin, so they neither drift with daylight saving nor lose
    /// the 31st after a short month. An edge that the zone's clocks skip is the first moment after the gap; of one that
    /// they show twice it is the first.
    ///
    /// # Errors
    /// For terms that are out of range, and for a moment outside the calendar or the subscription.
    pub fn window_at(&self, zone: &TimeZone, at: Timestamp) -> Result<PeriodWindow, PeriodError> {
        let grid = |origin, step| Grid { zone, origin, step }.window_at(at);
        match *self {
            Self::CalendarMonth => grid(FIRST_OF_A_MONTH, Step::Month),
            Self::AnniversaryMonth { anchor } => grid(zone.local(anchor), Step::Month),
            Self::EveryNDays { days, .. } if !(1..=PERIOD_DAYS_MAX).contains(&days) => Err(PeriodError::BadDays),
            Self::EveryNDays { days, anchor } => grid(zone.local(anchor), Step::Days(days)),
            Self::Week => grid(A_MONDAY, Step::Days(7)),
            Self::Day => grid(A_MONDAY, Step::Days(1)),
            Self::Subscription { start, end } if end <= start => Err(PeriodError::BadSubscription),
            Self::Subscription { start, end } => {
                let window = PeriodWindow { start, end: Some(end) };
                if window.contains(at) { Ok(window) } else { Err(PeriodError::OutOfRange) }
            }
            Self::Never => Ok(PeriodWindow { start: Timestamp::MIN, end: None }),
        }
    }
}

const FIRST_OF_A_MONTH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const A_MONDAY: DateTime = DateTime::constant(1970, 1, 5, 0, 0, 0, 0);

/// Edges at equal civil distances from an origin.
struct Grid<'a> {
    zone: &'a TimeZone,
    origin: DateTime,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Days(u16),
    Month,
}

impl Grid<'_> {
    /// From the last edge that is not after `at` to the next one. Where the zone skips a whole day two edges are the
    /// same moment; taking the last of them keeps windows disjoint and contiguous.
    fn window_at(&self, at: Timestamp) -> Result<PeriodWindow, PeriodError> {
        let mut index = self.index_near(at);
        while self.edge(index)? > at {
            index -= 1;
        }
        loop {
            let end = self.edge(index + 1)?;
            if at < end {
                return Ok(PeriodWindow { start: self.edge(index)?, end: Some(end) });
            }
            index += 1;
        }
    }

    /// At most a few steps off: offsets of zones are less than two days apart.
    fn index_near(&self, at: Timestamp) -> i32 {
        let (origin, local) = (self.origin.date(), self.zone.local(at).date());
        match self.step {
            Step::Days(days) => days_between(origin, local).div_euclid(i32::from(days)),
            Step::Month => months(local) - months(origin),
        }
    }

    fn edge(&self, index: i32) -> Result<Timestamp, PeriodError> {
        let span = match self.step {
            Step::Days(days) => Span::new().try_days(i64::from(index) * i64::from(days)),
            Step::Month => Span::new().try_months(index),
        };
        span.and_then(|span| self.origin.checked_add(span))
            .and_then(|edge| self.zone.0.to_ambiguous_timestamp(edge).compatible())
            .map_err(|_| PeriodError::OutOfRange)
    }
}

impl TimeZone {
    fn local(&self, at: Timestamp) -> DateTime {
        self.0.to_datetime(at)
    }
}

fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(0, |span| span.get_days())
}

fn months(date: Date) -> i32 {
    i32::from(date.year()) * 12 + i32::from(date.month())
}
