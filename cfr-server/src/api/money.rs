//! Money and periods as JSON: amounts are text, never numbers.

use std::str::FromStr;

use cfr_core::money::{Currency, Money as Amount};
use cfr_core::time::{Period as CorePeriod, PeriodWindow, Timestamp};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::input::Checks;
use super::schema;

/// An amount of a currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Money {
    /// Whole units as a decimal number in text, exact to nine places.
    #[schema(example = "12.34", pattern = r"^-?[0-9]{1,10}(\.[0-9]{1,9})?$")]
    pub(crate) amount: String,
    /// ISO 4217.
    #[schema(value_type = String, example = "EUR", pattern = "^[A-Z]{3}$")]
    pub(crate) currency: Currency,
}

impl Money {
    /// `nanos` billionths of one unit.
    #[must_use]
    pub(crate) fn nanos(nanos: i64, currency: Currency) -> Self {
        Amount::from_nanos(nanos, currency).into()
    }

    /// The amount, or what is wrong with it.
    pub(crate) fn check(&self, field: &str, checks: &mut Checks) -> Option<Amount> {
        let field = format!("{field}.amount");
        let units = Decimal::from_str(&self.amount).map_err(|_| "a decimal number in text, as in \"12.34\"");
        let units = checks.take(&field, units)?;
        checks.take(&field, Amount::from_decimal(units, self.currency))
    }

    /// The amount if it is not negative, or what is wrong with it.
    pub(crate) fn check_positive(&self, field: &str, checks: &mut Checks) -> Option<Amount> {
        let amount = self.check(field, checks)?;
        checks.require(amount.nanos() >= 0, &format!("{field}.amount"), "zero or more");
        Some(amount)
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        Self { amount: amount.to_decimal().to_string(), currency: amount.currency() }
    }
}

/// When a budget begins anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Period {
    /// On the first of each month.
    CalendarMonth {},
    /// Each month on the day and at the time of the anchor; on the last day of shorter months.
    AnniversaryMonth {
        /// Where the first period begins; now when absent.
        #[schema(value_type = Option<String>, format = DateTime)]
        anchor: Option<Timestamp>,
    },
    /// Every `days` days at the anchor's local time.
    EveryNDays {
        /// From 1 to 3660.
        days: u16,
        /// Where the first period begins; now when absent.
        #[schema(value_type = Option<String>, format = DateTime)]
        anchor: Option<Timestamp>,
    },
    /// Each Monday.
    Week {},
    /// Each midnight.
    Day {},
    /// From outside: a subscription's own period.
    Subscription {
        /// Where it begins.
        #[schema(value_type = String, format = DateTime)]
        start: Timestamp,
        /// Where it ends.
        #[schema(value_type = String, format = DateTime)]
        end: Timestamp,
    },
    /// Never: one period for all time.
    Never {},
}

impl Period {
    /// The rule, with `now` as the anchor where none was named.
    #[must_use]
    pub(crate) fn anchored(&self, now: Timestamp) -> CorePeriod {
        match *self {
            Self::CalendarMonth {} => CorePeriod::CalendarMonth,
            Self::AnniversaryMonth { anchor } => CorePeriod::AnniversaryMonth { anchor: anchor.unwrap_or(now) },
            Self::EveryNDays { days, anchor } => CorePeriod::EveryNDays { days, anchor: anchor.unwrap_or(now) },
            Self::Week {} => CorePeriod::Week,
            Self::Day {} => CorePeriod::Day,
            Self::Subscription { start, end } => CorePeriod::Subscription { start, end },
            Self::Never {} => CorePeriod::Never,
        }
    }
}

impl From<&CorePeriod> for Period {
    fn from(period: &CorePeriod) -> Self {
        match *period {
            CorePeriod::CalendarMonth => Self::CalendarMonth {},
            CorePeriod::AnniversaryMonth { anchor } => Self::AnniversaryMonth { anchor: Some(anchor) },
            CorePeriod::EveryNDays { days, anchor } => Self::EveryNDays { days, anchor: Some(anchor) },
            CorePeriod::Week => Self::Week {},
            CorePeriod::Day => Self::Day {},
            CorePeriod::Subscription { start, end } => Self::Subscription { start, end },
            _ => Self::Never {},
        }
    }
}

/// One period: from `start` up to, not including, `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PeriodWindow)]
pub(crate) struct Window {
    /// Its first moment.
    #[schema(value_type = schema::Time)]
    pub(crate) start: Timestamp,
    /// The first moment of the next one; absent when there is no next one.
    #[schema(value_type = Option<schema::Time>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<Timestamp>,
}

impl From<PeriodWindow> for Window {
    fn from(window: PeriodWindow) -> Self {
        Self { start: window.start, end: window.end }
    }
}
