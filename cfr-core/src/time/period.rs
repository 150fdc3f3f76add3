//! Periods of budgets: when one ends and the next begins, in the budget's own zone.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
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

impl Period {
    /// The period that contains `at`, with its edges in `zone`. An anchor later than `at` counts backwards.
    ///
    /// # Errors
    /// For terms that are out of range, and for a moment outside the calendar or the subscription.
    pub fn window_at(&self, _zone: &TimeZone, _at: Timestamp) -> Result<PeriodWindow, PeriodError> {
        Ok(PeriodWindow { start: Timestamp::MIN, end: None }) // PLACEHOLDER
    }
}
